"""Metrics of earlier versions that nothing computes any more: known, so that the runs that hold them can be read."""

from __future__ import annotations

from typing import Literal

from ipa_bench.metrics.truth import SEALED
from ipa_bench.types import Better, MetricInfo

_SOURCE = "an earlier version of ipa-bench"


def _former(
    id: str, unit: str, better: Better, blind_spot: str, needs: Literal["driving", "free"] = "driving"
) -> MetricInfo:
    return MetricInfo(id, unit, better, _SOURCE, blind_spot, needs, "video", True, ("mediapipe-hands",))


#: in report order
FORMER: tuple[MetricInfo, ...] = (
    _former("hand_quality@3", "0-1", "higher", "a small hand that loses detail; a lag that fits the joints' noise"),
    _former("hand_quality.shape@3", "0-1", "higher", "as hand.keypoint_error, shifts apart"),
    _former("hand_quality.sharpness@3", "0-1", "higher", "as hand.sharpness"),
    _former("hand_quality.motion@3", "0-1", "higher", "as hand.stall, hand.speed and hand.jitter"),
    _former("hand_quality.alignment@3", "0-1", "higher", "as hand.offset and hand.lag"),
    _former("hand_quality@2", "0-1", "higher", "a clip too short to show a stall counted as half stalled"),
    _former("hand_quality.shape@2", "0-1", "higher", "as hand.keypoint_error, shifts apart"),
    _former("hand_quality.sharpness@2", "0-1", "higher", "as hand.sharpness"),
    _former("hand_quality.motion@2", "0-1", "higher", "a clip too short to show a stall counted as half stalled"),
    _former("hand_quality.alignment@2", "0-1", "higher", "as hand.offset and hand.lag"),
    _former("hand_quality@1", "0-1", "higher", "a lag of two frames and a shift of 2 % cost more than a wrong finger"),
    _former("hand_quality.place@1", "0-1", "higher", "as hand.keypoint_error"),
    _former("hand_quality.sharpness@1", "0-1", "higher", "as hand.sharpness"),
    _former("hand_quality.motion@1", "0-1", "higher", "what could not be told counted as right"),
    _former("hand.jitter@1", "|ln ratio|", "lower", "estimator noise; rates that are no multiples of each other"),
    _former("hand.speed@1", "|ln ratio|", "lower", "rates that are no multiples of each other"),
    _former("hand.offset@1", "frame widths", "lower", "as hand.lag@2, whose shift in time it stood beside"),
    _former("hand.lag@2", "seconds", "lower", "delays over 0.4 s; of small hands a lag that fits the noise by chance"),
    _former("hand.lag@1", "seconds", "lower", "delays over 0.4 s; not defined for a hand that is still"),
    _former("hand.sharpness@1", "|ln ratio|", "lower", "blur of fast frames only; blur in the reference; shapes"),
    _former("hand_quality_free@1", "0-1", "higher", "points the wrong way: malformed hands scored higher", "free"),
    MetricInfo(
        "truth.likelihood@1",
        "share",
        "higher",
        _SOURCE,
        "small places, where all candidates are alike, and light and size that are a little off counted as doubt",
        "ground_truth",
        "video",
        False,
        ("truth",),
        SEALED,
    ),
)
