"""Hand metrics against values worked out by hand, slow twins, and what they must not depend on."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_bench.metrics import find, hand
from ipa_bench.metrics.pairing import hand_sizes, pair_hands, pair_times
from tests.hands import made_up, moved, observed, without


def evidence(generated, driving):
    pair = pair_hands(generated, driving)
    return observed(generated, pair, pair)


def value(name, generated, driving):
    return find(name).measure(evidence(generated, driving)).value


PERFECT = {
    "hand.recall": 1.0,
    "hand.keypoint_error": 0.0,
    "hand.pck10": 1.0,
    "hand.pck20": 1.0,
    "hand.worst_finger": 0.0,
    "hand.sharpness": 0.0,
    "hand.jitter": 0.0,
    "hand.speed": 0.0,
    "hand.lag": 0.0,
    "hand.stall": 0.0,
}


@pytest.mark.parametrize("name", PERFECT)
def test_a_video_agrees_with_itself(name):
    tracks = made_up()
    assert value(name, tracks, tracks) == pytest.approx(PERFECT[name], abs=1e-6)


def test_a_shift_of_a_tenth_of_the_hand_is_an_error_of_a_tenth():
    driving = made_up(slots=1)
    size = hand_sizes(driving)[0]
    generated = moved(driving, np.array([0.1 * size, 0.0]))
    assert value("hand.keypoint_error", generated, driving) == pytest.approx(0.1, rel=1e-4)
    assert value("hand.worst_finger", generated, driving) == pytest.approx(0.1, rel=1e-4)
    assert value("hand.pck10", moved(driving, np.array([0.099 * size, 0])), driving) == 1.0
    assert value("hand.pck10", moved(driving, np.array([0.101 * size, 0])), driving) == 0.0
    assert value("hand.pck20", moved(driving, np.array([0.101 * size, 0])), driving) == 1.0


def test_the_worst_finger_is_the_one_that_is_off():
    driving = made_up(slots=1)
    size = hand_sizes(driving)[0]
    offset = np.zeros((21, 2))
    offset[13:17, 0] = 0.2 * size  # ring finger
    generated = moved(driving, offset)
    assert value("hand.worst_finger", generated, driving) == pytest.approx(0.2, rel=1e-4)
    assert value("hand.keypoint_error", generated, driving) == pytest.approx(0.2 * 4 / 21, rel=1e-4)
    assert value("hand.pck10", generated, driving) == pytest.approx(17 / 21)


def test_a_missing_hand_is_a_miss_everywhere():
    driving = made_up(48)
    generated = without(driving, slice(0, 12))
    assert value("hand.recall", generated, driving) == pytest.approx(0.75)
    assert value("hand.keypoint_error", generated, driving) == pytest.approx(0.25)
    assert value("hand.pck20", generated, driving) == pytest.approx(0.75)
    assert value("hand.worst_finger", generated, driving) == pytest.approx(0.25)
    assert value("hand.confidence", generated, driving) == pytest.approx(0.75 * 0.99, rel=1e-5)


def test_frames_in_which_the_driving_hand_is_out_of_sight_do_not_count():
    driving = without(made_up(48), slice(0, 12))
    assert value("hand.recall", made_up(48), driving) == 1.0
    assert value("hand.keypoint_error", made_up(48), driving) == 0.0


def test_a_driving_video_without_hands_gives_a_reason_and_no_number():
    driving = without(made_up(), slice(None))
    for name in ("hand.recall", "hand.keypoint_error", "hand.pck10", "hand.speed", "hand.lag", "hand.stall"):
        measured = find(name).measure(evidence(made_up(), driving))
        assert measured.value is None
        assert measured.reason == hand.NO_HAND


def test_without_a_driving_video_paired_metrics_say_so():
    measured = find("hand.keypoint_error").measure(observed(made_up()))
    assert measured.value is None
    assert "no driving video" in measured.reason


def test_a_hand_elsewhere_is_not_the_hand():
    driving = made_up(slots=1)
    generated = moved(driving, np.array([200.0, 0.0]))
    assert value("hand.recall", generated, driving) == 0.0


def test_tracks_that_swap_slots_are_put_right_frame_by_frame():
    driving = made_up()
    swapped = {
        f: np.where(
            (np.arange(48) % 7 == 0).reshape(-1, *[1] * (getattr(driving, f).ndim - 1)),
            getattr(driving, f)[:, ::-1],
            getattr(driving, f),
        )
        for f in ("landmarks", "world", "presence", "box", "sharpness", "change", "found")
    }
    assert value("hand.keypoint_error", replace(driving, **swapped), driving) == pytest.approx(0, abs=1e-6)


def _slow_error(generated, driving):
    """Twin of keypoint_error: loops, no alignment tricks, same slots."""
    size = hand_sizes(driving)
    errors = []
    for t in range(len(driving.times)):
        for slot in range(2):
            if driving.found[t, slot]:
                apart = generated.landmarks[t, slot] - driving.landmarks[t, slot]
                per_joint = [min(1.0, float(np.hypot(*apart[j])) / size[slot]) for j in range(21)]
                errors.append(sum(per_joint) / 21)
    return sum(errors) / len(errors)


@given(st.integers(0, 2**31), st.floats(0.0, 0.15))
def test_keypoint_error_equals_its_slow_twin(seed, noise):
    driving = made_up(12)
    generated = moved(driving, np.random.default_rng(seed).normal(0, noise * 100, (12, 2, 21, 2)))
    assert value("hand.keypoint_error", generated, driving) == pytest.approx(_slow_error(generated, driving), abs=1e-6)


@given(st.floats(0.3, 4.0), st.floats(-50, 50), st.floats(-50, 50))
def test_resolution_and_position_do_not_matter(scale, dx, dy):
    driving, offset = made_up(24), np.array([7.0, -3.0])
    generated = moved(driving, offset)
    before = {n: value(n, generated, driving) for n in PERFECT}

    def other(tracks):
        landmarks = (tracks.landmarks * scale + np.array([dx, dy])).astype(np.float32)
        return replace(tracks, landmarks=landmarks, size=(round(640 * scale), round(480 * scale)))

    one, two = other(generated), other(driving)
    one = replace(one, size=two.size)
    for name, expected in before.items():
        assert value(name, one, two) == pytest.approx(expected, abs=2e-3), name


def test_a_generated_video_of_another_size_is_scaled_to_the_driving_one():
    driving = made_up()
    generated = replace(driving, landmarks=driving.landmarks / 2, size=(320, 240))
    assert value("hand.keypoint_error", generated, driving) == pytest.approx(0, abs=1e-6)


@given(st.integers(0, 100))
def test_more_noise_is_worse(seed):
    driving = made_up(24)
    noise = np.random.default_rng(seed).normal(0, 1, (24, 2, 21, 2))
    errors = [value("hand.keypoint_error", moved(driving, k * noise), driving) for k in (0, 1, 2, 4, 8)]
    assert errors == sorted(errors)
    worst = [value("hand.worst_finger", moved(driving, k * noise), driving) for k in (0, 1, 2, 4, 8)]
    assert worst == sorted(worst)


def test_sharpness_is_two_sided_and_logarithmic():
    driving = made_up()
    softer = replace(driving, sharpness=driving.sharpness / 2)
    harder = replace(driving, sharpness=driving.sharpness * 2)
    assert value("hand.sharpness", softer, driving) == pytest.approx(np.log(2), rel=1e-5)
    assert value("hand.sharpness", harder, driving) == pytest.approx(np.log(2), rel=1e-5)


def test_bone_drift_is_the_mean_coefficient_of_variation():
    tracks = made_up(slots=1)
    rigid = np.broadcast_to(tracks.world[:1], tracks.world.shape)
    measured = find("hand.bone_drift").measure(observed(replace(tracks, world=rigid)))
    assert measured.value == pytest.approx(0, abs=1e-6)
    lengths = np.array([[1.0, 2.0, 3.0], [2.0, 2.0, 2.0], [1.5, 2.5, 2.0]])
    shares = lengths / lengths.sum(1, keepdims=True)
    by_hand = np.mean([np.std(shares[:, b], ddof=1) / np.mean(shares[:, b]) for b in range(3)])
    assert hand.length_variation(lengths) == pytest.approx(by_hand)
    assert hand.length_variation(lengths * np.array([[1.0], [2.0], [0.5]])) == pytest.approx(by_hand)


def test_bone_drift_needs_frames():
    measured = find("hand.bone_drift").measure(observed(made_up(8)))
    assert measured.value is None
    assert "12 frames" in measured.reason


def test_bones_are_the_twenty_of_the_skeleton():
    assert len(hand.BONES) == 20
    assert sorted(hand.BONES[:, 1]) == list(range(1, 21))
    assert [tuple(b) for b in hand.BONES if b[0] == 0] == [(0, 1), (0, 5), (0, 9), (0, 13), (0, 17)]


# pairing in time


@given(st.sampled_from([8.0, 12.0, 15.0, 25.0, 30.0, 60.0]), st.sampled_from([8.0, 12.0, 15.0, 25.0, 30.0, 60.0]))
def test_paired_frames_are_shown_at_the_same_time(a, b):
    one, other = np.arange(40) / a, np.arange(60) / b
    i, j = pair_times(one, other)
    slower = max(1 / a, 1 / b)
    assert np.abs(one[i] - other[j]).max() <= slower / 2 + 1e-6
    assert (np.diff(i) >= 0).all()
    assert (np.diff(j) >= 0).all()
    assert len(np.unique(i if a <= b else j)) == len(i)


def test_equal_times_pair_one_to_one():
    times = np.arange(10) / 25
    i, j = pair_times(times, times[:7])
    assert i.tolist() == j.tolist() == list(range(7))


def test_the_faster_video_is_decimated():
    i, j = pair_times(np.arange(20) / 50, np.arange(10) / 25)
    assert i.tolist() == list(range(0, 20, 2))
    assert j.tolist() == list(range(10))


def test_nothing_pairs_with_nothing():
    assert [len(x) for x in pair_times(np.zeros(0), np.arange(3) / 25)] == [0, 0]
