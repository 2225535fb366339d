"""The composite: one number for "how good are the hands", and the parts that it is made of.

Nothing else in the project combines metrics. The parts are kept beside the total.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ipa_bench.metrics import hand, motion
from ipa_bench.metrics.alignment import aligned, estimate
from ipa_bench.metrics.base import Evidence, Measured, driving_hands, unknown
from ipa_bench.metrics.hand import FINGERS, joint_errors
from ipa_bench.metrics.pairing import HandPair
from ipa_bench.types import Bool, Float64

# Calibration of hand_quality@4. An error of TOLERANCE takes a part from 1 to 1/e. Storing a real clip leaves 0.003 to
# 0.03 hand sizes in shape, up to 0.2 in sharpness, 0 in lag and stall, and up to 0.4 in speed and jitter (noise of the
# landmarks).
SHAPE_TOLERANCE = 0.15
#: of sharpness: what storing does is free; texture that was not there costs little, as JPEG's blocks do
STORED = 0.2
GAINED_TOLERANCE = 1.5
#: detail that is lost costs half of the part here, and ever less beyond: of a small hand, whose joints are known no
#: better than a pixel or two, it is most of what can be told, but models that all blur differ in more than blur
LOST_TOLERANCE = 0.15
STALL_TOLERANCE = 0.5
RATIO_TOLERANCE = 6.0
#: what a term of motion costs that cannot be told of hands that should be there: as much as standing still half of the
#: time
UNTOLD = 1.0
#: of alignment, whose errors are squared: small shifts cost next to nothing, large ones as much as a wrong hand
OFFSET_TOLERANCE = 0.03
LAG_TOLERANCE = 0.1
#: exponents of the weighted geometric mean: one bad part cannot be bought off by the others
WEIGHTS = {"shape": 0.45, "sharpness": 0.2, "motion": 0.25, "alignment": 0.1}
#: weights of the frames around one, when places are smoothed: landmark noise is as large as mild damage
SMOOTHING = np.array([1.0, 2.0, 3.0, 2.0, 1.0])


def shape(evidence: Evidence) -> Measured:
    """Part of hand_quality: mean over the driving hands of exp(-e / 0.15), 0 where the hand is missing; in [0, 1].

    e is the mean of the hand's mean joint error and its worst finger's, in hand sizes, after one small shift in space
    and time for the whole video (:mod:`ipa_bench.metrics.alignment`) and smoothing both hands' joints over five frames:
    what is beside its place is the business of ``alignment``, what shakes that of ``motion``.
    """
    pair = driving_hands(evidence)
    if isinstance(pair, Measured):
        return pair
    pair = aligned(pair)
    both = pair.found & pair.wanted
    ours, theirs = (smooth(points, both) for points in (pair.generated, pair.reference))
    errors = joint_errors(ours, theirs, pair.found, pair.size)
    error = (errors.mean(axis=-1) + errors[..., FINGERS].mean(axis=-1).max(axis=-1)) / 2
    quality = np.where(pair.found, np.exp(-error / SHAPE_TOLERANCE), 0.0)
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
    """Part of hand_quality: recall times :func:`detail`, the worse of all frames and the fastest; in [0, 1].

    A missing hand is not sharp. Of frames that show the same moment: a lag is taken out.
    """
    medians = hand.sharpness_medians(_settled(evidence))
    measured = (
        Measured(min(detail(ratio) for ratio in medians)) if medians else unknown("no hand is seen in both videos")
    )
    return _of_those_found(evidence, measured, lambda value: value)


def detail(ratio: float) -> float:
    """What ln(generated energy / reference energy) of a hand is worth, in (0, 1]: 1 up to 0.2 either way.

    Of what is beyond, x: 1 / (1 + x / 0.15) where detail is lost, exp(-x / 1.5) where there is more.
    """
    beyond = max(abs(ratio) - STORED, 0.0)
    return 1 / (1 + beyond / LOST_TOLERANCE) if ratio < 0 else float(np.exp(-beyond / GAINED_TOLERANCE))


def moving(evidence: Evidence) -> Measured:
    """Part of hand_quality: recall times exp(-(stall / 0.5 + (speed + jitter) / 6)), in [0, 1], a lag taken out.

    No value where the driving hand is still, or where the two videos share too few frames to tell. A term that cannot
    be told of this video costs 1; one that not even the driving hand itself would give, in a short clip, is left out.
    """
    pair = driving_hands(evidence)
    if isinstance(pair, Measured):
        return pair
    if motion.is_still(pair):
        return unknown(f"the driving hand is still: {motion.STILL_RULE}")
    if pair.wanted.sum(axis=0).max() < hand.MIN_FRAMES:
        return unknown(f"the driving hand is in fewer than {hand.MIN_FRAMES} of the frames that both videos share")
    settled = _settled(evidence)
    perfect = replace(settled, driving=None if settled.driving is None else _perfect(settled.driving))
    known: dict[str, float] = {}
    lacking: dict[str, str] = {}
    untold = 0.0
    for name, (term, tolerance) in TERMS.items():
        measured, due = term(settled), term(perfect)
        if measured.value is not None:
            known[name] = measured.value / tolerance
        elif due.value is not None:
            untold += UNTOLD
        else:
            lacking[name] = str(due.reason)
    if len(lacking) == len(TERMS):
        return unknown(next(iter(lacking.values())))
    total = Measured(sum(known.values()) + untold) if known else unknown("nothing can be told of its motion")
    measured = _of_those_found(evidence, total, lambda value: np.exp(-value))
    why = "; ".join(f"no {name}: {reason}" for name, reason in lacking.items())
    note = f"rests on {', '.join(known)} alone ({why})" if lacking and known else None
    return replace(measured, note=note)


def _perfect(pair: HandPair) -> HandPair:
    """What a video that shows the driving hands themselves would give at these times."""
    return replace(pair, generated=pair.reference, found=pair.wanted, generated_change=pair.reference_change)


def alignment(evidence: Evidence) -> Measured:
    """Part of hand_quality: exp(-((offset / 0.03)^2 + (lag / 0.1 s)^2)), in [0, 1]: what was taken out, and the rest.

    No value where both videos show hands in too few frames to tell.
    """
    pair = driving_hands(evidence)
    if isinstance(pair, Measured):
        return pair
    found = estimate(pair)
    if found is None:
        return unknown(f"hands are seen in both videos in fewer than {hand.MIN_FRAMES} frames")
    return Measured(float(np.exp(-((found.share / OFFSET_TOLERANCE) ** 2) - (found.seconds / LAG_TOLERANCE) ** 2)))


def _settled(evidence: Evidence) -> Evidence:
    """The evidence with the shifts of both comparisons taken out."""
    pairs = {
        name: None if pair is None else aligned(pair)
        for name, pair in (("driving", evidence.driving), ("truth", evidence.truth))
    }
    return replace(evidence, driving=pairs["driving"], truth=pairs["truth"])


def _of_those_found(evidence: Evidence, measured: Measured, quality: Callable[[float], float]) -> Measured:
    """A quality of the hands that are there, times the share that is; 0 where too few are there to be judged."""
    recall = hand.recall(evidence)
    if recall.value is None:
        return recall
    return Measured(0.0 if measured.value is None else recall.value * float(quality(measured.value)))


#: of ``moving``: how each is measured, and its tolerance
TERMS: dict[str, tuple[Callable[[Evidence], Measured], float]] = {
    "stall": (motion.stall, STALL_TOLERANCE),
    "speed": (motion.speed, RATIO_TOLERANCE),
    "jitter": (motion.jitter, RATIO_TOLERANCE),
}
PARTS: dict[str, Callable[[Evidence], Measured]] = {
    "shape": shape, "sharpness": sharp, "motion": moving, "alignment": alignment,
}  # fmt: skip


def hand_quality(evidence: Evidence) -> Measured:
    """Weighted geometric mean of the parts that have a value, ``shape`` among them; in [0, 1], series of ``shape``.

    Where one has none, the note says on which parts the value rests.
    """
    parts = {name: part(evidence) for name, part in PARTS.items()}
    first = parts["shape"]
    if first.value is None:
        return first
    known = {name: part.value for name, part in parts.items() if part.value is not None}
    lacking = {name: part.reason for name, part in parts.items() if part.value is None}
    weight = sum(WEIGHTS[name] for name in known)
    total = sum(WEIGHTS[name] * float(np.log(max(value, 1e-6))) for name, value in known.items())
    why = "; ".join(f"no {name}: {reason}" for name, reason in lacking.items())
    note = f"rests on {', '.join(known)} alone ({why})" if lacking else None
    return Measured(float(np.exp(total / weight)), series=first.series, note=note)
