"""What the report draws of a video: landmarks of both sides on one time grid, and metrics over time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ipa_bench.metrics import find
from ipa_bench.scorer import Scores
from ipa_bench.store import Details
from ipa_bench.types import Float32, HandTracks


def details(result: Scores) -> Details:
    """Landmarks of both videos in shares of the frame, and values over time, of the frames that are compared."""
    evidence, pair, hands = result.evidence, result.evidence.driving, result.evidence.hands
    index = np.arange(len(hands.times)) if pair is None else pair.generated_index
    series = {}
    for metric, measured in result.measured.items():
        if measured.series is not None:
            over_time = np.full(len(hands.times), np.nan, np.float32)
            over_time[evidence.frames(find(metric).frames)] = measured.series
            series[metric] = over_time[index]
    return Details(
        hands.times[index],
        _fps(hands),
        hands.size,
        _shares(hands.landmarks[index], hands.size),
        hands.found[index],
        None if pair is None else _shares(pair.reference, pair.reference_size),
        None if pair is None else pair.wanted,
        series,
    )


def _shares(landmarks: NDArray[Any], size: tuple[int, int]) -> Float32:
    return np.asarray(landmarks / np.array(size), np.float32)


def _fps(hands: HandTracks) -> float:
    return 1 / float(np.median(np.diff(hands.times))) if len(hands.times) > 1 else 1.0
