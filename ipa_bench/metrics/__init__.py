"""The metrics: pure arithmetic on observations, and the literal tables that name them."""

from ipa_bench.metrics.base import Evidence, Measured, Metric
from ipa_bench.metrics.table import METRICS, find, find_in

__all__ = [
    "METRICS",
    "Evidence",
    "Measured",
    "Metric",
    "find",
    "find_in",
]
