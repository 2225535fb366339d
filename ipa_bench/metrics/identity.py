"""Does each person stay the person of the reference picture? Means over people, then over the clip's frames.

A face that should be there and is missing has similarity 0, not no similarity; how often that is stands beside it as
coverage. A face that is too small to be judged is left out, and if there is no other, that is the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from ipa_bench.metrics.base import NO_TRUTH as NO_TRUTH_VIDEO
from ipa_bench.metrics.base import Evidence, Measured, unknown
from ipa_bench.metrics.people import LEAST_HEIGHT, Network, People, beside, exchanges, standing
from ipa_bench.types import Float64

NOT_EXPECTED = "nobody's face is due in any frame"
TOO_SMALL = f"every face is less than {LEAST_HEIGHT:.0f} pixels high, too small to tell whose it is"
ONE_PERSON = "the case names one person: there is nobody to be taken for"
NO_TRUTH = "the case has no ground truth in which the face is seen"
#: a face that is there for fewer frames than this, one after another or not, is a mistake of the detector
LEAST_FRAMES = 3
#: seconds without which a slope over time means nothing
LEAST_SECONDS = 0.5
#: frames that FaceSim takes from a clip
FACESIM_FRAMES = 16


def of_evidence(evidence: Evidence, measure: Callable[[People], Measured], network: Network) -> Measured:
    """A metric of this module for what was observed through ``network``, or the reason why there is nothing."""
    people = people_of(evidence, network)
    return people if isinstance(people, Measured) else measure(people)


@lru_cache(maxsize=2)  # all metrics of a video are taken one after another
def people_of(evidence: Evidence, network: Network) -> People | Measured:
    """Who is where in a video as ``network`` sees it, or the reason why that is not known."""
    clips, pictures = f"faces.{network.name}", f"reference.{network.name}"
    if clips not in evidence.seen:
        return unknown(evidence.reasons.get(clips, "faces were not looked for"))
    if pictures not in evidence.seen_in_references:
        return unknown(evidence.no_references.get(pictures, "the case has no reference picture"))
    truth = None if evidence.no_truth == NO_TRUTH_VIDEO else evidence.seen_in_truth.get(clips)
    driving = evidence.seen_in_driving.get(clips)
    seen, references = evidence.seen[clips], evidence.seen_in_references[pictures]
    return beside(seen, references, network, driving, truth, evidence.places)


def similarity(people: People) -> Measured:
    """Likeness of each person's face to the own reference; a missing face counts as 0. In [-1, 1]."""
    stand = standing(people)
    return _over_people(stand.own, stand.counted, people)


def coverage(people: People) -> Measured:
    """Share of the frames in which a person's face should be seen, and is; of any size."""
    if not people.expected.any():
        return unknown(NOT_EXPECTED)
    return _over_people(standing(people).found.astype(float), people.expected, people)


def margin(people: People) -> Measured:
    """How much more a face is like the own reference than like the most similar other; a missing face counts as 0."""
    if people.likeness.shape[2] < 2:
        return unknown(ONE_PERSON)
    stand = standing(people)
    return _over_people(np.where(stand.judged, stand.own - _best_other(stand.likeness), 0.0), stand.counted, people)


def top1(people: People) -> Measured:
    """Share of frames in which no other reference is more like a person's face; a missing face is a miss."""
    if people.likeness.shape[2] < 2:
        return unknown(ONE_PERSON)
    stand = standing(people)
    right = stand.judged & (stand.own >= _best_other(stand.likeness))
    return _over_people(right.astype(float), stand.counted, people)


def swap(people: People) -> Measured:
    """Share of the judged faces that are another person's, as :func:`ipa_bench.metrics.people.exchanges` has it."""
    if people.likeness.shape[2] < 2:
        return unknown(ONE_PERSON)
    stand = standing(people)
    wrong = exchanges(stand) != np.arange(people.likeness.shape[2])
    return _over_people(wrong.astype(float), stand.judged & people.expected, people)


def swaps(people: People) -> Measured:
    """How many times people exchange their faces in the clip."""
    if people.likeness.shape[2] < 2:
        return unknown(ONE_PERSON)
    stand = standing(people)
    if not stand.judged.any():
        return _nothing(people)
    changed = np.diff(exchanges(stand), axis=0, prepend=np.arange(people.likeness.shape[2])[None]) != 0
    series = changed.any(axis=1).astype(float)
    return Measured(float(series.sum()), series=series)


def duplicate(people: People) -> Measured:
    """Share of frames in which two faces are both, above the network's threshold, the same person's."""
    if not people.judged.any():
        return _nothing(people)
    best = np.where(people.judged, people.likeness.argmax(axis=2), -1)
    sure = people.judged & (people.likeness.max(axis=2, initial=-1.0) >= people.same)
    count = (sure[:, :, None] & (best[:, :, None] == np.arange(people.likeness.shape[2]))).sum(axis=1)
    series = (count > 1).any(axis=1).astype(float)
    return Measured(float(series.mean()), series=series)


