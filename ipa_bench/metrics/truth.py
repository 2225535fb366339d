"""Who really is in each place of a clip of the built-in world: readings of :mod:`ipa_bench.embedded.group.reader`.

A place is that of one of the case's K people, as the pose has it. Errors are mean squared differences in grey levels
between a frame and the picture that a candidate would have made there. Nothing may be chosen or rewarded by these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from ipa_bench.metrics.base import Evidence, Measured, Metric, compared, unknown
from ipa_bench.types import Better, Float64, MetricInfo

OBSERVER = "truth"
NOT_SEEN = "nobody's head and torso are in view"
#: shares of somebody else of which a mixture is drawn; at 1 it has all colours and lengths, and its own style of hair
#: and shirt
SHARES = (0.25, 0.5, 0.75, 1.0)
#: a blend is somebody's with such a share of somebody else
BLENDED = (0.25, 0.75)
#: errors that differ by less than this share of the smaller one, or this many squared grey levels, are equal
SURE, NOISE = 0.1, 25.0
#: and a mixture explains a part where any one person's error is larger than its own by this share: other light, which
#: a mixture can imitate a little, is no blend
EXPLAINED = 1.0
#: error that makes a candidate e times less likely; chosen on scenes of the train and val splits, see
#: ``reports/identity/temperature.py``
TEMPERATURE = 50.0
#: seconds without which a slope over time means nothing
LEAST_SECONDS = 0.5
SEALED = "it knows the answer, so it may only judge what was made without it"


@dataclass(frozen=True, eq=False)
class Reading:
    """How far T frames are from each candidate, in K places; NaN where a place is not in view."""

    #: the K people of the case, over head and torso, and over each of the two
    people: Float[ndarray, "T K K"]
    parts: Float[ndarray, "T K 2 K"]
    #: the same of people who are not of the case
    strangers: Float[ndarray, "T K S"]
    strange_parts: Float[ndarray, "T K 2 S"]
    #: the place's person with :data:`SHARES` of each of the K - 1 others, over each of the two
    mixtures: Float[ndarray, "T K 2 K-1 4"]
    #: pixels of head and torso
    pixels: Float[ndarray, "T K 2"]
    #: seconds
    times: Float[ndarray, "T"]

    @property
    def seen(self) -> Bool[ndarray, "T K"]:
        """Whether a place can be read."""
        return np.asarray(np.isfinite(self.people[:, :, 0]))

    @property
    def own(self) -> Float[ndarray, "T K"]:
        """The error of who belongs there."""
        return np.diagonal(self.people, axis1=1, axis2=2)


def reading(error: Float[ndarray, "T K 2 C"], pixels: Float[ndarray, "T K 2"], times: Float[ndarray, "T"]) -> Reading:
    """What an observation of ``truth`` says. Candidates are the K people, strangers, and 4 (K - 1) mixtures."""
    frames, count = pixels.shape[:2]
    weight = np.where(np.isfinite(error[..., 0]), pixels, 0.0)[..., None]
    total = weight.sum(2)
    whole = np.where(total > 0, (np.where(weight > 0, error, 0.0) * weight).sum(2) / np.maximum(total, 1), np.nan)
    mixed = (count - 1) * len(SHARES)
    mixtures = error[..., error.shape[-1] - mixed :].reshape(frames, count, 2, count - 1, len(SHARES))
    others = slice(count, whole.shape[-1] - mixed)
    people, parts = whole[..., :count], error[..., :count]
    return Reading(people, parts, whole[..., others], error[..., others], mixtures, pixels, times)


def nearest(error: Float[ndarray, "*S C"], own: Int[ndarray, "*S"]) -> Int[ndarray, "*S"]:
    """The candidate with the least error; ``own`` unless another is surely nearer; -1 where nothing is in view."""
    seen = np.isfinite(error).all(-1)
    held = np.where(seen[..., None], error, 0.0)
    mine = np.take_along_axis(held, own[..., None], -1)[..., 0]
    best = held.argmin(-1)
    sure = mine - held.min(-1) > np.maximum(SURE * held.min(-1), NOISE)
    return np.where(seen, np.where(sure, best, own), -1)


def who(found: Reading) -> Int[ndarray, "T K"]:
    """Who is in each place: a number of the case's people, K for a stranger, -1 where it is not in view."""
    frames, count = found.seen.shape
    own = np.broadcast_to(np.arange(count), (frames, count))
    return nearest(_with_stranger(found.people, found.strangers), own)


