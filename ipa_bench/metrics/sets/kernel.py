"""Kernel distance between two sets of features: unbiased at any number of clips, unlike the Fréchet distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from ipa_bench.errors import UserError
from ipa_bench.metrics.sets.pair import Groups, SetPair, pair_sets

#: values of x with x, x with y, y with y
Triple = tuple[Float[ndarray, " r"], Float[ndarray, " r"], Float[ndarray, " r"]]

#: rows whose kernel values are held at a time
CHUNK = 1024
#: problem and fix of sets in which no two rows are independent
ONE_IDENTITY = ("all clips are of one identity: no two of them are independent", "add clips of other identities")


@dataclass(frozen=True, eq=False)
class PairSums:
    """Kernel values summed over each two identities, ``[g, g]``: replicates on identities only re-index these."""

    xx: Float[ndarray, "g g"]
    xy: Float[ndarray, "g g"]
    yy: Float[ndarray, "g g"]
    #: rows of each identity, ``[g]``
    nx: Float[ndarray, " g"]
    ny: Float[ndarray, " g"]

    def counts(self, kept: Bool[ndarray, "r g"]) -> tuple[Float[ndarray, " r"], Float[ndarray, " r"]]:
        """Rows of x and of y in each of r parts; a part is a mask over identities."""
        return np.asarray(kept @ self.nx), np.asarray(kept @ self.ny)

    def totals(self, kept: Bool[ndarray, "r g"]) -> Triple:
        """Sums of kernel values over all pairs of rows of each part: x with x, x with y, y with y, ``[r]`` each."""
        xx, xy, yy = (((kept @ sums) * kept).sum(axis=1) for sums in (self.xx, self.xy, self.yy))
        return xx, xy, yy

    def means(self, kept: Bool[ndarray, "r g"]) -> Triple:
        """Mean kernel values over the pairs of rows of two different identities; NaN where a part has no such pair."""
        (n, m), (xx, xy, yy) = self.counts(kept), self.totals(kept)

        def mean(total: ndarray, sums: ndarray, pairs: ndarray, own: ndarray) -> ndarray:
            pairs, apart = pairs - kept @ own, total - kept @ np.diagonal(sums)
            return np.asarray(np.divide(apart, pairs, out=np.full_like(pairs, np.nan), where=pairs > 0))

        return (
            mean(xx, self.xx, n * n, self.nx**2),
            mean(xy, self.xy, n * m, self.nx * self.ny),
            mean(yy, self.yy, m * m, self.ny**2),
        )

    def discrepancy(self, kept: Bool[ndarray, "r g"]) -> Float[ndarray, " r"]:
        """Unbiased squared maximum mean discrepancy of each part."""
        xx, xy, yy = self.means(kept)
        return np.asarray(xx - 2 * xy + yy)


def kernel_distance(x: ndarray, y: ndarray, groups: Groups | None = None) -> float:
    """Unbiased squared maximum mean discrepancy of ``x`` ``[n, d]`` and ``y`` ``[m, d]``, kernel (x·y/d + 1)³.

    The estimator of the kernel inception distance (Bińkowski et al., "Demystifying MMD GANs", ICLR 2018, section 4),
    over all pairs at once instead of over random subsets. Its expectation is the distance of the two distributions
    whatever n and m are, so it may be negative: around half the values are when the distributions are the same.

    ``groups``: labels of the rows (see :func:`~ipa_bench.metrics.sets.pair.pair_sets`). Pairs of rows of one identity
    are left out, within a set and between the sets: they are not independent draws, and would bias the value. Without
    groups only a row's pair with itself is left out, as published. Raises UserError for features without a value.
    """
    pair = pair_sets(x, y, groups)
    value = float(kernel_sums(pair).discrepancy(pair.everything())[0])
    if np.isnan(value):
        raise UserError(*ONE_IDENTITY)
    return value


def kernel_sums(pair: SetPair) -> PairSums:
    """Sums over identities of the kernel (x·y / d + 1)³."""
    x, y, width = pair.x + pair.offset, pair.y + pair.offset, pair.x.shape[1]

    def summed(a: ndarray, b: ndarray, a_of: ndarray, b_of: ndarray) -> ndarray:
        result = np.zeros((pair.identities, pair.identities))
        for begin in range(0, len(a), CHUNK):
            part = slice(begin, begin + CHUNK)
            columns = _add_rows(((a[part] @ b.T / width + 1) ** 3).T, b_of, pair.identities)
            result += _add_rows(columns.T, a_of[part], pair.identities)
        return result

    return PairSums(
        summed(x, x, pair.x_of, pair.x_of),
        summed(x, y, pair.x_of, pair.y_of),
        summed(y, y, pair.y_of, pair.y_of),
        *(count.astype(np.float64) for count in pair.counts),
    )


def linear_sums(pair: SetPair) -> PairSums:
    """Sums over identities of inner products of centred features: their discrepancy is the means' gap, squared."""
    x, y = _add_rows(pair.x, pair.x_of, pair.identities), _add_rows(pair.y, pair.y_of, pair.identities)
    return PairSums(x @ x.T, x @ y.T, y @ y.T, *(count.astype(np.float64) for count in pair.counts))


def _add_rows(values: Float[ndarray, "r c"], of: Int[ndarray, " r"], groups: int) -> Float[ndarray, "g c"]:
    """Sum of the rows of each group; ``of`` ascends."""
    present, first = np.unique(of, return_index=True)
    result = np.zeros((groups, values.shape[1]))
    result[present] = np.add.reduceat(values, first, axis=0)
    return result
