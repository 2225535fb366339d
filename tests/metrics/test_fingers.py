"""Fingers beside the driving hand: values worked out by hand, slots that change places, and what is not known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_bench.metrics import find
from ipa_bench.metrics.fingers import LEAST_SPREAD, running_mean
from ipa_bench.metrics.pairing import pair_hands, period
from ipa_bench.metrics.table import DEFAULT
from ipa_bench.types import Observation
from tests.hands import made_up, moved, observed, without

NAMES = ("hand.finger_count", "hand.anatomy_shift")


def seen(tracks, count, wrong):
    """What the head says of hands: arrays ``[T, 2]``, or numbers."""
    shape = tracks.found.shape
    arrays = {"count": np.broadcast_to(count, shape), "wrong": np.broadcast_to(wrong, shape), "found": tracks.found}
    return Observation("fingers@test", "", {name: np.array(array) for name, array in arrays.items()})


def measured(name, generated, driving, ours, theirs):
    pair = pair_hands(generated, driving)
    evidence = observed(generated, pair, pair)
    evidence = replace(
        evidence,
        seen={**evidence.seen, "fingers": ours},
        seen_in_driving={"hands": driving.observation, "fingers": theirs},
    )
    return find(name).measure(evidence)


@pytest.mark.parametrize("name", NAMES)
def test_a_video_has_the_fingers_of_itself(name):
    tracks = made_up()
    same = seen(tracks, 4.2, np.random.default_rng(0).normal(size=tracks.found.shape))
    found = measured(name, tracks, tracks, same, same)
    assert found.value == 0
    np.testing.assert_array_equal(found.series, np.zeros(len(tracks.times)))


@pytest.mark.parametrize("change", [-1.0, 0.5, 2.0])
def test_a_finger_is_counted_whichever_way_it_differs(change):
    tracks = made_up()
    value = measured("hand.finger_count", tracks, tracks, seen(tracks, 5 + change, 0), seen(tracks, 5, 0)).value
    assert value == pytest.approx(abs(change))


def test_one_more_on_one_hand_and_one_fewer_on_the_other_are_two_that_are_wrong():
    tracks = made_up()
    value = measured("hand.finger_count", tracks, tracks, seen(tracks, [6, 4], 0), seen(tracks, 5, 0)).value
    assert value == pytest.approx(1.0)


def test_the_head_s_noise_is_averaged_out_and_a_finger_of_a_second_is_not():
    tracks = made_up(frames=100)
    noise = np.random.default_rng(1).normal(0, 0.5, tracks.found.shape)
    quiet = measured("hand.finger_count", tracks, tracks, seen(tracks, 5 + noise, 0), seen(tracks, 5, 0)).value
    assert quiet < 0.15
    count = np.full(tracks.found.shape, 5.0)
    count[25:50] += 1
    count[50:75] -= 1  # the mean over the clip is that of the driving hand
    assert measured("hand.finger_count", tracks, tracks, seen(tracks, count, 0), seen(tracks, 5, 0)).value > 0.3


def test_a_shift_is_in_deviations_of_the_driving_hand_in_its_own_slot():
    tracks = made_up(frames=60)
    theirs = np.zeros((60, 2))
    theirs[::2] = [2.0, 6.0]  # deviations 1 and 3 about means of 1 and 3
    found = measured("hand.anatomy_shift", tracks, tracks, seen(tracks, 5, theirs + 3), seen(tracks, 5, theirs))
    assert found.value == pytest.approx((3 / 1 + 3 / 3) / 2)
    still = measured("hand.anatomy_shift", tracks, tracks, seen(tracks, 5, 1.0), seen(tracks, 5, 0.0))
    assert still.value == pytest.approx(1 / LEAST_SPREAD)
    assert measured("hand.anatomy_shift", tracks, tracks, seen(tracks, 5, -1.0), seen(tracks, 5, 0.0)).value < 0


def test_hands_whose_slots_changed_places_are_still_beside_their_own():
    driving = made_up()
    swapped = {
        each: getattr(driving, each)[:, ::-1].copy()
        for each in ("landmarks", "world", "presence", "box", "sharpness", "change", "found")
    }
    generated = replace(driving, **swapped)
    value = measured(
        "hand.finger_count", generated, driving, seen(generated, [1, 5], 0), seen(driving, [5, 1], 0)
    ).value
    assert value == 0


def test_frames_in_which_one_video_has_no_hand_say_nothing():
    driving = made_up(slots=1)
    generated = without(driving, slice(0, 20))
    count = np.full(driving.found.shape, 5.0)
    count[:20] = 0  # what a missing hand has
    found = measured("hand.finger_count", generated, driving, seen(generated, count, 0), seen(driving, 5, 0))
    assert found.value == 0
    assert np.isnan(found.series[:20]).all()
    assert not np.isnan(found.series[20:]).any()


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_said_has_a_reason(name):
    tracks = made_up(frames=30)
    own = seen(tracks, 5, 0)
    far = moved(tracks, np.array([0.0, 500.0]))
    assert "fewer than 12 frames" in measured(name, far, tracks, own, own).reason
    pair = pair_hands(tracks, tracks)
    assert find(name).measure(observed(tracks, pair, pair, {"fingers": "no head here"})).reason == "no head here"
    assert find(name).measure(observed(tracks)).reason == "the case has no driving video"


def test_nobody_is_asked_who_did_not_ask():
    assert not {metric.info.id for metric in DEFAULT} & {f"{name}@1" for name in NAMES}
    assert all(find(name).info.has_floor and "experimental" in find(name).info.source for name in NAMES)


@given(st.integers(1, 40), st.floats(0.04, 3.0), st.integers(0, 2**31))
def test_the_running_mean_is_that_of_a_slow_twin(frames, seconds, seed):
    rng = np.random.default_rng(seed)
    values, valid, times = rng.normal(size=(frames, 2)), rng.random((frames, 2)) < 0.7, np.arange(frames) / 25
    found = running_mean(values, valid, times, seconds)
    reach = round(seconds / 2 / period(times))
    for t in range(frames):
        for slot in range(2):
            near = slice(max(t - reach, 0), t + reach + 1)
            due = values[near, slot][valid[near, slot]].mean() if valid[t, slot] else 0.0
            assert found[t, slot] == pytest.approx(due, abs=1e-9)
