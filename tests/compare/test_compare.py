"""The statistics against scipy's, against published examples, against simulation, and against their own definitions."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from ipa_bench.compare import Values, compare, detectable, difference, holm, interval, leaderboard
from ipa_bench.errors import UserError
from ipa_bench.metrics import find
from ipa_bench.types import Better, Comparison, Leaderboard, MetricInfo, Score


def info(metric: str, better: Better = "higher", **more: object) -> MetricInfo:
    return MetricInfo(id=metric, unit="", better=better, source="", blind_spot="", **more)  # type: ignore[arg-type]


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


A = [0.71, 0.64, 0.80, 0.55, 0.62, 0.90]
B = [0.65, 0.60, 0.77, 0.56, 0.50, 0.81]


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
    """2,000 experiments with clips of one identity correlated; the clip-level interval covers far less."""
    rng = np.random.default_rng(n)
    people = rng.normal(size=(2000, n, 1))
    values = 0.5 + people + 0.5 * rng.normal(size=(2000, n, 4))
    ours, naive = 0, 0
    for sample in values:
        found = interval({str(i): row for i, row in enumerate(sample)})
        ours += found.low <= 0.5 <= found.high
        low, high = stats.t.interval(0.95, sample.size - 1, loc=sample.mean(), scale=stats.sem(sample, axis=None))
        naive += low <= 0.5 <= high
    assert 0.93 <= ours / 2000 <= 0.97
    assert naive / 2000 < 0.85


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


def board(scores: list[Score], models: list[str], **more: object) -> Leaderboard:
    arguments: dict[str, object] = {
        "identity_of": {}, "units": {(s.case, s.seed) for s in scores}, "metrics": [info("m@1")], "primary": "m",
    }  # fmt: skip
    return leaderboard(scores, models=models, **(arguments | more))  # type: ignore[arg-type]


def scored(model: str, values: list[float | None], metric: str = "m@1") -> list[Score]:
    return [
        Score(f"c{i}", 0, model, metric, value, None if value is not None else "no hand")
        for i, value in enumerate(values)
    ]


def ranks(found: Leaderboard) -> dict[str, int]:
    return {row.model: row.rank for row in found.rows}


NOISE = [0.03, -0.05, 0.01, 0.04, -0.02, -0.01]


def test_ranks_follow_the_primary_metric_and_share_what_cannot_be_told_apart() -> None:
    close = [v - 0.001 + n for v, n in zip(A, NOISE, strict=True)]
    far = [v - 0.3 + n for v, n in zip(A, NOISE, strict=True)]
    every = scored("far", far) + scored("best", A) + scored("close", close) + scored("silent", [None] * 6)
    found = board(every, ["silent", "far", "close", "best", "absent"])
    assert ranks(found) == {"best": 1, "close": 1, "far": 3, "absent": 4, "silent": 4}
    assert [row.model for row in found.rows] == ["best", "close", "far", "absent", "silent"]
    assert found.primary == "m@1"


def test_ranks_turn_round_for_a_metric_where_lower_is_better() -> None:
    every = scored("a", A) + scored("b", B)
    assert ranks(board(every, ["a", "b"])) == {"a": 1, "b": 2}
    assert ranks(board(every, ["a", "b"], metrics=[info("m@1", "lower")])) == {"b": 1, "a": 2}


def test_ranks_ignore_differences_inside_the_noise_floor() -> None:
    every = scored("a", A) + scored("b", B)
    assert ranks(board(every, ["a", "b"], floors={"m@1": 0.2})) == {"a": 1, "b": 1}


def test_missing_scores_are_counted_in_the_cells() -> None:
    found = board(scored("a", [*A[:4], None, None]) + scored("b", B), ["a", "b"])
    cell = next(row for row in found.rows if row.model == "a").cells["m@1"]
    assert (cell.scored, cell.missing, cell.n) == (4, 2, 4)
    assert cell.mean == pytest.approx(np.mean(A[:4]))
    assert found.comparisons[0].scored == 4


def test_scores_outside_the_units_do_not_count() -> None:
    units = [("c0", 0), ("c1", 0), ("c2", 0)]
    some = [s for s in scored("a", A) + scored("b", B) if s.case in ("c0", "c1", "c2")]
    assert board(scored("a", A) + scored("b", B), ["a", "b"], units=units) == board(some, ["a", "b"])


def test_every_pair_is_compared_and_the_baseline_stays_the_baseline() -> None:
    every = scored("a", A) + scored("b", B) + scored("c", [v - 0.4 for v in B])
    pairs = [(c.model, c.baseline) for c in board(every, ["c", "b", "a"]).comparisons]
    assert pairs == [("a", "b"), ("a", "c"), ("b", "c")]
    against_b = board(every, ["c", "b", "a"], baseline="b").comparisons
    assert [(c.model, c.baseline, c.verdict) for c in against_b][-1] == ("c", "b", "worse")
    assert [(c.model, c.baseline) for c in against_b] == [("a", "b"), ("a", "c"), ("c", "b")]


def test_a_metric_that_a_model_was_trained_on_is_marked() -> None:
    found = board(scored("a", A) + scored("b", B), ["a", "b"], trained_on={"a": ("m", "elsewhere@2")})
    assert found.rows[0].trained_on == ("m@1", "elsewhere@2")
    assert found.comparisons[0].why == "a trained on this metric"
    assert board(scored("a", A) + scored("b", B), ["a", "b"]).comparisons[0].why == ""


def test_metrics_of_the_same_networks_are_marked_and_others_are_not() -> None:
    every = [
        replace(score, metric=metric)
        for metric in ("hand_quality@2", "hand.recall@1", "rest.psnr@1")
        for score in scored("a", A) + scored("b", B)
    ]
    metrics = [find(name).info for name in ("hand_quality", "hand.recall", "rest.psnr")]
    taught = {"a": ("hand_quality@2",)}
    found = board(every, ["a", "b"], metrics=metrics, primary="rest.psnr", trained_on=taught)
    assert [row.no_evidence for row in found.rows] == [("hand_quality@2", "hand.recall@1"), ()]
    notes = [comparison.why.partition("a trained on ")[2] for comparison in found.comparisons]
    assert notes == ["this metric", "a metric of the same networks", ""]


def test_composites_of_different_parts_are_not_paired() -> None:
    """On the first case a has no motion: its composite is a mean of fewer parts than b's."""
    whole, part = (find(name).info for name in ("hand_quality", "hand_quality.motion"))
    values = {m: [replace(s, metric=m) for s in scored("a", A) + scored("b", B)] for m in (whole.id, part.id)}
    lacking = [s for s in values[part.id] if (s.case, s.model) != ("c0", "a")]
    found = board([*values[whole.id], *lacking], ["a", "b"], metrics=[whole, part], primary=whole.id)
    (comparison,) = [c for c in found.comparisons if c.metric == whole.id]
    assert comparison.scored == len(A) - 1
    assert f"paired on {len(A) - 1} of {len(A)} scored videos" in comparison.why
    # where neither has it, or the parts are not among the metrics, nothing is left out
    neither = [s for s in values[part.id] if s.case != "c0"]
    for others, metrics in ((neither, [whole, part]), ([], [whole])):
        found = board([*values[whole.id], *others], ["a", "b"], metrics=metrics, primary=whole.id)
        assert [c.scored for c in found.comparisons if c.metric == whole.id] == [len(A)]


