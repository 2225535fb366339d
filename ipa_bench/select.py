"""Scores become good samples: what IPA and SFT train on, and for DPO the pairs. Refuses cases of the test split."""

from __future__ import annotations

import difflib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from pathlib import Path
from typing import Protocol

from pydantic import TypeAdapter

from ipa_bench.config.fields import checked
from ipa_bench.errors import UserError
from ipa_bench.files import write_atomic
from ipa_bench.store import UnitRecord
from ipa_bench.types import Better, MetricInfo, Preference, Split

SCHEMA_VERSION = 1


class CaseLike(Protocol):
    """What selecting needs to know of a case; :class:`~ipa_bench.store.CaseEntry` and ``Case`` have it."""

    @property
    def identity(self) -> str: ...
    @property
    def split(self) -> Split: ...


@dataclass(frozen=True)
class Rule:
    """How samples were chosen: first the threshold, then the best of each case, then the best of each identity."""

    metric: str
    better: Better
    #: at least this good (at least this low where lower is better), in the metric's unit
    threshold: float | None = None
    #: at most this many of each case
    top_k: int | None = None
    #: at most this many of each identity
    per_identity: int | None = None


@dataclass(frozen=True)
class SelectedVideo:
    """One good sample."""

    case: str
    seed: int
    model: str
    video: str
    sha256: str | None
    #: metric id -> value, of every metric that has one
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Selection:
    """The good samples of a run, and how they were chosen."""

    rule: Rule
    #: metric ids that chose: a model trained on these samples was trained on these metrics
    by: tuple[str, ...]
    #: sorted by case, the best first
    rows: tuple[SelectedVideo, ...]
    #: videos looked at, and those among them that could not be chosen: no value, or no file
    candidates: int
    unscored: int
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Pairs:
    """Good and bad samples of the same case."""

    #: best and worst of each case, where they differ by the margin
    preferences: tuple[Preference, ...]
    #: for each case that has one, the pair that no hand metric contradicts; by the widest difference
    strict: tuple[Preference, ...]
    #: cases looked at
    cases: int

    @property
    def message(self) -> str:
        """What a user should know before training on pairs."""
        return (
            f"{len(self.preferences)} of {self.cases} cases have a good/bad pair, {len(self.strict)} a strict one "
            "(no worse on any hand metric, no worse elsewhere)"
        )


SELECTIONS = TypeAdapter(Selection)
PAIRS = TypeAdapter(Pairs)


def select(
    records: Iterable[UnitRecord],
    *,
    cases: Mapping[str, CaseLike],
    metric: str,
    better: Better,
    threshold: float | None = None,
    top_k: int | None = None,
    per_identity: int | None = None,
    components: Sequence[str] = (),
) -> Selection:
    """The good samples among ``records``: those that pass ``threshold``, of them the ``top_k`` of each case, of these
    the ``per_identity`` best of each identity. At least one of the three is given; ties go to the lower seed.

    ``cases``: case id -> its identity and split. ``metric``: a metric id, version optional. ``components``: metric ids
    that ``metric`` is made of; they chose too. Videos without a value or without a file are counted, not chosen.

    Raises :class:`UserError` when a record is of a case of the test split (there is no way round: who trains on
    test cases has nothing left to test on), when the rule makes no sense, and when nothing is left.
    """
    looked_at = _allowed(records, cases)
    _check_rule(threshold, top_k, per_identity)
    metric = _full_id(metric, looked_at)
    valued = [(record, value) for record in looked_at if (value := _value(record, metric)) is not None and record.video]
    sign = 1.0 if better == "higher" else -1.0
    best_first = sorted(valued, key=lambda item: (-sign * item[1], item[0].unit))
    passed = [item for item in best_first if threshold is None or sign * item[1] >= sign * threshold]
    if not passed:
        raise _nothing(metric, better, threshold, [value for _, value in best_first], len(looked_at))
    kept = _first(passed, lambda record: record.case, top_k)
    kept = _first(kept, lambda record: cases[record.case].identity or record.case, per_identity)
    kept.sort(key=lambda item: item[0].case)  # stable: the best stays first within a case
    rows = tuple(
        SelectedVideo(r.case, r.seed, r.model, str(r.video), r.sha256, _values(r)) for r, _ in kept
    )  # fmt: skip
    return Selection(
        rule=Rule(metric, better, threshold, top_k, per_identity),
        by=tuple(dict.fromkeys([metric, *components])),
        rows=rows,
        candidates=len(looked_at),
        unscored=len(looked_at) - len(valued),
    )


