"""Does the hand move as the driving hand does? Two-sided: a frozen hand is as wrong as a shaking one.

Speeds in hand sizes per second, jerk in hand sizes per second cubed: comparable between sizes and frame rates.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from ipa_bench.metrics.align import HandPair, period
from ipa_bench.metrics.base import Evidence, Measured, unknown
from ipa_bench.metrics.hand import MIN_FRAMES, NO_HAND

#: a driving hand slower than this (hand sizes per second) moves no more than the estimator's own noise
STILL = 0.25
#: what the estimator's noise adds to any speed and jerk, so that a frozen hand has a finite logarithm
SPEED_FLOOR = 0.05
JERK_FLOOR = 20.0


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
    """|ln(generated / driving)| of the mean size of the ``order``-th derivative of the hand's joints, >= 0.

    Both means run over the same frames: those in which both videos show the hand. ``floor`` is added to both.
    """
    pair = evidence.driving
    if pair is None:
        return unknown(evidence.no_driving)
    if not pair.wanted.any():
        return unknown(NO_HAND)
    both = pair.found & pair.wanted
    if both.sum(axis=0).max() < MIN_FRAMES:
        return unknown(f"no hand is seen in both videos in {MIN_FRAMES} frames or more")
    if mean_speed(pair) < STILL:
        return unknown(f"the driving hand is still: less than {STILL} hand sizes per second")
    ours, theirs = (_mean(points, both, pair, order) for points in (pair.generated, pair.reference))
    if ours is None or theirs is None:
        return unknown("no run of frames is long enough to take differences")
    return Measured(abs(float(np.log((ours + floor) / (theirs + floor)))))


def speed(evidence: Evidence) -> Measured:
    """|ln ratio| of the mean joint speed to the driving hand's."""
    return log_ratio(evidence, 1, SPEED_FLOOR)


def jitter(evidence: Evidence) -> Measured:
    """|ln ratio| of the mean jerk (third derivative, as in TransPose and GVHMR) to the driving hand's."""
    return log_ratio(evidence, 3, JERK_FLOOR)


def mean_speed(pair: HandPair) -> float:
    """Mean joint speed of the reference's hands, in hand sizes per second; 0 where there is nothing to difference."""
    mean = _mean(pair.reference, pair.wanted, pair, 1)
    return 0.0 if mean is None else mean


def _mean(points: Float[ndarray, "T 2 21 2"], mask: Bool[ndarray, "T 2"], pair: HandPair, order: int) -> float | None:
    if len(points) <= order:
        return None
    scaled = points / np.where(np.isnan(pair.size), 1.0, pair.size)[:, None, None]
    values, valid = differences(scaled, mask, pair.times, order)
    return float(values[valid].mean()) if valid.any() else None
