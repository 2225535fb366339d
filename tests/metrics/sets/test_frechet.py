"""Fréchet and kernel distances against slow references, closed forms and what must hold for any features."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from ipa_bench.errors import UserError
from ipa_bench.metrics.sets.frechet import Frechet, draw, frechet_distance, frechet_of
from ipa_bench.metrics.sets.kernel import kernel_distance, kernel_sums
from ipa_bench.metrics.sets.pair import SetPair, pair_sets

#: (n, m, d): fewer rows than columns, more, and one of each
SHAPES = [(6, 9, 20), (30, 25, 5), (4, 40, 12), (12, 12, 12)]


def features(seed, n, d, scale=1.0, shift=0.0):
    rng = np.random.default_rng(seed)
    return shift + scale * rng.normal(size=(n, d)) @ np.diag(1 / np.sqrt(np.arange(1, d + 1)))


def published(x, y, ddof=1):
    """FID and FVD as published, with a matrix square root: right where the covariances have full rank."""
    a, b = (np.cov(z, rowvar=False, ddof=ddof) for z in (x, y))
    gap = x.mean(axis=0) - y.mean(axis=0)
    return gap @ gap + np.trace(a) + np.trace(b) - 2 * np.trace(scipy.linalg.sqrtm(a @ b).real)


def by_eigenvalues(x, y, ddof=1):
    """The same with the root of one covariance's eigenvalues; loses half of the digits without full rank."""
    a, b = (np.atleast_2d(np.cov(z, rowvar=False, ddof=ddof)) for z in (x, y))
    values, vectors = np.linalg.eigh(a)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    inner = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b @ root), 0)).sum()
    gap = x.mean(axis=0) - y.mean(axis=0)
    return gap @ gap + np.trace(a) + np.trace(b) - 2 * inner


def extrapolate(frechet, rng, *, sizes=8, repeats=4):
    """The plain distance at infinite n and m, by the straight line in 1/n that fits the distances of parts.

    As in FID∞ (Chong and Forsyth, CVPR 2020): ``sizes`` sizes from half of the identities to all of them, ``repeats``
    random parts of each, drawn without replacement. May be negative. The bias is a straight line only with many more
    rows than dimensions; with fewer, most of it stays, and ``Frechet.corrected`` is nearer.
    """
    shares = np.repeat(np.linspace(0.5, 1.0, sizes), repeats)
    kept = np.array([draw(frechet.pair, float(share), rng) for share in shares])
    n, m = frechet.linear.counts(kept)
    line = np.polynomial.Polynomial.fit((1 / n + 1 / m) / 2, frechet.distance(kept), 1)
    return float(line(0.0))


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize(("n", "m", "d"), [(40, 30, 6), (200, 150, 12), (25, 90, 3)])
def test_full_rank_is_the_published_distance(n, m, d, ddof):
    x, y = features(1, n, d), features(2, m, d, 1.5, 0.3)
    assert frechet_distance(x, y, ddof=ddof) == pytest.approx(published(x, y, ddof), rel=1e-9)


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize(("n", "m", "d"), SHAPES)
def test_any_rank_is_near_the_eigenvalue_formula(n, m, d, ddof):
    x, y = features(1, n, d), features(2, m, d, 1.5, 0.3)
    assert frechet_distance(x, y, ddof=ddof) == pytest.approx(by_eigenvalues(x, y, ddof), rel=1e-6)


def test_one_dimension_by_hand():
    # means 1 and 4, variances 1 and 4: 3² + (1 − 2)²
    x, y = np.array([[0.0], [1.0], [2.0]]), np.array([[2.0], [4.0], [6.0]])
    assert frechet_distance(x, y) == pytest.approx(10.0, rel=1e-14)
    # over n: variances 2/3 and 8/3, whose roots differ by √(2/3)
    assert frechet_distance(x, y, ddof=0) == pytest.approx(9 + 2 / 3, rel=1e-14)


def test_commuting_covariances_have_a_closed_form():
    rng = np.random.default_rng(0)
    # orthogonal columns with mean 0: the covariances are diagonal
    basis = np.linalg.qr(np.column_stack([np.ones(64), rng.normal(size=(64, 5))]))[0][:, 1:]
    a, b = np.array([9.0, 4.0, 1.0, 0.25, 0.0]), np.array([1.0, 4.0, 16.0, 0.0, 2.0])
    x, y = basis * np.sqrt(63 * a), basis[:, ::-1][:, [4, 3, 2, 1, 0]] * np.sqrt(63 * b)
    assert frechet_distance(x, y) == pytest.approx(((np.sqrt(a) - np.sqrt(b)) ** 2).sum(), rel=1e-12)


