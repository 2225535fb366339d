"""Motion histograms against values worked out by hand, a slow twin, and the distance between sets that are damaged."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipa_bench.embedded import world
from ipa_bench.embedded.rig import rig
from ipa_bench.metrics.pairing import hand_sizes
from ipa_bench.metrics.sets.hand_motion import (
    ACCELERATIONS,
    BLOCKS,
    LENGTH,
    SPEEDS,
    MotionFeatures,
    blocks_of,
    hand_fvmd,
    hand_motion_features,
)
from tests.hands import OPEN_HAND, made_up, moved, shown, without

RIGHT, DOWN, LEFT, UP = 0, 2, 4, 6
MISSING, STILL = 0, 1


def clip(path, times=None):
    """An open hand of 100 px, all of whose joints follow ``path`` ``[T, 2]`` in hand sizes, 25 frames a second."""
    tracks = made_up(len(path), slots=1)
    offset = np.asarray(path, float)[:, None, None]
    landmarks = ((OPEN_HAND + 2 + offset) * 100 * tracks.found[..., None, None]).astype(np.float32)
    return replace(tracks, landmarks=landmarks, times=tracks.times if times is None else times)


def vector(tracks, *args, **kwargs):
    features = hand_motion_features(tracks, *args, **kwargs)
    assert features.value is not None, features.reason
    assert features.value.shape == (LENGTH,)
    return features.value


def cell(knots, knot, direction):
    """Where a histogram keeps this knot and direction."""
    return 2 + 8 * (knots.index(knot) - 1) + direction


def close(histogram, expected):
    """Whether a histogram holds just these masses; landmarks are float32."""
    full = np.zeros(len(histogram))
    for index, mass in expected.items():
        full[index] = mass
    np.testing.assert_allclose(histogram, full, atol=2e-3)


def test_a_hand_that_moves_to_the_right_by_its_size_every_second():
    time = np.arange(40) / 25
    for name, histogram in blocks_of(vector(clip(np.stack([time, 0 * time], -1)))).items():
        close(histogram, {cell(SPEEDS, 1.0, RIGHT) if name == "travel velocity" else STILL: 1.0})


def test_a_speed_and_a_direction_between_bins_are_shared():
    time = np.arange(40)[:, None] / 25
    way = 0.75 * np.array([math.cos(math.radians(22.5)), math.sin(math.radians(22.5))])
    expected = {cell(SPEEDS, knot, direction): 0.25 for knot in (0.5, 1.0) for direction in (0, 1)}
    close(blocks_of(vector(clip(time * way)))["travel velocity"], expected)


def test_a_slow_hand_is_partly_still_and_a_very_fast_one_is_at_the_end_of_the_scale():
    time = np.arange(40)[:, None] / 25
    slow, fast = (blocks_of(vector(clip(time * way)))["travel velocity"] for way in ([0.0, -0.1], [-30.0, 0.0]))
    close(slow, {STILL: 0.6, cell(SPEEDS, 0.25, UP): 0.4})
    close(fast, {cell(SPEEDS, 16.0, LEFT): 1.0})


def test_a_still_hand_is_still():
    for histogram in blocks_of(vector(clip(np.zeros((40, 2))))).values():
        close(histogram, {STILL: 1.0})


@pytest.mark.parametrize("uneven", [False, True])
def test_a_falling_hand_accelerates_downward_whatever_the_frame_times(uneven):
    times = np.arange(40) / 25
    if uneven:
        times = times + np.random.default_rng(0).uniform(0, 0.012, 40)
    fall = 64 * times**2 / 2
    found = blocks_of(vector(clip(np.stack([0 * fall, fall], -1), times=times)))
    np.testing.assert_allclose(found["travel acceleration"][cell(ACCELERATIONS, 64.0, DOWN)], 1.0, atol=0.02)


def test_a_finger_tip_that_shakes_is_articulation():
    """Two hand sizes a second up and down in turn, at 25 frames a second: accelerations of 4 / 0.04 = 100."""
    tracks = clip(np.zeros((41, 2)))
    shake = np.zeros((41, 2, 21, 2))
    shake[1::2, :, 8, 1] = 0.08 * 100
    found = blocks_of(vector(moved(tracks, shake)))
    close(found["travel velocity"], {STILL: 1.0})
    joint, high = 1 / 20, (100 - 64) / (256 - 64)
    shaken = {cell(SPEEDS, 2.0, direction): joint / 2 for direction in (UP, DOWN)}
    close(found["articulation velocity"], {STILL: 1 - joint} | shaken)
    # 39 accelerations, of which 20 point up
    expected = {STILL: 1 - joint}
    for direction, share in ((UP, 20 / 39), (DOWN, 19 / 39)):
        expected[cell(ACCELERATIONS, 64.0, direction)] = joint * share * (1 - high)
        expected[cell(ACCELERATIONS, 256.0, direction)] = joint * share * high
    close(found["articulation acceleration"], expected)


def test_hands_that_are_due_and_not_there_are_mass_in_the_missing_bin():
    driving = made_up(48)
    np.testing.assert_array_equal(vector(driving, driving), vector(driving))
    one = replace(driving, found=driving.found & [True, False])
    assert hand_motion_features(one, driving).missing == 0.5
    for name, histogram in blocks_of(vector(one, driving)).items():
        assert histogram[MISSING] == 0.5
        np.testing.assert_allclose(histogram[1:], blocks_of(vector(one))[name][1:] / 2)


def test_a_clip_without_hands_does_not_vanish_where_hands_are_due():
    driving = made_up(48)
    features = hand_motion_features(without(driving, slice(None)), driving)
    assert features.missing == 1.0
    for histogram in blocks_of(features.value).values():
        close(histogram, {MISSING: 1.0})
    alone = hand_motion_features(without(driving, slice(None)))
    assert alone.value is None
    assert alone.reason == "the clip shows a hand in three frames in a row 0 of at least 10 times"
    unasked = hand_motion_features(driving, without(driving, slice(None)))
    assert unasked.value is None
    assert unasked.reason == "the driving video shows a hand in three frames in a row 0 of at least 10 times"


def test_a_gap_costs_every_step_that_touches_it():
    driving = made_up(48, slots=1)
    found = blocks_of(vector(without(driving, slice(20, 24)), driving))
    # 4 frames are in 5 of 47 pairs of neighbours, and in 6 of 46 triples
    assert found["travel velocity"][MISSING] == pytest.approx(5 / 47)
    assert found["articulation acceleration"][MISSING] == pytest.approx(6 / 46)


def test_hands_are_due_at_their_time_at_any_frame_rate_in_any_slot():
    driving = without(made_up(96, fps=50, slots=1), slice(48, None))
    generated = made_up(48, slots=1)
    swapped = replace(generated, **{name: getattr(generated, name)[:, ::-1] for name in ("landmarks", "found")})
    for tracks in (generated, swapped):
        features = hand_motion_features(tracks, driving)
        assert features.missing == 0.0
        np.testing.assert_allclose(features.value, vector(generated), atol=1e-12)
    late = without(generated, slice(0, 12))
    # driving shows 24 frames' worth: 23 steps, of which the late hand lacks 12; its last 24 steps count as they move
    assert hand_motion_features(late, driving).missing == pytest.approx(12 / 47)
    assert hand_motion_features(without(generated, slice(24, None)), made_up(24, slots=1)).missing == 0.0


def test_nothing_is_differenced_across_a_gap_in_the_file():
    times = np.arange(40) / 25 + np.where(np.arange(40) >= 20, 1.0, 0.0)
    path = np.where(np.arange(40)[:, None] >= 20, [3.0, 0.0], [0.0, 0.0])
    for histogram in blocks_of(vector(clip(path, times=times))).values():
        close(histogram, {STILL: 1.0})
    jump = blocks_of(vector(clip(path)))["travel velocity"]
    close(jump, {STILL: 38 / 39, cell(SPEEDS, 16.0, RIGHT): 1 / 39})


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 11])
def test_a_few_frames_are_too_few(frames):
    features = hand_motion_features(made_up(frames, slots=1))
    assert features.value is None
    assert f"{max(frames - 2, 0)} of at least 10 times" in features.reason
    assert hand_motion_features(made_up(12, slots=1)).value is not None


def test_a_faster_clip_is_read_at_the_rate_of_the_set():
    fast = moved(made_up(97, fps=50), np.random.default_rng(0).normal(0, 1, (97, 2, 21, 2)))
    half = replace(shown(fast, np.arange(0, 97, 2)), times=fast.times[::2])
    features = hand_motion_features(fast, rate=25.0)
    assert features.rate == 25.0
    # noise moves the median hand size a little
    np.testing.assert_allclose(features.value, vector(half), atol=0.01)
    np.testing.assert_array_equal(vector(half, rate=25.0), vector(half))
    assert hand_motion_features(fast, fast, rate=16.0).missing == 0.0
    assert hand_motion_features(half, rate=30.0).reason == "the clip has fewer frames a second (25) than 30"
    with pytest.raises(ValueError, match="above 0"):
        hand_motion_features(half, rate=0.0)


@pytest.mark.parametrize("content", [(), (np.zeros(LENGTH), "why")])
def test_a_result_is_a_vector_or_a_reason(content):
    with pytest.raises(ValueError, match="not both or neither"):
        MotionFeatures(*content)


def _shaky(seed, frames=30, fps=25.0, noise=3.0):
    """Noisy hands that the observer loses in a tenth of the frames."""
    rng = np.random.default_rng(seed)
    tracks = moved(made_up(frames, fps=fps, seed=seed), rng.normal(0, noise, (frames, 2, 21, 2)))
    return replace(tracks, found=tracks.found & (rng.random((frames, 2)) < 0.9))


def _slow_mass(knots, vec):
    """Index and mass of the up to four cells that one vector falls into."""
    size = min(math.hypot(*vec), knots[-1])
    turn = math.degrees(math.atan2(vec[1], vec[0])) % 360 / 45
    low = max(i for i, knot in enumerate(knots) if knot <= size)
    high = (size - knots[low]) / (knots[low + 1] - knots[low]) if size < knots[-1] else 0.0
    for row, share in ((low, 1 - high), (low + 1, high)):
        for direction, part in ((int(turn), 1 - turn % 1), (int(turn) + 1, turn % 1)):
            if share > 0:
                yield STILL if row == 0 else 2 + 8 * (row - 1) + direction % 8, share * part


def _slow_twin(tracks):
    """The definition written out joint by joint."""
    sizes, mass = hand_sizes(tracks), {name: [] for name in BLOCKS}
    for slot, t, joint in np.ndindex(2, len(tracks.times), 21):
        place = tracks.landmarks[:, slot, joint].astype(float) / sizes[slot]
        if joint:
            place = place - tracks.landmarks[:, slot, 0].astype(float) / sizes[slot]
        kind = "articulation" if joint else "travel"
        step = tracks.times[1]
        if t >= 1 and tracks.found[t - 1 : t + 1, slot].all():
            now = (place[t] - place[t - 1]) / step
            mass[f"{kind} velocity"].append(_slow_mass(SPEEDS, now))
            if t >= 2 and tracks.found[t - 2, slot]:
                before = (place[t - 1] - place[t - 2]) / step
                mass[f"{kind} acceleration"].append(_slow_mass(ACCELERATIONS, (now - before) / step))
    out = {name: np.zeros(count) for name, count in BLOCKS.items()}
    for name, vectors in mass.items():
        for index, share in (cell for vector in vectors for cell in vector):
            out[name][index] += share / len(vectors)
    return np.concatenate(list(out.values()))


@settings(max_examples=12)
@given(st.integers(0, 1000), st.sampled_from([12.0, 25.0, 30.0]))
def test_the_slow_twin_agrees(seed, fps):
    tracks = _shaky(seed, fps=fps)
    np.testing.assert_allclose(vector(tracks), _slow_twin(tracks), atol=1e-9)


@settings(max_examples=12)
@given(st.integers(0, 1000))
def test_every_histogram_is_a_share_of_what_was_due(seed):
    driving = made_up(30, seed=seed)
    features = hand_motion_features(_shaky(seed), driving)
    assert features.missing == pytest.approx(blocks_of(features.value)["travel velocity"][MISSING])
    for histogram in blocks_of(features.value).values():
        assert histogram.min() >= 0
        assert histogram.sum() == pytest.approx(1.0)


@settings(max_examples=12)
@given(st.integers(0, 1000), st.floats(0.2, 5.0), st.floats(-200, 200), st.floats(-200, 200))
def test_neither_scale_nor_place_nor_slot_matters(seed, scale, x, y):
    tracks = _shaky(seed)
    landmarks = (tracks.landmarks * scale + np.array([x, y])) * tracks.found[..., None, None]
    other = replace(tracks, landmarks=landmarks.astype(np.float32))
    np.testing.assert_allclose(vector(other), vector(tracks), atol=2e-3)
    swapped = replace(tracks, landmarks=tracks.landmarks[:, ::-1], found=tracks.found[:, ::-1])
    np.testing.assert_allclose(vector(swapped), vector(tracks), atol=1e-12)


def _turned(histogram, directions):
    cells = histogram[2:].reshape(-1, 8)[:, directions]
    return np.concatenate([histogram[:2], cells.ravel()])


@settings(max_examples=12)
@given(st.integers(0, 1000))
def test_a_mirrored_clip_mirrors_every_direction(seed):
    tracks = _shaky(seed)
    mirrored = replace(tracks, landmarks=tracks.landmarks * np.array([-1, 1], np.float32))
    theirs = blocks_of(vector(mirrored))
    for name, histogram in blocks_of(vector(tracks)).items():
        np.testing.assert_allclose(theirs[name], _turned(histogram, (4 - np.arange(8)) % 8), atol=1e-9)


@settings(max_examples=12)
@given(st.integers(0, 1000))
def test_time_reversed_turns_velocities_around_and_leaves_accelerations(seed):
    tracks = _shaky(seed)
    theirs = blocks_of(vector(replace(tracks, landmarks=tracks.landmarks[::-1], found=tracks.found[::-1])))
    for name, histogram in blocks_of(vector(tracks)).items():
        opposite = (np.arange(8) + 4) % 8 if "velocity" in name else np.arange(8)
        np.testing.assert_allclose(theirs[name], _turned(histogram, opposite), atol=1e-9)


@settings(max_examples=12)
@given(st.floats(10, 60))
def test_steady_motion_looks_the_same_at_any_frame_rate(fps):
    times = np.arange(60) / fps
    steady = clip(times[:, None] * [0.3, -0.9], times=times)
    expected = blocks_of(vector(clip(np.arange(60)[:, None] / 25 * [0.3, -0.9])))
    for name, histogram in blocks_of(vector(steady)).items():
        np.testing.assert_allclose(histogram, expected[name], atol=0.02)


def test_smooth_motion_looks_alike_at_another_frame_rate():
    slow, fast = (vector(made_up(round(2 * fps) + 1, fps=fps)) for fps in (24, 48))
    assert np.abs(slow - fast).sum() < 0.1
    shaken = vector(_shaky(0, 49, 24, 2.0))
    assert np.abs(slow - shaken).sum() > 2.0


FRAMES, FPS = 49, 16.0


def gestures(identity, finer=1):
    """Exact joints ``[T, 2, 21, 2]`` of a person of the built-in world, px; ``finer`` times as many frames a second."""
    times = np.arange(FRAMES * finer) / (FPS * finer)
    rng = np.random.default_rng([1, identity])
    return rig(rng, world.person_of("train", identity), times, False).hands[..., :2]


def observed(joints, found=True):
    """What an exact observer would report."""
    base = made_up(len(joints), fps=FPS)
    return replace(base, landmarks=joints.astype(np.float32), found=base.found & found, size=(128, 128))


@pytest.fixture(scope="module")
def people():
    """Joints of 64 people, and their sizes in px."""
    joints = [gestures(identity) for identity in range(64)]
    return joints, [np.median(np.ptp(j, axis=2).max(-1), axis=0)[:, None, None] for j in joints]


def features_of(joints):
    return np.array([vector(observed(j)) for j in joints])


def test_the_distance_of_single_motions_is_that_of_their_vectors():
    """Sets without spread: a hand that moves to the right, and one that moves to the left."""
    time = np.arange(40)[:, None] / 25
    right, left = (np.tile(vector(clip(time * [way, 0.0])), (3, 1)) for way in (1.0, -1.0))
    # all mass of one of the four histograms is in another bin
    assert hand_fvmd(right, left) == pytest.approx(2.0, abs=0.02)
    gone = np.tile(vector(without(made_up(40), slice(None)), made_up(40)), (3, 1))
    assert hand_fvmd(gone, right) == pytest.approx(8.0, abs=0.02)


def test_the_distance_grows_with_jitter(people):
    """On top of an observer's noise of 0.3 % of the hand, as good landmark estimates have."""
    joints, sizes = people
    rng = np.random.default_rng(0)

    def shaken(half, amount):
        pairs = list(zip(joints, sizes, strict=True))[half]
        return features_of([j + rng.normal(0, amount, j.shape) * size for j, size in pairs])

    real = shaken(slice(32, None), 0.003)
    distances = [hand_fvmd(shaken(slice(32), s), real) for s in (0.003, 0.005, 0.01, 0.02, 0.05)]
    assert distances == sorted(distances)
    assert distances[1] > 1.5 * distances[0]
    assert distances[-1] > 20 * distances[0]


