"""Selecting from a run folder by a metric's name: what the command line, alignment and ablations do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from ipa_bench.metrics.table import METRICS, PART_IDS, QUALITY, find
from ipa_bench.select.candidates import Candidates, candidates
from ipa_bench.select.good import Selection, select
from ipa_bench.select.looked import TRAIN
from ipa_bench.select.preferences import Pairs, pairs
from ipa_bench.store import RunStore, UnitRecord
from ipa_bench.types import Split


def choose(
    store: RunStore,
    metric: str = "hand_quality",
    *,
    threshold: float | None = None,
    top_k: int | None = None,
    per_identity: int | None = None,
    splits: Collection[Split] = TRAIN,
    records: Iterable[UnitRecord] | None = None,
) -> Selection:
    """:func:`select` from a run, by a metric's name: its direction and the metrics that it is made of are known.

    ``records``: some of the run's; all where not given.
    """
    info = find(metric).info
    return select(
        store.records().values() if records is None else records,
        cases={case.id: case for case in store.header.cases},
        metric=info.id,
        better=info.better,
        threshold=threshold,
        top_k=top_k,
        per_identity=per_identity,
        components=parts_of(info.id),
        splits=splits,
    )


def choose_pairs(
    store: RunStore,
    metric: str = "hand_quality",
    *,
    margin: float,
    every: bool = False,
    splits: Collection[Split] = TRAIN,
    records: Iterable[UnitRecord] | None = None,
) -> Pairs:
    """:func:`pairs` of a run, by a metric's name; ``records`` as in :func:`choose`."""
    return pairs(
        store.records().values() if records is None else records,
        cases={case.id: case for case in store.header.cases},
        metric=find(metric).info,
        metrics=[m.info for m in METRICS if m.info.id in store.header.metrics],
        margin=margin,
        every=every,
        splits=splits,
    )


def choose_candidates(
    store: RunStore,
    metric: str = "hand_quality",
    *,
    splits: Collection[Split] = TRAIN,
    records: Iterable[UnitRecord] | None = None,
) -> Candidates:
    """:func:`candidates` of a run, by a metric's name; ``records`` as in :func:`choose`."""
    info = find(metric).info
    return candidates(
        store.records().values() if records is None else records,
        cases={case.id: case for case in store.header.cases},
        metric=info.id,
        better=info.better,
        components=parts_of(info.id),
        splits=splits,
    )


def parts_of(metric: str) -> tuple[str, ...]:
    """Ids of the metrics that a composite is made of; none of any other metric."""
    return PART_IDS if metric == QUALITY.info.id else ()


def left_out(store: RunStore, splits: Collection[Split] = TRAIN) -> dict[Split, int]:
    """Split -> how many of a run's videos are not looked at because of it."""
    split_of = {case.id: case.split for case in store.header.cases}
    return dict(Counter(split_of[case] for case, _, _ in store.records() if split_of.get(case, "train") not in splits))
