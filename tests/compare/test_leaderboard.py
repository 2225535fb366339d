"""The leaderboard: ranks that share what cannot be told apart, what is missing, and whom a metric says nothing of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipa_bench.compare import compare, holm
from ipa_bench.errors import UserError
from ipa_bench.metrics import find
from ipa_bench.types import MetricInfo, Score
from tests.compare.boards import NOISE, A, B, board, info, ranks, scored


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
        for metric in ("hand_quality@4", "hand.recall@1", "rest.psnr@1")
        for score in scored("a", A) + scored("b", B)
    ]
    metrics = [find(name).info for name in ("hand_quality", "hand.recall", "rest.psnr")]
    taught = {"a": ("hand_quality@4",)}
    found = board(every, ["a", "b"], metrics=metrics, primary="rest.psnr", trained_on=taught)
    assert [row.no_evidence for row in found.rows] == [("hand_quality@4", "hand.recall@1"), ()]
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


@settings(max_examples=10)
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
