"""How much a statistic of two sets varies over identities: the jackknife, and its known excess taken off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.special import stdtrit

from ipa_bench.metrics.sets.frechet import draw
from ipa_bench.metrics.sets.pair import SetPair
from ipa_bench.types import Bool, Float64

#: k numbers for each of r parts: masks over identities ``[r, g]`` to ``[r, k]``
Statistic = Callable[[Bool], Float64]

#: parts of a stratum that are left out in turn, at most; more identities are put together at random
BLOCKS = 64
#: random halves behind :func:`shrinkage`
HALVES = 100


@dataclass(frozen=True, eq=False)
class Spread:
    """Variances of k statistics."""

    #: ``[k]``; NaN where a part of the sets has no value
    variance: Float[ndarray, " k"]
    #: degrees of freedom of the variance, ``[k]`` (Welch and Satterthwaite)
    freedom: Float[ndarray, " k"]
    #: share of the variance that the block with the most has, in [0, 1], ``[k]``
    heaviest: Float[ndarray, " k"]
    #: parts that were left out in turn
    blocks: int

    def half_width(self, which: int, factor: float = 1.0) -> float | None:
        """Half the width of a statistic's 95 % t interval, ``factor`` on its variance; None where there is none."""
        width = float(stdtrit(self.freedom[which], 0.975) * (factor * self.variance[which]) ** 0.5)
        return width if np.isfinite(width) else None


def jackknife(pair: SetPair, statistic: Statistic, rng: np.random.Generator) -> Spread:
    """Delete-one-group jackknife (Efron and Stein, Ann. Statist. 1981) over identities, each stratum on its own.

    Every block leaves out equally many identities, so that a bias that depends on the sizes of the sets shifts all
    blocks alike and drops out with their mean; identities that are over are never left out.
    """
    variance, squared, heaviest, count = np.zeros(1), np.zeros(1), np.zeros(1), 0
    for stratum in pair.strata():
        total = len(stratum)
        size = -(-total // BLOCKS)
        blocks = rng.permutation(stratum)[: total - total % size].reshape(-1, size)
        kept = np.ones((len(blocks), pair.identities), bool)
        kept[np.arange(len(blocks))[:, None], blocks] = False
        values = statistic(kept)
        deviation = (values - values.mean(axis=0)) ** 2
        deviation *= (total - size) ** 2 / (total * size * (len(blocks) - 1))
        variance = variance + deviation.sum(axis=0)
        squared = squared + deviation.sum(axis=0) ** 2 / (len(blocks) - 1)
        heaviest = np.maximum(heaviest, deviation.max(axis=0))
        count += len(blocks)
    some = variance > 0
    freedom = np.divide(variance**2, squared, out=np.full_like(variance, count - 1.0), where=some)
    heaviest = np.divide(heaviest, variance, out=np.zeros_like(variance), where=some)
    return Spread(variance, freedom, heaviest, count)


def shrinkage(pair: SetPair, statistic: Statistic, jackknifed: ndarray, rng: np.random.Generator) -> ndarray:
    """Factor in [1/2, 1] that brings each jackknife variance ``[k]`` near the true one.

    A statistic's variance is V₁ + V₂ + …: what single identities add, what pairs of identities add, and so on. The
    jackknife gives V₁ + 2 V₂ + 3 V₃ + … on average (Efron and Stein 1981), which is twice too much where two sets are
    alike: there the Fréchet and kernel distances have no part of first order. Random halves without replacement, times
    their rate (Politis and Romano, Ann. Statist. 1994), give V₁ + 3 V₂ + 7 V₃ + …. So 2 (jackknife) − (halves) is
    V₁ + V₂ − V₃ … on average. It is kept between half of the jackknife's and all of it, which leaves it too large
    rather than too small.
    """
    kept = np.array([draw(pair, 0.5, rng) for _ in range(HALVES)])
    halves = np.var(statistic(kept), axis=0, ddof=1)
    size = max(map(len, pair.strata()))
    halves = halves * (size // 2) / (size - size // 2)
    ratio = np.divide(halves, jackknifed, out=np.ones_like(jackknifed), where=jackknifed > 0)
    return np.asarray(np.clip(2 - ratio, 0.5, 1.0))


def effective_dimensions(rows: Float[ndarray, "n d"]) -> float:
    """(tr A)² / tr A² of the covariance of ``rows``: d where all directions vary alike, 1 where only one varies.

    Without what a small n takes off: for normal features the squared norm of a sample's covariance is on average
    tr A² + (tr A² + (tr A)²) / (n − 1). At most d; infinite where nothing varies.
    """
    n = len(rows)
    rows = rows - rows.mean(axis=0)
    small = rows @ rows.T if n <= rows.shape[1] else rows.T @ rows
    trace = float(np.trace(small)) / (n - 1)
    if trace == 0.0:
        return np.inf
    squared = (np.vdot(small, small) / (n - 1) ** 2 - trace**2 / (n - 1)) / (1 + 1 / (n - 1))
    return float(min(rows.shape[1], trace**2 / squared)) if squared > 0 else float(rows.shape[1])
