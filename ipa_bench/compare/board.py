"""Verdicts on pairs of models, and the ranking of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from ipa_bench.compare.intervals import ALPHA, Difference, Pair, Values, difference, holm, interval
from ipa_bench.errors import UserError
from ipa_bench.metrics.bounds import bounds
from ipa_bench.metrics.table import is_evidence, parts_of
from ipa_bench.types import Comparison, Interval, Leaderboard, LeaderboardRow, MetricInfo, Score, Verdict

#: model -> metric id -> values
Table = Mapping[str, Mapping[str, Values]]


def compare(
    a: Mapping[str, Values],
    b: Mapping[str, Values],
    *,
    names: tuple[str, str],
    identity_of: Mapping[str, str],
    units: Iterable[Pair],
    metrics: Sequence[MetricInfo],
    floors: Mapping[str, float] = {},
    primary: str | None = None,
) -> tuple[Comparison, ...]:
    """Model ``a`` minus baseline ``b``, one comparison per metric, in the order of ``metrics``.

    ``a``, ``b``: metric id -> (case, seed) -> value. ``names``: (model, baseline). ``identity_of``: case -> identity; a
    case without one is its own. ``units``: every (case, seed) that should have a score; others are ignored.
    ``floors``: metric id -> |difference| that a harmless re-encode makes.

    ``primary``: the metric id that was named before looking; of one pair of models it is one test and is not corrected.
    (:func:`leaderboard` corrects it over pairs.)

    A verdict other than ``unclear`` needs p < 0.05 (after Holm over all metrics but the primary one, of this pair of
    models) *and* a difference beyond the noise floor where one is known; its direction is the metric's ``better``.
    Missing values are counted, never filled in; ``why`` says so when fewer videos are paired than either model has
    scores for, because then the two models' own means are over different videos. Of a composite two videos are paired
    only where both values rest on the same parts, as far as the parts are among the metrics.
    """
    found = _paired(a, b, identity_of, units, metrics)
    own = next((each.difference.p for each in found if each.info.id == primary), None)
    return _verdicts(found, names, floors, primary, own, 1)


@dataclass(frozen=True)
class _Paired:
    """One metric of two models, before any verdict."""

    info: MetricInfo
    difference: Difference
    #: videos of which either has a value, and those of which both should
    either: int
    wanted: int


def _paired(
    a: Mapping[str, Values],
    b: Mapping[str, Values],
    identity_of: Mapping[str, str],
    units: Iterable[Pair],
    metrics: Sequence[MetricInfo],
) -> list[_Paired]:
    wanted = set(units)
    found = []
    for info in metrics:
        mine, other = ({k: v for k, v in side.get(info.id, {}).items() if k in wanted} for side in (a, b))
        same = {k: v for k, v in mine.items() if _rest_on_the_same(k, parts_of(info.id), a, b)}
        apart = difference(same, other, identity_of=identity_of, bounds=bounds(info))
        found.append(_Paired(info, apart, len(mine.keys() | other.keys()), len(wanted)))
    return found


def _verdicts(
    found: Sequence[_Paired],
    names: tuple[str, str],
    floors: Mapping[str, float],
    primary: str | None,
    primary_p: float | None,
    pairs: int,
) -> tuple[Comparison, ...]:
    """What is said of one pair of models. ``primary_p``: of the primary metric, corrected over ``pairs`` of models."""
    secondary = [None if each.info.id == primary else each.difference.p for each in found]
    tests = sum(p is not None for p in secondary)
    comparisons = []
    for each, p_holm in zip(found, holm(secondary), strict=True):
        info, apart = each.info, each.difference
        first = info.id == primary
        p_holm = primary_p if first else p_holm
        floor = floors.get(info.id)
        family = f"{pairs} pairs of models" if first else f"{tests} metrics"
        verdict, why = _judge(info, apart, p_holm, floor, family)
        if 0 < apart.scored < each.either:
            why = "; ".join([*filter(None, [why]), f"paired on {apart.scored} of {each.either} scored videos"])
        comparisons.append(
            Comparison(
                metric=info.id, model=names[0], baseline=names[1], n=apart.n, scored=apart.scored,
                missing=each.wanted - apart.scored, delta=apart.delta, low=apart.low, high=apart.high, p=apart.p,
                p_holm=p_holm, mde=apart.mde, floor=floor, verdict=verdict, why=why,
            )
        )  # fmt: skip
    return tuple(comparisons)


def _rest_on_the_same(pair: Pair, parts: Sequence[str], a: Mapping[str, Values], b: Mapping[str, Values]) -> bool:
    """Whether two values of a composite are means of the same parts: a part without a value is in neither."""
    return all((pair in a.get(part, {})) == (pair in b.get(part, {})) for part in parts)


def _judge(
    info: MetricInfo, diff: Difference, p_holm: float | None, floor: float | None, family: str
) -> tuple[Verdict, str]:
    """The verdict on one difference, and the reason in a few words."""
    if diff.n == 0 or diff.delta is None:
        return "unclear", "nothing to pair"
    if diff.p is None or p_holm is None:
        return "unclear", "fewer than 2 identities"
    if diff.p >= ALPHA:
        same = "no difference in any identity" if diff.degenerate else ""
        return "unclear", same or "95 % interval contains 0"
    if p_holm >= ALPHA:
        return "unclear", f"not significant after Holm over {family}"
    if floor is not None and abs(diff.delta) <= floor:
        return "unclear", f"inside the noise floor {floor:.3g}"
    verdict: Verdict = "better" if (diff.delta > 0) == (info.better == "higher") else "worse"
    return verdict, f"all {diff.n} identities differ by the same amount" if diff.degenerate else ""


def leaderboard(
    scores: Iterable[Score],
    *,
    identity_of: Mapping[str, str],
    units: Iterable[Pair],
    models: Sequence[str],
    metrics: Sequence[MetricInfo],
    primary: str,
    floors: Mapping[str, float] = {},
    trained_on: Mapping[str, tuple[str, ...]] = {},
    baseline: str | None = None,
) -> Leaderboard:
    """Every model's intervals, the ranking on ``primary``, and every pair of models compared on every metric.

    The primary metric is one test for each pair of models: its p-values are corrected by Holm over all pairs of the
    board that can be tested. Those of the other metrics are corrected over the metrics of a pair (:func:`compare`).

    ``units``: every (case, seed) each model should have made; scores elsewhere are ignored. ``metrics``: in report
    order; set-level ones have no per-video scores and are left out. ``primary``: a metric id, version optional.
    ``trained_on``: model -> metric ids, version optional; they and all that look through the same networks are marked
    as no evidence for it (:func:`ipa_bench.metrics.table.is_evidence`). Comparisons read ``model − baseline`` with the
    better-ranked model as ``model``; pairs with the named ``baseline`` always have it as their baseline.

    Ranks: models in order of their mean on ``primary`` (best first; equal means by name). The first leads a group; each
    next model shares the leader's rank unless the leader is found ``better`` than it on ``primary`` (see
    :func:`compare`), in which case it leads the next group, whose rank is 1 + the number of models before it. Models
    without a value come last and share a rank.

    Raises :class:`UserError` when ``primary`` or ``baseline`` is not there.
    """
    wanted = sorted(set(units))
    per_video = [info for info in metrics if info.scope == "video"]
    ids = [info.id for info in per_video]
    chosen = next((info for info in per_video if primary in (info.id, _base(info.id))), None)
    if chosen is None:
        raise UserError(f"the primary metric {primary!r} is not scored in this run", f"name one of: {', '.join(ids)}")
    if baseline is not None and baseline not in models:
        raise UserError(f"the baseline {baseline!r} is not a model of this run", f"name one of: {', '.join(models)}")
    table = _table(scores, set(wanted))

    cells = {model: _cells(table.get(model, {}), per_video, identity_of, len(wanted)) for model in models}
    order = _order({model: cells[model][chosen.id].mean for model in models}, chosen)
    paired = {
        names: _paired(table.get(names[0], {}), table.get(names[1], {}), identity_of, wanted, per_video)
        for a, b in combinations(order, 2)
        for names in [(b, a) if a == baseline else (a, b)]
    }
    place = ids.index(chosen.id)
    adjusted = holm([found[place].difference.p for found in paired.values()])
    tests = sum(p is not None for p in adjusted)
    comparisons = [
        comparison
        for (names, found), p in zip(paired.items(), adjusted, strict=True)
        for comparison in _verdicts(found, names, floors, chosen.id, p, tests)
    ]
    apart = {_won(each) for each in comparisons if each.metric == chosen.id and each.verdict != "unclear"}
    ranks = _ranks(order, apart, {model for model in models if cells[model][chosen.id].mean is not None})
    rows = {model: _row(model, ranks[model], cells[model], trained_on.get(model, ())) for model in order}
    marked = tuple(_mark(comparison, rows) for comparison in comparisons)
    return Leaderboard(primary=chosen.id, metrics=tuple(ids), rows=tuple(rows.values()), comparisons=marked)


def _won(comparison: Comparison) -> tuple[str, str]:
    """(the better model, the other)."""
    names = comparison.model, comparison.baseline
    return names if comparison.verdict == "better" else names[::-1]


def _row(model: str, rank: int, cells: Mapping[str, Interval], trained_on: Sequence[str]) -> LeaderboardRow:
    """A line of the leaderboard, with the metrics that are no evidence for its model."""
    taught = tuple(next((metric for metric in cells if name in (metric, _base(metric))), name) for name in trained_on)
    no_evidence = tuple(metric for metric in cells if not is_evidence(metric, taught))
    return LeaderboardRow(model, rank, cells, taught, no_evidence)


def _table(scores: Iterable[Score], wanted: set[Pair]) -> Table:
    """The values among ``scores``, as model -> metric -> (case, seed) -> value."""
    table: dict[str, dict[str, dict[Pair, float]]] = {}
    for score in scores:
        pair = (score.case, score.seed)
        if score.value is None or pair not in wanted:
            continue
        values = table.setdefault(score.model, {}).setdefault(score.metric, {})
        if values.setdefault(pair, score.value) != score.value:
            raise ValueError(f"two different values of {score.metric} for {score.unit}")
    return table


def _cells(
    found: Mapping[str, Values], metrics: Sequence[MetricInfo], identity_of: Mapping[str, str], wanted: int
) -> dict[str, Interval]:
    """metric id -> the interval of one model's values of it."""
    cells = {}
    for info in metrics:
        values = found.get(info.id, {})
        groups: dict[str, list[float]] = {}
        for pair in sorted(values):
            groups.setdefault(identity_of.get(pair[0]) or pair[0], []).append(values[pair])
        cells[info.id] = interval(groups, missing=wanted - len(values), bounds=bounds(info))
    return cells


