"""What choosing is worth: clips that nobody chose, to train on in the same way.

A model that is trained on its own clips changes whatever these are. On the embedded world SFT on any two candidates of
a case gained what SFT on the best two gained (``reports/alignment``): only the difference from such a control says that
choosing had a part in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ipa_bench import select
from ipa_bench.select import Chooser, Selection
from ipa_bench.store import RunStore, UnitRecord


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
