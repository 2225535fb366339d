"""Motion metrics against the published formulae, and against hands that freeze, stutter, shake and lag."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_bench.metrics.alignment import lag
from ipa_bench.metrics.motion import JERK_FLOOR, SPEED_FLOOR, differences, jitter, speed, stall
from ipa_bench.metrics.pairing import hand_sizes, pair_hands
from tests.hands import made_up, moved, observed, shown, without


def measure(metric, generated, driving):
    pair = pair_hands(generated, driving)
    return metric(observed(generated, pair, pair))


def typical_speed(pair):
    """Squared mean of square roots of the driving hand's speed, hand sizes a second."""
    values, valid = differences(pair.reference / pair.size[0], pair.wanted, pair.times, 1)
    return np.sqrt(values[valid]).mean() ** 2


def _jerk_as_published(joints, fps):
    """TransPose and GVHMR: mean over time and joints of |x[t+3] - 3 x[t+2] + 3 x[t+1] - x[t]| * fps^3."""
    pred = joints[3:] - 3 * joints[2:-1] + 3 * joints[1:-2] - joints[:-3]
    return np.linalg.norm(pred * fps**3, axis=2).mean()


@given(st.integers(0, 1000), st.sampled_from([16.0, 25.0, 30.0]))
def test_jerk_is_the_published_one(seed, fps):
    tracks = made_up(30, fps=fps, slots=1)
    noisy = moved(tracks, np.random.default_rng(seed).normal(0, 1, (30, 2, 21, 2)))
    values, valid = differences(noisy.landmarks.astype(np.float64), noisy.found, noisy.times, 3)
    expected = _jerk_as_published(noisy.landmarks[:, 0].astype(np.float64), fps)
    assert values[valid].mean() == pytest.approx(expected, rel=1e-6)


def test_speed_of_a_known_circle():
    tracks = made_up(50, speed=1.0, slots=1)
    # the curl of the fingers adds a little
    assert typical_speed(pair_hands(tracks, tracks)) == pytest.approx(1.0 * 100 / hand_sizes(tracks)[0], rel=0.05)


def test_twice_as_fast_is_the_logarithm_of_two():
    driving, generated = made_up(48, speed=1.0, slots=1), made_up(48, speed=1.0, slots=1)
    middle = generated.landmarks.mean(axis=(0, 2), keepdims=True)
    generated = replace(generated, landmarks=middle + (generated.landmarks - middle) * 1.0)
    pair = pair_hands(generated, driving)
    fast = replace(pair, generated=pair.generated * 2)
    measured = speed(observed(generated, fast, fast))
    true = typical_speed(pair)
    assert measured.value == pytest.approx(np.log((2 * true + SPEED_FLOOR) / (true + SPEED_FLOOR)), rel=1e-6)


def test_a_frozen_hand_is_not_rewarded():
    driving = made_up(48)
    frozen = shown(driving, np.zeros(48, int))
    # it drifts out of reach, so compare the part in which it is still the same hand
    assert measure(speed, frozen, driving).value > 1.5
    assert measure(jitter, frozen, driving).value > 0.1
    assert measure(stall, frozen, driving).value == 1.0


def test_jitter_is_two_sided():
    driving = moved(made_up(48), np.random.default_rng(0).normal(0, 0.5, (48, 2, 21, 2)))
    smooth, shaking = made_up(48), moved(driving, np.random.default_rng(1).normal(0, 2, (48, 2, 21, 2)))
    assert measure(jitter, smooth, driving).value > 0.5
    assert measure(jitter, shaking, driving).value > 0.5


@given(st.integers(-8, 8))
def test_lag_is_found_to_the_frame(frames):
    long = made_up(80, speed=2.0)
    driving = shown(long, np.arange(10, 70))
    generated = shown(long, np.arange(10, 70) - frames)
    generated, driving = (replace(t, times=np.arange(60) / 25.0) for t in (generated, driving))
    measured = measure(lag, generated, driving)
    assert measured.value == pytest.approx(abs(frames) / 25.0)


def test_noise_is_not_taken_for_lag():
    driving = made_up(48)
    for seed in range(10):
        generated = moved(driving, np.random.default_rng(seed).normal(0, 3, (48, 2, 21, 2)))
        assert measure(lag, generated, driving).value == 0.0


@pytest.mark.parametrize("hold", [2, 3, 4])
def test_stutter_stalls(hold):
    driving = made_up(48)
    generated = shown(driving, np.arange(48) - np.arange(48) % hold)
    # of every `hold` frames all but the first repeat
    assert measure(stall, generated, driving).value == pytest.approx(1 - 1 / hold, abs=0.03)


def test_a_still_driving_hand_gives_a_reason():
    driving = made_up(48, speed=0.01)
    shape = driving.landmarks.shape
    driving = replace(driving, landmarks=np.broadcast_to(driving.landmarks[:1], shape), change=0 * driving.change)
    for metric in (speed, jitter, lag, stall):
        measured = measure(metric, made_up(48), driving)
        assert measured.value is None
        assert "still" in measured.reason or "moves in fewer" in measured.reason


