"""The composite: one number for "how good are the hands", and the parts that it is made of.

Nothing else in the project combines metrics. The parts are kept beside the total.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ipa_bench.metrics import hand, motion
from ipa_bench.metrics.base import Evidence, Measured, driving_hands, unknown
from ipa_bench.metrics.hand import FINGERS, joint_errors
from ipa_bench.metrics.pairing import pair_hands
from ipa_bench.types import Bool, Float64

# Calibration of hand_quality@1. An error of TOLERANCE takes a part from 1 to 1/e. Storing a real clip leaves 0.003 to
# 0.03 hand sizes in place, 0.1 in sharpness, 0 in lag and stall, and up to 0.4 in speed and jitter (landmark noise).
PLACE_TOLERANCE = 0.15
SHARPNESS_TOLERANCE = 1.5
LAG_TOLERANCE = 0.2
STALL_TOLERANCE = 0.5
RATIO_TOLERANCE = 6.0
#: exponents of the weighted geometric mean: one bad part cannot be bought off by the others
WEIGHTS = {"place": 0.5, "sharpness": 0.2, "motion": 0.3}
#: weights of the frames around one, when places are smoothed: landmark noise is as large as mild damage
SMOOTHING = np.array([1.0, 2.0, 3.0, 2.0, 1.0])


def place(evidence: Evidence) -> Measured:
    """Part of hand_quality: mean over the driving hands of exp(-e / 0.15), 0 where the hand is missing; in [0, 1].

    e is the mean of the hand's mean joint error and its worst finger's, in hand sizes, after smoothing both hands'
    joints over five frames: what shakes is the business of ``motion``.
    """
    pair = driving_hands(evidence)
    if isinstance(pair, Measured):
        return pair
    both = pair.found & pair.wanted
    ours, theirs = (smooth(points, both) for points in (pair.generated, pair.reference))
    errors = joint_errors(ours, theirs, pair.found, pair.size)
    error = (errors.mean(axis=-1) + errors[..., FINGERS].mean(axis=-1).max(axis=-1)) / 2
    quality = np.where(pair.found, np.exp(-error / PLACE_TOLERANCE), 0.0)
    total = np.where(pair.wanted, quality, 0.0).sum(axis=1) / np.maximum(pair.wanted.sum(axis=1), 1)
    series = np.where(pair.wanted.any(axis=1), total, np.nan)
    return Measured(float(quality[pair.wanted].mean()), series=series)


def smooth(points: Float64, seen: Bool) -> Float64:
    """Median, then mean (1 2 3 2 1), of ``points`` ``[T, 2, 21, 2]`` over five frames, of those ``seen`` ``[T, 2]``.

    The median takes out what the estimator gets wrong in one frame or two, the mean its noise.
    """
    known = np.where(seen[..., None, None], points, np.nan)
    # A frame that is seen has at least its own value; the others are not read.
    middle = np.nanmedian(np.where(seen[..., None, None], _around(known, np.nan), 0.0), axis=0)
    weight = seen.astype(np.float64)
    total = np.tensordot(SMOOTHING, _around(middle * weight[..., None, None], 0.0), axes=1)
    count = np.tensordot(SMOOTHING, _around(weight, 0.0), axes=1)
    return np.asarray(total / np.maximum(count, 1.0)[..., None, None])


def _around(values: Float64, beyond: float) -> Float64:
    """Each frame with two before and two after, ``[5, T, ...]``; ``beyond`` stands for frames past the ends."""
    padded = np.pad(values, [(2, 2)] + [(0, 0)] * (values.ndim - 1), constant_values=beyond)
    return np.stack([padded[step : step + len(values)] for step in range(5)])


def sharp(evidence: Evidence) -> Measured:
    """Part of hand_quality: recall times exp(-hand.sharpness / 1.5), in [0, 1]: a missing hand is not sharp."""
    return _of_those_found(evidence, hand.sharpness(evidence), lambda value: np.exp(-value / SHARPNESS_TOLERANCE))


def moving(evidence: Evidence) -> Measured:
    """Part of hand_quality: recall times exp(-(lag / 0.2 s + stall / 0.5 + (speed + jitter) / 6)), in [0, 1].

    No value where the driving hand is still; where it moves, a term without a value counts as 0.
    """
    pair = driving_hands(evidence)
    if isinstance(pair, Measured):
        return pair
    if motion.is_still(pair):
        return unknown(f"the driving hand is still: {motion.STILL_RULE}")
    terms = (
        (motion.lag(evidence), LAG_TOLERANCE),
        (motion.stall(evidence), STALL_TOLERANCE),
        (motion.speed(evidence), RATIO_TOLERANCE),
        (motion.jitter(evidence), RATIO_TOLERANCE),
    )
    known = [measured.value / tolerance for measured, tolerance in terms if measured.value is not None]
    if not known and pair.wanted.sum(axis=0).max() < hand.MIN_FRAMES:
        return unknown(f"the driving video shows a hand in fewer than {hand.MIN_FRAMES} frames")
    total = Measured(sum(known)) if known else unknown(terms[0][0].reason or "")
    return _of_those_found(evidence, total, lambda value: np.exp(-value))


def _of_those_found(evidence: Evidence, measured: Measured, quality: Callable[[float], float]) -> Measured:
    """A quality of the hands that are there, times the share that is; 0 where too few are there to be judged."""
    recall = hand.recall(evidence)
    if recall.value is None:
        return recall
    return Measured(0.0 if measured.value is None else recall.value * float(quality(measured.value)))


PARTS: dict[str, Callable[[Evidence], Measured]] = {"place": place, "sharpness": sharp, "motion": moving}


def hand_quality(evidence: Evidence) -> Measured:
    """Weighted geometric mean of the parts that have a value, ``place`` among them; in [0, 1], series of ``place``."""
    first = place(evidence)
    if first.value is None:
        return first
    total, weight = 0.0, 0.0
    for name, part in PARTS.items():
        measured = first if name == "place" else part(evidence)
        if measured.value is not None:
            total += WEIGHTS[name] * float(np.log(max(measured.value, 1e-6)))
            weight += WEIGHTS[name]
    return Measured(float(np.exp(total / weight)), series=first.series)


def hand_quality_free(evidence: Evidence) -> Measured:
    """Without a driving video: mean presence over all frames (0 where no hand is seen) times exp(-bone drift / 0.1).

    A gate against missing and melting hands, not a judge of poses. A hand that hardly moves has no value: rigid bones
    are no merit in a frozen hand.
    """
    tracks = evidence.hands
    if not tracks.found.any():
        return Measured(0.0, series=np.zeros(len(tracks.found)))
    drift = hand.bone_drift(evidence)
    if drift.value is None:
        return unknown(drift.reason or "")
    own = pair_hands(tracks, tracks)
    if motion.is_still(own):
        return unknown(f"the hand is still: {motion.STILL_RULE}")
    series = np.where(tracks.found, tracks.presence, 0.0).max(axis=1).astype(np.float64)
    return Measured(float(series.mean() * np.exp(-drift.value / 0.1)), series=series * np.exp(-drift.value / 0.1))
