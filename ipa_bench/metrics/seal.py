"""Metrics that only judge: nothing is chosen and no model rewarded by them, or they would prove nothing of it."""

from __future__ import annotations

from collections.abc import Iterable

from ipa_bench.errors import UserError
from ipa_bench.metrics import table


def sealed(name: str) -> str:
    """Why nothing may be chosen or rewarded by a metric; empty where it may be, and for a name that no table has.

    With or without version, of videos or of sets.
    """
    base = name.partition("@")[0]
    infos = (*(metric.info for metric in table.METRICS), *table.SET_METRICS)
    return next((info.sealed for info in infos if info.id.partition("@")[0] == base), "")


def check_open(names: Iterable[str]) -> None:
    """Raise UserError for the first of these metrics that is sealed."""
    for name in names:
        if why := sealed(name):
            raise UserError(f"{name} only judges: {why}", "choose or reward by another metric")
