"""Two or more models on the same cases: intervals, paired differences, verdicts, ranks. Pure arithmetic.

The unit of evidence is the *identity*: clips of one person are not independent, so every value is first averaged
within its identity, and the identities' means carry the statistics (the cluster-mean form of the clustered and paired
standard errors of Miller, "Adding error bars to evals", arXiv 2411.00640, with Student's t for small numbers).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, ndtr, stdtr, stdtrit

from ipa_bench.errors import UserError
from ipa_bench.metrics.table import is_evidence
from ipa_bench.types import Comparison, Interval, Leaderboard, LeaderboardRow, MetricInfo, Score, Verdict

#: (case, seed)
Pair = tuple[str, int]
#: (case, seed) -> value of one metric of one model
Values = Mapping[Pair, float]
#: model -> metric id -> values
Table = Mapping[str, Mapping[str, Values]]

ALPHA = 0.05
POWER = 0.8
#: Differences below this many units in the last place of the compared values are rounding, not difference.
ROUNDING_ULPS = 8


@dataclass(frozen=True)
class Difference:
    """A paired difference ``a − b`` over identity means, before any verdict. ``None`` where it cannot be had."""

    #: identities with at least one pair
    n: int
    #: pairs in which both have a value
    scored: int
    delta: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    mde: float | None = None

    @property
    def degenerate(self) -> bool:
        """Whether all identities differ by the same amount, so that the spread says nothing."""
        return self.n > 1 and self.low == self.high


def interval(values_by_identity: Mapping[str, Sequence[float]], *, missing: int = 0) -> Interval:
    """Mean over identities of the mean over each identity's videos, with its 95 % Student-t interval.

    ``values_by_identity``: identity -> values of its videos, in the metric's unit, finite; identities without values
    do not count. ``missing``: videos that should have been scored and were not; only passed on. With one identity
    ``low`` and ``high`` are None: one identity says nothing about the spread of identities.
    """
    means = np.array([np.mean(values) for _, values in sorted(values_by_identity.items()) if len(values)])
    scored = sum(len(values) for values in values_by_identity.values())
    if not len(means):
        return Interval(mean=None, low=None, high=None, n=0, scored=0, missing=missing)
    mean, half = float(np.mean(means)), _half_width(means)
    low, high = (None, None) if half is None else (mean - half, mean + half)
    return Interval(mean=mean, low=low, high=high, n=len(means), scored=scored, missing=missing)


def difference(a: Values, b: Values, *, identity_of: Mapping[str, str]) -> Difference:
    """Paired difference ``a − b`` over the (case, seed) that both have, one mean per identity, paired t-test.

    ``p`` is two-sided. When all identities differ by exactly the same amount the t-test has no spread to work with:
    then ``p`` is 1 if that amount is 0 and 0 otherwise, and the interval is a point (``degenerate``). Differences
    within rounding of the compared values are 0. Fewer than two identities: a ``delta`` and nothing else.
    """
    shared = sorted(a.keys() & b.keys())
    if not shared:
        return Difference(n=0, scored=0)
    groups: dict[str, list[float]] = {}
    for pair in shared:
        groups.setdefault(identity_of.get(pair[0]) or pair[0], []).append(a[pair] - b[pair])
    scale = max(max(abs(a[pair]), abs(b[pair])) for pair in shared)
    tolerance = ROUNDING_ULPS * float(np.finfo(np.float64).eps) * scale
    means = np.array([np.mean(groups[identity]) for identity in sorted(groups)])
    means[np.abs(means) <= tolerance] = 0.0
    if np.ptp(means) <= tolerance:
        means[:] = means[0]
    delta, n = float(np.mean(means)), len(means)
    half = _half_width(means)
    if half is None:
        return Difference(n=n, scored=len(shared), delta=delta)
    if half == 0.0:
        p = 1.0 if delta == 0.0 else 0.0
        return Difference(n=n, scored=len(shared), delta=delta, low=delta, high=delta, p=p, mde=0.0)
    error = float(np.std(means, ddof=1)) / n**0.5
    return Difference(
        n=n, scored=len(shared), delta=delta, low=delta - half, high=delta + half,
        p=float(2.0 * stdtr(n - 1, -abs(delta) / error)), mde=detectable(n) * error,
    )  # fmt: skip


def _half_width(means: NDArray[np.float64]) -> float | None:
    """Half the width of the 95 % t interval of the mean of ``means`` ``[n]``; None with fewer than two."""
    n = len(means)
    if n < 2:
        return None
    if np.all(means == means[0]):  # np.std of equal numbers may be one rounding above 0
        return 0.0
    return float(stdtrit(n - 1, 1 - ALPHA / 2) * np.std(means, ddof=1) / np.sqrt(n))


@lru_cache(maxsize=1024)
def detectable(n: int) -> float:
    """Smallest |true difference|, in standard errors, that a two-sided paired t-test at alpha 0.05 finds 8 times in 10.

    ``n`` identities, at least 2. Solves for the non-centrality of t with n−1 degrees of freedom (Cohen, "Statistical
    power analysis", 1988). The power is integrated over the quantiles of the chi-square in t's denominator;
    scipy.stats.nct returns NaN at 1 degree of freedom, and the usual sum t(1−α/2) + t(power) is 15 % off there.
    """
    df = n - 1
    nodes, weights = np.polynomial.legendre.leggauss(200)
    spread = np.sqrt(chdtri(df, (1 - nodes) / 2) / df)  # quantiles of sqrt(chi² / df)
    threshold = float(stdtrit(df, 1 - ALPHA / 2)) * spread

    def shortfall(shift: float) -> float:
        found = ndtr(shift - threshold) + ndtr(-shift - threshold)
        return float(weights @ found) / 2 - POWER

    from scipy.optimize import brentq  # a tenth of a second, which nobody needs before there is a report

    return float(brentq(shortfall, 0.0, 50.0))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjusted p-values, in the order given (Holm 1979, Scand. J. Statist. 6:65).

    ``None`` (no test was possible) stays ``None`` and does not count as a test.
    """
    tests = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(tests):
        highest = max(highest, min(1.0, (len(tests) - rank) * p))
        adjusted[index] = highest
    return adjusted


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

    ``primary``: the metric id that was named before looking; it is one test and is not corrected.

    A verdict other than ``unclear`` needs p < 0.05 (after Holm over all metrics but the primary one, of this pair of
    models) *and* a difference beyond the noise floor where one is known; its direction is the metric's ``better``.
    Missing values are counted, never filled in; ``why`` says so when fewer videos are paired than either model has
    scores for, because then the two models' own means are over different videos.
    """
    wanted = set(units)
    found = []
    for info in metrics:
        mine, other = ({k: v for k, v in side.get(info.id, {}).items() if k in wanted} for side in (a, b))
        found.append((info, difference(mine, other, identity_of=identity_of), len(mine.keys() | other.keys())))
    secondary = [None if info.id == primary else diff.p for info, diff, _ in found]
    tests = sum(p is not None for p in secondary)
    adjusted = [diff.p if info.id == primary else p for (info, diff, _), p in zip(found, holm(secondary), strict=True)]
    comparisons = []
    for (info, diff, either), p_holm in zip(found, adjusted, strict=True):
        floor = floors.get(info.id)
        verdict, why = _judge(info, diff, p_holm, floor, tests)
        if 0 < diff.scored < either:
            why = "; ".join([*filter(None, [why]), f"paired on {diff.scored} of {either} scored videos"])
        comparisons.append(
            Comparison(
                metric=info.id, model=names[0], baseline=names[1], n=diff.n, scored=diff.scored,
                missing=len(wanted) - diff.scored, delta=diff.delta, low=diff.low, high=diff.high, p=diff.p,
                p_holm=p_holm, mde=diff.mde, floor=floor, verdict=verdict, why=why,
            )
        )  # fmt: skip
    return tuple(comparisons)


def _judge(
    info: MetricInfo, diff: Difference, p_holm: float | None, floor: float | None, tests: int
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
        return "unclear", f"not significant after Holm over {tests} metrics"
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

    def versus(model: str, other: str) -> tuple[Comparison, ...]:
        a, b = table.get(model, {}), table.get(other, {})
        return compare(
            a, b, names=(model, other), identity_of=identity_of, units=wanted, metrics=per_video, floors=floors,
            primary=chosen.id,
        )  # fmt: skip

    cells = {
        model: {metric: _cell(table.get(model, {}).get(metric, {}), identity_of, len(wanted)) for metric in ids}
        for model in models
    }
    order = _order({model: cells[model][chosen.id].mean for model in models}, chosen)
    pairs = {(a, b): versus(a, b) for i, a in enumerate(order) for b in order[i + 1 :]}
    apart = {key for key, found in pairs.items() if found[ids.index(chosen.id)].verdict == "better"}
    ranks = _ranks(order, apart, {model for model in models if cells[model][chosen.id].mean is not None})
    comparisons: list[Comparison] = []
    for (a, b), found in pairs.items():
        comparisons.extend(versus(b, a) if a == baseline else found)
    rows = {model: _row(model, ranks[model], cells[model], trained_on.get(model, ())) for model in order}
    marked = tuple(_mark(comparison, rows) for comparison in comparisons)
    return Leaderboard(primary=chosen.id, metrics=tuple(ids), rows=tuple(rows.values()), comparisons=marked)


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


def _cell(values: Values, identity_of: Mapping[str, str], wanted: int) -> Interval:
    """The interval of one model's values of one metric."""
    groups: dict[str, list[float]] = {}
    for pair in sorted(values):
        groups.setdefault(identity_of.get(pair[0]) or pair[0], []).append(values[pair])
    return interval(groups, missing=wanted - len(values))


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
