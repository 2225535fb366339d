"""The mean over identities, paired differences, and how sure they are: t-tests, the score interval, Holm.

A metric that cannot leave ``[0, 1]`` has no interval that does. Where a mean lies near a bound, its spread depends on
where it is, so the interval is found by turning the t-test round as Wilson (1927, JASA 22:209) turned the binomial's:
it holds every mean ``mu`` with ``(m - mu)^2 <= t^2 se^2 V(mu) / V(m)``. ``V`` is how the variance of a bounded value
goes with its mean: ``(mu - lo)(hi - mu)`` with both bounds, the distance to the bound with one, constant with none,
which is Student's interval. ``se`` is the standard error of the identities' own means, so clips of one person stay
dependent and no distribution is assumed. Far from the bounds it is Student's interval; near them it leans away.

Percent of 95 % intervals that hold the true mean, of 20,000 draws (``tests/compare/test_bounded.py`` draws some anew):

    identities' means                 n = 3         n = 6         n = 12        n = 24
                                      score  t      score  t      score  t      score  t
    Beta(5, 5), mean 0.5               95    95      95    95      95    95      95    95
    Beta(0.5, 0.5), mean 0.5           93    89      95    94      96    95      96    95
    Beta(9, 1), mean 0.9               94    90      93    90      94    92      94    93
    Beta(20, 1), mean 0.95             94    89      93    90      93    91      94    93
    Beta(4.5, 0.5), mean 0.9           92    84      92    87      93    90      94    92
    Gamma(4), at least 0               95    94      95    94      94    94      94    94
    exponential, at least 0            94    89      93    89      93    91      94    93
    |normal|, at least 0               95    92      95    92      95    94      95    94
    1 in four of five, else uniform    47    46      69    66      86    82      93    89

The last line is what no interval from a few identities can know: that others would not reach the bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, ndtr, stdtr, stdtrit

from ipa_bench.metrics.bounds import UNBOUNDED, Bounds
from ipa_bench.types import Interval

#: (case, seed)
Pair = tuple[str, int]
#: (case, seed) -> value of one metric of one model
Values = Mapping[Pair, float]

ALPHA = 0.05
POWER = 0.8
#: Differences below this many units in the last place of the compared values are rounding, not difference.
ROUNDING_ULPS = 8


@dataclass(frozen=True)
class Difference:
    """A paired difference ``a − b`` over identity means, before any verdict. ``None`` where it cannot be had."""

    #: identities with at least one pair
    n: int
    #: pairs in which both have a value
    scored: int
    delta: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    mde: float | None = None

    @property
    def degenerate(self) -> bool:
        """Whether all identities differ by the same amount, so that the spread says nothing."""
        return self.n > 1 and self.low == self.high


def interval(
    values_by_identity: Mapping[str, Sequence[float]], *, missing: int = 0, bounds: Bounds = UNBOUNDED
) -> Interval:
    """Mean over identities of the mean over each identity's videos, with its 95 % interval.

    ``values_by_identity``: identity -> values of its videos, in the metric's unit, finite; identities without values
    do not count. ``missing``: videos that should have been scored and were not; only passed on. ``bounds``: the
    smallest and the largest value of the metric, which the interval keeps; values outside show that they are none.
    With one identity ``low`` and ``high`` are None: one identity says nothing about the spread of identities.
    """
    means = np.array([np.mean(values) for _, values in sorted(values_by_identity.items()) if len(values)])
    scored = sum(len(values) for values in values_by_identity.values())
    if not len(means):
        return Interval(mean=None, low=None, high=None, n=0, scored=0, missing=missing)
    mean, half = float(np.mean(means)), _half_width(means)
    low, high = (None, None) if half is None else around(mean, half, _holding(means, bounds))
    return Interval(mean=mean, low=low, high=high, n=len(means), scored=scored, missing=missing)


def around(mean: float, half: float, bounds: Bounds) -> tuple[float, float]:
    """(low, high): the score interval of this module's docstring. ``half``: half the width of Student's interval, t se.

    ``mean`` lies within ``bounds`` (lo, hi); so do both ends, and ``mean`` between them.
    """
    lo, hi = bounds
    if half == 0.0 or (lo is None and hi is None):
        return mean - half, mean + half
    below, above = (None if lo is None else mean - lo), (None if hi is None else hi - mean)
    if (below is not None and below <= 0) or (above is not None and above <= 0):
        return mean, mean  # at a bound to the last digit, so that the spread is rounding
    if below is not None and above is not None:  # in shares of the range, the roots of Wilson's quadratic
        width = below + above
        p, q, k = below / width, above / width, half * half / (below * above)
        reach = k / 2 + (k * (p * q + k / 4)) ** 0.5
        low, high = mean - below * (reach / (p + reach)), mean + above * (reach / (q + reach))
    elif below is not None:
        k = half * half / below
        reach = k / 2 + (k * (below + k / 4)) ** 0.5
        low, high = mean - below * (reach / (below + reach)), mean + reach
    else:
        assert above is not None
        k = half * half / above
        reach = k / 2 + (k * (above + k / 4)) ** 0.5
        low, high = mean - reach, mean + above * (reach / (above + reach))
    return max(low, -np.inf if lo is None else lo), min(high, np.inf if hi is None else hi)  # but for rounding


def _holding(means: NDArray[np.float64], bounds: Bounds) -> Bounds:
    """``bounds``, where the values keep them: a bound that is broken is none."""
    lo, hi = bounds
    broken = (lo is not None and float(means.min()) < lo) or (hi is not None and float(means.max()) > hi)
    return UNBOUNDED if broken else bounds


def difference(a: Values, b: Values, *, identity_of: Mapping[str, str], bounds: Bounds = UNBOUNDED) -> Difference:
    """Paired difference ``a − b`` over the (case, seed) that both have, one mean per identity, paired t-test.

    ``bounds``: the smallest and the largest value of the metric; where it has both, a difference lies between minus
    and plus their distance, and so does the interval. ``p`` is two-sided, and below 0.05 where the interval leaves out
    0. When all identities differ by exactly the same amount the t-test has no spread to work with:
    then ``p`` is 1 if that amount is 0 and 0 otherwise, and the interval is a point (``degenerate``). Differences
    within rounding of the compared values are 0. Fewer than two identities: a ``delta`` and nothing else.
    """
    shared = sorted(a.keys() & b.keys())
    if not shared:
        return Difference(n=0, scored=0)
    groups: dict[str, list[float]] = {}
    for pair in shared:
        groups.setdefault(identity_of.get(pair[0]) or pair[0], []).append(a[pair] - b[pair])
    scale = max(max(abs(a[pair]), abs(b[pair])) for pair in shared)
    tolerance = ROUNDING_ULPS * float(np.finfo(np.float64).eps) * scale
    means = np.array([np.mean(groups[identity]) for identity in sorted(groups)])
    means[np.abs(means) <= tolerance] = 0.0
    if np.ptp(means) <= tolerance:
        means[:] = means[0]
    delta, n = float(np.mean(means)), len(means)
    half = _half_width(means)
    if half is None:
        return Difference(n=n, scored=len(shared), delta=delta)
    if half == 0.0:
        p = 1.0 if delta == 0.0 else 0.0
        return Difference(n=n, scored=len(shared), delta=delta, low=delta, high=delta, p=p, mde=0.0)
    error = float(np.std(means, ddof=1)) / n**0.5
    lo, hi = bounds
    most = None if lo is None or hi is None else hi - lo
    within = UNBOUNDED if most is None else _holding(means, (-most, most))
    low, high = around(delta, half, within)
    t = abs(delta) / error
    if most is not None and within is not UNBOUNDED:  # under "no difference" the spread is that of the middle
        t *= max(0.0, (1 - delta / most) * (1 + delta / most)) ** 0.5
    return Difference(
        n=n, scored=len(shared), delta=delta, low=low, high=high, p=float(2.0 * stdtr(n - 1, -t)),
        mde=detectable(n) * error,
    )  # fmt: skip


def _half_width(means: NDArray[np.float64]) -> float | None:
    """Half the width of the 95 % t interval of the mean of ``means`` ``[n]``; None with fewer than two."""
    n = len(means)
    if n < 2:
        return None
    if np.all(means == means[0]):  # np.std of equal numbers may be one rounding above 0
        return 0.0
    return float(stdtrit(n - 1, 1 - ALPHA / 2) * np.std(means, ddof=1) / np.sqrt(n))


@lru_cache(maxsize=1024)
def detectable(n: int) -> float:
    """Smallest |true difference|, in standard errors, that a two-sided paired t-test at alpha 0.05 finds 8 times in 10.

    ``n`` identities, at least 2. Solves for the non-centrality of t with n−1 degrees of freedom (Cohen, "Statistical
    power analysis", 1988). The power is integrated over the quantiles of the chi-square in t's denominator;
    scipy.stats.nct returns NaN at 1 degree of freedom, and the usual sum t(1−α/2) + t(power) is 15 % off there.
    """
    df = n - 1
    nodes, weights = np.polynomial.legendre.leggauss(200)
    spread = np.sqrt(chdtri(df, (1 - nodes) / 2) / df)  # quantiles of sqrt(chi² / df)
    threshold = float(stdtrit(df, 1 - ALPHA / 2)) * spread

    def shortfall(shift: float) -> float:
        found = ndtr(shift - threshold) + ndtr(-shift - threshold)
        return float(weights @ found) / 2 - POWER

    from scipy.optimize import brentq  # a tenth of a second, which nobody needs before there is a report

    return float(brentq(shortfall, 0.0, 50.0))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjusted p-values, in the order given (Holm 1979, Scand. J. Statist. 6:65).

    ``None`` (no test was possible) stays ``None`` and does not count as a test.
    """
    tests = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(tests):
        highest = max(highest, min(1.0, (len(tests) - rank) * p))
        adjusted[index] = highest
    return adjusted
