"""Does the hand move as the driving hand does? Two-sided: a frozen hand is as wrong as a shaking one.

Speeds in hand sizes per second, jerk in hand sizes per second cubed: comparable between sizes. Both videos are read at
the same times, those of the frames of the slower one.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from ipa_bench.metrics.base import NO_HAND, Evidence, Measured, driving_hands, over_frames, unknown
from ipa_bench.metrics.hand import MIN_FRAMES
from ipa_bench.metrics.pairing import HandPair, period

#: a driving hand slower than this (hand sizes per second) moves no more than the estimator's own noise
STILL = 0.25
#: and it must be faster in this share of its frames, and in MIN_FRAMES of them, to be judged by how it moves
LEAST_MOVING = 0.1
STILL_RULE = f"faster than {STILL} hand sizes a second in fewer than {MIN_FRAMES} frames, or a tenth of them"
#: what the estimator's noise adds to any speed and jerk, so that a frozen hand has a finite logarithm
SPEED_FLOOR = 0.05
JERK_FLOOR = 20.0
#: change of a hand that moves, in shares of its contrast
LEAST_CHANGE = 0.01


def differences(
    points: Float[ndarray, "T 2 21 2"], both: Bool[ndarray, "T 2"], times: Float[ndarray, "T"], order: int
) -> tuple[Float[ndarray, "D 2"], Bool[ndarray, "D 2"]]:
    """Norm of the ``order``-th difference quotient, mean over joints, unit of ``points`` per second^order.

    D = T - order. A value is valid where all ``order + 1`` frames show the hand and follow each other without a gap
    (longer than 1.5 median frame periods): nothing is differenced across a gap.
    """
    step = period(times)
    quotient = np.diff(points, n=order, axis=0) / step**order
    valid = both[order:].copy()
    steady = np.diff(times) <= 1.5 * step
    for shift in range(order):
        last = len(both) - order + shift
        valid &= both[shift:last] & steady[shift:last][:, None]
    return np.linalg.norm(quotient, axis=-1).mean(axis=-1), valid


def log_ratio(evidence: Evidence, order: int, floor: float) -> Measured:
    """|ln(generated / driving)| of the typical size of the ``order``-th derivative of the hand's joints, >= 0.

    Typical is the squared mean of square roots over frames: one glitch of the estimator does not decide, and moving by
    fits and starts is not the same as moving. Both run over the same frames, those in which both videos show the hand.
    ``floor`` is added to both.
    """
    pair = driving_hands(evidence)
    if isinstance(pair, Measured):
        return pair
    both = pair.found & pair.wanted
    if both.sum(axis=0).max() < MIN_FRAMES:
        return unknown(f"no hand is seen in both videos in {MIN_FRAMES} frames or more")
    if is_still(pair):
        return unknown(f"the driving hand is still: {STILL_RULE}")
    ours, theirs = (_mean(points, both, pair, order) for points in (pair.generated, pair.reference))
    if ours is None or theirs is None:
        return unknown("no run of frames is long enough to take differences")
    return Measured(abs(float(np.log((ours + floor) / (theirs + floor)))))


def stall(evidence: Evidence) -> Measured:
    """Share of frames in which the driving hand's pixels change and the generated hand's do not, in [0, 1].

    Pixels, not landmarks: a repeated frame is a repeated frame whatever the estimator's noise. A hand counts as stalled
    where its change is less than a third of the driving hand's, and the driving hand as moving where its own is at
    least half its mean and 0.01 of its contrast.
    """
    pair = driving_hands(evidence)
    if isinstance(pair, Measured):
        return pair
    both = pair.found & pair.wanted
    # The first frame of a video has no change, so neither has its partner.
    both[0] = False
    due = both & (pair.reference_change >= np.maximum(0.5 * _mean_where(pair.reference_change, both), LEAST_CHANGE))
    if due.sum() < MIN_FRAMES:
        return unknown(f"the driving hand moves in fewer than {MIN_FRAMES} frames in which both are seen")
    return over_frames((pair.generated_change < pair.reference_change / 3).astype(np.float64), due, NO_HAND)


def _mean_where(values: Float[ndarray, "T 2"], mask: Bool[ndarray, "T 2"]) -> Float[ndarray, " 2"]:
    total = np.where(mask, values, 0.0).sum(axis=0)
    return np.asarray(total / np.maximum(mask.sum(axis=0), 1))


def speed(evidence: Evidence) -> Measured:
    """|ln ratio| of the typical joint speed to the driving hand's."""
    return log_ratio(evidence, 1, SPEED_FLOOR)


def jitter(evidence: Evidence) -> Measured:
    """|ln ratio| of the typical jerk (third derivative, as in TransPose and GVHMR) to the driving hand's."""
    return log_ratio(evidence, 3, JERK_FLOOR)


def is_still(pair: HandPair) -> bool:
    """Whether the reference's hands move too little to be judged by: see ``STILL_RULE``.

    Of a whole video the reference's own frames say so, at its own rate, over the time that is shared: that a generated
    video has fewer frames does not make the driving hand still.
    """
    if len(pair.times) < 2:
        return True
    points, seen, times = _scaled(pair.reference, pair), pair.wanted, pair.times
    if pair.whole is not None:
        edge = period(pair.times) / 2
        shared = (pair.whole.times >= times[0] - edge) & (pair.whole.times <= times[-1] + edge)
        points, seen = _scaled(pair.whole.landmarks[shared].astype(np.float64), pair), pair.whole.found[shared]
        times = pair.whole.times[shared]
    if len(times) < 2:
        return True
    values, valid = differences(points, seen, times, 1)
    moving = int((values[valid] >= STILL).sum())
    return moving < max(MIN_FRAMES, LEAST_MOVING * int(valid.sum()))


def _scaled(points: Float[ndarray, "T 2 21 2"], pair: HandPair) -> Float[ndarray, "T 2 21 2"]:
    """Pixels to hand sizes; a slot that is never seen stays as it is."""
    return points / np.where(np.isnan(pair.size), 1.0, pair.size)[:, None, None]


def _mean(points: Float[ndarray, "T 2 21 2"], mask: Bool[ndarray, "T 2"], pair: HandPair, order: int) -> float | None:
    if len(points) <= order:
        return None
    values, valid = differences(_scaled(points, pair), mask, pair.times, order)
    return float(np.sqrt(values[valid]).mean() ** 2) if valid.any() else None
