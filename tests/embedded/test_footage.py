"""Footage with hands out of focus: what is blurred, how often, and what a hand observer makes of it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import maximum_filter

from ipa_bench import video
from ipa_bench.cache import Cache
from ipa_bench.embedded import footage, world
from ipa_bench.embedded.habits import HABITS
from ipa_bench.observers.looker import Looker
from ipa_bench.types import Split


@pytest.fixture(scope="module")
def clip() -> world.Clip:
    return world.clip("train", 2000, 0)


def contrast(frames: np.ndarray, mask: np.ndarray) -> float:
    """Mean squared difference of neighbours to the right, where ``mask`` is."""
    steps = np.diff(frames.astype(float), axis=2) ** 2
    return float(steps[mask[:, :, 1:]].mean())


def test_only_hands_are_blurred_and_more_by_a_wider_blur(clip: world.Clip) -> None:
    hands = clip.masks.max(1) > 0.5
    far = ~np.stack([maximum_filter(hand, 21) for hand in hands])
    last = contrast(clip.frames, hands)
    for sigma in (1.0, 2.0, 3.5):
        frames = footage.out_of_focus(clip, sigma)
        assert frames.dtype == np.uint8
        np.testing.assert_array_equal(frames[far], clip.frames[far])
        now = contrast(frames, hands)
        assert now < 0.75 * last
        last = now


def test_half_of_the_people_are_soft_in_the_whole_clip_and_the_others_untouched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exact: dict[int, world.Clip] = {}
    draw = world.clip

    def kept(split: Split, identity: int, take: int) -> world.Clip:
        assert (split, take) == ("train", 0)
        exact[identity] = draw(split, identity, take)
        return replace(exact[identity], frames=exact[identity].frames.copy())

    monkeypatch.setattr(world, "clip", kept)
    shown = [footage.footage(identity, "focus") for identity in range(2000, 2008)]
    assert 2 <= sum(wrong == "focus" for _, _, wrong in shown) <= 6
    for identity, (frames, fps, soft) in zip(range(2000, 2008), shown, strict=True):
        assert fps == exact[identity].fps
        changed = (frames != exact[identity].frames).any((1, 2, 3))
        assert changed.all() if soft else not changed.any()


def test_half_of_the_people_have_hands_of_a_bad_habit_and_all_habits_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "clip", partial(world.clip, frames=2))  # which habit, and not how it looks
    shown = [footage.footage(identity)[2] for identity in range(2026, 2040)]
    assert 4 <= sum(habit == "" for habit in shown) <= 10
    assert set(shown) == {"", *HABITS}


def test_the_observer_loses_hands_that_are_out_of_focus(clip: world.Clip, tmp_path: Path) -> None:
    looker = Looker(Cache(tmp_path))

    def seen(frames: np.ndarray) -> float:
        return float(looker.hands(video.video_from_frames(frames, clip.fps)).found.mean())

    assert seen(clip.frames) > 0.9
    assert seen(footage.out_of_focus(clip, 3.5)) < 0.5


def test_a_clip_is_stored_under_its_cases_name(tmp_path: Path) -> None:
    file = footage.write(2003, tmp_path)
    assert file.name == "train2003__take0.mp4"
    frames = np.stack([frame.image for frame in video.read_frames(file)]).astype(float)
    wanted = footage.footage(2003)[0]
    assert 10 * np.log10(255**2 / np.mean((frames - wanted) ** 2)) > 31
