"""One number for "how good are the hands", and one call that gives it: ``Scorer().score(video, case)``.

Nothing else in the project combines metrics. The parts are kept beside the total.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ipa_bench.errors import Unscorable
from ipa_bench.metrics import METRICS, find_in, hand, motion
from ipa_bench.metrics.base import NO_TRUTH, Evidence, Measured, Metric, driving_hands, unknown
from ipa_bench.metrics.hand import FINGERS, joint_errors
from ipa_bench.metrics.pairing import pair_hands, period
from ipa_bench.observers import perceptual
from ipa_bench.observers.looker import Compared, Looker, at
from ipa_bench.types import Bool, Case, Float64, HandTracks, MetricInfo, Video

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
#: a video that covers less than this share of the frames asked for is not scored
MIN_COVERAGE = 0.9


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


def _composite(name: str, blind_spot: str, measure: Callable[[Evidence], Measured], free: bool = False) -> Metric:
    info = MetricInfo(
        f"{name}@1", "0-1", "higher", "ipa-bench scorer", blind_spot, "free" if free else "driving", "video", True
    )
    return Metric(info, measure)


QUALITY = _composite(
    "hand_quality",
    "an extra finger that leaves the others in place; a hand where none is due; texture other than sharpness",
    hand_quality,
)
#: every per-video metric of the project, in report order
ALL: tuple[Metric, ...] = (
    QUALITY,
    _composite("hand_quality.place", "as hand.keypoint_error", place),
    _composite("hand_quality.sharpness", "as hand.sharpness", sharp),
    _composite("hand_quality.motion", "as hand.lag, hand.stall, hand.speed and hand.jitter", moving),
    *METRICS,
    _composite("hand_quality_free", "poses, finger counts, and whether a hand is due", hand_quality_free, True),
)
#: ids of what hand_quality is made of
PART_IDS = tuple(m.info.id for m in ALL if m.info.id.startswith("hand_quality."))


@dataclass(frozen=True, eq=False)
class Scores:
    """What is known about one video of a case."""

    case: str
    #: metric id -> value or reason, in report order
    measured: Mapping[str, Measured]
    #: what everything was computed from
    evidence: Evidence
    #: remarks that do not stop scoring ("frames do not have the driving video's shape")
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Measured:
        """A metric by its id, with or without its version."""
        for metric, measured in self.measured.items():
            if name in (metric, metric.partition("@")[0]):
                return measured
        raise KeyError(name)

    @property
    def hand_quality(self) -> float | None:
        """The composite, or None where it has a reason instead."""
        return self["hand_quality"].value


class Scorer:
    """Scores videos. ``score`` is the one call that a trainer needs; instances are reusable and keep models loaded.

    ``metrics`` limits what is computed (ids with or without version; all by default): networks of metrics that are left
    out are not loaded. ``threads`` is the number of frames observed at a time, ``pixels=False`` leaves out everything
    that is compared with the ground truth's pixels, LPIPS among it, the slowest part.
    """

    def __init__(
        self,
        looker: Looker | None = None,
        metrics: Sequence[str] = (),
        *,
        threads: int = 1,
        pixels: bool = True,
    ) -> None:
        self.metrics = tuple(find(name) for name in metrics) or ALL
        self.looker = looker or Looker(threads=threads)
        compared = [m for m in self.metrics if pixels and m.info.needs == "ground_truth"]
        self._pixels = any(m.network is None for m in compared)
        self._networks = tuple(dict.fromkeys(m.network for m in compared if m.network is not None))

    def score(self, video: Path | str | Video, case: Case | None = None) -> Scores:
        """Score a video of a case, or without one by the reference-free metrics. Raises Unscorable with the reason."""
        evidence, notes = self.evidence(video, case)
        measured = {metric.info.id: metric.measure(evidence) for metric in self.metrics}
        return Scores(case.id if case else "", measured, evidence, notes)

    def evidence(self, video: Path | str | Video, case: Case | None = None) -> tuple[Evidence, tuple[str, ...]]:
        """Everything the metrics need, observed or from the cache, and remarks. Raises Unscorable."""
        video = Path(video) if isinstance(video, str) else video
        if case is None:
            return Evidence(self.looker.hands(video)), ()
        if case.ground_truth is None:
            compared = Compared(self.looker.hands(video))
        else:
            compared = self.looker.compare(video, case.ground_truth, pixels=self._pixels, networks=self._networks)
        hands = compared.hands
        driving = self.looker.hands(case.driving)
        notes = _check(hands, driving, case)
        pair = pair_hands(hands, driving)
        truth = pair
        if case.ground_truth is not None and case.ground_truth != case.driving:
            truth = pair_hands(hands, self.looker.hands(case.ground_truth))
        evidence = Evidence(
            hands,
            pair,
            truth,
            pixels=None if compared.pixels is None else at(compared.pixels, truth.generated_index),
            no_pixels=NO_TRUTH if case.ground_truth is None else "pixels were not compared",
            perceptual={n: perceptual.at(stats, truth.generated_index) for n, stats in compared.perceptual.items()},
            no_perceptual=compared.reasons,
        )
        return evidence, notes


def find(name: str) -> Metric:
    """Any metric of :data:`ALL`, by its id with or without version. Raises UserError naming the nearest one."""
    return find_in(ALL, name)


def _check(hands: HandTracks, driving: HandTracks, case: Case) -> tuple[str, ...]:
    """Is the video long enough to stand for its case? Remarks on its shape."""
    step = period(driving.times)
    whole = float(driving.times[-1]) + step
    asked = whole
    if case.frames is not None:
        asked = min(case.frames / case.fps if case.fps else case.frames * step, whole)
    lasts = float(hands.times[-1]) + (period(hands.times) if len(hands.times) > 1 else step)
    if lasts < MIN_COVERAGE * asked:
        hint = "" if case.frames is not None else "; a suite can give the case fewer `frames`"
        raise Unscorable(f"lasts {lasts:.2f} s of the {asked:.2f} s that it should{hint}")
    shapes = [width / height for width, height in (hands.size, driving.size)]
    if abs(np.log(shapes[0] / shapes[1])) <= 0.02:
        return ()
    ours, theirs = (f"{width}x{height}" for width, height in (hands.size, driving.size))
    return (f"its frames are {ours}, the driving video's {theirs}: stretched",)
