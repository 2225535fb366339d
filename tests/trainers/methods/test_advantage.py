"""What scores become: by hand, against numpy, and where a case prefers nothing."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.methods import nft
from trainers.methods.advantage import optimality, softmax_weights, standardised

scored = st.lists(st.tuples(st.sampled_from("abc"), st.integers(-50, 50)), min_size=1, max_size=20)


def test_by_hand() -> None:
    assert standardised("aab", [3.0, 1.0, 7.0]) == [1.0, -1.0, None]
    assert optimality("aab", [3.0, 1.0, 7.0], 5.0) == [0.6, 0.4, None]
    assert optimality("aab", [3.0, 1.0, 7.0], 0.5) == [1.0, 0.0, None]
    e = np.e
    assert softmax_weights("aab", [3.0, 1.0, 7.0], 2.0) == pytest.approx([2 * e / (e + 1), 2 / (e + 1), 1.0])
    assert standardised("aaa", [0.1 + 0.2, 0.3, 0.3]) == [None] * 3  # equal but for rounding


@given(scored, st.floats(0.1, 10), st.floats(0.5, 3), st.floats(-5, 5))
def test_a_case_is_its_own_measure(rows: list[tuple[str, int]], clip: float, factor: float, shift: float) -> None:
    cases, scores = [case for case, _ in rows], [float(score) for _, score in rows]
    found, r = standardised(cases, scores), optimality(cases, scores, clip)
    for case in set(cases):
        mine = np.array([score for name, score in zip(cases, scores, strict=True) if name == case])
        got = [z for name, z in zip(cases, found, strict=True) if name == case]
        if mine.std() == 0:
            assert got == [None] * len(mine)
        else:
            np.testing.assert_allclose(np.array(got, float), (mine - mine.mean()) / mine.std(), atol=1e-9)
    assert all((a is None) == (b is None) for a, b in zip(found, r, strict=True))
    assert all(b is None or 0 <= b <= 1 for b in r)
    moved = standardised(cases, [factor * score + shift for score in scores])
    assert [z is None for z in moved] == [z is None for z in found]
    assert [z for z in moved if z is not None] == pytest.approx([z for z in found if z is not None], abs=1e-6)


@given(scored, st.floats(0.05, 50))
def test_weights_have_mean_one_in_every_case_and_rise_with_the_score(
    rows: list[tuple[str, int]], temperature: float
) -> None:
    cases, scores = [case for case, _ in rows], [float(score) for _, score in rows]
    weights = softmax_weights(cases, scores, temperature)
    for case in set(cases):
        mine = sorted((s, w) for name, s, w in zip(cases, scores, weights, strict=True) if name == case)
        assert np.mean([w for _, w in mine]) == pytest.approx(1.0)
        assert all(a[1] <= b[1] + 1e-12 for a, b in pairwise(mine))
    flat = softmax_weights(cases, scores, 1e9)
    assert flat == pytest.approx([1.0] * len(flat), abs=1e-6)


def test_the_old_policy_follows_as_published_or_as_asked() -> None:
    published = nft.Options(old_every=1)
    assert [nft.keep(update, published) for update in (1, 2, 400, 600)] == [0.001, 0.002, 0.4, 0.5]
    slow = nft.Options(old_every=1, old_rate=0.0075, old_most=0.999, old_from=75)
    assert [nft.keep(update, slow) for update in (1, 75, 76, 500)] == [0.0, 0.0, 0.0075, 0.999]
    assert [nft.keep(update, nft.Options(old_every=3)) for update in (1, 2, 3, 4, 6)] == [
        None,
        None,
        0.001,
        None,
        0.002,
    ]
    assert nft.keep(10, nft.Options(old_every=0)) is None
