"""Selecting from a run folder by a metric or a reward: what the command line, alignment and ablations do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ipa_bench.metrics.table import find, info_in, infos_of, looked_through, parts_of
from ipa_bench.select.candidates import Candidates, candidates
from ipa_bench.select.good import Selection, select
from ipa_bench.select.looked import TRAIN
from ipa_bench.select.preferences import Pairs, pairs
from ipa_bench.store import RunStore, UnitRecord
from ipa_bench.types import MetricInfo, Split


@dataclass(frozen=True)
class Chooser:
    """What decides between samples of a case."""

    info: MetricInfo
    #: ids of the metrics that it is made of
    parts: tuple[str, ...] = ()

    @property
    def by(self) -> tuple[str, ...]:
        """What a model is trained on that is trained on its choice: its id, those of its parts, and the networks that
        it looks through where no metric of the table says so.
        """
        names = tuple(dict.fromkeys([self.info.id, *self.parts]))
        known = looked_through(names)
        return (*names, *(family for family in self.info.family if family not in known))


def chooser(metric: str) -> Chooser:
    """A metric of videos, by its name, with or without version. Raises UserError for an unknown one."""
    info = find(metric).info
    return Chooser(info, parts_of(info.id))


def choose(
    store: RunStore,
    by: str | Chooser = "hand_quality",
    *,
    threshold: float | None = None,
    top_k: int | None = None,
    per_identity: int | None = None,
    splits: Collection[Split] = TRAIN,
    records: Iterable[UnitRecord] | None = None,
) -> Selection:
    """:func:`select` from a run by a metric's name, or by what else decides: its direction and its parts are known.

    ``records``: some of the run's, or with scores that it lacks; all of the run as they are where not given.
    """
    decides = _decides(by, store)
    return select(
        store.records().values() if records is None else records,
        cases={case.id: case for case in store.header.cases},
        metric=decides.info.id,
        better=decides.info.better,
        threshold=threshold,
        top_k=top_k,
        per_identity=per_identity,
        components=decides.by,
        splits=splits,
    )


def choose_pairs(
    store: RunStore,
    by: str | Chooser = "hand_quality",
    *,
    margin: float,
    every: bool = False,
    splits: Collection[Split] = TRAIN,
    records: Iterable[UnitRecord] | None = None,
) -> Pairs:
    """:func:`pairs` of a run; ``by`` and ``records`` as in :func:`choose`."""
    return pairs(
        store.records().values() if records is None else records,
        cases={case.id: case for case in store.header.cases},
        metric=_decides(by, store).info,
        metrics=infos_of(store.header.metrics),
        margin=margin,
        every=every,
        splits=splits,
    )


def choose_candidates(
    store: RunStore,
    by: str | Chooser = "hand_quality",
    *,
    splits: Collection[Split] = TRAIN,
    records: Iterable[UnitRecord] | None = None,
) -> Candidates:
    """:func:`candidates` of a run; ``by`` and ``records`` as in :func:`choose`."""
    decides = _decides(by, store)
    return candidates(
        store.records().values() if records is None else records,
        cases={case.id: case for case in store.header.cases},
        metric=decides.info.id,
        better=decides.info.better,
        components=decides.by,
        splits=splits,
    )


def _decides(by: str | Chooser, store: RunStore) -> Chooser:
    """A metric by its name in the version that the run holds."""
    if isinstance(by, Chooser):
        return by
    info = info_in(by, store.header.metrics)
    return Chooser(info, parts_of(info.id))


def left_out(store: RunStore, splits: Collection[Split] = TRAIN) -> dict[Split, int]:
    """Split -> how many of a run's videos are not looked at because of it."""
    split_of = {case.id: case.split for case in store.header.cases}
    return dict(Counter(split_of[case] for case, _, _ in store.records() if split_of.get(case, "train") not in splits))
