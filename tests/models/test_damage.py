"""The ladder of damage: it does what it says, where it says, the same every time."""

import numpy as np
import pytest

from ipa_bench.errors import UserError
from ipa_bench.models.damage import (
    CLEAN,
    DAMAGES,
    HARMLESS,
    STRENGTHS,
    damage_frame,
    damaged,
    find,
    shown_frames,
    stored,
)
from ipa_bench.observers.pixels import hand_boxes
from tests.hands import made_up, shown, without

SPATIAL = [d for d in DAMAGES if d.kind == "spatial"]


def pictures(count=6, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (count, 60, 80, 3), dtype=np.uint8)
    return [frame.repeat(8, 0).repeat(8, 1) for frame in coarse]


def difference(damage, strength):
    frame, tracks = pictures(1)[0], made_up(1, slots=1)
    changed = damage_frame(frame, tracks, 0, damage.name, damage.level(strength))
    return np.abs(changed.astype(int) - frame).mean()


@pytest.mark.parametrize("damage", SPATIAL, ids=lambda d: d.name)
def test_stronger_damage_changes_more(damage):
    values = [difference(damage, s) for s in STRENGTHS]
    assert 0 < values[0] < values[1] < values[2]


@pytest.mark.parametrize("damage", SPATIAL, ids=lambda d: d.name)
def test_only_hands_are_touched_and_the_input_is_not(damage):
    frames, tracks = pictures(3), made_up(3, slots=1)
    before = [f.copy() for f in frames]
    for index, frame in enumerate(damaged(frames, tracks, 25, damage, "strong")):
        changed = (frame != before[index]).any(axis=-1)
        (box,) = hand_boxes(tracks, index, (640, 480))
        outside = np.ones_like(changed)
        pad = 40
        outside[max(box.y0 - pad, 0) : box.y1 + pad, max(box.x0 - pad, 0) : box.x1 + pad] = False
        assert changed.any()
        assert not (changed & outside).any()
        np.testing.assert_array_equal(frames[index], before[index])


@pytest.mark.parametrize("damage", SPATIAL, ids=lambda d: d.name)
def test_the_same_damage_twice_is_the_same(damage):
    one, two = ([f.copy() for f in damaged(pictures(3), made_up(3), 25, damage, "medium")] for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_a_steady_melt_moves_with_the_hand_and_flicker_does_not_repeat():
    frame, tracks = pictures(1)[0], shown(made_up(2, slots=1), [0, 0])
    still = [frame, frame]
    for name, same in (("finger_melt", True), ("flicker", False)):
        one, two = damaged(still, tracks, 25, find(name), "medium")
        assert np.array_equal(one, two) is same


def test_frames_without_a_hand_are_left_alone():
    tracks = without(made_up(3), slice(None))
    for damage in SPATIAL:
        np.testing.assert_array_equal(list(damaged(pictures(3), tracks, 25, damage, "strong")), pictures(3))


def test_hands_at_the_border_do_not_crash():
    tracks = made_up(2, size=600)
    for damage in SPATIAL:
        assert len(list(damaged(pictures(2), tracks, 25, damage, "strong"))) == 2


def test_temporal_damage_shows_the_frames_it_says():
    assert shown_frames("stutter", 2, 7, 25) == [0, 0, 2, 2, 4, 4, 6]
    assert shown_frames("lag", 3, 6, 25) == [0, 0, 0, 0, 1, 2]
    assert shown_frames("frozen", 1.0, 4, 25) == [0, 0, 0, 0]
    third = shown_frames("frozen", 1 / 3, 12, 6)
    assert third == [0, 1, 2, 3, 3, 3, 6, 7, 8, 9, 9, 9]
    for damage in DAMAGES:
        if damage.kind == "temporal":
            for level in damage.levels:
                order = shown_frames(damage.name, level, 60, 25)
                assert order == sorted(order)
                assert all(index <= t for t, index in enumerate(order))


def test_temporal_damage_gives_those_frames():
    frames = pictures(6)
    shown = list(damaged(frames, made_up(6), 25, find("stutter"), "mild"))
    np.testing.assert_array_equal(shown, [frames[i] for i in (0, 0, 2, 2, 4, 4)])


def test_every_version_is_stored_alike_and_compression_is_worse():
    frames, tracks = pictures(12), made_up(12)
    errors = {}
    for damage, strength in ((CLEAN, "mild"), (HARMLESS[0], "strong"), (find("compression"), "strong")):
        result = list(stored(frames, tracks, 25, damage, strength))
        assert len(result) == 12
        errors[damage.name] = np.mean((np.array(result, float) - np.array(frames, float)) ** 2)
    assert errors["clean"] < errors["compression"]


def test_an_unknown_damage_names_those_there_are():
    with pytest.raises(UserError, match="blur, low_resolution"):
        find("blurr")
