"""Fréchet distance between two sets of features, exact and without matrix square roots, and what small sets add to it.

For normal distributions with means a, b and covariances A, B the squared Fréchet (2-Wasserstein) distance is
|a − b|² + tr A + tr B − 2 tr (AB)^½ (Dowson and Landau, J. Multivariate Anal. 1982; FID: Heusel et al., NeurIPS 2017).
With centred features X ``[n, d]`` and Y ``[m, d]``, A = XᵀX / (n − ddof) and B = YᵀY / (m − ddof), the last trace is
the sum of the singular values of XYᵀ over √((n − ddof)(m − ddof)): their squares are the eigenvalues of AB. No square
root of a matrix is taken, so covariances without full rank cost no accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from ipa_bench.errors import UserError
from ipa_bench.metrics.sets.kernel import PairSums, linear_sums
from ipa_bench.metrics.sets.pair import SetPair, checked, same_width
from ipa_bench.types import Float64

#: numbers held at a time while parts are measured
CHUNK = 2**22


def frechet_distance(x: ndarray, y: ndarray, *, ddof: int = 1) -> float:
    """Squared Fréchet distance of ``x`` ``[n, d]`` and ``y`` ``[m, d]``, ≥ 0, in squared units of the features.

    ``ddof``: 1 for covariances over n − 1 (FID, FVD), 0 for covariances over n (StyleGAN-V). Equal sets give 0 to
    round-off, constant features the squared distance of the means. Biased upwards in small sets, and far more so with
    fewer rows than dimensions: only values at the same n and m compare. Raises UserError for features without a value
    (see :func:`~ipa_bench.metrics.sets.pair.pair_sets`).
    """
    _check_ddof(ddof)
    x, y = checked(x, "the first set"), checked(y, "the second set")
    same_width(x, y)
    gap = x.mean(axis=0) - y.mean(axis=0)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    n, m = len(x) - ddof, len(y) - ddof
    nuclear = nuclear_norm(x, y) / (n * m) ** 0.5
    return max(0.0, float(gap @ gap + np.vdot(x, x) / n + np.vdot(y, y) / m - 2 * nuclear))


def nuclear_norm(x: Float[ndarray, "n d"], y: Float[ndarray, "m d"]) -> float:
    """Sum of the singular values of x yᵀ.

    With more rows than d in both, they are first reduced to the triangles of QR factorisations, which keep the singular
    values. The eigenvalues of a product of covariances cost as much and lose half the digits of the small ones.
    """
    if min(len(x), len(y)) > x.shape[1]:
        x, y = _triangle(x), _triangle(y)
    return float(np.linalg.svd(x @ y.T, compute_uv=False).sum())


@dataclass(frozen=True, eq=False)
class Frechet:
    """Fréchet distances of the parts of one pair of sets, for intervals and corrections.

    A part is a mask over identities: r parts are ``[r, g]`` and give ``[r]`` values, NaN where a set has fewer than two
    rows. A part only re-indexes the inner products that the pair holds.
    """

    pair: SetPair
    linear: PairSums
    #: sums over each identity of its rows' squared norms, of x and of y, ``[g]``
    squares: tuple[Float[ndarray, " g"], Float[ndarray, " g"]]
    ddof: int
    #: the first half of the identities in each of k random splits, ``[k, g]``
    halves: Bool[ndarray, "k g"]

    def distance(self, kept: Bool[ndarray, "r g"]) -> Float[ndarray, " r"]:
        """The plain distance of each part, ≥ 0."""
        (n, m), (xx, xy, yy) = self.linear.counts(kept), self.linear.totals(kept)
        x_square, y_square = (kept @ square for square in self.squares)
        with np.errstate(invalid="ignore", divide="ignore"):
            gap = xx / n**2 - 2 * xy / (n * m) + yy / m**2
            traces = (x_square - xx / n) / (n - self.ddof) + (y_square - yy / m) / (m - self.ddof)
            nuclear = self._nuclear_norms(1, kept, kept) / np.sqrt((n - self.ddof) * (m - self.ddof))
            return np.asarray(np.where(np.minimum(n, m) < 2, np.nan, np.maximum(0.0, gap + traces - 2 * nuclear)))

    def corrected(self, kept: Bool[ndarray, "r g"]) -> Float[ndarray, " r"]:
        """The distance without its small-sample bias, an estimate of what infinite sets would give; may be negative.

        The means' part and the traces are unbiased over pairs of different identities. The trace of the root of the
        product shrinks in small samples, because two samples of one distribution span different directions. By how
        much is seen within each set: for any two halves 1 and 2 of the identities, tr (A₁A₂)^½ would be tr A without
        it. So, as in Spearman's correction of a correlation for attenuation (Am. J. Psychol. 1904),

            tr (AB)^½ ≈ (tr A tr B)^½ · tr (A₁B₂)^½ / (tr (A₁A₂)^½ tr (B₁B₂)^½)^½

        with each trace on the right averaged over the splits, all of one size and of independent identities. Without
        systematic error when the distributions are the same, an approximation otherwise; NaN when a half has fewer
        than two rows. ipa-bench's own; the table in ``set_intervals.py`` says how well it does.
        """
        rest, traces, within, between = self._of_halves(kept)
        # constant features have no covariance, and nothing to share
        some = ~(within == 0)
        return np.asarray(rest - 2 * np.divide(traces, within, out=np.zeros_like(traces), where=some) * between)

    def uncertainty(self, kept: Bool[ndarray, "r g"]) -> Float[ndarray, " r"]:
        """By about how much each part's :meth:`corrected` may be off, ≥ 0, where the sets are not alike.

        What 2 tr (AB)^½ loses between halves of one set, 2 ((tr A tr B)^½ − (tr (A₁A₂)^½ tr (B₁B₂)^½)^½). Between sets
        that vary in other directions it loses another share, unknown but between none and all, and the size of the
        correction says nothing of it. NaN where a half has fewer than two rows.
        """
        _, traces, within, _ = self._of_halves(kept)
        return np.asarray(np.where(np.isnan(within), np.nan, 2 * np.maximum(0.0, traces - within)))

    def _of_halves(self, kept: Bool[ndarray, "r g"]) -> tuple[Float64, Float64, Float64, Float64]:
        """Of each part: the distance without its last term, and (tr A tr B)^½, (tr (A₁A₂)^½ tr (B₁B₂)^½)^½,
        tr (A₁B₂)^½.

        The last two from traces averaged over the splits.
        """
        (n, m), (xx, xy, yy) = self.linear.counts(kept), self.linear.means(kept)
        x_square, y_square = kept @ self.squares[0] / n, kept @ self.squares[1] / m
        traces = np.sqrt(np.maximum(0.0, x_square - xx) * np.maximum(0.0, y_square - yy))
        within_x, within_y, between = np.zeros((3, len(kept)))
        for half in self.halves:
            first, second = kept & half, kept & ~half
            within_x += self._root_trace(0, first, second)
            within_y += self._root_trace(2, first, second)
            between += (self._root_trace(1, first, second) + self._root_trace(1, second, first)) / 2
        splits = len(self.halves)
        return x_square + y_square - 2 * xy, traces, np.sqrt(within_x * within_y) / splits, between / splits

    def _root_trace(self, block: int, left: Bool[ndarray, "r g"], right: Bool[ndarray, "r g"]) -> Float[ndarray, " r"]:
        """tr (AB)^½ of the covariances of two parts; NaN where a part has fewer than two rows."""
        counts = (self.linear.nx, self.linear.ny)
        n, m = left @ counts[block > 1], right @ counts[block > 0]
        enough = np.minimum(n, m) > 1
        freedom = np.where(enough, (n - 1) * (m - 1), np.nan) ** 0.5
        return np.asarray(self._nuclear_norms(block, left, right) / freedom)

    def _nuclear_norms(
        self, block: int, left: Bool[ndarray, "r g"], right: Bool[ndarray, "r g"]
    ) -> Float[ndarray, " r"]:
        """Nuclear norms of the centred inner products: 0 of two parts of x, 1 of x and y, 2 of two parts of y.

        Rows that a part lacks are zero, which adds zeros to the singular values; so all parts have one shape.
        """
        pair, gram = self.pair, self.pair.gram[block]
        i, i_kept = _padded(left, pair.y_of if block > 1 else pair.x_of)
        j, j_kept = _padded(right, pair.y_of if block > 0 else pair.x_of)
        result = np.empty(len(left))
        step = max(1, CHUNK // max(1, i.shape[1] * j.shape[1]))
        for begin in range(0, len(left), step):
            p = slice(begin, begin + step)
            if gram is not None:
                cross = gram[i[p, :, None], j[p, None, :]]
                cross = _centred(_centred(cross, i_kept[p]).swapaxes(1, 2), j_kept[p])
            else:
                a = _centred((pair.y if block > 1 else pair.x)[i[p]], i_kept[p])
                b = _centred((pair.y if block > 0 else pair.x)[j[p]], j_kept[p])
                cross = _triangle(a) @ _triangle(b).swapaxes(1, 2)
            result[p] = np.linalg.svd(cross, compute_uv=False).sum(axis=1)
        return result


def frechet_of(pair: SetPair, rng: np.random.Generator, *, ddof: int = 1, splits: int | None = None) -> Frechet:
    """Distances of a pair's parts, with ``splits`` random halves for the correction.

    Without ``splits`` there are 16 at 16 identities and fewer at more, where one split says more and costs more.
    """
    _check_ddof(ddof)
    splits = splits or max(2, min(16, 256 // max(map(len, pair.strata()))))
    halves = np.zeros((splits, pair.identities), bool)
    for half in halves:
        for stratum in pair.strata():
            half[rng.permutation(stratum)[: (len(stratum) + int(rng.integers(2))) // 2]] = True
    squares = tuple(
        np.bincount(of, np.einsum("nd,nd->n", rows, rows), pair.identities)
        for rows, of in ((pair.x, pair.x_of), (pair.y, pair.y_of))
    )
    return Frechet(pair, linear_sums(pair), (squares[0], squares[1]), ddof, halves)


def draw(pair: SetPair, share: float, rng: np.random.Generator) -> Bool[ndarray, " g"]:
    """A random part of the identities of each stratum, ``[g]``, without replacement; ``share`` in (0, 1]."""
    kept = np.zeros(pair.identities, bool)
    for stratum in pair.strata():
        kept[rng.permutation(stratum)[: max(2, int(share * len(stratum)))]] = True
    return kept


def _padded(kept: Bool[ndarray, "r g"], of: Int[ndarray, " n"]) -> tuple[Int[ndarray, "r h"], Bool[ndarray, "r h"]]:
    """Indices of each part's rows, filled up to the largest part's number of rows; and which of them are the part's."""
    member = kept[:, of]
    index = np.argsort(~member, axis=1, kind="stable")[:, : int(member.sum(axis=1).max())]
    return index, np.take_along_axis(member, index, axis=1)


def _centred(values: Float[ndarray, "r h c"], kept: Bool[ndarray, "r h"]) -> Float[ndarray, "r h c"]:
    """Rows minus the mean of the kept rows of each part, and zero where not kept."""
    weights = kept[:, None, :].astype(np.float64)
    values = values - weights @ values / np.maximum(1.0, weights.sum(axis=2, keepdims=True))
    values *= kept[:, :, None]
    return values


def _triangle(rows: Float[ndarray, "... n d"]) -> Float[ndarray, "... k d"]:
    """A matrix with the same inner products of columns and no more than d rows."""
    return np.asarray(np.linalg.qr(rows, mode="r"))


def _check_ddof(ddof: int) -> None:
    if ddof not in (0, 1):
        raise UserError(f"ddof is {ddof}", "use 1 (FID, FVD) or 0 (StyleGAN-V)")
