"""Intervals over people and training runs: by hand, and by how often they hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ipa_bench.compare import crossed, difference
from ipa_bench.compare.intervals import Values
from ipa_bench.types import Float64

IDENTITY = {f"c{number}": f"p{number}" for number in range(40)}


def runs_of(table: Float64) -> list[tuple[Values, Values]]:
    """Runs whose difference on the case of person i is ``table[run, i]``."""
    return [
        ({(f"c{i}", 0): 2.0 + float(y) for i, y in enumerate(row)}, {(f"c{i}", 0): 2.0 for i in range(len(row))})
        for row in table
    ]


def test_an_interval_is_what_a_hand_computes() -> None:
    # means of runs 2 and 4, of people 2, 3, 4; residuals all 0: MS_runs = 3 * 2, MS_people = 2 * 1, MS_rest = 0
    found = crossed(runs_of(np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]])), identity_of=IDENTITY)
    error = math.sqrt((6 + 2) / 6)
    df = 8**2 / (2**2 / 2 + 6**2 / 1)
    half = stats.t.ppf(0.975, df) * error
    assert (found.delta, found.low, found.high) == pytest.approx((3.0, 3.0 - half, 3.0 + half))
    assert found.p == pytest.approx(2 * stats.t.sf(3.0 / error, df))
    assert (found.n, found.scored, found.mde) == (3, 6, None)


def test_runs_that_agree_leave_the_interval_over_people() -> None:
    row = np.array([0.1, 0.5, 0.4, 0.9])
    both = crossed(runs_of(np.stack([row, row])), identity_of=IDENTITY)
    alone = difference(*runs_of(row[None])[0], identity_of=IDENTITY)
    assert (both.delta, both.low, both.high) == pytest.approx((alone.delta, alone.low, alone.high))
    assert both.low is not None
    assert alone.low is not None


def test_one_run_is_the_paired_difference() -> None:
    runs = runs_of(np.array([[0.1, 0.5, 0.4]]))
    assert crossed(runs, identity_of=IDENTITY) == difference(*runs[0], identity_of=IDENTITY)
    assert crossed([], identity_of=IDENTITY).delta is None


def test_an_identity_that_a_run_lacks_is_left_out() -> None:
    (first, base), (second, other) = runs_of(np.array([[1.0, 2.0, 30.0], [3.0, 4.0, 50.0]]))
    short = {pair: value for pair, value in second.items() if pair[0] != "c2"}
    found = crossed([(first, base), (short, other)], identity_of=IDENTITY)
    assert (found.delta, found.n) == (pytest.approx(2.5), 2)


def test_all_equal_is_a_point() -> None:
    same = crossed(runs_of(np.full((2, 3), 0.5)), identity_of=IDENTITY)
    assert same.degenerate
    assert (same.delta, same.p) == (0.5, 0.0)
    assert crossed(runs_of(np.zeros((2, 3))), identity_of=IDENTITY).p == 1.0


@given(st.integers(2, 4), st.integers(2, 6), st.integers(0, 1000))
def test_neither_the_order_of_runs_nor_of_people_counts(runs: int, people: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(runs, people))
    one = crossed(runs_of(table), identity_of=IDENTITY)
    other = crossed(runs_of(table[rng.permutation(runs)][:, rng.permutation(people)]), identity_of=IDENTITY)
    assert (one.delta, one.low, one.high, one.p) == pytest.approx((other.delta, other.low, other.high, other.p))


@pytest.mark.parametrize(("of_people", "of_runs"), [(1.0, 0.0), (1.0, 0.3), (0.3, 1.0), (0.5, 0.5)])
def test_95_percent_of_intervals_hold_the_truth(of_people: float, of_runs: float) -> None:
    rng, held, draws = np.random.default_rng(0), 0, 400
    for _ in range(draws):
        effects = of_people * rng.normal(size=(1, 24)) + of_runs * rng.normal(size=(3, 1)) + rng.normal(size=(3, 24))
        found = crossed(runs_of(effects), identity_of=IDENTITY)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.0 <= found.high
    # three runs say little about how runs differ, and the interval is wide for it
    assert held / draws >= 0.92
    assert of_runs < 1.0 or held / draws <= 0.99
