"""The ladder of damage: it does what it says, where it says, the same every time."""

from dataclasses import replace

import numpy as np
import pytest

from ipa_bench.errors import UserError
from ipa_bench.models.damage import (
    CLEAN,
    DAMAGES,
    HARMLESS,
    STRENGTHS,
    UNSEEN,
    damage_frame,
    damaged,
    find,
    shown_frames,
    stored,
)
from ipa_bench.models.fingers import CHAINS, extra_fingers, long_finger, widest_gaps
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
    frames, tracks = pictures(2), made_up(2, slots=1)
    before = [f.copy() for f in frames]
    for index, frame in enumerate(damaged(frames, tracks, 25, damage, "strong")):
        changed = (frame != before[index]).any(axis=-1)
        (box,) = hand_boxes(tracks, index, (640, 480))
        outside = np.ones_like(changed)
        # turned fingers reach further
        pad = 80 if damage.name in ("finger_added", "posture", "finger_doubled", "finger_bent") else 40
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
    frames, tracks = pictures(1), made_up(1, size=600)
    for damage in SPATIAL:
        assert len(list(damaged(frames, tracks, 25, damage, "strong"))) == 1


def test_temporal_damage_shows_the_frames_it_says():
    assert shown_frames("stutter", 2, 7, 25) == [0, 0, 2, 2, 4, 4, 6]
    assert shown_frames("lag", 3, 6, 25) == [0, 0, 0, 0, 1, 2]
    assert shown_frames("frozen", 1.0, 4, 25) == [0, 0, 0, 0]
    third = shown_frames("frozen", 1 / 3, 12, 6)
    assert third == [0, 1, 2, 3, 3, 3, 6, 7, 8, 9, 9, 9]
    assert shown_frames("slow", 0.5, 6, 25) == [0, 0, 1, 1, 2, 2]
    assert shown_frames("late", -1, 4, 25) == [1, 2, 3, 3]
    assert shown_frames("late", 2, 4, 25) == [0, 0, 0, 1]
    for damage in DAMAGES:
        if damage.kind == "temporal" and damage.name != "frame_blur":
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


@pytest.mark.parametrize("reach", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 6, 12])
def test_averaged_frames_are_the_means_around_them(reach, count):
    frames = pictures(count)
    damage = find("frame_blur")
    level = STRENGTHS[damage.levels.index(2 * reach + 1)]
    result = list(damaged(frames, made_up(count), 25, damage, level))
    for index, frame in enumerate(result):
        around = np.array(frames[max(index - reach, 0) : index + reach + 1], float)
        np.testing.assert_allclose(frame, around.mean(axis=0), atol=0.51)
    assert len(result) == count


def test_what_nobody_sees_leaves_the_hand_as_it_is():
    frame = pictures(1)[0]
    tracks = made_up(1)
    changed = {d.name: next(damaged([frame], tracks, 25, d, "strong")) for d in UNSEEN if d.kind == "frame"}
    np.testing.assert_array_equal(changed["shift"][:, 13:], frame[:, :-13])
    np.testing.assert_array_equal(changed["shift"][:, :13], frame[:, :1].repeat(13, 1))
    weights = np.array([0.299, 0.587, 0.114])
    grey = np.full((8, 8, 3), 128, np.uint8)
    np.testing.assert_array_equal(next(damaged([grey], tracks, 25, find("hue"), "strong")), grey)
    muted = np.uint8(90) + frame // np.uint8(4)  # nothing is cut off at 0 or 255
    turned = next(damaged([muted], tracks, 25, find("hue"), "strong"))
    np.testing.assert_allclose(turned @ weights, muted @ weights, atol=1.0)
    assert np.abs(turned.astype(int) - muted).mean() > 3
    assert changed["jpeg"].shape == frame.shape