@pytest.mark.parametrize(("n", "m", "d"), SHAPES)
def test_constant_features_give_the_squared_distance_of_the_means(n, m, d):
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 10, d), rng.normal(0, 10, d)
    assert frechet_distance(np.tile(a, (n, 1)), np.tile(b, (m, 1))) == pytest.approx(((a - b) ** 2).sum(), rel=1e-12)
    pair = pair_sets(np.tile(a, (n, 1)), np.tile(b, (m, 1)))
    of = frechet_of(pair, rng)
    assert of.distance(pair.everything())[0] == pytest.approx(((a - b) ** 2).sum(), rel=1e-12)
    assert of.corrected(pair.everything())[0] == pytest.approx(((a - b) ** 2).sum(), rel=1e-12)


def test_zeros_and_ones():
    assert frechet_distance(np.zeros((8, 400)), np.ones((8, 400))) == pytest.approx(400.0, rel=1e-13)
    # the kernel of zeros is 1, of ones 8, between them 1
    assert kernel_distance(np.zeros((8, 400)), np.ones((8, 400))) == pytest.approx(1 + 8 - 2, rel=1e-13)


@pytest.mark.parametrize(("n", "d"), [(16, 400), (64, 2048), (500, 64)])
def test_a_set_is_at_no_distance_from_itself(n, d):
    x = features(0, n, d, 30.0)
    size = np.trace(np.cov(x, rowvar=False))
    assert 0 <= frechet_distance(x, x) < 1e-12 * size
    labels = [str(i) for i in range(n)]
    pair = pair_sets(x, x, (labels, labels))
    of = frechet_of(pair, np.random.default_rng(0))
    assert 0 <= of.distance(pair.everything())[0] < 1e-12 * size
    assert abs(of.corrected(pair.everything())[0]) < 1e-12 * size
    assert abs(kernel_distance(x, x, (labels, labels))) < 1e-12 * kernel_sums(pair).xx.max()


@pytest.mark.parametrize("power", [0.5, 2.0, 8.0])
def test_small_and_missing_directions_cost_no_accuracy(power):
    """More rows than columns, half of them copies of the others: covariances without full rank."""
    x = np.random.default_rng(0).normal(size=(300, 32)) * np.arange(1, 33) ** -power
    x = np.hstack([x, x])
    assert frechet_distance(x, x) < 1e-14 * np.trace(np.cov(x, rowvar=False))


sets = st.builds(
    lambda seed, shape, shift: (features(seed, shape[0], shape[2]), features(seed + 1, shape[1], shape[2], 1.3, shift)),
    st.integers(0, 10**6), st.sampled_from(SHAPES), st.floats(-3, 3),
)  # fmt: skip


@settings(max_examples=10)
@given(sets)
def test_symmetric_and_not_negative(pair):
    x, y = pair
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-9)
    assert frechet_distance(x, y) >= 0
    assert kernel_distance(x, y) == pytest.approx(kernel_distance(y, x), rel=1e-9, abs=1e-9)


@settings(max_examples=10)
@given(sets, st.integers(0, 10**6), st.floats(-100, 100))
def test_rotation_translation_and_order_do_not_matter(pair, seed, shift):
    x, y = pair
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(x.shape[1], x.shape[1])))[0]
    moved = [rng.permutation(z) @ turn + shift for z in pair]
    assert frechet_distance(*moved) == pytest.approx(frechet_distance(x, y), rel=1e-7, abs=1e-9)
    turned = [rng.permutation(z) @ turn for z in pair]
    assert kernel_distance(*turned) == pytest.approx(kernel_distance(x, y), rel=1e-7, abs=1e-9)


@settings(max_examples=10)
@given(sets, st.floats(0.01, 100))
def test_scales_with_the_square(pair, factor):
    x, y = pair
    assert frechet_distance(factor * x, factor * y) == pytest.approx(factor**2 * frechet_distance(x, y), rel=1e-8)


@settings(max_examples=10)
@given(sets, st.floats(0.1, 5))
def test_grows_with_the_gap_of_the_means(pair, step):
    x, y = pair
    y = y - y.mean(axis=0) + x.mean(axis=0)
    direction = np.ones(x.shape[1]) / x.shape[1] ** 0.5
    base = frechet_distance(x, y)
    assert frechet_distance(x, y + step * direction) == pytest.approx(base + step**2, rel=1e-8)
    assert frechet_distance(x, y + 2 * step * direction) > frechet_distance(x, y + step * direction)


