"""The judge's metric of hands in the built-in world: nothing may be chosen or rewarded by it."""

from __future__ import annotations

import numpy as np

from ipa_bench.metrics.base import Evidence, Measured, Metric, compared, over_frames
from ipa_bench.types import MetricInfo

OBSERVER = "judge"
SEALED = "it knows where every joint is, so it may only judge what was made without it"


def hand_error(evidence: Evidence) -> Measured:
    """Mean joint error in hand sizes over all hands of the scene; no hand is missing, a blank one is about 0.3 off."""
    seen = compared(evidence, OBSERVER)
    if isinstance(seen, Measured):
        return seen
    errors = seen["error"].astype(np.float64)
    return over_frames(errors, np.isfinite(errors), "no frame is beside the ground truth")


JUDGE: tuple[Metric, ...] = (
    Metric(
        MetricInfo(
            "truth.hand_error@1", "hand sizes", "lower",
            "ipa-bench: joints by a network trained on renderings alone, against those of the built-in world",
            "a finger that is there twice; everything that is not the built-in world", "ground_truth", "video", True,
            ("embedded-joints",), SEALED,
        ),
        hand_error, (OBSERVER,), "truth", asked=True,
    ),
)  # fmt: skip
