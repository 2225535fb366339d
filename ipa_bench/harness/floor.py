"""The noise floor of a run: what a harmless re-encode of its clips does to each metric. Nothing inside it is ranked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from ipa_bench.cache import Cache
from ipa_bench.errors import Unscorable
from ipa_bench.scorer import Scorer
from ipa_bench.store import FloorRecord, RunHeader
from ipa_bench.types import Case, MetricInfo
from ipa_bench.validate import ladder

#: it is measured on at most this many cases
FLOOR_CASES = 8


def cases_of(count: int) -> list[int]:
    """Which of ``count`` cases the floor is measured on: at most ``FLOOR_CASES``, spread evenly."""
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(FLOOR_CASES, count)).round())]


def measure(case: Case, scorer: Scorer) -> FloorRecord:
    """What a re-encode of a case's ground truth (or its driving clip) does to each metric of ``scorer``."""
    clip = case.ground_truth or case.driving
    try:
        hands = scorer.looker.hands(clip)
        if len(hands.times) < 2:
            raise Unscorable("one frame is too few to re-encode")
        observed = {v: ladder.observe_variant(clip, v, hands, Cache()) for v in (ladder.CLEAN, ladder.FLOOR)}
    except Unscorable as error:
        return FloorRecord(case.id, reasons={m.info.id: error.reason for m in scorer.metrics})
    found = ladder.noise_floor(hands, observed, scorer.metrics)
    return FloorRecord(
        case.id,
        {metric: value for metric, value in found.items() if value is not None},
        {metric: "no value to compare" for metric, value in found.items() if value is None},
    )


def of_run(header: RunHeader, records: Mapping[str, FloorRecord], infos: Iterable[MetricInfo]) -> dict[str, float]:
    """metric id -> mean over cases of what is known, for metrics that have a floor.

    A run that began with a limit holds the floor of more cases than its present ones would be measured on: those do
    not count.
    """
    spread = {header.cases[i].id for i in cases_of(len(header.cases))}
    with_floor = {info.id for info in infos if info.has_floor}
    values: dict[str, list[float]] = {}
    for record in records.values():
        for metric, change in record.changes.items() if record.case in spread else ():
            values.setdefault(metric, []).append(change)
    return {metric: float(np.mean(found)) for metric, found in values.items() if metric in with_floor}
