"""Do the 95 % intervals of set distances cover? Simulated sets whose true distances are known.

The table in ``ipa_bench/metrics/sets/intervals.py`` is from these worlds, in places with fewer draws. All of them take
about an hour of one core:

    pytest tests/metrics/sets/test_coverage.py -m slow -s
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from ipa_bench.metrics.sets.frechet import frechet_distance
from ipa_bench.metrics.sets.intervals import MINIMUM, compare_sets, measure_sets
from ipa_bench.metrics.sets.kernel import kernel_distance


@dataclass(frozen=True)
class World:
    """A reference and one or two models; the spread of features falls as 1 / k, or is flat in d / 8 directions."""

    spectrum: str
    #: what is wrong with each model: nothing, its mean, its spread, its mean and some directions of its spread, or all
    #: directions: it varies least where the reference varies most
    faults: tuple[str, ...]
    #: correlation of a clip with the ground truth of its case; 0: the sets share no identities
    paired: float = 0.0
    #: clips of each identity, of which 0.7 of the variance is the identity's
    clips: int = 1
    #: features with the tails of Student's t with 10 degrees of freedom
    tails: bool = False


WORLDS = {
    "alike": World("falling", ("none",)),
    "paired": World("falling", ("mean",), paired=0.6),
    "low rank": World("flat", ("turned",)),
    "elsewhere": World("falling", ("reversed",)),
    "four clips each": World("falling", ("turned",), paired=0.6, clips=4),
    "heavy tails": World("falling", ("turned",), tails=True),
    "difference": World("falling", ("turned", "mean"), paired=0.6),
    "no difference": World("falling", ("turned", "turned"), paired=0.6),
    "difference, unpaired": World("flat", ("narrow", "mean")),
}


def model(world: World, fault: str, d: int) -> tuple[np.ndarray, np.ndarray, float]:
    """(mean, factor of the covariance, true squared Fréchet distance to the reference) of a model's features."""
    rng = np.random.default_rng(d)
    variance = spectrum(world, d)
    mean, root = np.zeros(d), np.diag(np.sqrt(variance))
    direction = rng.normal(size=d) * np.sqrt(variance)
    direction /= np.linalg.norm(direction)
    if fault == "mean":
        mean = direction * (0.3 * d) ** 0.5
    if fault == "narrow":
        root = root * 0.5**0.5
    if fault == "reversed":
        root = root[::-1, ::-1]
    if fault == "turned":
        turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
        values, vectors = np.linalg.eigh(0.7 * np.diag(variance) + 0.3 * (turn * variance) @ turn.T)
        mean, root = direction * (0.1 * d) ** 0.5, (vectors * np.sqrt(values)) @ vectors.T
    covariance = root @ root.T
    # the reference's covariance is diagonal, so its root is too
    inner = np.linalg.eigvalsh(np.sqrt(variance)[:, None] * covariance * np.sqrt(variance))
    truth = mean @ mean + variance.sum() + np.trace(covariance) - 2 * np.sqrt(np.maximum(inner, 0)).sum()
    return mean, root, float(truth)


