"""Do the hands agree with the driving hands? Shapes: T frames, 2 hands, 21 joints. Distances in hand sizes.

A hand that the reference shows and the generated video lacks is a miss: an error of one hand size, no joint correct.
Frames in which the reference itself shows no hand are left out.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from ipa_bench.metrics.base import NO_HAND, Evidence, Measured, driving_hands, over_frames, unknown
from ipa_bench.metrics.pairing import HandPair

#: joints of thumb, index, middle, ring and little finger, from the palm to the tip
FINGERS = np.arange(1, 21).reshape(5, 4)
#: (parent, child) of the 20 bones of MediaPipe's hand
BONES = np.array(
    [(0 if i % 4 == 1 else i - 1, i) for i in range(1, 21)]
)  # wrist to the first joint of each finger, then along the finger
MIN_FRAMES = 12
MISS = 1.0
#: in ``how`` of :class:`ipa_bench.types.HandTracks`: found where it was a moment before or after
FOLLOWED = 3
#: share of the hands that count as fast, and how many at least
FAST, LEAST_FAST = 0.1, 8


def joint_errors(
    generated: Float[ndarray, "T 2 21 2"],
    reference: Float[ndarray, "T 2 21 2"],
    found: Bool[ndarray, "T 2"],
    size: Float[ndarray, " 2"],
) -> Float[ndarray, "T 2 21"]:
    """Distance of each joint from where it should be, in hand sizes, at most 1; 1 for every joint of a missing hand.

    Coordinates in px of one frame, ``size`` in px. The normalised form of AKD (Siarohin et al., Monkey-Net, CVPR 2019),
    with the missing-keypoint rate folded in rather than left out.
    """
    error = np.linalg.norm(generated - reference, axis=-1) / size[:, None]
    return np.where(found[..., None], np.minimum(error, MISS), MISS)


def bone_lengths(world: Float[ndarray, "T 21 3"]) -> Float[ndarray, "T 20"]:
    """Length of each bone in the unit of ``world``."""
    return np.asarray(np.linalg.norm(world[:, BONES[:, 1]] - world[:, BONES[:, 0]], axis=-1))


def length_variation(lengths: Float[ndarray, "T B"]) -> float:
    """Coefficient of variation over time (standard deviation / mean, ddof 1), averaged over bones; >= 0, T >= 2.

    Lengths are first divided by the frame's total, so that an estimator that sees the whole hand grow is not counted.
    HumanScore (arXiv 2604.20157) asks the same of bodies: bones stay rigid.
    """
    shares = lengths / lengths.sum(axis=1, keepdims=True)
    return float((shares.std(axis=0, ddof=1) / shares.mean(axis=0)).mean())


def _errors(pair: HandPair) -> Float[ndarray, "T 2 21"]:
    return joint_errors(pair.generated, pair.reference, pair.found, pair.size)


def recall(evidence: Evidence) -> Measured:
    """Share of the driving video's hands that the generated video shows too, in [0, 1]."""
    pair = driving_hands(evidence)
    if isinstance(pair, Measured):
        return pair
    return over_frames(pair.found.astype(np.float64), pair.wanted, NO_HAND)


def confidence(evidence: Evidence) -> Measured:
    """Mean presence of the driving video's hands in the generated video, misses as 0, in [0, 1]."""
    pair = driving_hands(evidence)
    if isinstance(pair, Measured):
        return pair
    return over_frames(pair.presence, pair.wanted, NO_HAND)


def keypoint_error(evidence: Evidence) -> Measured:
    """Mean joint error in hand sizes, a miss as 1, in [0, 1]."""
    pair = driving_hands(evidence)
    if isinstance(pair, Measured):
        return pair
    return over_frames(_errors(pair).mean(axis=-1), pair.wanted, NO_HAND)


def pck(evidence: Evidence, alpha: float) -> Measured:
    """Share of joints within ``alpha`` hand sizes of their place, misses as 0, in [0, 1] (Yang and Ramanan 2013)."""
    pair = driving_hands(evidence)
    if isinstance(pair, Measured):
        return pair
    return over_frames((_errors(pair) <= alpha).mean(axis=-1), pair.wanted, NO_HAND)


