"""What a score says of a sample beside the others of its case, whatever the cases' own levels are."""

from __future__ import annotations

import math
from collections.abc import Sequence

#: of a case's level: scores closer together than this are equal
EQUAL = 1e-9


def standardised(cases: Sequence[str], scores: Sequence[float]) -> list[float | None]:
    """How many standard deviations (of the population) each score lies above the mean of its case.

    ``cases`` and ``scores``, higher is better, are of one length. None where all scores of a case are equal, or where
    it has one: there is nothing to prefer. The group-relative advantage of GRPO (arXiv 2402.03300).
    """
    groups: dict[str, list[float]] = {}
    for case, score in zip(cases, scores, strict=True):
        groups.setdefault(case, []).append(score)
    mean = {case: math.fsum(group) / len(group) for case, group in groups.items()}
    spread = {
        case: math.sqrt(math.fsum((score - mean[case]) ** 2 for score in group) / len(group))
        for case, group in groups.items()
    }
    return [
        None if spread[case] <= EQUAL * max(1.0, abs(mean[case])) else (score - mean[case]) / spread[case]
        for case, score in zip(cases, scores, strict=True)
    ]


def softmax_weights(cases: Sequence[str], scores: Sequence[float], temperature: float) -> list[float]:
    """Weights ``exp(z / temperature)`` of standardised scores z, with mean 1 in every case.

    A case of equal scores weighs each sample 1; a temperature near 0 leaves the best of a case alone, a large one makes
    no difference between them. Reward-weighted regression (Peters and Schaal, ICML 2007) with a baseline per case.
    """
    best: dict[str, float] = {}
    levels = [0.0 if z is None else z for z in standardised(cases, scores)]
    for case, z in zip(cases, levels, strict=True):
        best[case] = max(best.get(case, z), z)
    raw = [math.exp((z - best[case]) / temperature) for case, z in zip(cases, levels, strict=True)]
    total: dict[str, float] = {}
    count: dict[str, int] = {}
    for case, weight in zip(cases, raw, strict=True):
        total[case], count[case] = total.get(case, 0.0) + weight, count.get(case, 0) + 1
    return [weight * count[case] / total[case] for case, weight in zip(cases, raw, strict=True)]


def optimality(cases: Sequence[str], scores: Sequence[float], clip: float) -> list[float | None]:
    """``r = A / (2 clip) + 1/2`` in [0, 1], A the standardised score within ±``clip``: DiffusionNFT (arXiv 2509.16117).

    1/2 is the mean of a case. None where a case prefers nothing.
    """
    return [None if z is None else max(-clip, min(clip, z)) / (2 * clip) + 0.5 for z in standardised(cases, scores)]
