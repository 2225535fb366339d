"""Cases of several people as files, and as arrays to train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ipa_bench import pose, video
from ipa_bench.embedded.cases import LORAS, Part
from ipa_bench.embedded.group import cases
from ipa_bench.embedded.group.setting import Key, key_of, setting
from ipa_bench.embedded.group.shot import estimated_poses, reference, shot
from ipa_bench.models.specs import base_spec
from ipa_bench.suite import load_suite
from tests.verbs import verb

ROOT = Path(__file__).parents[3]


def test_a_written_suite_can_be_loaded_and_shows_the_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pairs"
    sheet, given = tmp_path / "sheet.png", ("--people", "2", "--split", "val", "--identities", "2", "--first", "3")
    assert verb("embedded", "suite", folder, *given, "--sheet", sheet) == 0
    suite = load_suite(folder / "suite.toml")
    assert [case.id for case in suite.cases] == ["group2_val003__take0", "group2_val004__take0"]
    assert len({case.identity for case in suite.cases}) == 2
    case = suite.cases[1]
    key = key_of(case.world or "")
    assert key == Key(2, "val", 4)
    described = setting(key)
    frames = np.stack([frame.image for frame in video.read_frames(case.driving)])
    assert 10 * np.log10(255**2 / np.mean((frames.astype(float) - shot(described).frames) ** 2)) > 31
    poses = estimated_poses(described, key)
    assert [name for name, _ in case.poses] == [name for name, _ in case.references]
    for slot, ((_, track), (_, picture)) in enumerate(zip(case.poses, case.references, strict=True)):
        np.testing.assert_array_equal(pose.read_track(track)[0].hands, poses[slot].hands)
        np.testing.assert_array_equal(np.asarray(Image.open(picture)), reference(key, slot))
    assert case.mask is not None
    row = np.asarray(Image.open(sheet))[frames.shape[1] :]
    np.testing.assert_array_equal(row[:, : frames.shape[2]], reference(key, 0))


def test_groups_who_do_something_else_are_left_out(tmp_path: Path) -> None:
    keys = cases.keys_of(2, Part("test", 5, 7), ("wave", "cross"), takes=2)
    numbers = sorted({key.group for key in keys})
    assert keys == [Key(2, "test", group, take) for group in numbers for take in (0, 1)]
    assert {setting(key).arrangement for key in keys} == {"wave", "cross"}
    for group in set(range(7, max(numbers))) - set(numbers):
        assert {setting(Key(2, "test", group, take)).arrangement for take in (0, 1)} & {"beside", "occlude"}
    assert cases.keys_of(2, Part("val", 4)) == [Key(2, "val", group) for group in range(4)]

    asked = ("--people", "2", "--align", "1", "0", "1", "--first", "2000", "--arrangement", "occlude")
    assert verb("embedded", "suite", tmp_path / "x", *asked) == 0
    suite = load_suite(tmp_path / "x" / "suite.toml")
    shown = [key_of(case.world or "") for case in suite.cases]
    assert [setting(key).arrangement for key in shown] == ["occlude", "occlude"]
    assert shown[0].group >= 500
    assert shown[1].group >= 2000
    assert " ".join(asked) in (tmp_path / "x" / "suite.toml").read_text()


def test_a_clip_to_train_on_is_the_one_of_the_files() -> None:
    key = Key(3, "train", 2)
    made = cases.arrays(key, frames=3)
    assert (made.frames.shape, made.poses.shape) == ((3, 128, 288, 3),) * 2
    assert (made.references.shape, made.people.shape, made.hands.shape) == (
        (3, 128, 288, 3), (3, 3, 128, 288), (3, 128, 288),
    )  # fmt: skip
    np.testing.assert_array_equal(made.frames, shot(setting(key, 3)).frames)
    assert made.prompt.startswith("three people: a person with")


def test_a_suite_to_align_pairs_with_has_groups_of_every_split_and_the_base_that_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lora = LORAS / "base.safetensors"
    command = ("embedded", "suite", tmp_path / "x", "--people", "2", "--align", "1", "0", "1")
    assert verb(*command, "--base", lora) == 0
    suite = load_suite(tmp_path / "x" / "suite.toml")
    assert [(case.world, case.split) for case in suite.cases] == [
        ("group2/train/500/0", "train"),
        ("group2/test/0/0", "test"),
    ]
    assert [case.mask is None for case in suite.cases] == [False, True]
    assert suite.primary == "truth.top1"
    bases = [spec for each in suite.models if (spec := base_spec(each)) is not None]
    assert [(spec.name, spec.lora is None) for spec in bases] == [("pretrained", True), ("base", False)]
    assert (tmp_path / "x" / "lora" / "base.safetensors").read_bytes() == lora.read_bytes()
    assert verb("embedded", "suite", tmp_path / "y", "--align", "1", "0", "1", "--base", lora) == 2
    assert "several people" in capsys.readouterr().err
    assert verb(*command, "--base", tmp_path / "none.safetensors") == 2
    assert "none.safetensors" in capsys.readouterr().err
