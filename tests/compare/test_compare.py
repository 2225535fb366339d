"""The statistics against scipy's, against published examples, against simulation, and against their own definitions."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from ipa_bench.compare import Values, compare, detectable, difference, holm, interval
from ipa_bench.types import Better, Comparison
from tests.compare.boards import A, B, info


def clips(*identities: list[float]) -> tuple[dict[tuple[str, int], float], dict[str, str]]:
    """Values by (case, seed), and who is in each case, from one list of values per identity."""
    values, identity_of = {}, {}
    for i, of_identity in enumerate(identities):
        for j, value in enumerate(of_identity):
            values[f"p{i}c{j}", 0] = value
            identity_of[f"p{i}c{j}"] = f"p{i}"
    return values, identity_of


def judged(a: Values, b: Values, better: Better = "higher", floor: float | None = None) -> Comparison:
    floors = {} if floor is None else {"m@1": floor}
    (found,) = compare(
        {"m@1": a}, {"m@1": b}, names=("a", "b"), identity_of={}, units=a.keys() | b.keys(),
        metrics=[info("m@1", better)], floors=floors,
    )  # fmt: skip
    return found


def one_each(values: list[float]) -> dict[tuple[str, int], float]:
    return {(f"c{i}", 0): value for i, value in enumerate(values)}


def test_interval_agrees_with_scipy() -> None:
    found = interval({f"p{i}": [value] for i, value in enumerate(A)})
    low, high = stats.t.interval(0.95, len(A) - 1, loc=np.mean(A), scale=stats.sem(A))
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(A), low, high))
    assert (found.n, found.scored) == (6, 6)


def test_interval_is_over_identity_means() -> None:
    """Hand-computed: identity means 1, 3, 5 whatever the number of their clips; t(0.975, 2) = 4.302653."""
    found = interval({"x": [0.0, 1.0, 2.0], "y": [3.0], "z": [4.0, 6.0]}, missing=2)
    assert found.mean == 3.0
    assert found.high == pytest.approx(3.0 + 4.302652729911275 * 2.0 / np.sqrt(3))
    assert (found.n, found.scored, found.missing) == (3, 6, 2)


def test_interval_of_one_identity_has_no_width_rather_than_none() -> None:
    found = interval({"x": [0.5, 0.7], "y": []})
    assert (found.mean, found.low, found.high, found.n) == (pytest.approx(0.6), None, None, 1)
    assert interval({}).mean is None


def test_interval_of_equal_identities_is_a_point() -> None:
    found = interval({f"p{i}": [0.1, 0.1, 0.1] for i in range(7)})
    assert found.low == found.mean == found.high == pytest.approx(0.1)


@pytest.mark.parametrize("n", [6, 20])
def test_interval_covers_95_percent_of_clustered_truths(n: int) -> None:
    """1,000 experiments with clips of one identity correlated; the clip-level interval covers far less."""
    rng = np.random.default_rng(n)
    people = rng.normal(size=(1000, n, 1))
    values = 0.5 + people + 0.5 * rng.normal(size=(1000, n, 4))
    ours, naive = 0, 0
    for sample in values:
        found = interval({str(i): row for i, row in enumerate(sample)})
        ours += found.low <= 0.5 <= found.high
        low, high = stats.t.interval(0.95, sample.size - 1, loc=sample.mean(), scale=stats.sem(sample, axis=None))
        naive += low <= 0.5 <= high
    assert 0.93 <= ours / 1000 <= 0.97
    assert naive / 1000 < 0.85


def test_difference_agrees_with_scipy() -> None:
    found = difference(one_each(A), one_each(B), identity_of={})
    test = stats.ttest_rel(A, B)
    low, high = test.confidence_interval(0.95)
    assert (found.delta, found.low, found.high) == pytest.approx((np.mean(A) - np.mean(B), low, high))
    assert found.p == pytest.approx(test.pvalue, rel=1e-12)


def test_difference_averages_within_identities_before_testing() -> None:
    a, identity_of = clips([0.9, 0.8, 0.7], [0.5], [0.6, 0.7])
    b, _ = clips([0.7, 0.8, 0.5], [0.45], [0.6, 0.5])
    found = difference(a, b, identity_of=identity_of)
    test = stats.ttest_1samp([0.4 / 3, 0.05, 0.1], 0.0)
    assert (found.n, found.scored) == (3, 6)
    assert found.p == pytest.approx(test.pvalue)


def test_difference_uses_only_pairs_that_both_have() -> None:
    a, b = one_each(A), one_each(B)
    del a["c0", 0]
    b["c9", 0] = 1e6
    assert difference(a, b, identity_of={}) == difference(one_each(A[1:]), one_each(B[1:]), identity_of={})


@pytest.mark.parametrize(("shift", "p"), [(0.0, 1.0), (0.1, 0.0), (-3.0, 0.0)])
def test_equal_differences_have_no_spread(shift: float, p: float) -> None:
    found = difference(one_each([v + shift for v in A]), one_each(A), identity_of={})
    assert found.degenerate
    assert (found.p, found.mde) == (p, 0.0)
    assert found.low == found.high == found.delta == pytest.approx(shift)


def test_rounding_is_not_a_difference() -> None:
    """A sum taken in another order differs by an ulp everywhere; that is no evidence of anything."""
    a = {(f"c{i}", 0): 0.1 + 0.2 for i in range(5)}
    b = {(f"c{i}", 0): 0.3 for i in range(5)}
    found = difference(a, b, identity_of={})
    assert (found.delta, found.p) == (0.0, 1.0)


def test_too_few_identities_give_no_interval() -> None:
    a, identity_of = clips([0.9, 0.8, 0.7])
    b, _ = clips([0.1, 0.2, 0.3])
    found = difference(a, b, identity_of=identity_of)
    assert (found.n, found.scored, found.low, found.p, found.mde) == (1, 3, None, None, None)
    assert found.delta == pytest.approx(0.6)
    assert difference({}, b, identity_of=identity_of).delta is None


def test_without_an_identity_a_case_is_its_own() -> None:
    assert difference(one_each(A), one_each(B), identity_of={"c0": "", "c1": ""}).n == 6


values_of = st.floats(-1e3, 1e3).map(lambda v: round(v, 3))
paired = st.lists(st.tuples(values_of, values_of, st.integers(0, 3)), min_size=1, max_size=12)


@given(paired)
def test_difference_is_antisymmetric(rows: list[tuple[float, float, int]]) -> None:
    a, b = one_each([r[0] for r in rows]), one_each([r[1] for r in rows])
    identity_of = {f"c{i}": str(r[2]) for i, r in enumerate(rows)}
    one, other = difference(a, b, identity_of=identity_of), difference(b, a, identity_of=identity_of)
    assert one.delta == -other.delta
    assert (one.n, one.p, one.mde) == (other.n, other.p, other.mde)
    if one.low is not None and other.high is not None:
        assert one.low == -other.high
        assert one.low <= one.delta


@given(paired, st.integers(-100, 100))
def test_difference_ignores_what_both_sides_share(rows: list[tuple[float, float, int]], constant: int) -> None:
    identity_of = {f"c{i}": str(r[2]) for i, r in enumerate(rows)}
    one = difference(one_each([r[0] for r in rows]), one_each([r[1] for r in rows]), identity_of=identity_of)
    other = difference(
        one_each([r[0] + constant for r in rows]), one_each([r[1] + constant for r in rows]), identity_of=identity_of
    )
    assert one.delta == pytest.approx(other.delta, abs=1e-9)
    assert one.low == pytest.approx(other.low, abs=1e-6)


@given(paired)
def test_the_interval_excludes_0_exactly_when_p_is_below_5_percent(rows: list[tuple[float, float, int]]) -> None:
    found = difference(one_each([r[0] for r in rows]), one_each([r[1] for r in rows]), identity_of={})
    assume(found.p is not None)
    assume(abs(found.p - 0.05) > 1e-9)
    assert (found.p < 0.05) == (not found.low <= 0.0 <= found.high)


def test_holm_textbook_example() -> None:
    """The worked example of Wikipedia's "Holm–Bonferroni method": the first and the last are rejected."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_agrees_with_r() -> None:
    """R's multtest::mt.rawp2adjp(c(.002, .004, .006, .008, .01, .012), "Holm"), as statsmodels' tests record it."""
    adjusted = holm([0.002, 0.004, 0.006, 0.008, 0.01, 0.012])
    assert adjusted == pytest.approx([0.012, 0.02, 0.024, 0.024, 0.024, 0.024])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closure_of_bonferroni(p: list[float]) -> None:
    """Its definition (Marcus, Peritz, Gabriel 1976): the largest Bonferroni p of all sets with this hypothesis."""
    everyone = range(len(p))
    for i, adjusted in enumerate(holm(p)):
        sets = [s for size in range(1, len(p) + 1) for s in combinations(everyone, size) if i in s]
        assert adjusted == pytest.approx(max(min(1.0, len(s) * min(p[j] for j in s)) for s in sets))