def spectrum(world: World, d: int) -> np.ndarray:
    k = np.arange(1, d + 1)
    values = 1 / k if world.spectrum == "falling" else np.where(k <= max(2, d // 8), 1.0, 1e-3)
    return values / values.sum() * d


def noise(world, n, d, rng):
    """Standard normal rows, correlated within identities."""
    rows = rng.normal(size=(n, d))
    if world.clips > 1:
        rows = 0.3**0.5 * rows + 0.7**0.5 * np.repeat(rng.normal(size=(n // world.clips, d)), world.clips, axis=0)
    if world.tails:
        rows = rows / np.sqrt(rng.chisquare(10, (n, 1)) / 8)
    return rows


def draw(world, models, n, d, rng):
    """(features of each model, reference, groups)."""
    truth, shared = noise(world, n, d, rng), noise(world, n, d, rng)
    sets = []
    for mean, root, _ in models:
        rows = noise(world, n, d, rng)
        if len(models) > 1:  # models err alike on the same cases
            rows = 0.7 * shared + 0.51**0.5 * rows
        rows = world.paired * truth + (1 - world.paired**2) ** 0.5 * rows
        sets.append(mean + rows @ root.T)
    labels = [str(i // world.clips) for i in range(n)]
    groups = (labels, labels) if world.paired else ([f"x{k}" for k in labels], [f"y{k}" for k in labels])
    return sets, truth * np.sqrt(spectrum(world, d)), groups


@dataclass(frozen=True)
class Coverage:
    """What the intervals of one estimator did."""

    #: share of intervals that cover, and that would at half the width
    full: float
    half: float
    #: share of results that say why not to trust them
    doubted: float
    #: mean of the values minus the target, and root mean square of the half widths over 1.96 standard deviations
    off: float
    width: float
    #: mean of the plain minus the corrected values
    correction: float


def coverage(world: World, n: int, d: int, draws: int, more: int = 300) -> dict[str, Coverage]:
    """Each estimator's coverage.

    The plain distance's target, and the kernel distance's where it is not 0, are means over ``draws + more`` draws.
    """
    rng = np.random.default_rng(1)
    models = [model(world, fault, d) for fault in world.faults]
    results, plain, kernel = [], [], []
    for index in range(draws + more):
        sets, reference, groups = draw(world, models, n, d, rng)
        if index < draws:
            one = measure_sets(sets[0], reference, groups) if len(sets) == 1 else compare_sets(*sets, reference, groups)
            results.append(one)
            plain.append(one.frechet.value)
            kernel.append(one.kernel.value)
        else:
            signs = (1, -1)[: len(sets)]
            plain.append(sum(s * frechet_distance(x, reference) for s, x in zip(signs, sets, strict=True)))
            kernel.append(sum(s * kernel_distance(x, reference, groups) for s, x in zip(signs, sets, strict=True)))
    truth = models[0][2] - (models[1][2] if len(models) > 1 else 0.0)
    same = world.faults in (("none",), ("turned", "turned"))
    targets = {"frechet": np.mean(plain), "corrected": truth, "kernel": 0.0 if same else np.mean(kernel)}
    found = {}
    for name, target in targets.items():
        ones = [getattr(result, name) for result in results]
        values, widths = (np.array(v) for v in zip(*((one.value, one.high - one.value) for one in ones), strict=True))
        found[name] = Coverage(
            full=float(np.mean(abs(values - target) <= widths)),
            half=float(np.mean(abs(values - target) <= widths / 2)),
            doubted=float(np.mean([one.trust is not None for one in ones])),
            off=float(values.mean() - target),
            width=float(np.mean(widths**2) ** 0.5 / 1.96 / values.std()),
            correction=float(np.mean([one.frechet.bias for one in results])),
        )
    return found


def check(found, draws):
    """Between 90 and 99 %, up to two standard errors of the simulation, and not by being wide; or mostly doubted."""
    for name, one in found.items():
        if one.doubted < 0.5:
            assert one.full >= 0.90 - 2 * (0.09 / draws) ** 0.5, name
            assert one.full <= 0.99 + 2 * (0.0099 / draws) ** 0.5, name
            assert one.half < 0.9, name


@pytest.mark.parametrize(("name", "draws"), [("alike", 25), ("paired", 25), ("difference", 25)])
def test_intervals_of_sixteen_clips_cover(name, draws):
    check(coverage(WORLDS[name], 16, 32, draws, more=draws), draws)


def test_a_correction_that_misses_is_doubted():
    """Models that vary most where the reference varies least: the correction is small, and far too small."""
    world = WORLDS["elsewhere"]
    models = [model(world, world.faults[0], 64)]
    for seed in range(4):
        sets, reference, groups = draw(world, models, 64, 64, np.random.default_rng(seed))
        found = measure_sets(sets[0], reference, groups).corrected
        assert found.low > models[0][2]
        assert "assumes that the sets vary in the same directions" in found.trust


@pytest.mark.parametrize("d", [1, 2])
def test_one_or_two_directions_are_doubted(d):
    """With two, 87 % of the kernel distance's intervals cover in the world "paired" (n 16)."""
    world = WORLDS["paired"]
    models = [model(world, world.faults[0], d)]
    for seed in range(5):
        sets, reference, groups = draw(world, models, 64, d, np.random.default_rng(seed))
        assert "directions" in measure_sets(sets[0], reference, groups).kernel.trust


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("d", [8, 64, 400])
@pytest.mark.parametrize("n", [16, 64, 256])
def test_intervals_cover(n, d, name):
    world, draws = WORLDS[name], 200 if n < 256 else 100
    if n // world.clips < MINIMUM:
        sets, reference, groups = draw(world, [model(world, world.faults[0], d)], n, d, np.random.default_rng(0))
        assert measure_sets(sets[0], reference, groups).kernel.trust
        return
    found = coverage(world, n, d, draws, draws)
    shares = "  ".join(
        f"{key} {one.full:.3f} (doubted {one.doubted:.2f}, off {one.off:.3g}, width {one.width:.2f})"
        for key, one in found.items()
    )
    print(f"\n{name:21} n {n:4} d {d:4}  {shares}  correction {found['corrected'].correction:.3g}")
    check(found, draws)
