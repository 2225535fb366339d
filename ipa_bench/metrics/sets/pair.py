"""Two sets of feature vectors and who depends on whom: what every distance between sets starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from ipa_bench.errors import UserError

#: labels of the rows of either set
Groups = tuple[Sequence[str], Sequence[str]]

#: with fewer identities on either side there is no interval: too few to see how they spread
FEW = 8


@dataclass(frozen=True, eq=False)
class SetPair:
    """Features of two sets, and their inner products, so that a part of them needs no arithmetic on features.

    Rows with the same label belong to one identity, on either side: they are not independent of each other. Rows are
    ordered by label. Everything is float64.
    """

    #: features minus the mean of all rows, ``[n, d]`` and ``[m, d]``
    x: Float[ndarray, "n d"]
    y: Float[ndarray, "m d"]
    #: what was taken away, ``[d]``
    offset: Float[ndarray, " d"]
    #: index of each row's label in ``[0, identities)``, ascending
    x_of: Int[ndarray, " n"]
    y_of: Int[ndarray, " m"]
    identities: int
    #: inner products of ``x`` and ``x``, ``x`` and ``y``, ``y`` and ``y``; None where both have more rows than columns
    gram: tuple[Float[ndarray, "n n"] | None, Float[ndarray, "n m"] | None, Float[ndarray, "m m"] | None]

    @property
    def counts(self) -> tuple[Int[ndarray, " g"], Int[ndarray, " g"]]:
        """Rows of each identity in either set, ``[g]`` each."""
        return tuple(np.bincount(of, minlength=self.identities) for of in (self.x_of, self.y_of))  # type: ignore[return-value]

    def strata(self) -> list[Int[ndarray, " s"]]:
        """Identities that are drawn alike: those in both sets, in the first only, in the second only.

        Where the sets share identities, a kind with fewer than :data:`FEW` is put to the largest.
        """
        in_x, in_y = (count > 0 for count in self.counts)
        kinds = [np.flatnonzero(kind) for kind in (in_x & in_y, in_x & ~in_y, in_y & ~in_x)]
        kinds = [kind for kind in kinds if len(kind)]
        if (in_x & in_y).any():
            largest = max(range(len(kinds)), key=lambda i: len(kinds[i]))
            small = [i for i, kind in enumerate(kinds) if i != largest and len(kind) < FEW]
            merged = np.sort(np.concatenate([kinds[i] for i in (largest, *small)]))
            kinds = [merged, *(kind for i, kind in enumerate(kinds) if i != largest and i not in small)]
        return kinds

    def everything(self) -> Bool[ndarray, "1 g"]:
        """One part, which has every identity."""
        return np.ones((1, self.identities), bool)


def pair_sets(x: ndarray, y: ndarray, groups: Groups | None = None) -> SetPair:
    """Prepare two sets of features, ``x`` ``[n, d]`` and ``y`` ``[m, d]`` of any real dtype.

    ``groups``: the identity of every row of either set. The same label in both sets says that those rows depend on
    each other (a generated clip and the ground truth of the same person). Without it every row is its own identity.
    Raises UserError when features are not finite, not two-dimensional, fewer than two rows or of different widths, or
    when labels do not fit the rows.
    """
    x, y = checked(x, "the first set"), checked(y, "the second set")
    same_width(x, y)
    if groups is None:
        x_of, y_of = np.arange(len(x)), np.arange(len(x), len(x) + len(y))
    else:
        if len(groups[0]) != len(x) or len(groups[1]) != len(y):
            have = f"{len(groups[0])} and {len(groups[1])} labels for {len(x)} and {len(y)} rows"
            raise UserError(f"there are {have}", "give one label per row")
        _, codes = np.unique(np.array([*groups[0], *groups[1]], dtype=str), return_inverse=True)
        x_of, y_of = codes[: len(x)], codes[len(x) :]
        x_order, y_order = np.argsort(x_of, kind="stable"), np.argsort(y_of, kind="stable")
        x, x_of, y, y_of = x[x_order], x_of[x_order], y[y_order], y_of[y_order]
    offset = (x.sum(axis=0) + y.sum(axis=0)) / (len(x) + len(y))
    x, y = x - offset, y - offset
    identities = int(max(x_of[-1], y_of[-1])) + 1
    return SetPair(x, y, offset, x_of, y_of, identities, (_gram(x, x), _gram(x, y), _gram(y, y)))


def _gram(a: Float[ndarray, "n d"], b: Float[ndarray, "m d"]) -> Float[ndarray, "n m"] | None:
    return a @ b.T if min(len(a), len(b)) <= a.shape[1] else None


def same_width(x: ndarray, y: ndarray) -> None:
    """Raise UserError unless both sets' features have the same number of dimensions."""
    if x.shape[1] != y.shape[1]:
        widths = f"{x.shape[1]} and {y.shape[1]}"
        raise UserError(f"the sets have features of different widths: {widths}", "compute both with the same network")


def checked(features: ndarray, name: str) -> Float[ndarray, "n d"]:
    """``features`` as float64 ``[n, d]``. Raises UserError when there is no covariance to be had from them."""
    features = np.asarray(features)
    if features.ndim != 2 or features.shape[1] == 0:
        raise UserError(f"{name} has the shape {features.shape}", "give one feature vector per row: [n, d]")
    if features.dtype.kind not in "fiub":
        raise UserError(f"{name} holds {features.dtype}, not real numbers", "give one feature vector per row: [n, d]")
    if len(features) < 2:
        raise UserError(
            f"{name} has {len(features)} row(s): a covariance needs two", "score more clips, or compare clip by clip"
        )
    result = np.asarray(features, np.float64)
    if not np.isfinite(result).all():
        bad = np.flatnonzero(~np.isfinite(result).all(axis=1))
        raise UserError(
            f"{name} has {len(bad)} row(s) that are not finite, the first is row {bad[0]}", "leave them out"
        )
    return result
