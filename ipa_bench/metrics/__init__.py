"""The metrics: pure arithmetic on observations, and the literal tables that name them."""

from ipa_bench.metrics.base import Evidence, Measured, Metric
from ipa_bench.metrics.table import METRICS, PART_IDS, QUALITY, SET_METRICS, find

__all__ = [
    "METRICS",
    "PART_IDS",
    "QUALITY",
    "SET_METRICS",
    "Evidence",
    "Measured",
    "Metric",
    "find",
]
