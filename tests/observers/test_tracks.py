"""Whose hand it is, and which: made-up hands in view of wrists, and of bodies that are there or imagined."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_bench.observers.tracks import assign
from tests.hands import hand

NOWHERE = np.full((2, 3), np.nan, np.float32)


def slots(result):
    return [tuple(None if h is None else float(h.landmarks[:, 0].mean().round()) for h in pair) for pair in result]


def centre(x):
    return float((hand(x, 0).landmarks[:, 0]).mean().round())


def test_body_wrists_decide_the_side():
    wrists = np.stack([np.array([[300, 100, 60], [100, 100, 60]], np.float32)] * 3)
    result = assign([[hand(100, 80), hand(300, 80)], [hand(300, 80)], [hand(100, 80)]], wrists, [0, 0.04, 0.08])
    assert slots(result) == [(centre(300), centre(100)), (centre(300), None), (None, centre(100))]


def test_without_a_body_image_left_is_the_right_hand():
    result = assign([[hand(300, 100), hand(100, 100)]], np.stack([NOWHERE]), [0.0])
    assert slots(result) == [(centre(300), centre(100))]


def test_a_hand_keeps_its_slot_when_it_moves_across():
    xs = list(range(100, 320, 15))
    result = assign([[hand(x, 100)] for x in xs], np.stack([NOWHERE] * len(xs)), [i / 25 for i in range(len(xs))])
    assert len({tuple(v is None for v in pair) for pair in slots(result)}) == 1


def test_one_wrong_look_at_the_body_does_not_swap_a_track():
    wrists = np.stack([np.array([[300, 100, 60], [100, 100, 60]], np.float32)] * 9)
    wrists[4] = wrists[4, ::-1]
    result = assign([[hand(100, 80), hand(300, 80)]] * 9, wrists, [i / 25 for i in range(9)])
    assert len(set(slots(result))) == 1


def test_a_third_hand_is_left_out():
    frames = [[hand(100, 100), hand(300, 100), hand(500, 100)]] + [[hand(100, 100), hand(300, 100)]] * 5
    result = assign(frames, np.stack([NOWHERE] * 6), [i / 25 for i in range(6)])
    assert slots(result)[0] == slots(result)[1]


@given(st.permutations(range(3)))
def test_the_order_in_which_hands_were_found_does_not_matter(order):
    hands = [hand(100, 100), hand(300, 120), hand(520, 90, size=30)]
    one = assign([hands] * 3, np.stack([NOWHERE] * 3), [0, 0.04, 0.08])
    other = assign([[hands[i] for i in order]] * 3, np.stack([NOWHERE] * 3), [0, 0.04, 0.08])
    assert set(filter(None, slots(one)[0])) <= {
        centre(100),
        centre(300),
        float(hands[2].landmarks[:, 0].mean().round()),
    }
    assert len(slots(other)[0]) == 2


@pytest.mark.parametrize("fps", [16, 25, 30])
def test_hands_that_cross_keep_their_sides(fps):
    """Arms are crossed and parted again within two seconds, a hand and a half a second fast; the body is not seen."""
    times = np.arange(2 * fps) / fps
    xs = 200 + 100 * np.cos(2 * np.pi * times / 2)
    frames = [[hand(x, 100), hand(400 - x, 104)] for x in xs]
    result = assign(frames, np.stack([NOWHERE] * len(xs)), list(times))
    left = np.array([pair[0].landmarks[:, 1].mean() for pair in result])
    assert (left == left[0]).all()


def test_somebody_elses_hand_takes_no_slot():
    """Of two people beside each other the body is one's; in some frames its own hand is not found."""
    wrists = np.stack([np.array([[300, 100, 60], [100, 100, 60]], np.float32)] * 12)
    frames = [[hand(100, 80), hand(300, 80), hand(700, 90), hand(860, 90)] for _ in range(12)]
    for missed in (3, 4, 8):
        frames[missed] = frames[missed][1:]
    result = assign(frames, wrists, [i / 25 for i in range(12)])
    assert {None if h is None else float(h.landmarks[:, 0].mean().round()) for pair in result for h in pair} == {
        None, centre(100), centre(300)
    }  # fmt: skip
    # without own ones in view, or with a body that is imagined into a close-up, whoever is there is taken
    others = [[h for h in hands if h.landmarks[:, 0].mean() > 500] for hands in frames]
    assert all(None not in pair for pair in assign(others, wrists, [i / 25 for i in range(12)]))
    large = [[hand(700, 90, size=200)] for _ in range(12)]
    assert all(any(pair) for pair in assign(large, wrists, [i / 25 for i in range(12)]))


def test_a_hand_that_is_nearer_to_another_person_takes_no_slot():
    """Two people whose wrists the body net does not show, beside each other; each has a hand raised."""
    people = [np.array([[200, 200, 90], [600, 200, 90]], np.float32)] * 12
    frames = [[hand(240, 150), hand(560, 150)] for _ in range(12)]
    frames[5] = frames[5][1:]
    times = [i / 25 for i in range(12)]
    result = assign(frames, np.stack([NOWHERE] * 12), times, people)
    assert {None if h is None else float(h.landmarks[:, 0].mean().round()) for p in result for h in p} == {
        None, centre(240)
    }  # fmt: skip
    imagined = [np.array([[200, 200, 30], [600, 200, 30]], np.float32)] * 5
    assert all(None not in pair for pair in assign(frames[:5], np.stack([NOWHERE] * 5), times[:5], imagined))
    alone = [person[:1] for person in people]
    assert all(None not in pair for pair in assign(frames[:5], np.stack([NOWHERE] * 5), times[:5], alone))


@pytest.mark.parametrize(("imagined", "kept"), [(0, 2), (4, 2), (8, 2), (9, 1), (17, 1)])
def test_a_body_takes_a_hand_that_is_mostly_nearer_to_it(imagined, kept):
    """A harmless re-encode made the detector imagine a body on a hand in 4 of 17 frames: it was lost in all."""
    wrists = np.array([[[np.nan] * 3, [65, 60, 45]]] * 17, np.float32)
    own, other = [64, 62, 42], [110, 60, 42]
    people = [np.array([own, other] if t < imagined else [own], np.float32) for t in range(17)]
    found = assign([[hand(110, 60, size=30), hand(65, 60, size=30)]] * 17, wrists, [t / 12 for t in range(17)], people)
    assert {sum(h is not None for h in pair) for pair in found} == {kept}