def extra(people: People) -> Measured:
    """Faces a frame beyond the people that the case names, of tracks of at least three frames; of any size."""
    if not people.expected.any():
        return unknown(NOT_EXPECTED)
    steady = people.found & (people.found.sum(axis=0) >= LEAST_FRAMES)
    series = np.maximum(steady.sum(axis=1) - people.likeness.shape[2], 0).astype(float)
    return Measured(float(series.mean()), series=series)


def drift(people: People) -> Measured:
    """Similarity lost per second: minus the slope of each person's over time, less the ground truth's own loss.

    Least squares over the judged frames; with a ground truth over those in which both are judged.
    """
    stand = standing(people)
    lost = stand.own if people.truth is None else stand.own - people.truth
    valid = stand.judged & people.expected & np.isfinite(lost)
    slopes = [_slope(people.times[seen], values[seen]) for values, seen in zip(lost.T, valid.T, strict=True)]
    known = [slope for slope in slopes if slope is not None]
    if not known:
        due = (stand.judged & people.expected).any()
        return unknown(f"no face is seen for {LEAST_SECONDS} s") if due else _nothing(people)
    return Measured(0.0 - float(np.mean(known)))


def gap(people: People) -> Measured:
    """By how much the face is less like its reference than the ground truth's face is at the same time.

    Similarity falls with the turn of the head, in the ground truth as in the generated clip: this is free of it. A
    missing face counts as similarity 0.
    """
    if people.truth is None or not np.isfinite(people.truth).any():
        return unknown(NO_TRUTH)
    stand = standing(people)
    return _over_people(people.truth - stand.own, stand.counted & np.isfinite(people.truth), people)


def copied(people: People) -> Measured:
    """Does the face repeat the reference picture instead of being as the ground truth is? In [-1, 1].

    (angle to the truth's face - angle to the reference) / angle between the two (MultiID-Bench, WithAnyone 2025): 1
    where the face is the reference's, -1 where it is the truth's.
    """
    if people.truth is None or people.truth_beside is None or not np.isfinite(people.truth).any():
        return unknown(NO_TRUTH)
    stand = standing(people)
    to_truth, to_reference, between = (_apart(c, people) for c in (people.truth_beside, stand.own, people.truth))
    valid = stand.judged & people.expected & np.isfinite(to_truth) & np.isfinite(between) & (between > 1e-3)
    values = np.where(valid, to_truth - to_reference, 0.0) / np.where(valid, between, 1.0)
    return _over_people(np.clip(values, -1.0, 1.0), valid, people)


def facesim(people: People) -> Measured:
    """FaceSim as ConsisID's code has it, for one person: the largest face of 16 frames, frames without one skipped.

    max(0, likeness), mean over the frames in which there is a face; 0 where there is none at all. Not this project's
    rule: a model gains by hiding the face.
    """
    if people.likeness.shape[2] != 1:
        return unknown("defined for one person")
    frames, tracks = people.found.shape
    taken = np.linspace(0, frames - 1, min(FACESIM_FRAMES, frames)).astype(int)
    if not tracks or not people.found[taken].any():
        return Measured(0.0)
    largest = np.where(people.found, people.height, -1.0).argmax(axis=1)
    rows = np.arange(frames)
    values, seen = people.likeness[rows, largest, 0], people.found[rows, largest]
    small = taken[seen[taken] & ~people.judged[rows, largest][taken]]
    if len(small):
        return unknown(f"in {len(small)} of its frames the face is less than {LEAST_HEIGHT:.0f} pixels high")
    return Measured(float(np.maximum(values[taken][seen[taken]], 0.0).mean()))


# ---------------------------------------------------------------------------------------------------------------------


def _over_people(values: Float[ndarray, "T K"], valid: Bool[ndarray, "T K"], people: People) -> Measured:
    """Mean over the frames of each person, then over those who have any; the series is each frame's mean."""
    count = valid.sum(axis=0)
    if not count.any():
        return _nothing(people)
    kept = np.where(valid, values, 0.0)
    means = kept.sum(axis=0)[count > 0] / count[count > 0]
    row = valid.sum(axis=1)
    series: Float64 = np.where(row > 0, kept.sum(axis=1) / np.maximum(row, 1), np.nan)
    return Measured(float(means.mean()), series=series)


def _nothing(people: People) -> Measured:
    """Why no frame counts."""
    if not people.expected.any():
        return unknown(NOT_EXPECTED)
    return unknown(TOO_SMALL if people.found.any() else "no face is seen")


def _best_other(likeness: Float[ndarray, "T K K"]) -> Float[ndarray, "T K"]:
    best: Float64 = np.where(np.eye(likeness.shape[1], dtype=bool), -np.inf, likeness).max(axis=2)
    return best


def _slope(times: Float[ndarray, "F"], values: Float[ndarray, "F"]) -> float | None:
    """Per second, of the least squares line; None for less than half a second."""
    if len(times) < LEAST_FRAMES or np.ptp(times) < LEAST_SECONDS:
        return None
    centred = times - times.mean()
    return float(centred @ values / (centred @ centred))


def _apart(likeness: Float[ndarray, "T K"], people: People) -> Float[ndarray, "T K"]:
    """Of a cosine the angle, radians, else the distance; NaN stays NaN."""
    apart: Float64 = np.arccos(np.clip(likeness, -1.0, 1.0)) if people.angular else 1.0 - likeness
    return apart
