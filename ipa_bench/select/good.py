"""Good samples: what IPA and SFT train on."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from pathlib import Path

from pydantic import TypeAdapter

from ipa_bench.errors import UserError
from ipa_bench.files import read_checked, write_atomic
from ipa_bench.metrics.seal import check_open
from ipa_bench.select.looked import TRAIN, CaseLike, allowed, full_id, value_of, values_of
from ipa_bench.store import UnitRecord
from ipa_bench.types import Better, Split

SCHEMA_VERSION = 1


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


SELECTIONS = TypeAdapter(Selection)


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
    splits: Collection[Split] = TRAIN,
) -> Selection:
    """The good samples among ``records``: those that pass ``threshold``, of them the ``top_k`` of each case, of these
    the ``per_identity`` best of each identity. At least one of the three is given; ties go to the lower seed.

    ``cases``: case id -> its identity and split. ``metric``: a metric id, version optional. ``components``: metric ids
    that ``metric`` is made of; they chose too. ``splits``: cases of other splits are not looked at. Videos without a
    value or without a file are counted, not chosen.

    Raises :class:`UserError` when a record is of a case of the test split (there is no way round: who trains on
    test cases has nothing left to test on), when the rule makes no sense, and when nothing is left.
    """
    check_open(components)
    looked_at = allowed(records, cases, splits)
    _check_rule(threshold, top_k, per_identity)
    metric = full_id(metric, looked_at)
    valued = [
        (record, value) for record in looked_at if (value := value_of(record, metric)) is not None and record.video
    ]
    sign = 1.0 if better == "higher" else -1.0
    best_first = sorted(valued, key=lambda item: (-sign * item[1], item[0].unit))
    passed = [item for item in best_first if threshold is None or sign * item[1] >= sign * threshold]
    if not passed:
        raise _nothing(metric, better, threshold, [value for _, value in best_first], len(looked_at))
    kept = _first(passed, lambda record: record.case, top_k)
    kept = _first(kept, lambda record: cases[record.case].identity or record.case, per_identity)
    kept.sort(key=lambda item: item[0].case)  # stable: the best stays first within a case
    rows = tuple(
        SelectedVideo(r.case, r.seed, r.model, str(r.video), r.sha256, values_of(r)) for r, _ in kept
    )  # fmt: skip
    return Selection(
        rule=Rule(metric, better, threshold, top_k, per_identity),
        by=tuple(dict.fromkeys([metric, *components])),
        rows=rows,
        candidates=len(looked_at),
        unscored=len(looked_at) - len(valued),
    )


def write_selection(selection: Selection, path: Path) -> None:
    """Write ``selection.json`` whole or not at all. Raises :class:`UserError` when it cannot be written."""
    write_atomic(path, json.dumps(asdict(selection), allow_nan=False, ensure_ascii=False, indent=1).encode() + b"\n")


def read_selection(path: Path) -> Selection:
    """Read what :func:`write_selection` wrote. Raises :class:`UserError` when it is not there or damaged."""
    absent = "write one with ipa-bench select"
    selection = read_checked(path, SELECTIONS, wrong="is not a selection", fix="write it anew", absent=absent)
    if selection.schema_version != SCHEMA_VERSION:
        raise UserError(f"{path} has schema version {selection.schema_version}, not {SCHEMA_VERSION}", "write it anew")
    return selection


def _check_rule(threshold: float | None, top_k: int | None, per_identity: int | None) -> None:
    if threshold is None and top_k is None and per_identity is None:
        raise UserError("there is no rule to select by", "give a threshold, a top-k or a quota per identity")
    if threshold is not None and not math.isfinite(threshold):
        raise UserError(f"a threshold of {threshold} selects nothing or everything", "give a finite threshold")
    for name, count in (("top-k", top_k), ("quota per identity", per_identity)):
        if count is not None and count < 1:
            raise UserError(f"a {name} of {count} selects nothing", "give 1 or more")


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
