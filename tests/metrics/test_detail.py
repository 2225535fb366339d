"""Small hands: what lost detail costs, and that their shaking joints are no lag. Values by hand, and slow twins."""

import math
import statistics
from dataclasses import replace

import numpy as np
import pytest

from ipa_bench.metrics import alignment, hand
from ipa_bench.metrics.alignment import BELIEVED, estimate
from ipa_bench.metrics.pairing import pair_hands
from ipa_bench.metrics.quality import detail, hand_quality, sharp
from tests.hands import made_up, moved, observed, shown, without


def evidence(generated, driving):
    pair = pair_hands(generated, driving)
    return observed(generated, pair, pair)


@pytest.mark.parametrize(
    ("ratio", "worth"),
    [
        (0.0, 1.0), (0.2, 1.0), (-0.2, 1.0),
        (-0.35, 1 / 2), (-0.5, 1 / 3), (-0.8, 1 / 5), (-1.7, 1 / 11),
        (1.7, math.exp(-1)), (0.5, math.exp(-0.2)),
    ],
)  # fmt: skip
def test_what_detail_is_worth(ratio, worth):
    assert detail(ratio) == pytest.approx(worth, rel=1e-12)


def test_half_the_pixels_of_a_hand_cost_what_is_worked_out():
    """Energy of 0.4: ln is -0.9163, beyond 0.2 is 0.7163, so 1 / (1 + 4.7753) = 0.1732, to the power of 0.2."""
    driving = made_up(60)
    soft = replace(driving, sharpness=driving.sharpness * np.float32(0.4))
    assert sharp(evidence(soft, driving)).value == pytest.approx(0.17315, abs=1e-4)
    assert hand_quality(evidence(soft, driving)).value == pytest.approx(0.70418, abs=1e-4)
    crisp = replace(driving, sharpness=driving.sharpness * np.float32(2.5))
    assert sharp(evidence(crisp, driving)).value == pytest.approx(math.exp(-0.7163 / 1.5), abs=1e-4)
    stored = replace(driving, sharpness=driving.sharpness * np.float32(0.83))
    assert sharp(evidence(stored, driving)).value == 1.0


def slow_sharp(generated, driving):
    """The part once more, hand by hand, for two videos without a lag."""
    pair = pair_hands(generated, driving)
    ratios, changes, due = [], [], 0
    for t in range(len(pair.times)):
        for slot in range(2):
            due += bool(pair.wanted[t, slot])
            if pair.found[t, slot] and pair.wanted[t, slot]:
                ratios.append(math.log(pair.generated_sharpness[t, slot] / pair.reference_sharpness[t, slot]))
                changes.append(float(pair.reference_change[t, slot]))
    order = sorted(range(len(ratios)), key=lambda i: (-changes[i], i))
    fast = [ratios[i] for i in order[: max(round(len(ratios) / 10), 8)]]
    worth = []
    for ratio in (statistics.median(ratios), statistics.median(fast)):
        if ratio < -0.2:
            worth.append(0.15 / (0.15 - ratio - 0.2))
        else:
            worth.append(math.exp(-max(ratio - 0.2, 0) / 1.5))
    return min(worth) * len(ratios) / due


@pytest.mark.parametrize("seed", range(12))
def test_sharpness_equals_its_slow_twin(seed):
    rng = np.random.default_rng(seed)
    driving = made_up(48, seed=seed, slots=1 + seed % 2)
    shape = driving.sharpness.shape
    driving = replace(
        driving,
        sharpness=(driving.sharpness * rng.lognormal(0, 0.3, shape)).astype(np.float32),
        change=(driving.change * rng.lognormal(0, 0.3, shape)).astype(np.float32),
    )
    factor = rng.lognormal(rng.uniform(-1, 0.5), 0.4, shape)
    generated = without(replace(driving, sharpness=(driving.sharpness * factor).astype(np.float32)), slice(0, 40, 7))
    assert sharp(evidence(generated, driving)).value == pytest.approx(slow_sharp(generated, driving), rel=1e-6)


