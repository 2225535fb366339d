"""What a metric is: facts for the reader, and a pure function from evidence to a number or a reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ipa_bench.metrics.pairing import HandPair
from ipa_bench.types import Float64, HandTracks, MetricInfo, PerceptualStats, PixelStats

NO_HAND = "the driving video shows no hand"
NO_TRUTH = "the case has no ground truth video"


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything that was observed about one generated video. What is missing is None, with its reason."""

    #: the generated video's own hands
    hands: HandTracks
    #: the same hands beside those of the driving video
    driving: HandPair | None = None
    #: the same hands beside those of the ground truth, or of the driving video where there is no ground truth
    truth: HandPair | None = None
    no_driving: str = "the case has no driving video"
    #: pixels against the ground truth
    pixels: PixelStats | None = None
    no_pixels: str = NO_TRUTH
    #: network -> distances to the ground truth; for a network that is not among them why, else ``no_pixels`` says it
    perceptual: Mapping[str, PerceptualStats] = field(default_factory=dict)
    no_perceptual: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Measured:
    """A value or a reason, and where it makes sense the value of each compared frame ``[T]`` (NaN: no value there)."""

    value: float | None
    reason: str | None = None
    series: Float64 | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise ValueError("a measurement has a value or a reason, not both or neither")


@dataclass(frozen=True)
class Metric:
    """A line of the table: what it is, and how it is computed."""

    info: MetricInfo
    measure: Callable[[Evidence], Measured]
    #: the network whose distances it reads; None where it reads none
    network: str | None = None


def unknown(reason: str) -> Measured:
    """No value, and why."""
    return Measured(None, reason)


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