def test_holm_does_not_count_tests_that_were_not_made() -> None:
    assert holm([None, 0.02, None, 0.5]) == [None, 0.04, None, 0.5]
    assert holm([]) == []


@pytest.mark.parametrize("n", [2, 3, 6, 20])
def test_mde_is_found_8_times_in_10(n: int) -> None:
    rng = np.random.default_rng(n)
    trials = 40_000
    samples = rng.normal(loc=detectable(n) / np.sqrt(n), size=(trials, n))  # standard error 1/sqrt(n)
    found = stats.ttest_1samp(samples, 0.0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(("effect", "pairs"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_mde_agrees_with_the_textbook(effect: float, pairs: int) -> None:
    """The pairs that small, medium and large effects (Cohen's dz) need at alpha 0.05, power 0.8 (G*Power)."""
    assert detectable(pairs) / np.sqrt(pairs) <= effect < detectable(pairs - 1) / np.sqrt(pairs - 1)


@pytest.mark.parametrize("n", [5, 15, 60])
def test_mde_agrees_with_scipys_noncentral_t(n: int) -> None:
    threshold = stats.t.ppf(0.975, n - 1)
    power = stats.nct.sf(threshold, n - 1, detectable(n)) + stats.nct.cdf(-threshold, n - 1, detectable(n))
    assert power == pytest.approx(0.8, abs=1e-5)


@pytest.mark.parametrize(
    ("a", "b", "better", "floor", "verdict", "why"),
    [
        (A, B, "higher", None, "better", ""),
        (A, B, "lower", None, "worse", ""),
        (B, A, "lower", None, "better", ""),
        (A, B, "higher", 0.054, "better", ""),
        (B, A, "higher", 0.054, "worse", ""),
        (B, A, "higher", 0.056, "unclear", "inside the noise floor 0.056"),
        (A, B, "higher", 0.056, "unclear", "inside the noise floor 0.056"),
        (A, list(reversed(A)), "higher", None, "unclear", "95 % interval contains 0"),
        (A, A, "higher", None, "unclear", "no difference in any identity"),
        ([0.5] * 3, [0.4] * 3, "higher", None, "better", "all 3 identities differ by the same amount"),
        ([0.9], [0.1], "higher", None, "unclear", "fewer than 2 identities"),
    ],
)
def test_verdict(a: list[float], b: list[float], better: Better, floor: float | None, verdict: str, why: str) -> None:
    found = judged(one_each(a), one_each(b), better, floor)
    assert (found.verdict, found.why) == (verdict, why)
    assert found.floor == floor


def test_verdict_with_nothing_to_pair() -> None:
    found = judged({("c0", 0): 1.0}, {("c1", 0): 1.0})
    assert (found.verdict, found.why, found.scored, found.missing) == ("unclear", "nothing to pair", 0, 2)


def test_verdict_needs_significance_over_all_metrics() -> None:
    """p is about 0.033 here: significant as the only metric, not as one of two."""
    p = judged(one_each(A), one_each(B)).p
    for others, verdict in ((0, "better"), (1, "unclear")):
        noise = {f"n{i}@1": one_each(A) for i in range(others)}
        flipped = {name: one_each(list(reversed(A))) for name in noise}
        found = compare(
            {"m@1": one_each(A)} | noise, {"m@1": one_each(B)} | flipped, names=("a", "b"), identity_of={},
            units=one_each(A), metrics=[info("m@1"), *map(info, noise)],
        )  # fmt: skip
        assert found[0].verdict == verdict
        assert found[0].p == p
    assert found[0].why == "not significant after Holm over 2 metrics"


def test_missing_values_are_counted_and_said() -> None:
    a, b = one_each(A), one_each(B)
    del b["c5", 0]
    found = judged(a, b)
    assert (found.scored, found.missing) == (5, 1)
    assert found.why.endswith("paired on 5 of 6 scored videos")
