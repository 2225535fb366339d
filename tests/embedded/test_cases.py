"""The world's cases as files, and the suite that comes along."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ipa_bench import pose, video
from ipa_bench.cli.run import BUILT_IN
from ipa_bench.embedded import cases, estimator, gesture, world
from ipa_bench.errors import UserError
from ipa_bench.models.lora import check_lora
from ipa_bench.models.specs import WanVaceSpec
from ipa_bench.suite import load_suite
from tests.verbs import verb

ROOT = Path(__file__).parents[2]


def test_a_written_suite_can_be_loaded_and_shows_the_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "people"
    assert verb("embedded", "suite", folder, "--split", "val", "--identities", "2", "--takes", "2") == 0
    suite = load_suite(folder / "suite.toml")
    assert suite.name == "people"
    assert [case.id for case in suite.cases] == ["val000__take0", "val000__take1", "val001__take0", "val001__take1"]
    assert {case.identity for case in suite.cases} == {"val000", "val001"}
    case = suite.cases[3]
    assert case.split == "val"
    assert (case.frames, case.fps, case.size) == (world.FRAMES, world.FPS, (world.SIZE, world.SIZE))
    clip = world.clip("val", 1, 1)
    frames = np.stack([frame.image for frame in video.read_frames(case.driving)])
    assert 10 * np.log10(255**2 / np.mean((frames.astype(float) - clip.frames) ** 2)) > 31
    assert case.pose is not None
    drawn = np.stack([frame.image for frame in video.read_frames(case.pose)])
    wanted = pose.draw(estimator.estimated_pose(clip, "val", 1, 1, estimator.MILD))
    assert np.abs(drawn.astype(int) - wanted).mean() < 4
    assert case.reference is not None
    np.testing.assert_array_equal(np.asarray(Image.open(case.reference)), world.reference("val", 1, 1))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert verb("embedded", "suite", tmp_path / "file" / "suite", "--identities", "1") == 2
    assert "cannot write" in capsys.readouterr().err


#: what the shipped LoRA's candidates were chosen by, in the version of then
CHOSEN_BY = (
    "hand_quality@4",
    "hand_quality.shape@4",
    "hand_quality.sharpness@4",
    "hand_quality.motion@4",
    "hand_quality.alignment@4",
    "hand.psnr@1",
    "hand.anatomy_shift@1",
)


def test_the_built_in_suite_has_16_people_of_the_test_split_and_their_own_gestures() -> None:
    suite = load_suite(BUILT_IN)
    assert suite.name == "embedded"
    assert (ROOT / "benchmarks" / "embedded" / "suite.toml").samefile(BUILT_IN)
    assert len({case.identity for case in suite.cases}) == 16
    assert {case.split for case in suite.cases} == {"test"}
    tags = {tag for case in suite.cases for tag in case.tags}
    assert "unseen" in tags
    assert tags & set(gesture.TEST_POSTURES)
    sampled = [model for model in suite.models if isinstance(model, WanVaceSpec)]
    assert [model.name for model in sampled] == ["pretrained", "base", "aligned"]
    assert {model.steps for model in sampled} == {cases.STEPS}
    assert [model.trained_on for model in sampled] == [(), (), CHOSEN_BY]


def test_the_built_in_models_are_the_tiny_checkpoint_with_the_loras_that_ship() -> None:
    sampled = [model for model in load_suite(BUILT_IN).models if isinstance(model, WanVaceSpec)]
    assert sampled[0].lora is None
    for model in sampled[1:]:
        assert model.lora == cases.LORAS / f"{model.name}.safetensors"
        assert model.lora.stat().st_size < 3e6
        assert check_lora(model.lora).layers > 0


def test_a_rendered_suite_has_its_loras_beside_it(tmp_path: Path) -> None:
    assert verb("embedded", "suite", tmp_path / "few", "--identities", "1") == 0
    assert verb("embedded", "suite", tmp_path / "align", "--align", "1", "0", "1") == 0
    found = {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*.safetensors")}
    assert sorted(found) == ["align/lora/base.safetensors", "few/lora/aligned.safetensors", "few/lora/base.safetensors"]
    assert all(content == (cases.LORAS / Path(name).name).read_bytes() for name, content in found.items())


def test_the_built_in_clips_are_the_worlds() -> None:
    case = load_suite(BUILT_IN).cases[5]
    clip = world.clip("test", 5, 0)
    frames = np.stack([frame.image for frame in video.read_frames(case.driving)])
    assert 10 * np.log10(255**2 / np.mean((frames.astype(float) - clip.frames) ** 2)) > 31


def test_clips_that_are_not_there_are_made_by_a_command_that_is_named() -> None:
    full = (ROOT / "benchmarks" / "embedded-full" / "suite.toml").read_text()
    made_by = "ipa-bench embedded suite benchmarks/embedded-full --split test --identities 96 --takes 2"
    assert f'made_by = "{made_by}"' in full
    assert full.count("[[case]]") == 192


def test_a_missing_clip_says_how_it_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb("embedded", "suite", tmp_path / "few", "--identities", "1") == 0
    (tmp_path / "few" / "pose" / "test000__take0.mp4").unlink()
    with pytest.raises(UserError, match="is not there") as error:
        load_suite(tmp_path / "few" / "suite.toml")
    assert "make the clips: ipa-bench embedded suite" in error.value.fix
    # what 0.1 wrote names a command that is no more
    file = tmp_path / "few" / "suite.toml"
    file.write_text(file.read_text().replace("ipa-bench embedded suite", "python -m ipa_bench.embedded"))
    with pytest.raises(UserError, match="is not there") as old:
        load_suite(file)
    assert old.value.fix == error.value.fix
