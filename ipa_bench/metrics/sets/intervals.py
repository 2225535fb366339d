"""Distances between two sets of clips with 95 % intervals over identities, and the difference of two models.

Which value to quote:

* ``kernel`` to decide: do two sets differ, is one model nearer than the other? It has no bias from the sizes of the
  sets, so values at different sizes compare. Its unit belongs to the network: it means nothing beside other networks.
* ``frechet`` to set beside published values (FVD, FID), always with n and m. Small sets make it larger, so it compares
  only at the same sizes and reference. Its interval is for the mean at these sizes, ``bias`` included.
* ``corrected`` for how far apart many more clips would be. It assumes that the sets vary in much the same directions,
  and is trusted only where that does not matter: with many more clips than directions in which the features vary.

``trust`` is None where nothing speaks against the interval, or against reading the value as one of infinite sets.
Otherwise it says what does. The value stays what it is; an interval that is not trusted decides nothing. ``trust``
knows nothing of whether the features mean anything, or whether the identities stand for those of interest.

Percent of 95 % intervals that cover, and of how many draws, in simulated worlds whose distances are known
(``tests/metrics/sets/test_coverage.py``; 64 dimensions but where marked; 100 draws are good to about 3 points; blank:
not measured):

    world                    n    frechet      kernel       corrected
    alike                   16     99 (150)     98 (150)    100 (150) *
    paired                  16     91 (150)     93 (150)     97 (150) *
    low rank                16     93 (100)     92 (400)     86 (100) *
    elsewhere               16     93 (100)     90 (400)     14 (100) *
    heavy tails             16     96 (100)     99 (100)     99 (100) *
    difference              16     95 (150)     91 (150)     98 (150) *
    no difference           16     95 (150)     93 (150)     98 (150) *
    difference, unpaired    16     97 (100)     93 (100)     95 (100) *
    alike                   64     99 (100)     97 (300)     98 (100) *
    paired                  64                  94 (200)
    elsewhere               64     96 (100)     92 (300)      2 (100) *
    four clips each         64     94 (80)      96 (80)      96 (80) *
    difference              64     97 (100)     93 (300)     93 (100) *
    no difference           64                  97 (300)
    low rank, 400           64    100 (40)      95 (150)      0 (40) *
    alike                  256     97 (60)      97 (200)    100 (60) *
    paired                 256     93 (120)     92 (120)     93 (60) *
    elsewhere              256    100 (50)      93 (150)     52 (50) *
    difference             256     98 (60)      95 (150)     93 (60) *
    paired, 8              256     96 (100)     93 (100)     96 (100)
    elsewhere, 8           256     96 (100)     92 (100)     94 (100)
    paired, 2               16     95 (100) *   87 (100) *   96 (100) *

``*``: ``trust`` speaks against all of these. Corrected values average within 20 % of the truth (1 of 0 where it is 0)
but in three: 11 instead of 22 in "low rank", 73 instead of 140 with 400 dimensions, and 80 (n 16), 69 (64) and 57 (256)
instead of 53 in "elsewhere", whose model varies most where the reference varies least. They are trusted in two thirds
of the draws with 8 dimensions and n = 256, of which 95 and 97 % cover.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy import ndarray

from ipa_bench.errors import UserError
from ipa_bench.metrics.sets.frechet import Frechet, frechet_of
from ipa_bench.metrics.sets.kernel import ONE_IDENTITY, PairSums, kernel_sums
from ipa_bench.metrics.sets.pair import FEW, Groups, pair_sets
from ipa_bench.metrics.sets.spread import effective_dimensions, jackknife, shrinkage
from ipa_bench.types import Bool, Float64

#: what an interval is meant to cover
Target = Literal["mean at these sizes", "infinite sets"]

#: fewest identities on either side from which the intervals cover, see the table above
MINIMUM = 16
#: an interval that rests on one block of identities for more than this share of its variance is not trusted
HEAVY = 0.5
#: features that vary in fewer directions than this, in effect, have intervals that are too narrow
DIMENSIONS = 3


@dataclass(frozen=True)
class SetDistance:
    """One distance, or one difference of distances, with its 95 % interval. ``None`` where something is unknown."""

    value: float
    #: rows of the first and of the second set
    n: int
    m: int
    #: identities on the side that has fewer
    identities: int
    #: fewest identities from which the interval is trusted
    minimum_n: int
    #: estimate of what the sets' sizes add to the value, on average; ``value − bias`` is the corrected value
    bias: float | None
    low: float | None
    high: float | None
    #: what the interval covers: what other sets of the same sizes give on average, or the value of infinite sets
    target: Target
    #: why the interval, or the value as one of infinite sets, is not to be trusted; None where nothing speaks against
    trust: str | None
    method: str


@dataclass(frozen=True)
class SetDistances:
    """One pair of sets, or one difference of two models, by three estimators."""

    #: the Fréchet distance as published
    frechet: SetDistance
    #: the Fréchet distance of infinite sets, estimated; None with fewer than four identities on a side
    corrected: SetDistance | None
    #: the kernel distance, which has no bias to correct
    kernel: SetDistance


def measure_sets(x: ndarray, y: ndarray, groups: Groups | None = None, *, ddof: int = 1, seed: int = 0) -> SetDistances:
    """Distances of the features ``x`` ``[n, d]`` from the features ``y`` ``[m, d]``, with intervals over identities.

    ``groups``: the identity of every row of both sets; the same label in both sets means the same identity. ``ddof``:
    see :func:`~ipa_bench.metrics.sets.frechet.frechet_distance`. ``seed`` draws splits and blocks. Raises UserError for
    features without a value (:func:`~ipa_bench.metrics.sets.pair.pair_sets`).
    """
    rng = np.random.default_rng(seed)
    pair = pair_sets(x, y, groups)
    return _distances([(1.0, frechet_of(pair, rng, ddof=ddof), kernel_sums(pair))], rng)


def compare_sets(
    a: ndarray, b: ndarray, reference: ndarray, groups: Groups | None = None, *, ddof: int = 1, seed: int = 0
) -> SetDistances:
    """Distances of ``a`` from the reference minus those of ``b``: below 0, ``a`` is nearer. Paired over identities.

    ``a`` and ``b`` ``[n, d]``: features of two models' clips of the same cases in the same order; ``reference``
    ``[m, d]``. ``groups``: identities of the cases ``[n]`` and of the reference's rows ``[m]``; without it every case
    and every row of the reference is its own identity. Raises UserError when the models have not equally many clips,
    and for features without a value.
    """
    if len(a) != len(b):
        have = f"one model has {len(a)} clips and the other {len(b)}"
        raise UserError(have, "compare them on the cases that both have")
    rng = np.random.default_rng(seed)
    splits = int(rng.integers(2**32))  # the same for both models, so that their noise cancels in the difference
    terms = []
    for sign, features in ((1.0, a), (-1.0, b)):
        pair = pair_sets(features, reference, groups)
        terms.append((sign, frechet_of(pair, np.random.default_rng(splits), ddof=ddof), kernel_sums(pair)))
    return _distances(terms, rng)


def _distances(terms: Sequence[tuple[float, Frechet, PairSums]], rng: np.random.Generator) -> SetDistances:
    """The three estimators of the signed sum of ``terms``, which share their identities."""
    pair, ddof = terms[0][1].pair, terms[0][1].ddof

    def quick(kept: Bool) -> Float64:
        plain = sum(sign * frechet.distance(kept) for sign, frechet, _ in terms)
        return np.stack([plain, sum(sign * kernel.discrepancy(kept) for sign, _, kernel in terms)], axis=1)

    def every(kept: Bool) -> Float64:
        corrected = sum(sign * frechet.corrected(kept) for sign, frechet, _ in terms)
        return np.column_stack([quick(kept), corrected])

    everything = pair.everything()
    plain, kernel, corrected = every(everything)[0].tolist()
    if np.isnan(kernel):
        raise UserError(*ONE_IDENTITY)
    bias = plain - corrected if np.isfinite(corrected) else None
    uncertainty = max(float(f.uncertainty(everything)[0]) for _, f, _ in terms)
    identities = min(int((count > 0).sum()) for count in pair.counts)
    half: list[float | None] = [None] * 3
    heaviest, by = [0.0] * 3, "no interval"
    if identities >= FEW:
        spread = jackknife(pair, every, rng)
        excess = shrinkage(pair, quick, spread.variance[:2], rng)
        # Half of the excess stays: the estimates are skewed, and with all of it taken off the kernel's intervals cover
        # 86 % in "elsewhere" at n = 16. The correction is less skewed; its excess is taken to be the plain distance's.
        factors = [(1 + excess[0]) / 2, (1 + excess[1]) / 2, excess[0]]
        half = [spread.half_width(k, float(factor)) for k, factor in enumerate(factors)]
        heaviest, by = spread.heaviest.tolist(), f"jackknife over {spread.blocks} groups of identities"
    dimensions = min(effective_dimensions(rows) for _, f, _ in terms for rows in (f.pair.x, f.pair.y))

    def result(k: int, value: float, bias: float | None, target: Target, name: str, swamped: str | None) -> SetDistance:
        width = half[k]
        low, high = (value - width, value + width) if width is not None else (None, None)
        trust = _doubt(identities, width, heaviest[k], dimensions) or swamped
        sizes = len(pair.x), len(pair.y), identities, MINIMUM
        return SetDistance(value, *sizes, bias, low, high, target, trust, f"{name}; {by}")

    name = "squared Fréchet distance"
    note = None if bias is None else _swamped(plain, bias, half[0], difference=len(terms) > 1)
    first = result(0, plain, bias, "mean at these sizes", f"{name}, ddof {ddof}", note)
    third = result(1, kernel, 0.0, "infinite sets", "unbiased MMD², kernel (x·y/d + 1)³", None)
    if bias is None:
        return SetDistances(first, None, third)
    note = _uncertain(uncertainty, half[2])
    second = result(2, corrected, None, "infinite sets", f"{name}, corrected by within-set halves", note)
    return SetDistances(first, second, third)


def _doubt(identities: int, width: float | None, heaviest: float, dimensions: float) -> str | None:
    """Why an interval may not cover what it is meant to cover."""
    if width is None:
        return f"no interval: {identities} identities on one side, {FEW} are needed to see how they spread"
    if identities < MINIMUM:
        return f"{identities} identities on one side: the interval is only known to cover from {MINIMUM} on"
    if heaviest > HEAVY:
        return f"{heaviest:.0%} of the variance comes from one identity or group of identities"
    if dimensions < DIMENSIONS:
        return f"the features vary in {dimensions:.1f} directions: below {DIMENSIONS} the intervals are too narrow"
    return None


def _swamped(value: float, bias: float, width: float | None, *, difference: bool) -> str | None:
    """Why a plain distance says little about infinite sets."""
    if difference and abs(bias) > max(width or 0.0, abs(value) / 2):
        return (
            f"about {bias:.3g} of the difference comes from the sizes of the sets: "
            "the interval is for the mean at these sizes, not for infinite sets"
        )
    if not difference and value > 0 and bias > value / 2:
        return (
            f"about {bias / value:.0%} of the value comes from the sizes of the sets: it compares only with values at "
            "the same sizes, and the interval is for the mean at these sizes"
        )
    return None


def _uncertain(uncertainty: float, width: float | None) -> str | None:
    """Why a corrected distance may be off by more than its interval: see the table's world "elsewhere".

    Of a difference the larger uncertainty counts: only where the models err alike do their errors cancel. Where they
    are one and the same, the width is 0 and nothing is in doubt.
    """
    if width is not None and 2 * uncertainty > width > 0:
        return (
            f"the correction assumes that the sets vary in the same directions; otherwise it may be off by some "
            f"{uncertainty:.3g}, not small beside the interval"
        )
    return None