@settings(max_examples=10)
@given(sets, st.integers(0, 10**6))
def test_a_part_is_the_distance_of_its_rows(pair, seed):
    """Parts only re-index inner products; the rows themselves must say the same."""
    x, y = pair
    rng = np.random.default_rng(seed)
    groups = [str(g) for g in np.sort(rng.integers(0, len(x), len(x)))], [f"r{i}" for i in range(len(y))]
    prepared = pair_sets(x, y, groups)
    of = frechet_of(prepared, rng)
    kept = np.array([draw(prepared, 0.7, rng) for _ in range(3)])
    for part, distance, kernel in zip(kept, of.distance(kept), kernel_sums(prepared).discrepancy(kept), strict=True):
        i, j = part[prepared.x_of], part[prepared.y_of]
        if min(i.sum(), j.sum()) < 2:
            assert np.isnan(distance)
            continue
        a, b = prepared.x[i] + prepared.offset, prepared.y[j] + prepared.offset
        assert distance == pytest.approx(frechet_distance(a, b), rel=1e-8, abs=1e-9)
        labels = [str(k) for k in prepared.x_of[i]], [str(k) for k in prepared.y_of[j]]
        if len(set(labels[0])) > 1:
            assert kernel == pytest.approx(kernel_distance(a, b, labels), rel=1e-8, abs=1e-9)


def slow_kernel(x, y, x_groups, y_groups):
    """Mean over pairs of different groups, one pair at a time."""

    def mean(a, b, a_groups, b_groups):
        values = [
            (np.dot(p, q) / len(p) + 1) ** 3 for p, g in zip(a, a_groups, strict=True)
            for q, h in zip(b, b_groups, strict=True) if g != h
        ]  # fmt: skip
        return sum(values) / len(values)

    return mean(x, x, x_groups, x_groups) + mean(y, y, y_groups, y_groups) - 2 * mean(x, y, x_groups, y_groups)


@settings(max_examples=10)
@given(sets, st.integers(0, 10**6))
def test_kernel_distance_is_the_sum_over_pairs(pair, seed):
    x, y = pair
    own = list(range(len(x))), list(range(1000, 1000 + len(y)))
    assert kernel_distance(x, y) == pytest.approx(slow_kernel(x, y, *own), rel=1e-9, abs=1e-9)
    rng = np.random.default_rng(seed)
    # unsorted labels of uneven size that both sets share
    groups = [["a", "b"] + [f"g{k}" for k in rng.integers(0, 5, len(z) - 2)] for z in pair]
    expected = slow_kernel(x, y, *groups)
    assert kernel_distance(x, y, (groups[0], groups[1])) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_kernel_distance_is_unbiased_and_may_be_negative():
    """Paired sets of 5 with a true distance of 0; leaving in the pairs of one identity would bias it."""
    rng = np.random.default_rng(0)
    labels = [str(i) for i in range(5)]
    values, naive = [], []
    for _ in range(150):
        y = rng.normal(size=(5, 8))
        x = 0.95 * y + 0.31 * rng.normal(size=(5, 8))
        values.append(kernel_distance(x, y, (labels, labels)))
        naive.append(kernel_distance(x, y))
    error = np.std(values) / len(values) ** 0.5
    assert abs(np.mean(values)) < 4 * error
    assert np.mean(naive) < -4 * error
    assert min(values) < 0 < max(values)


def corrected_by_hand(of: Frechet, pair: SetPair):
    """The corrected value of everything and its uncertainty, with rows and loops."""

    def rows(mask):
        return pair.x[mask[pair.x_of]], pair.y[mask[pair.y_of]]

    def shared(a, b):
        a, b = a - a.mean(axis=0), b - b.mean(axis=0)
        return np.linalg.svd(a @ b.T, compute_uv=False).sum() / ((len(a) - 1) * (len(b) - 1)) ** 0.5

    parts = [(rows(half), rows(~half)) for half in of.halves]
    within_x = np.mean([shared(x1, x2) for (x1, _), (x2, _) in parts])
    within_y = np.mean([shared(y1, y2) for (_, y1), (_, y2) in parts])
    between = np.mean([(shared(x1, y2) + shared(x2, y1)) / 2 for (x1, y1), (x2, y2) in parts])
    x, y = pair.x, pair.y
    x_trace, y_trace = (np.trace(np.cov(z, rowvar=False)) for z in (x, y))
    gap = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() - x_trace / len(x) - y_trace / len(y)
    corrected = gap + x_trace + y_trace - 2 * (x_trace * y_trace / within_x / within_y) ** 0.5 * between
    return corrected, 2 * ((x_trace * y_trace) ** 0.5 - (within_x * within_y) ** 0.5)


@pytest.mark.parametrize(("n", "m", "d"), [(12, 9, 20), (30, 25, 5), (16, 40, 18)])
def test_correction_of_independent_rows_is_the_formula(n, m, d):
    pair = pair_sets(features(1, n, d), features(2, m, d, 1.5, 0.3))
    of = frechet_of(pair, np.random.default_rng(0), splits=3)
    corrected, uncertainty = corrected_by_hand(of, pair)
    assert of.corrected(pair.everything())[0] == pytest.approx(corrected, rel=1e-9)
    assert of.uncertainty(pair.everything())[0] == pytest.approx(uncertainty, rel=1e-9)


