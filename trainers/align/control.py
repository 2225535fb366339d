"""What choosing is worth: clips that nobody chose, or scores that say nothing, to train on in the same way.

A model that is trained on its own clips changes whatever these are. On the embedded world SFT on any two candidates of
a case gained what SFT on the best two gained (``reports/alignment``): only the difference from such a control says that
choosing had a part in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ipa_bench import select
from ipa_bench.select import Candidates, Chooser, Pairs, Selection
from ipa_bench.store import RunStore, UnitRecord
from ipa_bench.types import Score


def dealt(records: Iterable[UnitRecord]) -> list[UnitRecord]:
    """Records among whose videos each case's scores are dealt out anew: how many are how good stays, which does not.

    Those without a video are left out.
    """
    by_case: dict[str, list[UnitRecord]] = {}
    for record in sorted(records, key=lambda each: each.unit):
        if record.video is not None:
            by_case.setdefault(record.case, []).append(record)
    rng = np.random.default_rng(0)
    return [
        replace(record, scores=tuple(_moved(score, record) for score in videos[index].scores))
        for videos in by_case.values()
        for record, index in zip(videos, rng.permutation(len(videos)), strict=True)
    ]


def candidates_of(found: Candidates) -> Candidates:
    """Candidates with dealt scores: no metric scored them."""
    return replace(found, by=())


def pairs_of(found: Pairs) -> Pairs:
    """Pairs by dealt scores: no metric told good from bad."""
    good, strict = (tuple(replace(pair, by=()) for pair in every) for every in (found.preferences, found.strict))
    return replace(found, preferences=good, strict=strict)


def _moved(score: Score, record: UnitRecord) -> Score:
    return replace(score, case=record.case, seed=record.seed, model=record.model)


def as_they_come(records: Sequence[UnitRecord], counts: Mapping[str, int]) -> Iterator[UnitRecord]:
    """``counts`` records of each case, drawn without looking at their scores."""
    by_case: dict[str, list[UnitRecord]] = {}
    for record in records:
        by_case.setdefault(record.case, []).append(record)
    rng = np.random.default_rng(0)
    for case in sorted(by_case):
        for index in rng.permutation(len(by_case[case]))[: counts.get(case, 0)]:
            yield by_case[case][index]


def any_of(store: RunStore, by: Chooser, records: Sequence[UnitRecord], counts: Mapping[str, int]) -> Selection:
    """``counts`` clips of each case as they come, in the order that they were drawn in.

    Those that ``by`` has no value for are left out, as they are where the best are chosen. Raises UserError where none
    is left.
    """
    drawn = [*as_they_come(records, counts)]
    found = select.choose(store, by, top_k=max(counts.values(), default=0) or None, records=drawn)
    place = {record.unit: number for number, record in enumerate(drawn)}
    rows = sorted(found.rows, key=lambda each: place[each.case, each.seed, each.model])
    return replace(found, by=(), rows=tuple(rows))


def as_many(chosen: Selection) -> Mapping[str, int]:
    """How many clips of each case were chosen."""
    return Counter(row.case for row in chosen.rows)