def test_the_distance_grows_with_frames_out_of_order_with_slow_motion_and_with_frozen_hands(people):
    joints, rng = people[0], np.random.default_rng(0)
    real = features_of(joints[32:])
    ours = hand_fvmd(features_of(joints[:32]), real)
    fine = [gestures(identity, 4) for identity in range(32)]

    def slowed(factor):
        steps = np.round(np.arange(FRAMES) * 4 / factor).astype(int)
        return hand_fvmd(features_of([j[steps] for j in fine]), real)

    def disordered(block):
        order = [np.concatenate([s + rng.permutation(block) for s in range(0, 48, block)]) for _ in range(32)]
        return hand_fvmd(features_of([j[o] for j, o in zip(joints[:32], order, strict=True)]), real)

    frozen = hand_fvmd(features_of([np.repeat(j[:1], FRAMES, axis=0) for j in joints[:32]]), real)
    assert ours < slowed(1.5) < slowed(2.0) < slowed(4.0) < frozen
    assert 2 * ours < disordered(2) < disordered(4) < disordered(48)
    assert frozen > 10 * ours


def test_the_distance_grows_with_missing_hands(people):
    joints, distances = people[0], []
    real = features_of(joints[32:])
    gone = np.random.default_rng(0).random((32, FRAMES, 2))
    for share in (0.0, 0.05, 0.2, 0.5, 1.0):
        pairs = [(observed(j, found=mask >= share), observed(j)) for j, mask in zip(joints[:32], gone, strict=True)]
        distances.append(hand_fvmd(np.array([vector(*pair) for pair in pairs]), real))
    assert distances == sorted(distances)
    assert distances[1] > 1.5 * distances[0]
    assert distances[-1] > 20 * distances[0]


def test_few_clips_look_further_apart_but_not_from_themselves(people):
    features = features_of(people[0])
    assert hand_fvmd(features, features) == pytest.approx(0.0, abs=1e-9)
    means = []
    for n in (4, 8, 16, 32):
        orders = [np.random.default_rng(seed).permutation(64) for seed in range(10)]
        means.append(np.mean([hand_fvmd(features[o[:n]], features[o[n : 2 * n]]) for o in orders]))
    assert all(1.5 * more < few for few, more in pairwise(means))