def test_a_hand_that_rests_and_then_moves_is_judged_by_its_movement():
    long = made_up(100, speed=1.0)
    order = np.concatenate([np.zeros(75, int), np.arange(25)])
    driving = shown(long, order)
    assert measure(stall, driving, driving).value == 0.0
    assert measure(lag, shown(long, np.maximum(order - 3, 0)), driving).value == pytest.approx(0.12)
    assert measure(stall, shown(long, np.zeros(100, int)), driving).value == 1.0


def test_nothing_is_differenced_across_a_gap():
    tracks = without(made_up(48), slice(20, 24))
    _, valid = differences(tracks.landmarks.astype(np.float64), tracks.found, tracks.times, 1)
    assert not valid[19:24].any()
    assert valid[:19].all()
    assert valid[24:].all()
    # one frame dropped from the file: the times jump
    times = np.delete(tracks.times, 10)
    _, valid = differences(np.delete(made_up(48).landmarks, 10, 0).astype(np.float64), np.ones((47, 2), bool), times, 1)
    assert not valid[9].any()
    assert valid[[8, 10]].all()


def test_few_shared_frames_give_a_reason():
    driving = made_up(48)
    measured = measure(speed, without(driving, slice(8, None)), driving)
    assert measured.value is None
    assert "12 frames" in measured.reason


def test_another_frame_rate_neither_hides_nor_fakes_a_frozen_hand():
    driving = made_up(60, fps=30)
    for fps in (15, 20, 60):
        moving = made_up(2 * fps, fps=fps)
        moving = replace(moving, change=moving.change * 30 / fps)
        frozen = shown(moving, np.zeros(2 * fps, int))
        assert measure(stall, moving, driving).value == 0.0
        assert measure(stall, frozen, driving).value == 1.0


@pytest.mark.parametrize("metric", [speed, jitter])
@pytest.mark.parametrize("fps", [15, 16, 20, 24, 29.97, 50])
def test_any_rate_is_compared_at_common_times(metric, fps):
    driving = made_up(60, fps=30)
    same = measure(metric, made_up(round(2 * fps), fps=fps), driving)
    assert same.value < 0.1
    shaken = made_up(round(2 * fps), fps=fps)
    noise = np.random.default_rng(0).normal(0, 4, (len(shaken.times), 2, 21, 2))
    assert measure(metric, moved(shaken, noise), driving).value > 3 * same.value + 0.3


@pytest.mark.parametrize("fps", [24, 30])
def test_a_shaking_video_does_not_escape_by_another_rate(fps):
    """The same frames, shaken, at 25 a second and at another rate by the frame nearest in time."""
    driving = made_up(100, fps=25)
    shaken = moved(driving, np.random.default_rng(0).integers(-5, 6, (100, 1, 1, 2)).repeat(2, 1))
    order = np.minimum((np.arange(4 * fps) * 25 / fps + 0.5).astype(int), 99)
    other = replace(shown(shaken, order), times=np.arange(4 * fps) / fps)
    assert measure(jitter, shaken, driving).value > 2
    assert measure(jitter, other, driving).value == pytest.approx(measure(jitter, shaken, driving).value, abs=0.35)


def test_joints_between_two_frames_are_those_of_the_moment():
    """24 frames a second against 25: between two frames the driving hand is on the way, not at the nearer one."""
    driving, generated = made_up(100, fps=25, speed=2.0), made_up(96, fps=24, speed=2.0)
    pair = pair_hands(generated, driving)
    error = np.linalg.norm(pair.generated - pair.reference, axis=-1).mean(axis=(1, 2)) / pair.size[0]
    nearest = np.linalg.norm(
        generated.landmarks[pair.generated_index] - driving.landmarks[pair.reference_index], axis=-1
    )
    assert error.max() < 0.01
    assert nearest.mean(axis=(1, 2)).max() / pair.size[0] > 0.03
    np.testing.assert_array_equal(pair.times, generated.times[pair.generated_index])


def test_a_driving_hand_is_not_still_because_the_other_video_has_few_frames():
    driving = made_up(48, fps=24)
    measured = measure(speed, made_up(12, fps=6), driving)
    assert measured.value is not None
    assert measure(speed, made_up(8, fps=4), driving).reason == "no hand is seen in both videos in 12 frames or more"


def test_a_hand_that_goes_astray_is_not_late():
    driving = made_up(24, speed=0.4)
    offset = np.zeros((24, 2, 21, 2))
    offset[16:, ..., 0] = 15.0
    assert measure(lag, moved(driving, offset), driving).value == 0.0


def test_floors_keep_logarithms_finite():
    assert SPEED_FLOOR > 0
    assert JERK_FLOOR > 0