@pytest.mark.parametrize(("n", "d", "clips"), [(16, 64, 1), (32, 64, 2), (64, 8, 1)])
def test_correction_takes_the_bias_away(n, d, clips):
    """Mean over draws: sets of one distribution, with clips that depend on each other within identities."""
    rng = np.random.default_rng(0)
    labels = [str(i // clips) for i in range(n)]
    plain, corrected, line = [], [], []
    for _ in range(60):
        x, y = (np.repeat(rng.normal(size=(n // clips, d)), clips, axis=0) + rng.normal(size=(n, d)) for _ in range(2))
        pair = pair_sets(x, y, ([f"x{k}" for k in labels], [f"y{k}" for k in labels]))
        of = frechet_of(pair, rng)
        plain.append(of.distance(pair.everything())[0])
        corrected.append(of.corrected(pair.everything())[0])
        line.append(extrapolate(of, rng, repeats=2))
    assert abs(np.mean(corrected)) < 0.1 * np.mean(plain)
    # the straight line in 1/n helps, and is enough only where there are many more rows than columns
    assert abs(np.mean(line)) < 0.85 * np.mean(plain)
    if n < d:
        assert np.mean(line) > 0.3 * np.mean(plain)


def test_extrapolation_is_the_intercept_of_the_fitted_line():
    pair = pair_sets(features(0, 40, 3), features(1, 40, 3))
    of = frechet_of(pair, np.random.default_rng(0))
    rng = np.random.default_rng(5)
    sizes, values = [], []
    for share in np.repeat(np.linspace(0.5, 1, 3), 2):
        kept = draw(pair, float(share), rng)
        sizes.append(1 / kept[pair.x_of].sum())
        values.append(frechet_distance(pair.x[kept[pair.x_of]], pair.y[kept[pair.y_of]]))
    intercept = np.linalg.lstsq(np.column_stack([np.ones(6), sizes]), np.array(values))[0][0]
    found = extrapolate(of, np.random.default_rng(5), sizes=3, repeats=2)
    assert found == pytest.approx(intercept, rel=1e-9)


@pytest.mark.parametrize("n", [10, 16, 64])
def test_bias_of_small_sets_follows_the_quarter_circle_law(n):
    """Sets of one normal distribution of d = 400 directions of variance 1, true distance 0: what the plain value adds.

    With n far below d, X Yᵀ of centred rows is like a square matrix of n − 1 rows of independent normal numbers of
    variance d. Its singular values follow the quarter-circle law, with mean 8 / (3 π) √((n − 1) d). So of the value
    2 d + 2 d / n − 2 tr (AB)^½ the last term takes away only 2 · 8 / (3 π) √((n − 1) d).
    """
    d, rng = 400, np.random.default_rng(0)
    expected = 2 * d + 2 * d / n - 16 / (3 * np.pi) * ((n - 1) * d) ** 0.5
    mean = np.mean([frechet_distance(*rng.normal(size=(2, n, d))) for _ in range(4)])
    assert mean == pytest.approx(expected, rel=0.025)


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (np.zeros((1, 4)), np.zeros((5, 4)), "covariance needs two"),
        (np.zeros((5, 4)), np.zeros((0, 4)), "covariance needs two"),
        (np.zeros((5, 4)), np.zeros((5, 3)), "4 and 3"),
        (np.zeros(5), np.zeros((5, 3)), r"shape \(5,\)"),
        (np.zeros((5, 0)), np.zeros((5, 0)), r"shape \(5, 0\)"),
        (np.array([[0.0, 1.0], [np.nan, 1.0]]), np.zeros((5, 2)), "first is row 1"),
        (np.array([[0.0, np.inf], [2.0, 1.0]]), np.zeros((5, 2)), "first is row 0"),
        (np.zeros((5, 4), complex), np.zeros((5, 4)), "not real"),
    ],
)
@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_features_without_a_distance_are_refused(distance, x, y, says):
    with pytest.raises(UserError, match=says):
        distance(x, y)


def test_other_refusals():
    x = features(0, 6, 4)
    with pytest.raises(UserError, match="ddof is 2"):
        frechet_distance(x, x, ddof=2)
    with pytest.raises(UserError, match="5 and 6 labels for 6 and 6 rows"):
        kernel_distance(x, x, (["a"] * 5, ["b"] * 6))
    with pytest.raises(UserError, match="of one identity"):
        kernel_distance(x, x, (["a"] * 6, ["a"] * 6))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8, np.int64])
def test_any_real_features_are_taken_as_float64(dtype):
    x, y = (np.abs(features(k, 9, 4, 20)).astype(dtype) for k in range(2))
    assert frechet_distance(x, y) == frechet_distance(x.astype(np.float64), y.astype(np.float64))