def worst_finger(evidence: Evidence) -> Measured:
    """Mean over frames of the error of the worst finger (its four joints' mean), in hand sizes, a miss as 1."""
    pair = driving_hands(evidence)
    if isinstance(pair, Measured):
        return pair
    return over_frames(_errors(pair)[..., FINGERS].mean(axis=-1).max(axis=-1), pair.wanted, NO_HAND)


def sharpness(evidence: Evidence) -> Measured:
    """ln(generated energy / reference energy), its size in all frames or in the fastest, whichever is larger; >= 0.

    The two are :func:`sharpness_medians`: blur and invented texture both cost. The series is the signed logarithm.
    """
    ratio = sharpness_ratio(evidence)
    if isinstance(ratio, Measured):
        return ratio
    value = max(abs(each) for each in sharpness_medians(evidence))
    both = np.isfinite(ratio)
    return Measured(value, series=over_frames(np.where(both, ratio, 0.0), both, NO_HAND).series)


def sharpness_ratio(evidence: Evidence) -> Float[ndarray, "T 2"] | Measured:
    """ln(generated energy / reference energy) of each hand that both videos show, NaN for others; below 0 is blur.

    Energy is the Laplacian energy of each video's own hand box over its variance (``observers/crops.py``). The
    reference is the ground truth, or the driving video where there is none.
    """
    pair = evidence.truth or evidence.driving
    if pair is None:
        return unknown(evidence.no_driving)
    both = _both_sharp(pair)
    if not both.any():
        return unknown("no hand is seen in both videos" if pair.wanted.any() else NO_HAND)
    ours, theirs = (np.where(both, each, 1.0) for each in (pair.generated_sharpness, pair.reference_sharpness))
    return np.where(both, np.log(ours / theirs), np.nan)


def sharpness_medians(evidence: Evidence) -> tuple[float, ...]:
    """Medians of :func:`sharpness_ratio` over all hands, and over the tenth whose reference changes most (8 at least).

    Blur that only moving hands have leaves the rest as sharp as before. None of either where no hand is in both videos.
    """
    pair = evidence.truth or evidence.driving
    ratio = sharpness_ratio(evidence)
    if pair is None or isinstance(ratio, Measured):
        return ()
    both = _both_sharp(pair)
    fastest = np.argsort(-pair.reference_change[both], kind="stable")
    fast = ratio[both][fastest[: max(round(FAST * len(fastest)), LEAST_FAST)]]
    return float(np.median(ratio[both])), float(np.median(fast))


def _both_sharp(pair: HandPair) -> Bool[ndarray, "T 2"]:
    return np.asarray(pair.found & (pair.reference_sharpness > 0) & (pair.generated_sharpness > 0), bool)


def bone_drift(evidence: Evidence) -> Measured:
    """Coefficient of variation of the finger bones' 3-D lengths over time, mean over bones and hands; >= 0."""
    tracks = evidence.hands
    values, weights = [], []
    for slot in range(2):
        seen = tracks.found[:, slot]
        if seen.sum() >= MIN_FRAMES:
            values.append(length_variation(bone_lengths(tracks.world[seen, slot].astype(np.float64))))
            weights.append(int(seen.sum()))
    if not values:
        return unknown(f"no hand is seen in {MIN_FRAMES} frames or more")
    return Measured(float(np.average(values, weights=weights)))


def seen(evidence: Evidence) -> Measured:
    """Share of the generated video's frames that show a hand, in [0, 1]; needs no reference."""
    shown = np.asarray(evidence.hands.found.any(axis=1), np.float64)
    if not len(shown):
        return unknown("the video has no frames")
    return Measured(float(shown.mean()), series=shown)


def followed(evidence: Evidence) -> Measured:
    """Share of the hands seen that were found only where they were a moment before or after, in [0, 1]."""
    tracks = evidence.hands
    if tracks.how is None:
        return unknown("this observer does not say how it finds hands")
    return over_frames((tracks.how == FOLLOWED).astype(np.float64), tracks.found, "no hand is seen")


def presence(evidence: Evidence) -> Measured:
    """Mean presence of the hands that are seen, in [0.5, 1]; says nothing of hands that are not."""
    tracks = evidence.hands
    return over_frames(tracks.presence.astype(np.float64), tracks.found, "no hand is seen")
