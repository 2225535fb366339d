"""Good and bad samples of the same case: what DPO trains on."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from pydantic import TypeAdapter

from ipa_bench.errors import UserError
from ipa_bench.files import read_checked, write_atomic
from ipa_bench.select.looked import TRAIN, CaseLike, allowed, full_id, value_of, values_of
from ipa_bench.store import UnitRecord
from ipa_bench.types import Better, MetricInfo, Preference, Split


@dataclass(frozen=True)
class Pairs:
    """Good and bad samples of the same case."""

    #: best and worst of each case, where they differ by the margin; or every two that do
    preferences: tuple[Preference, ...]
    #: for each case that has one, the pair that no hand metric contradicts; by the widest difference, or every such one
    strict: tuple[Preference, ...]
    #: cases looked at
    cases: int

    @property
    def message(self) -> str:
        """What a user should know before training on pairs."""
        some, strict = (len({pair.case for pair in found}) for found in (self.preferences, self.strict))
        more = f"; {len(self.preferences)} pairs, {len(self.strict)} strict" if some < len(self.preferences) else ""
        return (
            f"{some} of {self.cases} cases have a good/bad pair, {strict} a strict one "
            f"(no worse on any hand metric, no worse elsewhere){more}"
        )


PAIRS = TypeAdapter(Pairs)


def pairs(
    records: Iterable[UnitRecord],
    *,
    cases: Mapping[str, CaseLike],
    metric: MetricInfo,
    metrics: Sequence[MetricInfo],
    margin: float,
    every: bool = False,
    tolerance: Mapping[str, float] = {},
    splits: Collection[Split] = TRAIN,
) -> Pairs:
    """The best and the worst video of each case, where they differ by ``margin`` (> 0, in the unit of ``metric``); with
    ``every``, every two of a case that do, the widest apart first.

    A pair of videos of a case is *strict* when, besides differing by ``margin``, the good one is no worse than the bad
    one on every ``hand.*`` metric that any record has a value of, better on at least one, and no worse by more than
    ``tolerance`` (metric id -> its unit, 0 where not given) on every ``rest.*`` metric. A value that one of the two
    lacks is no evidence: the pair is not strict. That is the pair that DPO asks for and that is rare: in the IPA paper
    (arXiv 2605.07545, by a third-party note) 7 of 93 good samples had one.

    ``metrics``: what is known of each metric, for its direction. ``Preference.scores`` are those of the good video.
    Raises :class:`UserError` as :func:`select` does.
    """
    if not margin > 0:
        raise UserError(f"a margin of {margin} makes pairs of equals", "give a margin above 0")
    looked_at = allowed(records, cases, splits)
    chosen = full_id(metric.id, looked_at)
    better = {chosen: metric.better} | {info.id: info.better for info in metrics if not info.sealed}
    order = _Order.of(looked_at, better, tolerance)
    by_case: dict[str, list[UnitRecord]] = {}
    for record in sorted(looked_at, key=lambda r: r.unit):
        by_case.setdefault(record.case, [])
        if record.video and value_of(record, chosen) is not None:
            by_case[record.case].append(record)
    preferences: list[Preference] = []
    strict: list[Preference] = []
    for case, videos in by_case.items():
        apart = [
            (gain, good, bad)
            for good in videos
            for bad in videos
            if (gain := order.gain(good, bad, chosen)) is not None and gain >= margin
        ]
        apart.sort(key=lambda item: -item[0])  # stable: ties by seed and model
        most = None if every else 1
        preferences += [_preference(case, good, bad, by=(chosen,)) for _, good, bad in apart[:most]]
        undisputed = ((good, bad) for _, good, bad in apart if order.undisputed(good, bad))
        by = (chosen, *order.hand, *order.rest)
        strict += [_preference(case, good, bad, by=by) for good, bad in islice(undisputed, most)]
    return Pairs(tuple(preferences), tuple(strict), len(by_case))


@dataclass(frozen=True)
class _Order:
    """Which of two videos is better, metric by metric."""

    better: Mapping[str, Better]
    hand: tuple[str, ...]
    rest: tuple[str, ...]
    tolerance: Mapping[str, float]

    @classmethod
    def of(cls, records: Iterable[UnitRecord], better: Mapping[str, Better], tolerance: Mapping[str, float]) -> _Order:
        scored = sorted({metric for record in records for metric in values_of(record)} & better.keys())
        hand = tuple(metric for metric in scored if metric.startswith("hand."))
        rest = tuple(metric for metric in scored if metric.startswith("rest."))
        return cls(better, hand, rest, tolerance)

    def gain(self, good: UnitRecord, bad: UnitRecord, metric: str) -> float | None:
        """By how much ``good`` is better; None where one of them has no value."""
        a, b = value_of(good, metric), value_of(bad, metric)
        if a is None or b is None:
            return None
        return a - b if self.better[metric] == "higher" else b - a

    def undisputed(self, good: UnitRecord, bad: UnitRecord) -> bool:
        """Whether no hand metric and no rest metric speaks against ``good``, and a hand metric for it."""
        gains = [self.gain(good, bad, metric) for metric in self.hand]
        losses = [(self.gain(good, bad, metric), self.tolerance.get(metric, 0.0)) for metric in self.rest]
        return (
            all(gain is not None and gain >= 0 for gain in gains)
            and any(gain is not None and gain > 0 for gain in gains)
            and all(gain is not None and gain >= -tolerance for gain, tolerance in losses)
        )


def write_pairs(found: Pairs, path: Path) -> None:
    """Write ``pairs.json`` whole or not at all. Raises :class:`UserError` when it cannot be written."""
    write_atomic(path, json.dumps(asdict(found), allow_nan=False, ensure_ascii=False, indent=1).encode() + b"\n")


def read_pairs(path: Path) -> Pairs:
    """Read what :func:`write_pairs` wrote. Raises :class:`UserError` when it is not there or damaged."""
    fix = "ipa-bench select --pairs"
    return read_checked(path, PAIRS, wrong="holds no pairs", fix=fix, absent=f"write them with {fix}")


def _preference(case: str, good: UnitRecord, bad: UnitRecord, *, by: tuple[str, ...]) -> Preference:
    return Preference(case, str(good.video), str(bad.video), values_of(good), by, (good.sha256, bad.sha256))
