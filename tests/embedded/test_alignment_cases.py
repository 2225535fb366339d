"""The suite that alignment begins with, and the masks that go with its people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ipa_bench import video
from ipa_bench.cli.run import BUILT_IN
from ipa_bench.embedded import cases, world
from ipa_bench.errors import UserError
from ipa_bench.models.lora import check_lora
from ipa_bench.models.specs import WanVaceSpec
from ipa_bench.suite import Suite, load_suite
from tests.verbs import verb

#: of the built-in suite without scenes, by version 0.1, whose cases could have no masks
BUILT_IN_HASH = "25b5a7fb0f5cf54e9e9ca59b848367f026752fb1c1204fd4495403de9381fdcf"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("align") / "people"
    assert verb("embedded", "suite", folder, "--align", "1", "1", "1") == 0
    return folder


@pytest.fixture(scope="module")
def suite(folder: Path) -> Suite:
    return load_suite(folder / "suite.toml")


def test_each_split_has_its_people_and_beside_the_base_is_what_it_was_before(suite: Suite, folder: Path) -> None:
    assert [(case.id, case.split, case.identity) for case in suite.cases] == [
        ("train500__take0", "train", "train500"),
        ("val000__take0", "val", "val000"),
        ("test000__take0", "test", "test000"),
    ]
    bases = [model for model in suite.models if isinstance(model, WanVaceSpec)]
    assert [model.name for model in bases] == ["pretrained", "base"]
    assert bases[0].lora is None
    assert bases[1].lora is not None
    assert bases[1].lora.read_bytes() == (cases.LORAS / "base.safetensors").read_bytes()
    assert check_lora(bases[1].lora).layers > 0
    assert (
        f'made_by = "ipa-bench embedded suite {folder.as_posix()} --align 1 1 1"' in (folder / "suite.toml").read_text()
    )


def test_cases_are_those_of_the_other_commands(folder: Path, tmp_path: Path) -> None:
    for split in ("val", "test"):
        other = tmp_path / split
        assert verb("embedded", "suite", other, "--split", split, "--identities", "1") == 0
        mine = {p.relative_to(folder): p.read_bytes() for p in folder.rglob(f"{split}*")}
        theirs = {p.relative_to(other): p.read_bytes() for p in other.rglob(f"{split}*")}
        assert len(mine) == (3 if split == "test" else 4)
        assert mine.keys() == theirs.keys()
        assert mine == theirs
    clip = world.clip("train", 500, 0)
    frames = np.stack([f.image for f in video.read_frames(folder / "driving" / "train500__take0.mp4")])
    assert 10 * np.log10(255**2 / np.mean((frames.astype(float) - clip.frames) ** 2)) > 31


def test_masks_are_white_where_the_hands_are(suite: Suite) -> None:
    for case, identity in zip(suite.cases[:2], (500, 0), strict=True):
        assert case.mask is not None
        shown = np.stack([frame.image for frame in video.read_frames(case.mask)]).astype(float) / 255
        wanted = world.clip(case.split, identity, 0).masks.max(1)
        assert shown.shape == (*wanted.shape, 3)
        assert wanted.max() == 1
        assert shown[wanted == 1].mean() > 0.97
        assert shown[wanted == 0].mean() < 0.01
        assert np.abs(shown[..., 0] - wanted).mean() < 0.01


def test_nobody_of_the_test_split_has_a_mask(suite: Suite, folder: Path, tmp_path: Path) -> None:
    assert [case.mask is None for case in suite.cases] == [False, False, True]
    assert {p.stem for p in (folder / "mask").iterdir()} == {"train500__take0", "val000__take0"}
    assert verb("embedded", "suite", tmp_path / "test", "--identities", "1") == 0
    assert not (tmp_path / "test" / "mask").exists()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ('"nowhere.mp4"', "nowhere.mp4 is not there"),
        ('"../mask.mp4"', "leads out of the folder"),
        ('"reference/val000__take0.png"', "is not a video file"),
        ('"mask"', "mask is not a"),
        ("3", "mask"),
    ],
)
def test_a_mask_that_is_none_is_named_with_its_line(folder: Path, value: str, says: str) -> None:
    text = (folder / "suite.toml").read_text()
    wrong = folder / "wrong.toml"
    wrong.write_text(text.replace('"mask/val000__take0.mp4"', value))
    line = 1 + wrong.read_text()[: wrong.read_text().index(f"mask = {value}")].count("\n")
    with pytest.raises(UserError, match=says) as error:
        load_suite(wrong)
    assert f"wrong.toml:{line}" in error.value.problem
    wrong.unlink()


def test_a_mask_is_part_of_the_hash_only_where_there_is_one(suite: Suite, folder: Path) -> None:
    text = (folder / "suite.toml").read_text()
    other = folder / "other.toml"

    def changed(before: str, after: str) -> str:
        assert before in text
        other.write_text(text.replace(before, after))
        return load_suite(other).hash()

    assert changed('mask = "mask/val000__take0.mp4"\n', "") != suite.hash()
    assert changed('mask = "mask/val000__take0.mp4"', 'mask = "mask/train500__take0.mp4"') != suite.hash()
    assert changed('mask = "mask/val000__take0.mp4"', 'mask = "./mask/val000__take0.mp4"') == suite.hash()
    other.unlink()
    # what suites without masks and scenes were called before there were any
    built_in = load_suite(BUILT_IN)
    assert replace(built_in, cases=tuple(replace(case, world=None) for case in built_in.cases)).hash() == BUILT_IN_HASH
    assert built_in.hash() != BUILT_IN_HASH


def test_a_split_may_be_left_out_and_the_command_that_makes_the_rest_still_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb("embedded", "suite", tmp_path / "few", "--align", "1", "0", "1", "--first", "70") == 0
    text = (tmp_path / "few" / "suite.toml").read_text()
    assert "--align 1 0 1 --first 70" in text
    assert [case.identity for case in load_suite(tmp_path / "few" / "suite.toml").cases] == ["train500", "test070"]
    for counts in (["0", "0", "0"], ["1", "-1", "1"]):
        assert verb("embedded", "suite", tmp_path / "none", "--align", *counts) == 2
        assert "Invalid value for" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