def top1(found: Reading) -> Measured:
    """Share of places in view, over frames, in which nobody is nearer than who belongs there."""
    return _mean(who(found) == np.arange(found.seen.shape[1]), found)


def swap(found: Reading) -> Measured:
    """Share of places in view that show another of the case's people, from head to waist (else it is a leak)."""
    reads, count = who(found), found.seen.shape[1]
    other = (reads != np.arange(count)) & (reads >= 0) & (reads < count)
    return _mean(other & ~_leaked(found)[0], found)


def stranger(found: Reading) -> Measured:
    """Share of places in view that show somebody who is not of the case."""
    return _mean(who(found) == found.seen.shape[1], found)


def duplicate(found: Reading) -> Measured:
    """Share of frames in which two places show the same person, of those in which two are in view; without leaks."""
    reads = np.where(_leaked(found)[0], -1, who(found))
    two = found.seen.sum(1) >= 2
    if not two.any():
        return unknown("no frame shows two people")
    same = [((reads == person).sum(1) > 1) for person in range(found.seen.shape[1])]
    series = np.where(two, np.any(same, axis=0), np.nan).astype(float)
    return Measured(float(series[two].mean()), series=series)


def leak(found: Reading) -> Measured:
    """Share of places in which head and torso are in view and are surely different people of the case."""
    leaked, both = _leaked(found)
    return _mean(leaked, found, both)


def blend(found: Reading) -> Measured:
    """Share of places whose head or torso is surely nearer to a mixture of two people than to any one of them."""
    share, error = _shares(found)
    inside = (share >= BLENDED[0]) & (share <= BLENDED[1])
    pure = np.nanmin(np.where(np.isfinite(found.parts), found.parts, np.inf), axis=-1)[..., None]
    sure = pure - error > np.maximum(EXPLAINED * error, NOISE)
    return _mean((inside & sure).any((2, 3)), found)


def drift(found: Reading) -> Measured:
    """How fast people become others: share of somebody else gained each second, least squares, mean over people."""
    share, _ = _shares(found)
    weight = np.where(np.isfinite(share), found.pixels[..., None], 0.0)
    total = weight.sum(2)
    mean = (np.nan_to_num(share) * weight).sum(2) / np.maximum(total, 1)  # [T, K, K - 1]
    slopes = []
    for slot in range(mean.shape[1]):
        known = total[:, slot, 0] > 0
        times = found.times[known]
        if len(times) >= 3 and np.ptp(times) >= LEAST_SECONDS:
            centred = times - times.mean()
            slopes.append(float((centred @ mean[known, slot] / (centred @ centred)).max()))
    if not slopes:
        return unknown(NOT_SEEN if not found.seen.any() else f"nobody is in view for {LEAST_SECONDS} s")
    return Measured(float(np.mean(slopes)))


def likelihood(found: Reading) -> Measured:
    """Mean probability of who belongs there, among the case's people and strangers: softmax of -error / 50.

    A place weighs by its pixels: where few are in view, as where people pass each other, all candidates are alike.
    """
    error = np.concatenate([found.people, found.strangers], -1)
    score = np.where(found.seen[..., None], -error / TEMPERATURE, 0.0)
    score = np.exp(score - score.max(-1, keepdims=True))
    count = found.seen.shape[1]
    mine = np.diagonal(score[..., :count], axis1=1, axis2=2) / score.sum(-1)
    pixels = np.where(np.isfinite(found.parts[..., 0]), found.pixels, 0.0)
    return _mean(mine, found, weight=pixels.sum(-1))


# ---------------------------------------------------------------------------------------------------------------------


def _leaked(found: Reading) -> tuple[Bool[ndarray, "T K"], Bool[ndarray, "T K"]]:
    """Where head and torso are different people of the case, and where both are in view."""
    frames, count = found.seen.shape
    both = np.isfinite(found.parts[..., 0]).all(-1)
    own = np.broadcast_to(np.arange(count)[:, None], (frames, count, 2))
    head, torso = np.moveaxis(nearest(_with_stranger(found.parts, found.strange_parts), own), -1, 0)
    return both & (head != torso) & (head < count) & (torso < count), both


def _with_stranger(people: Float[ndarray, "*T K"], strangers: Float[ndarray, "*T S"]) -> Float[ndarray, "*T K+1"]:
    """The errors of the case's people, and the least of anybody else."""
    least = strangers.min(-1, keepdims=True, initial=np.inf)
    return np.concatenate([people, np.where(np.isfinite(people[..., :1]), least, np.nan)], -1)


