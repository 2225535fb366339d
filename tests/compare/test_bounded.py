"""Intervals of bounded metrics: inside the bounds, the roots they should be, true as often as told. Holm over pairs."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from ipa_bench.compare import difference, holm, interval, leaderboard
from ipa_bench.compare.intervals import around
from ipa_bench.metrics import METRICS
from ipa_bench.metrics.bounds import NAMES, UNITS, Bounds, bounds
from ipa_bench.types import Interval, MetricInfo, Score
from tests.compare.boards import A, B, ranks, scored
from tests.compare.test_compare import one_each

SHARE: Bounds = (0.0, 1.0)
#: what the page said of a recall: Student's interval of these reached 1.0011
RECALL = [1.0, 1.0, 1.0, 0.9915, 0.9967, 1.0]


def of(values: list[float], within: Bounds) -> Interval:
    return interval({f"p{i}": [value] for i, value in enumerate(values)}, bounds=within)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9), st.sampled_from([SHARE, (0.0, None), (None, 1.0)]))
def test_an_interval_holds_its_mean_and_keeps_the_bounds(values: list[float], within: Bounds) -> None:
    found = of(values, within)
    assert found.mean is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.mean <= found.high
    assert within[0] is None or found.low >= within[0]
    assert within[1] is None or found.high <= within[1]
    assert np.isfinite([found.low, found.high]).all()


def test_a_recall_of_nearly_one_stays_below_one() -> None:
    student, found = of(RECALL, (None, None)), of(RECALL, SHARE)
    assert student.high is not None
    assert student.high > 1.0
    assert found.mean == student.mean
    assert found.low is not None
    assert student.low is not None
    assert found.high is not None
    assert found.low < student.low < found.high < 1.0


@pytest.mark.parametrize("within", [SHARE, (0.0, None), (None, 1.0), (-1.0, 1.0), (-3.0, None)])
@pytest.mark.parametrize("values", [A, RECALL, [0.02, 0.3, 0.01, 0.05], [0.1, 0.9]])
def test_the_ends_are_where_the_test_turns(values: list[float], within: Bounds) -> None:
    """Slow twin: the roots of the score test, found by bisection."""
    mean, error, n = np.mean(values), stats.sem(values), len(values)
    lo, hi = within

    def spread(at: float) -> float:
        return float((1 if lo is None else at - lo) * (1 if hi is None else hi - at))

    def left(at: float) -> float:
        return float((mean - at) ** 2 * spread(mean) - stats.t.ppf(0.975, n - 1) ** 2 * error**2 * spread(at))

    low = optimize.brentq(left, -1e3 if lo is None else lo, mean, xtol=1e-13)
    high = optimize.brentq(left, mean, 1e3 if hi is None else hi, xtol=1e-13)
    found = of(values, within)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


def test_yes_and_no_gives_wilsons_interval() -> None:
    """7 of 10; Wilson's formula with t² n / (n - 1) for z², since t's error has n - 1 below."""
    square = stats.t.ppf(0.975, 9) ** 2 * 10 / 9
    centre = (0.7 + square / 20) / (1 + square / 10)
    half = np.sqrt(square * (0.21 / 10 + square / 400)) / (1 + square / 10)
    found = of([1.0] * 7 + [0.0] * 3, SHARE)
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half))


def test_far_from_the_bounds_it_is_students() -> None:
    values = [0.51, 0.49, 0.5, 0.505, 0.495]
    student = of(values, (None, None))
    assert of(values, SHARE).low == pytest.approx(student.low, rel=1e-3)
    assert of(values, SHARE).high == pytest.approx(student.high, rel=1e-3)


@given(st.lists(st.integers(0, 64), min_size=2, max_size=9))
def test_misses_mirror_hits(counts: list[int]) -> None:
    hits = of([count / 64 for count in counts], SHARE)
    misses = of([1 - count / 64 for count in counts], SHARE)
    assert hits.low is not None
    assert misses.high is not None
    assert misses.high == pytest.approx(1 - hits.low, abs=1e-12)


def test_a_bound_that_values_break_is_none() -> None:
    assert of([0.9, 1.2, 1.0], SHARE) == of([0.9, 1.2, 1.0], (None, None))


DRAWS = {
    "Beta(9, 1)": (SHARE, 0.9, lambda rng, shape: rng.beta(9, 1, shape)),
    "Beta(4.5, 0.5)": (SHARE, 0.9, lambda rng, shape: rng.beta(4.5, 0.5, shape)),
    "Beta(5, 5)": (SHARE, 0.5, lambda rng, shape: rng.beta(5, 5, shape)),
    "exponential": ((0.0, None), 1.0, lambda rng, shape: rng.exponential(1.0, shape)),
    "|normal|": ((0.0, None), (2 / np.pi) ** 0.5, lambda rng, shape: abs(rng.normal(size=shape))),
}
#: percent of intervals that hold the truth at 3, 6 and 12 identities, as the module says
COVER = {
    "Beta(9, 1)": (94, 93, 94), "Beta(4.5, 0.5)": (92, 92, 93), "Beta(5, 5)": (95, 95, 95),
    "exponential": (94, 93, 93), "|normal|": (95, 95, 95),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize(("place", "n"), [(0, 3), (1, 6), (2, 12)])
def test_coverage_is_as_told_and_at_least_students(name: str, place: int, n: int) -> None:
    """4,000 draws: one percent of them is three standard errors."""
    within, truth, draw = DRAWS[name]
    values = draw(np.random.default_rng(n), (4000, n))
    quantile = stats.t.ppf(0.975, n - 1)
    held = {"score": 0, "student": 0}
    for row, half in zip(values, quantile * values.std(axis=1, ddof=1) / n**0.5, strict=True):
        for kind, used in (("score", within), ("student", (None, None))):
            low, high = around(float(row.mean()), float(half), used)
            held[kind] += low <= truth <= high
    assert held["score"] / 40 == pytest.approx(COVER[name][place], abs=1.6)
    assert held["score"] >= held["student"] - 20


SHARES = st.lists(st.tuples(st.integers(0, 32), st.integers(0, 32)), min_size=2, max_size=8)


@given(SHARES)
def test_a_difference_of_shares_lies_between_minus_one_and_one(rows: list[tuple[int, int]]) -> None:
    a, b = (one_each([row[side] / 32 for row in rows]) for side in (0, 1))
    found = difference(a, b, identity_of={}, bounds=SHARE)
    assert found.low is not None
    assert found.high is not None
    assert found.delta is not None
    assert found.p is not None
    assert -1 <= found.low <= found.delta <= found.high <= 1
    if not found.degenerate and abs(found.p - 0.05) > 1e-9:
        assert (found.p < 0.05) == (not found.low <= 0 <= found.high)
    back = difference(b, a, identity_of={}, bounds=SHARE)
    assert (back.delta, back.p) == (pytest.approx(-found.delta), pytest.approx(found.p))


@pytest.mark.parametrize("n", [3, 6, 12])
def test_equal_models_are_told_apart_in_5_percent(n: int) -> None:
    rng = np.random.default_rng(n)
    draws = rng.beta(4.5, 0.5, (3000, 2, n))
    found = [difference(one_each(list(a)), one_each(list(b)), identity_of={}, bounds=SHARE).p for a, b in draws]
    assert np.mean([p is not None and p < 0.05 for p in found]) < 0.06


def test_every_unit_of_a_metric_says_where_it_ends() -> None:
    assert {metric.info.unit for metric in METRICS} <= UNITS.keys()
    known = {metric.info.id.partition("@")[0].rpartition(".")[0] for metric in METRICS}
    assert NAMES.keys() <= known
    assert bounds(MetricInfo("hand.recall@1", "share", "higher", "", "")) == SHARE
    assert bounds(MetricInfo("identity.similarity.sface@1", "likeness", "higher", "", "")) == (-1.0, 1.0)
    assert bounds(MetricInfo("x@1", "a unit of its own", "higher", "", "")) == (None, None)


# ---- the primary metric over many pairs


def test_the_primary_metric_is_corrected_over_the_pairs_of_models() -> None:
    """p of A against B is 0.033: enough for two models, not where it is one of three questions."""
    noise = [0.8, 0.3, 0.9, 0.2, 0.6, 0.7]
    scores = scored("a", A) + scored("b", B)
    for models, more in ((["a", "b"], []), (["a", "b", "c"], scored("c", noise))):
        found = leaderboard(
            scores + more, identity_of={}, units=one_each(A), models=models, primary="m",
            metrics=[MetricInfo("m@1", "", "higher", "", "")],
        )  # fmt: skip
        apart = [(c.model, c.baseline, c.verdict) for c in found.comparisons if c.verdict != "unclear"]
        assert apart == ([("a", "b", "better")] if len(models) == 2 else [])
        assert [c.p_holm for c in found.comparisons] == holm([c.p for c in found.comparisons])
    (pair,) = [c for c in found.comparisons if (c.model, c.baseline) == ("a", "b")]
    assert pair.why == "not significant after Holm over 3 pairs of models"
    assert ranks(found) == {"a": 1, "b": 1, "c": 1}


def test_equal_models_seldom_differ_however_many_they_are() -> None:
    """200 boards of 8 equal models, 28 pairs each: without a correction most boards would have a false winner."""
    rng = np.random.default_rng(8)
    models = [f"m{i}" for i in range(8)]
    info = MetricInfo("m@1", "share", "higher", "", "")
    wrong = unguarded = 0
    for draw in rng.beta(6, 2, (200, 8, 6)):
        scores = [Score(f"c{i}", 0, m, info.id, float(v)) for m, row in zip(models, draw, strict=True)
                  for i, v in enumerate(row)]  # fmt: skip
        found = leaderboard(scores, identity_of={}, units=[(f"c{i}", 0) for i in range(6)], models=models,
                            metrics=[info], primary="m")  # fmt: skip
        assert len(found.comparisons) == len(list(combinations(models, 2)))
        wrong += any(c.verdict != "unclear" for c in found.comparisons)
        unguarded += any(c.p is not None and c.p < 0.05 for c in found.comparisons)
    assert wrong / 200 < 0.08 < 0.3 < unguarded / 200
