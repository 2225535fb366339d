"""A mean over people *and* training runs, both drawn at random: an interval for other people and other seeds.

A row trained with S seeds and looked at on N people gives a table of differences ``y[s, i]``. Its mean has the variance
``(MS_people + MS_seeds - MS_rest) / (N S)`` of the two-way random model without repetition (Searle, Casella and
McCulloch, "Variance Components", 1992, section 4.3), whose degrees of freedom are Satterthwaite's (1946, Biometrics
Bulletin 2:110). An interval over people alone says what these weights do for other people; this one, what the recipe
does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from ipa_bench.compare.intervals import ALPHA, Difference, Pair, Values, difference


def crossed(runs: Sequence[tuple[Values, Values]], *, identity_of: Mapping[str, str]) -> Difference:
    """Paired difference ``a - b`` of several training runs, with an interval over identities and runs.

    ``runs``: (values of the run, values of what it is compared with), (case, seed of the sample) -> value each. There
    is one mean an identity and run; identities that a run has no pair of are left out. ``n``: identities; ``mde`` is
    None. With one run, or one identity, it is :func:`ipa_bench.compare.difference` over all pairs: over identities
    alone.
    """
    means = [_means(a, b, identity_of) for a, b in runs]
    shared = sorted(set.intersection(*map(set, means))) if means else []
    if len(means) < 2 or len(shared) < 2:
        return difference(*_pooled(runs), identity_of=identity_of)
    table = np.array([[each[identity] for identity in shared] for each in means])
    delta, error, df = _spread(table)
    scored = sum(len(a.keys() & b.keys()) for a, b in runs)
    if error == 0.0:
        p = 1.0 if delta == 0.0 else 0.0
        return Difference(n=len(shared), scored=scored, delta=delta, low=delta, high=delta, p=p)
    half = float(stdtrit(df, 1 - ALPHA / 2)) * error
    p = float(2.0 * stdtr(df, -abs(delta) / error))
    return Difference(n=len(shared), scored=scored, delta=delta, low=delta - half, high=delta + half, p=p)


def _means(a: Values, b: Values, identity_of: Mapping[str, str]) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for pair in sorted(a.keys() & b.keys()):
        groups.setdefault(identity_of.get(pair[0]) or pair[0], []).append(a[pair] - b[pair])
    return {identity: float(np.mean(values)) for identity, values in groups.items()}


def _spread(table: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean of ``[S, N]``, its standard error, and that one's degrees of freedom."""
    runs, people = table.shape
    mean = float(table.mean())
    of_runs, of_people = table.mean(1), table.mean(0)
    rest = table - of_runs[:, None] - of_people + mean
    ms_runs = people * float(np.square(of_runs - mean).sum()) / (runs - 1)
    ms_people = runs * float(np.square(of_people - mean).sum()) / (people - 1)
    both = (runs - 1) * (people - 1)
    ms_rest = float(np.square(rest).sum()) / both
    found = ms_people + ms_runs - ms_rest
    # A component that comes out below 0 is none: the mean is then as sure as the other one makes it, and no surer.
    larger, df_larger = max((ms_people, people - 1), (ms_runs, runs - 1))
    if found <= larger:
        return mean, (larger / table.size) ** 0.5, float(df_larger)
    parts = ms_people**2 / (people - 1) + ms_runs**2 / (runs - 1) + ms_rest**2 / both
    return mean, (found / table.size) ** 0.5, found**2 / parts


def _pooled(runs: Sequence[tuple[Values, Values]]) -> tuple[dict[Pair, float], dict[Pair, float]]:
    """All pairs as of one run: a sample of each run is another seed of its case."""
    most = 1 + max((abs(seed) for run in runs for values in run for _, seed in values), default=0)
    left, right = (
        {
            (case, seed + number * 2 * most): v
            for number, run in enumerate(runs)
            for (case, seed), v in run[side].items()
        }
        for side in (0, 1)
    )
    return left, right