def pairs(
    records: Iterable[UnitRecord],
    *,
    cases: Mapping[str, CaseLike],
    metric: MetricInfo,
    metrics: Sequence[MetricInfo],
    margin: float,
    tolerance: Mapping[str, float] = {},
) -> Pairs:
    """The best and the worst video of each case, where they differ by ``margin`` (> 0, in the unit of ``metric``).

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
    looked_at = _allowed(records, cases)
    chosen = _full_id(metric.id, looked_at)
    order = _Order.of(looked_at, {chosen: metric.better} | {info.id: info.better for info in metrics}, tolerance)
    by_case: dict[str, list[UnitRecord]] = {}
    for record in sorted(looked_at, key=lambda r: r.unit):
        by_case.setdefault(record.case, [])
        if record.video and _value(record, chosen) is not None:
            by_case[record.case].append(record)
    preferences, strict = [], []
    for case, videos in by_case.items():
        apart = [
            (gain, good, bad)
            for good in videos
            for bad in videos
            if (gain := order.gain(good, bad, chosen)) is not None and gain >= margin
        ]
        apart.sort(key=lambda item: -item[0])  # stable: ties by seed and model
        if apart:
            preferences.append(_preference(case, *apart[0][1:], by=(chosen,)))
        undisputed = next(((good, bad) for _, good, bad in apart if order.undisputed(good, bad)), None)
        if undisputed:
            strict.append(_preference(case, *undisputed, by=(chosen, *order.hand, *order.rest)))
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
        scored = sorted({metric for record in records for metric in _values(record)} & better.keys())
        hand = tuple(metric for metric in scored if metric.startswith("hand."))
        rest = tuple(metric for metric in scored if metric.startswith("rest."))
        return cls(better, hand, rest, tolerance)

    def gain(self, good: UnitRecord, bad: UnitRecord, metric: str) -> float | None:
        """By how much ``good`` is better; None where one of them has no value."""
        a, b = _value(good, metric), _value(bad, metric)
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


def write_selection(selection: Selection, path: Path) -> None:
    """Write ``selection.json`` whole or not at all. Raises :class:`UserError` when it cannot be written."""
    write_atomic(path, json.dumps(asdict(selection), allow_nan=False, ensure_ascii=False, indent=1).encode() + b"\n")


def write_pairs(found: Pairs, path: Path) -> None:
    """Write ``pairs.json`` whole or not at all. Raises :class:`UserError` when it cannot be written."""
    write_atomic(path, json.dumps(asdict(found), allow_nan=False, ensure_ascii=False, indent=1).encode() + b"\n")


def read_pairs(path: Path) -> Pairs:
    """Read what :func:`write_pairs` wrote. Raises :class:`UserError` when it is not there or damaged."""
    try:
        with checked(f"{path} holds no pairs", "ipa-bench select --pairs"):
            return PAIRS.validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "write them with ipa-bench select --pairs") from None


def read_selection(path: Path) -> Selection:
    """Read what :func:`write_selection` wrote. Raises :class:`UserError` when it is not there or damaged."""
    try:
        with checked(f"{path} is not a selection", "write it anew"):
            selection = SELECTIONS.validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "write one with ipa-bench select") from None
    if selection.schema_version != SCHEMA_VERSION:
        raise UserError(f"{path} has schema version {selection.schema_version}, not {SCHEMA_VERSION}", "write it anew")
    return selection


def _allowed(records: Iterable[UnitRecord], cases: Mapping[str, CaseLike]) -> list[UnitRecord]:
    """The records, none of them of a case of the test split or of one that nobody knows the split of."""
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
    return every


def _check_rule(threshold: float | None, top_k: int | None, per_identity: int | None) -> None:
    if threshold is None and top_k is None and per_identity is None:
        raise UserError("there is no rule to select by", "give a threshold, a top-k or a quota per identity")
    if threshold is not None and not math.isfinite(threshold):
        raise UserError(f"a threshold of {threshold} selects nothing or everything", "give a finite threshold")
    for name, count in (("top-k", top_k), ("quota per identity", per_identity)):
        if count is not None and count < 1:
            raise UserError(f"a {name} of {count} selects nothing", "give 1 or more")


def _full_id(metric: str, records: Sequence[UnitRecord]) -> str:
    """The id, with version, that the records know ``metric`` by."""
    known = sorted({score.metric for record in records for score in record.scores})
    found = [name for name in known if metric in (name, name.partition("@")[0])]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"the run has {' and '.join(found)}", "name the version too")
    close = difflib.get_close_matches(metric, known, n=1)
    fix = f"did you mean {close[0]}?" if close else f"scored: {', '.join(known) or 'nothing'}"
    raise UserError(f"the run has no metric {metric}", fix)


def _value(record: UnitRecord, metric: str) -> float | None:
    return next((score.value for score in record.scores if score.metric == metric), None)


def _values(record: UnitRecord) -> dict[str, float]:
    return {score.metric: score.value for score in record.scores if score.value is not None}


def _first(
    items: Sequence[tuple[UnitRecord, float]], group: Callable[[UnitRecord], str], most: int | None
) -> list[tuple[UnitRecord, float]]:
    """The first ``most`` items of each group, in the order given."""
    counts: Counter[str] = Counter()
    kept = []
    for item in items:
        counts[group(item[0])] += 1
        if most is None or counts[group(item[0])] <= most:
            kept.append(item)
    return kept


def _nothing(
    metric: str, better: Better, threshold: float | None, best_first: Sequence[float], candidates: int
) -> UserError:
    """The error of an empty selection: the nearest threshold that would select something, if any."""
    if not best_first or threshold is None:
        return UserError(
            f"none of {candidates} videos has a file and a value of {metric}", "see the reasons in the run"
        )
    relation = "at least" if better == "higher" else "at most"
    return UserError(
        f"no video has {metric} {relation} {threshold:g}; the best of {len(best_first)} has {best_first[0]:.4g}",
        f"the nearest threshold that selects one is {_rounded(best_first[0], better)}",
    )


def _rounded(value: float, better: Better) -> float:
    """``value`` to four digits, rounded to the side that still selects it."""
    towards = ROUND_FLOOR if better == "higher" else ROUND_CEILING
    return float(Context(prec=4, rounding=towards).create_decimal(Decimal(repr(value))))


def _preference(case: str, good: UnitRecord, bad: UnitRecord, *, by: tuple[str, ...]) -> Preference:
    return Preference(case, str(good.video), str(bad.video), _values(good), by, (good.sha256, bad.sha256))