def test_the_medians_have_the_sign_that_sharpness_has_not():
    driving = made_up(60)
    soft = evidence(replace(driving, sharpness=driving.sharpness * np.float32(0.5)), driving)
    assert hand.sharpness_medians(soft) == pytest.approx((-math.log(2), -math.log(2)), abs=1e-6)
    assert hand.sharpness(soft).value == pytest.approx(math.log(2), abs=1e-6)
    nobody = evidence(without(driving, slice(None)), driving)
    assert (hand.sharpness_medians(nobody), sharp(nobody).value) == ((), 0.0)


def shaking(driving, seed, size):
    """Joints that shake slowly, each by itself: what a net makes of a hand of 40 pixels. ``size`` in px."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 1, (len(driving.times) + 4, 2, 21, 2))
    slow = np.stack([steps[k : k + len(driving.times)] for k in range(5)]).mean(axis=0) * np.sqrt(5)
    return moved(driving, slow * size)


def breathing(driving, seed):
    """A hand that seems to open and close: what a net is unsure of in a hand of 40 pixels moves all of its joints."""
    steps = np.random.default_rng(seed).normal(0, 0.1, len(driving.times) + 3)
    slow = np.convolve(steps, np.ones(4) / 2, "valid")
    middle = driving.landmarks.mean(axis=2, keepdims=True)
    return moved(driving, (driving.landmarks - middle) * slow[:, None, None, None])


def test_a_small_hand_that_seems_to_change_is_seldom_late(monkeypatch):
    """Windows of a second of a hand that hardly moves: by an eighth alone, as before, twice as many were late."""
    driving = made_up(25, size=40, speed=0.1, slots=1)

    def late():
        pairs = (pair_hands(breathing(driving, seed), breathing(driving, seed + 99)) for seed in range(20))
        return sum(abs(estimate(pair).frames) > 2 for pair in pairs)

    now = late()
    monkeypatch.setattr(alignment, "BELIEVED_AT_MOST", BELIEVED)
    assert 2 * now < late()


@pytest.mark.parametrize("frames", [-2, 1, 2, 4, 8, 10])
def test_a_lag_of_a_hand_that_moves_is_found_all_the_same(frames):
    long = made_up(120, size=40, speed=1.5, slots=1)
    driving = replace(shown(long, np.arange(20, 80)), times=np.arange(60) / 25)
    late = replace(shown(long, np.arange(20 - frames, 80 - frames)), times=np.arange(60) / 25)
    assert estimate(pair_hands(shaking(late, 0, 1.2), driving)).frames == frames


def slow_lag(pair):
    """The lag in frames, with loops, for one hand that is always there and moves."""
    slot = int(np.flatnonzero(pair.wanted.all(axis=0))[0])
    ours, theirs, size = pair.generated[:, slot], pair.reference[:, slot], pair.size[slot]
    count, step = len(ours), float(np.median(np.diff(pair.times)))
    best, gain = 0, 0.0
    for shift in sorted(range(-round(0.4 / step), round(0.4 / step) + 1), key=lambda s: (abs(s), -s)):
        rows = [t for t in range(count) if 0 <= t + shift < count]
        if len(rows) < 12:
            continue
        errors = []
        for by in (0, shift):
            apart = np.array([ours[t + by] - theirs[t] for t in rows])
            middle = [statistics.median(statistics.median(a[:, axis]) for a in apart) for axis in (0, 1)]
            errors.append(statistics.fmean(math.hypot(*(joint - middle)) / size for a in apart for joint in a))
        share = 0.875 - 0.3 * abs(shift) * step / 0.4
        if errors[1] <= share * errors[0] and errors[0] - errors[1] >= 0.005 and errors[0] - errors[1] > gain:
            best, gain = shift, errors[0] - errors[1]
    return best


@pytest.mark.parametrize("seed", range(10))
def test_the_lag_equals_its_slow_twin(seed):
    rng = np.random.default_rng(seed)
    long = made_up(80, size=60, speed=float(rng.uniform(0.4, 1.5)), seed=seed, slots=1)
    late = int(rng.integers(-6, 7))
    driving = replace(shown(long, np.arange(20, 50)), times=np.arange(30) / 25)
    tracks = replace(shown(long, np.arange(20 - late, 50 - late)), times=np.arange(30) / 25)
    pair = pair_hands(shaking(tracks, seed, float(rng.uniform(0.5, 3))), driving)
    assert estimate(pair).frames == slow_lag(pair)