def test_set_metrics_are_left_out() -> None:
    metrics = [info("fvd@1", "lower", scope="set"), info("m@1")]
    assert board(scored("a", A), ["a"], metrics=metrics).metrics == ("m@1",)


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match="'n' is not scored in this run") as error:
        board(scored("a", A), ["a"], primary="n")
    assert error.value.fix == "name one of: m@1"
    with pytest.raises(UserError, match="baseline 'z' is not a model"):
        board(scored("a", A), ["a"], baseline="z")


def test_two_values_for_one_video_are_a_bug() -> None:
    with pytest.raises(ValueError, match="two different values"):
        board([Score("c0", 0, "a", "m@1", 0.1), Score("c0", 0, "a", "m@1", 0.2)], ["a"])


@settings(max_examples=30)
@given(st.randoms(use_true_random=False))
def test_the_order_of_scores_does_not_matter(random: object) -> None:
    every = scored("a", A) + scored("b", B) + scored("c", [0.1 + 0.2 * n for n in NOISE])
    identity_of = {f"c{i}": f"p{i // 2}" for i in range(6)}
    shuffled = list(every)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    models = ["a", "b", "c"]
    assert board(shuffled, models, identity_of=identity_of) == board(every, models, identity_of=identity_of)


def test_the_primary_metric_is_one_test_and_the_others_share_holm() -> None:
    rng = np.random.default_rng(3)
    infos = [MetricInfo(f"m{i}@1", "x", "higher", "s", "b") for i in range(8)]
    cases = [f"c{i}" for i in range(8)]
    noise = {info.id: rng.normal(0.6, 0.7, len(cases)) for info in infos}
    a = {m: {(c, 0): float(v) for c, v in zip(cases, values, strict=True)} for m, values in noise.items()}
    b = {m: {(c, 0): 0.0 for c in cases} for m in noise}

    def found(primary: str | None) -> dict[str, tuple[float, float]]:
        pairs = compare(
            a, b, names=("a", "b"), identity_of={}, units=[(c, 0) for c in cases], metrics=infos, primary=primary
        )  # fmt: skip
        return {p.metric: (p.p or 0.0, p.p_holm or 0.0) for p in pairs}

    named, unnamed = found("m0@1"), found(None)
    assert named["m0@1"][0] == named["m0@1"][1]
    assert unnamed["m0@1"][1] > unnamed["m0@1"][0]
    rest = [m for m in noise if m != "m0@1"]
    assert [named[m][1] for m in rest] == holm([named[m][0] for m in rest])
