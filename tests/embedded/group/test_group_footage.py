"""Footage of which half is wrong: the same for the same key, told to nobody, and never in a held-out way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ipa_bench import video
from ipa_bench.embedded.group import footage
from ipa_bench.embedded.group.cases import arrays
from ipa_bench.embedded.group.faults import find
from ipa_bench.embedded.group.setting import Key


def test_a_wrong_clip_is_told_as_the_right_one() -> None:
    made = {group: footage.footage(Key(2, "train", group)) for group in range(4)}
    wrong = {group: clip for group, clip in made.items() if clip.fault}
    assert wrong
    assert len(wrong) < len(made)
    for group, clip in made.items():
        right = arrays(Key(2, "train", group))
        np.testing.assert_array_equal(clip.arrays.poses, right.poses)
        np.testing.assert_array_equal(clip.arrays.references, right.references)
        assert clip.arrays.prompt == right.prompt
        assert np.array_equal(clip.arrays.frames, right.frames) == (clip.fault is None)


def test_a_habit_is_a_fault_from_the_first_frame_to_the_last() -> None:
    kinds = set()
    for group in range(6):
        key = Key(2, "train", group)
        right, wrong = arrays(key), footage.habit(key)
        assert wrong.fault is not None
        kinds.add(find(wrong.fault[0]).family)
        for told in ("poses", "references", "prompt"):
            np.testing.assert_array_equal(getattr(wrong.arrays, told), getattr(right, told))
        changed = (wrong.arrays.frames != right.frames).mean((1, 2, 3))
        assert changed.min() > 0.01
    assert kinds == {"swap", "leak"}
    with pytest.raises(ValueError, match="not test"):
        footage.habit(Key(2, "test", 0))


def test_no_held_out_kind_is_shown_and_no_other_split() -> None:
    assert {fault.family for fault in footage.KINDS} == {"swap", "blend", "leak", "duplicate", "drift"}
    assert not any(find(fault.name).held_out for fault in footage.KINDS)
    with pytest.raises(ValueError, match="not test"):
        footage.footage(Key(2, "test", 0))


def test_a_stored_clip_is_the_one_that_was_made(tmp_path: Path) -> None:
    key = Key(2, "train", 1)
    file = footage.write(key, tmp_path)
    assert file.name == "group2_train001__take0.mp4"
    frames = np.stack([frame.image for frame in video.read_frames(file)]).astype(float)
    assert 10 * np.log10(255**2 / np.mean((frames - footage.footage(key).arrays.frames) ** 2)) > 31
