"""From a selection to clips: what cannot be trained on is refused, by name, before anything is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ipa_bench import video
from ipa_bench.errors import UserError
from ipa_bench.files import file_sha256
from ipa_bench.select import Pairs, read_pairs, write_pairs
from ipa_bench.suite import load_suite
from tests.clips import noise
from tests.trainers import tiny_runs
from trainers.data import clips
from trainers.data.clips import Data
from trainers.methods import MethodName


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_runs.write(tmp_path_factory.mktemp("material"))


@pytest.fixture
def folder(plain: Path, tmp_path: Path) -> Path:
    """Material that a test may spoil."""
    shutil.copytree(plain, tmp_path / "own")
    tiny_runs.select(tmp_path / "own", tiny_runs.PEOPLE)
    tiny_runs.pair(tmp_path / "own")
    tiny_runs.score(tmp_path / "own")
    return tmp_path / "own"


def data_of(folder: Path, method: MethodName = "ipa") -> Data:
    return clips.clips(tiny_runs.config(folder, method).data, load_suite(folder / "suite.toml"), method)


def test_a_selection_becomes_its_clips(folder: Path) -> None:
    found = data_of(folder)
    assert [clip.video.name for clip in found.good] == [f"{name}_seed0.mp4" for name in tiny_runs.PEOPLE]
    assert [clip.case.identity for clip in found.good] == list(tiny_runs.PEOPLE)
    assert found.good[0].sha256 == file_sha256(found.good[0].video)
    assert found.good[0].latents is None
    assert (found.bad, found.by, found.candidates) == ((), tiny_runs.CHOSEN_BY, 6)
    assert found.all == found.good


def test_pairs_become_two_clips_of_each_case(plain: Path) -> None:
    found = data_of(plain, "dpo")
    assert [clip.video.name for clip in found.bad] == [f"{name}_seed1.mp4" for name in tiny_runs.PEOPLE]
    assert [clip.case.id for clip in found.good] == [clip.case.id for clip in found.bad]
    assert len(found.all) == 6
    assert found.by == tiny_runs.CHOSEN_BY


def test_candidates_come_with_their_scores_and_equals_are_left_out(folder: Path) -> None:
    found = data_of(folder, "nft")
    assert [clip.video.name for clip in found.good[:2]] == ["anna_seed0.mp4", "anna_seed1.mp4"]
    assert (len(found.all), found.candidates, found.by, found.values) == (6, 6, tiny_runs.CHOSEN_BY, ())
    assert found.scores == (0.9, 0.3, 0.5, 0.8, 0.4, 0.4)
    options = tiny_runs.config(folder, "nft").options("nft")
    kept = clips.valued(found, "nft", options)
    assert [clip.case.id for clip in kept.good] == ["anna", "anna", "bert", "bert"]
    assert kept.values == pytest.approx((0.6, 0.4, 0.4, 0.6))  # one standard deviation of five
    assert clips.hashes(kept) != clips.hashes(clips.valued(found, "nft", options.model_copy(update={"clip": 2.0})))
    weighed = clips.valued(found, "wsft", tiny_runs.config(folder, "wsft").options("wsft"))
    assert len(weighed.good) == 6
    assert sum(weighed.values) == pytest.approx(6)
    assert data_of(folder) == clips.valued(data_of(folder), "ipa", None)
    tiny_runs.score(folder, ((0.5, 0.5),) * 3)
    with pytest.raises(UserError, match="no case prefers"):
        clips.valued(data_of(folder, "nft"), "nft", options)


def test_where_lower_is_better_the_scores_are_turned(folder: Path) -> None:
    file = folder / "candidates.json"
    file.write_text(file.read_text().replace('"higher"', '"lower"'))
    assert data_of(folder, "wsft").scores == (-0.9, -0.3, -0.5, -0.8, -0.4, -0.4)


def test_latents_that_were_there_have_to_be(folder: Path) -> None:
    tiny_runs.score(folder, latents="gone.safetensors")
    with pytest.raises(UserError, match=r"gone\.safetensors is not there"):
        data_of(folder, "nft")


def empty(folder: Path) -> None:
    tiny_runs.select(folder, ())


def missing(folder: Path) -> None:
    tiny_runs.clip_of(folder, "bert", 0).unlink()


def changed(folder: Path) -> None:
    video.encode(noise(5, 16, 16, seed=99), tiny_runs.clip_of(folder, "bert", 0), 10)


def larger(folder: Path) -> None:
    video.encode(noise(5, 32, 16), tiny_runs.clip_of(folder, "bert", 0), 10)
    tiny_runs.select(folder, tiny_runs.PEOPLE)


def short(folder: Path) -> None:
    video.encode(noise(4, 16, 16), tiny_runs.clip_of(folder, "bert", 0), 10)
    tiny_runs.select(folder, tiny_runs.PEOPLE)


def no_video(folder: Path) -> None:
    tiny_runs.clip_of(folder, "bert", 0).write_bytes(b"no video")
    tiny_runs.select(folder, tiny_runs.PEOPLE)


def tested(folder: Path) -> None:
    tiny_runs.select(folder, ("anna", "tess"))


def unknown(folder: Path) -> None:
    tiny_runs.select(folder, ("anna",), case="nobody")


def no_selection(folder: Path) -> None:
    (folder / "selection.json").unlink()


def damaged(folder: Path) -> None:
    (folder / "selection.json").write_text('{"rows": [')


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (empty, "holds no clip"),
        (missing, r"bert_seed0.mp4 is not there"),
        (changed, r"bert_seed0.mp4 is not the video that was selected"),
        (larger, r"bert_seed0.mp4 is 16x32, its case 16x16"),
        (short, r"bert_seed0.mp4 has 4 frames, its case asks for 5"),
        (no_video, r"bert_seed0.mp4"),
        (tested, "case tess is of the test split"),
        (unknown, "case nobody is not in the suite"),
        (no_selection, "cannot read .*selection.json"),
        (damaged, "is not a selection"),
    ],
)
def test_what_cannot_be_trained_on_is_named(folder: Path, spoil: Callable[[Path], None], problem: str) -> None:
    spoil(folder)
    with pytest.raises(UserError, match=problem) as error:
        data_of(folder)
    assert error.value.fix


def test_pairs_of_cases_that_may_not_be_used_are_refused_too(folder: Path) -> None:
    tiny_runs.clip_of(folder, "cleo", 1).unlink()
    with pytest.raises(UserError, match=r"cleo_seed1.mp4 is not there"):
        data_of(folder, "dpo")


def test_without_a_strict_pair_all_can_be_taken(folder: Path) -> None:
    found = read_pairs(folder / "pairs.json")
    write_pairs(Pairs(found.preferences, (), found.cases), folder / "pairs.json")
    with pytest.raises(UserError, match="no strict pair") as error:
        data_of(folder, "dpo")
    assert 'pairs = "all"' in error.value.fix
    config = tiny_runs.config(folder, "dpo", {"data": {"pairs": "all"}})
    assert len(clips.clips(config.data, load_suite(folder / "suite.toml"), "dpo").bad) == 3
    write_pairs(Pairs((), (), 3), folder / "pairs.json")
    with pytest.raises(UserError, match="has no pair"):
        clips.clips(config.data, load_suite(folder / "suite.toml"), "dpo")


def test_a_selection_is_no_pairs_and_pairs_are_no_selection(folder: Path) -> None:
    shutil.copy(folder / "selection.json", folder / "pairs.json")
    with pytest.raises(UserError, match="holds no pairs"):
        data_of(folder, "dpo")


def keep_latents(clip: Path, note: str | None = None) -> Path:
    latents = clip.with_suffix(".safetensors")
    save_file({"latents": torch.zeros(4, 3, 4, 4, dtype=torch.float16)}, latents)
    said = f"sha256:{file_sha256(latents)}" if note is None else note
    clip.with_suffix(".json").write_text(json.dumps({"inputs": "", "reason": None, "latents": said}))
    return latents


def test_latents_count_where_the_note_of_their_making_vouches_for_them(folder: Path) -> None:
    clip = tiny_runs.clip_of(folder, "anna", 0)
    latents = keep_latents(clip)
    assert data_of(folder).good[0].latents == latents
    content = bytearray(latents.read_bytes())
    content[-1] ^= 1
    latents.write_bytes(content)
    with pytest.raises(UserError, match=r"anna_seed0.safetensors is damaged"):
        data_of(folder)
    keep_latents(clip, "sha256:" + "0" * 64)
    with pytest.raises(UserError, match="belongs to another clip"):
        data_of(folder)
    clip.with_suffix(".json").write_text("{")
    with pytest.raises(UserError, match=r"anna_seed0.safetensors"):
        data_of(folder)
    latents.unlink()
    assert data_of(folder).good[0].latents is None


def test_nobody_is_both_trained_on_and_watched(folder: Path) -> None:
    suite = load_suite(folder / "suite.toml")
    watched = [case for case in suite.cases if case.split == "val"]
    assert [case.id for case in watched] == ["vera"]
    clips.check_apart(data_of(folder), watched)
    tiny_runs.select(folder, ("anna", "vera"))
    with pytest.raises(UserError, match="vera would be trained on and watched"):
        clips.check_apart(data_of(folder), watched)
    # another case of the same person
    text = (folder / "suite.toml").read_text().replace('identity = "anna"', 'identity = "vera"')
    (folder / "suite.toml").write_text(text)
    tiny_runs.select(folder, ("anna",))
    with pytest.raises(UserError, match="vera would be trained on and watched"):
        clips.check_apart(data_of(folder), watched)


def test_exact_masks_need_a_mask_video(folder: Path) -> None:
    cases = load_suite(folder / "suite.toml").cases
    config = tiny_runs.config(folder, "ipa")
    clips.check_masks(config.data, cases)
    text = (folder / "suite.toml").read_text().replace('mask = "mask_bert.mp4"\n', "")
    (folder / "suite.toml").write_text(text)
    cases = load_suite(folder / "suite.toml").cases
    with pytest.raises(UserError, match="case bert has no mask video"):
        clips.check_masks(config.data, cases)
    clips.check_masks(config.data.model_copy(update={"mask": "driving"}), cases)


def test_the_hash_changes_with_whatever_the_model_is_shown(folder: Path) -> None:
    seen = {clips.hashes(data_of(folder))}
    assert clips.hashes(data_of(folder)) in seen
    suite = folder / "suite.toml"
    suite.write_text(suite.read_text().replace("this is anna", "this is not anna"))
    seen.add(clips.hashes(data_of(folder)))
    video.encode(noise(5, 16, 16, seed=77), folder / "pose_anna.mp4", 10)
    seen.add(clips.hashes(data_of(folder)))
    keep_latents(tiny_runs.clip_of(folder, "anna", 0))
    seen.add(clips.hashes(data_of(folder)))
    tiny_runs.select(folder, ("anna", "bert"))
    seen.add(clips.hashes(data_of(folder)))
    seen.add(clips.hashes(data_of(folder, "dpo")))
    assert len(seen) == 6


def test_the_hash_does_not_change_with_the_place(plain: Path, folder: Path) -> None:
    assert clips.hashes(data_of(folder)) == clips.hashes(data_of(plain))