def _shares(found: Reading) -> tuple[Float[ndarray, "T K 2 K-1"], Float[ndarray, "T K 2 K-1"]]:
    """The share of each other person that explains a part best, and its error there; NaN where not in view.

    Errors are quadratic in the share: the parabola through those of :data:`SHARES` and of the person as is.
    """
    own = np.diagonal(found.parts, axis1=1, axis2=3).swapaxes(1, 2)  # [T, K, 2]
    at = np.array((0.0, *SHARES))
    values = np.concatenate(
        [np.broadcast_to(own[..., None, None], (*found.mixtures.shape[:-1], 1)), found.mixtures], -1
    )
    design = np.linalg.pinv(np.stack([np.ones_like(at), at, at**2], 1))  # [3, 5]
    c0, c1, c2 = np.moveaxis(values @ design.T, -1, 0)
    share = np.clip(np.where(c2 > 1e-6, -c1 / np.where(c2 > 1e-6, 2 * c2, 1.0), 0.0), 0.0, 1.0)
    share = np.where(np.isfinite(own)[..., None], share, np.nan)
    return share, c0 + c1 * share + c2 * share**2


def _mean(
    values: ndarray,
    found: Reading,
    valid: Bool[ndarray, "T K"] | None = None,
    weight: Float[ndarray, "T K"] | None = None,
) -> Measured:
    """Mean over the frames of each person, then over people; the series is each frame's mean. Both by ``weight``."""
    valid = found.seen if valid is None else valid
    share = np.where(valid, 1.0 if weight is None else weight, 0.0)
    count, row = share.sum(0), share.sum(1)
    if not count.any():
        return unknown(NOT_SEEN)
    kept = np.where(valid, values, 0.0) * share
    series: Float64 = np.where(row > 0, kept.sum(1) / np.maximum(row, 1), np.nan)
    return Measured(float((kept.sum(0)[count > 0] / count[count > 0]).mean()), series=series)


def of_evidence(evidence: Evidence, measure: Callable[[Reading], Measured]) -> Measured:
    """A metric of this module for what was observed, or the reason why there is nothing."""
    found = _reading(evidence)
    return found if isinstance(found, Measured) else measure(found)


@lru_cache(maxsize=2)  # all metrics of a video are taken one after another
def _reading(evidence: Evidence) -> Reading | Measured:
    seen = compared(evidence, OBSERVER)
    if isinstance(seen, Measured):
        return seen
    pair = evidence.truth
    times = evidence.hands.times[pair.generated_index] if pair else np.arange(len(seen["pixels"]), dtype=float)
    error, pixels = seen["error"].astype(np.float64), seen["pixels"].astype(np.float64)
    return reading(error, pixels, np.asarray(times, np.float64))


def _metric(
    name: str,
    measure: Callable[[Reading], Measured],
    unit: str,
    better: Better,
    source: str,
    blind_spot: str,
    version: int = 1,
) -> Metric:
    info = MetricInfo(
        f"truth.{name}@{version}", unit, better, f"analysis by synthesis in the built-in world: {source}",
        f"{blind_spot}; hands, sleeves, and all that is not the built-in world", "ground_truth", "video", False,
        ("truth",), SEALED,
    )  # fmt: skip
    return Metric(info, partial(of_evidence, measure=measure), (OBSERVER,), "truth", asked=True)


#: computed where a suite names them, or its cases are scenes of several people of the built-in world
TRUTH: tuple[Metric, ...] = (
    _metric("top1", top1, "share", "higher", "frames in which nobody is nearer than who belongs there",
            "blends below a half"),
    _metric("likelihood", likelihood, "share", "higher",
            "probability of who belongs there, softmax of -error / 50, places by their pixels",
            "nothing of who it is instead; falls with any wrong colour", version=2),
    _metric("swap", swap, "share", "lower", "frames that show another of the case's people",
            "strangers, and another's head or torso alone: see truth.leak"),
    _metric("leak", leak, "share", "lower", "frames in which head and torso are different people",
            "a part that is nearer to a stranger's, and parts of a head"),
    _metric("blend", blend, "share", "lower", "frames nearest to a mixture of two, 25 to 75 % of somebody else",
            "mixtures with strangers"),
    _metric("duplicate", duplicate, "share", "lower", "frames that show somebody twice", "bodies beyond the places"),
    _metric("stranger", stranger, "share", "lower", "frames nearest to one of ten people who are not of the case",
            "strangers who are like somebody"),
    _metric("drift", drift, "1/s", "lower", "share of somebody else gained each second, least squares",
            "what comes at once and goes"),
)  # fmt: skip
