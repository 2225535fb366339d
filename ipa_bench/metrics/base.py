"""What a metric is: facts for the reader, and a pure function from evidence to a number or a reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ipa_bench.metrics.pairing import HandPair
from ipa_bench.types import Finding, Float64, HandTracks, MetricInfo, Observation

NO_HAND = "the driving video shows no hand"
NO_TRUTH = "the case has no ground truth video"
#: which frames of the generated video the values over time are about: all, or those shared with one of the two
Frames = Literal["all", "driving", "truth"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything that was observed about one generated video, by the observers' names. What is missing has a reason.

    ``hands`` are there always. A comparison with the ground truth has a row for each frame shared with it.
    """

    #: what observers saw in the generated video, and in comparing it with the ground truth
    seen: Mapping[str, Observation]
    #: the generated video's hands beside those of the driving video
    driving: HandPair | None = None
    #: the same beside those of the ground truth, or of the driving video where there is no ground truth
    truth: HandPair | None = None
    #: why observers that were asked saw nothing; ``no_truth`` for a comparison that is not among them
    reasons: Mapping[str, str] = field(default_factory=dict)
    no_driving: str = "the case has no driving video"
    no_truth: str = NO_TRUTH
    #: what observers saw in the driving video and in the ground truth, each by itself
    seen_in_driving: Mapping[str, Observation] = field(default_factory=dict)
    seen_in_truth: Mapping[str, Observation] = field(default_factory=dict)
    #: observer -> what it saw in each person's reference picture, in the case's order; for one that is not there why
    seen_in_references: Mapping[str, Sequence[Observation]] = field(default_factory=dict)
    no_references: Mapping[str, str] = field(default_factory=dict)
    #: where the case's pose tracks have each person's head, in the case's order: ``found`` [T, K], ``box`` [T, K, 4]
    #: (left, top, width, height), ``times``, ``size``; None without a track for everybody
    places: Observation | None = None

    @cached_property
    def hands(self) -> HandTracks:
        """The generated video's own hands."""
        return HandTracks.of(self.seen["hands"])

    @property
    def pixels(self) -> Observation | None:
        """The comparison with the ground truth's pixels."""
        return self.seen.get("pixels")

    def frames(self, which: Frames) -> NDArray[np.int64]:
        """Indices of the generated video's frames that are meant, ``[T]``; without a ground truth the driving ones."""
        pair = self.truth or self.driving if which == "truth" else self.driving
        if which == "all":
            return np.arange(len(self.hands.times))
        return np.arange(0) if pair is None else pair.generated_index


@dataclass(frozen=True, eq=False)
class Measured(Finding[float]):
    """A value or a reason, and where it makes sense the value of each compared frame ``[T]`` (NaN: no value there)."""

    value: float | None
    reason: str | None = None
    series: Float64 | None = None
    #: what a reader of the value must know: it rests on less than its name says
    note: str | None = None


@dataclass(frozen=True)
class Metric:
    """A line of the table: what it is, and how it is computed."""

    info: MetricInfo
    measure: Callable[[Evidence], Measured]
    #: names of the observers that it needs, of :data:`ipa_bench.observers.table.OBSERVERS`
    reads: tuple[str, ...] = ("hands",)
    #: the frames that its values over time are about
    frames: Frames = "driving"
    #: whether it is computed only where a suite names it, or has people by name
    asked: bool = False


def unknown(reason: str) -> Measured:
    """No value, and why."""
    return Measured(None, reason)


def compared(evidence: Evidence, name: str) -> Observation | Measured:
    """The comparison with the ground truth by an observer, or the reason why there is none."""
    found = evidence.seen.get(name)
    return unknown(evidence.reasons.get(name, evidence.no_truth)) if found is None else found


def driving_hands(evidence: Evidence) -> HandPair | Measured:
    """The hands beside the driving video's, or the reason why there is nothing to compare."""
    if evidence.driving is None:
        return unknown(evidence.no_driving)
    return evidence.driving if evidence.driving.wanted.any() else unknown(NO_HAND)


def over_frames(values: NDArray[np.float64], valid: NDArray[np.bool_], reason: str) -> Measured:
    """Mean of ``values`` ``[T, 2]`` where ``valid`` ``[T, 2]``; the series is the mean over the hands of each frame."""
    if not valid.any():
        return unknown(reason)
    count = valid.sum(axis=1)
    total = np.where(valid, values, 0.0).sum(axis=1)
    series = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return Measured(float(values[valid].mean()), series=series)