def _order(means: Mapping[str, float | None], info: MetricInfo) -> list[str]:
    """Models, best mean first, equal means by name, those without a mean last."""
    sign = -1.0 if info.better == "higher" else 1.0
    return sorted(means, key=lambda model: (means[model] is None, sign * (means[model] or 0.0), model))


def _ranks(order: Sequence[str], apart: set[tuple[str, str]], with_value: set[str]) -> dict[str, int]:
    """Competition ranks as :func:`leaderboard` defines them; ``apart``: (better, worse) pairs found different."""
    ranks: dict[str, int] = {}
    leader = None
    for position, model in enumerate(order, start=1):
        valued = model in with_value
        if leader is None or (leader, model) in apart or valued != (leader in with_value):
            leader = model
            ranks[model] = position
        else:
            ranks[model] = ranks[leader]
    return ranks


def _mark(comparison: Comparison, rows: Mapping[str, LeaderboardRow]) -> Comparison:
    """The comparison, with a note where it is no evidence for one of its models: it was trained on what it shows."""
    sides = [rows[name] for name in (comparison.model, comparison.baseline)]
    notes = [
        f"{' and '.join(found)} trained on {what}"
        for what, found in (
            ("this metric", [row.model for row in sides if comparison.metric in row.trained_on]),
            (
                "a metric of the same networks",
                [row.model for row in sides if comparison.metric in {*row.no_evidence} - {*row.trained_on}],
            ),
        )
        if found
    ]
    return replace(comparison, why="; ".join([*filter(None, [comparison.why]), *notes]))


def _base(metric: str) -> str:
    """A metric id without its version."""
    return metric.partition("@")[0]
