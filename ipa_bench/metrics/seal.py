"""Metrics that only judge: nothing is chosen and no model rewarded by them, or they would prove nothing of it."""

from __future__ import annotations

from collections.abc import Iterable

from ipa_bench.errors import UserError
from ipa_bench.metrics import table
from ipa_bench.types import MetricInfo


def sealed(name: str) -> str:
    """Why nothing may be chosen or rewarded by a metric; empty where it may be, and for a name that no table has.

    With or without version, of videos or of sets.
    """
    base = name.partition("@")[0]
    infos = (*(metric.info for metric in table.METRICS), *table.SET_METRICS)
    return next((info.sealed for info in infos if info.id.partition("@")[0] == base), "")


def check_open(metrics: Iterable[str | MetricInfo]) -> None:
    """Raise UserError for the first of these metrics, by name or as they are, that is sealed."""
    for metric in metrics:
        name, why = (metric, sealed(metric)) if isinstance(metric, str) else (metric.id, metric.sealed)
        if why:
            raise UserError(f"{name} only judges: {why}", "choose or reward by another metric")