def test_a_finger_too_many_is_where_no_finger_was_and_stays_the_same():
    """Of the open hand, whose fingers are apart: the copy ends further from every joint than a finger is wide."""
    tracks = made_up(4, slots=1)
    (extra,) = extra_fingers(tracks, 0, 1)
    assert extra_fingers(tracks, 0, 3)[0] == extra
    frame = pictures(1)[0]
    changed = (damage_frame(frame, tracks, 0, "finger_added", 1) != frame).any(axis=-1)
    points = tracks.landmarks[0, 0]
    turn = np.array([[np.cos(extra.angle), -np.sin(extra.angle)], [np.sin(extra.angle), np.cos(extra.angle)]])
    chain = points[CHAINS[extra.finger]]
    tip = chain[0] + turn @ (chain[3] - chain[0])
    assert np.linalg.norm(points - tip, axis=1).min() > 15
    assert changed[int(tip[1]), int(tip[0])]
    # nothing is drawn over the other fingers' ends
    for joint in {8, 12, 16, 20} - {int(CHAINS[extra.finger][3])}:
        x, y = (int(v) for v in points[joint])
        assert not changed[y - 2 : y + 3, x - 2 : x + 3].all()


def changed_at(name, level, points, tracks):
    """Whether each of ``points`` ``[N, 2]`` px lies in what a damage changes of a hand in noise."""
    frame = pictures(1)[0]
    changed = (damage_frame(frame, tracks, 0, name, level) != frame).any(axis=-1)
    x, y = np.asarray(points).round().astype(int).T
    return [bool(changed[b - 3 : b + 4, a - 3 : a + 4].any()) for a, b in zip(x, y, strict=True)]


def fanned(clearest=2):
    """An open hand whose fingers part most behind one of them."""
    tracks = made_up(4, slots=1)
    points = tracks.landmarks.copy()
    for finger in range(clearest + 1, 5):
        points[:, 0, CHAINS[finger], 0] += 12.0
    return replace(tracks, landmarks=points)


def test_fused_fingers_have_skin_between_them_and_nowhere_else():
    tracks = fanned(2)
    assert widest_gaps(tracks, 0)[0] == 2
    points = tracks.landmarks[0, 0]
    between = [(points[CHAINS[f]][2] + points[CHAINS[f + 1]][2]) / 2 for f in (1, 2, 3)]
    near_the_palm = (points[CHAINS[2]][1] + points[CHAINS[3]][1]) / 2
    assert changed_at("finger_fused", 1, [*between, near_the_palm], tracks) == [False, True, False, True]
    assert changed_at("finger_fused", 0.5, [between[1], near_the_palm], tracks) == [False, True]
    assert sum(changed_at("finger_fused", 2, between, tracks)) == 2
    # of a colour that both have, halfway between where they differ
    frame = np.full((480, 640, 3), 40, np.uint8)
    left = points[CHAINS[2]][:, 0].max() + 3
    frame[:, int(left) :] = 200
    web = damage_frame(frame, tracks, 0, "finger_fused", 1)
    x, y = (int(v) for v in between[1])
    assert 60 < web[y, x].mean() < 180


@pytest.mark.parametrize(("name", "level"), [("finger_doubled", 2), ("finger_bent", 40)])
def test_a_forked_or_bent_finger_ends_where_no_finger_was(name, level):
    tracks = made_up(4, slots=1)
    long = long_finger(tracks, 0)
    points = tracks.landmarks[0, 0]
    bones = points[CHAINS[long.finger]][1:]
    angle = np.copysign(np.radians(40), long.angle)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    tip = bones[0] + turn @ (bones[-1] - bones[0])
    assert np.linalg.norm(points - tip, axis=1).min() > 10
    assert changed_at(name, level, [tip], tracks) == [True]
    if name == "finger_bent":  # and it is gone where it was
        assert changed_at(name, level, [bones[-1]], tracks) == [True]
    others = [points[CHAINS[f][3]] for f in range(5) if f != long.finger]
    assert changed_at(name, level, others, tracks) == [False] * 4


def test_the_finger_that_is_damaged_stands_out():
    """Of a fist with the thumb up it is the thumb."""
    tracks = made_up(4, slots=1)
    points = tracks.landmarks.copy()
    for finger in range(1, 5):
        chain = CHAINS[finger]
        points[:, 0, chain[2]] = points[:, 0, chain[0]] + 4
        points[:, 0, chain[3]] = points[:, 0, chain[0]] + 6
    assert long_finger(replace(tracks, landmarks=points), 0).finger == 0
