"""What selecting looks at: the records of a run, of the splits that may be trained on."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from ipa_bench.errors import UserError
from ipa_bench.metrics.seal import check_open, sealed
from ipa_bench.store import UnitRecord
from ipa_bench.types import Split

#: val cases are watched during training, which refuses to train on the same people
TRAIN: tuple[Split, ...] = ("train",)


class CaseLike(Protocol):
    """What selecting needs to know of a case; :class:`~ipa_bench.store.CaseEntry` and ``Case`` have it."""

    @property
    def identity(self) -> str: ...
    @property
    def split(self) -> Split: ...


def splits_of(names: Sequence[str]) -> tuple[Split, ...]:
    """Splits by name. Raises :class:`UserError` for one that nothing is selected from."""
    known: dict[str, Split] = {"train": "train", "val": "val"}
    wrong = next((name for name in names if name not in known), None)
    if wrong is not None:
        raise UserError(f"nothing is selected from cases of split {wrong}", "name train, val, or both")
    return tuple(dict.fromkeys(known[name] for name in names))


def allowed(
    records: Iterable[UnitRecord], cases: Mapping[str, CaseLike], splits: Collection[Split]
) -> list[UnitRecord]:
    """The records of cases of ``splits``.

    Raises :class:`UserError` where a record is of a case of the test split, or of one that nobody knows the split of;
    and where no record is left.
    """
    every = list(records)
    names = sorted({record.case for record in every})
    for problem, found in (
        ("of the test split", [name for name in names if name in cases and cases[name].split == "test"]),
        ("of no known split", [name for name in names if name not in cases]),
    ):
        if found:
            more = f" and {len(found) - 5} more" if len(found) > 5 else ""
            raise UserError(
                f"samples cannot be selected from cases {problem}: {', '.join(found[:5])}{more}",
                'select from a run over other cases, whose suite says split = "train"',
            )
    if not every:
        raise UserError("there is no scored video to select from", "run the suite first")
    kept = [record for record in every if cases[record.case].split in splits]
    if not kept:
        raise UserError(
            f"none of {len(every)} videos is of a case of the {' or '.join(splits)} split",
            'say split = "train" in the suite and run it into another folder, or select with --split val and let '
            "[watch] of the training name another suite",
        )
    return kept


def full_id(metric: str, records: Sequence[UnitRecord]) -> str:
    """The id, with version, that the records know ``metric`` by. Raises :class:`UserError` for a sealed one."""
    check_open([metric])
    known = sorted({score.metric for record in records for score in record.scores})
    found = [name for name in known if metric in (name, name.partition("@")[0])]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"the run has {' and '.join(found)}", "name the version too")
    close = difflib.get_close_matches(metric, known, n=1)
    fix = f"did you mean {close[0]}?" if close else f"scored: {', '.join(known) or 'nothing'}"
    raise UserError(f"the run has no metric {metric}", fix)


def value_of(record: UnitRecord, metric: str) -> float | None:
    """The value of a metric, by its full id; None where there is none."""
    return next((score.value for score in record.scores if score.metric == metric), None)


def values_of(record: UnitRecord) -> dict[str, float]:
    """Metric id -> value, of every metric that has one and is not sealed: what is written is trained on."""
    return {
        score.metric: score.value for score in record.scores if score.value is not None and not sealed(score.metric)
    }
