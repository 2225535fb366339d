"""How good a reward is on pairs of known outcome: accuracy with and without ties, calibration, kind by kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ipa_bench.types import Float64
from trainers.rewards.ties import log_chances

#: widths of the bins of calibration
_BINS = 10


@dataclass(frozen=True)
class Kind:
    """Pairs of one kind."""

    name: str
    pairs: int
    #: share whose better clip has the higher score; None where no pair has a better one
    accuracy: float | None
    #: share whose likeliest outcome is the right one, ties included; None for a reward without k
    with_ties: float | None
    #: mean chance that the first clip wins, of those that somebody wins; for ties .5 is right; None without k
    preferred: float | None
    #: share of pairs whose first clip has the higher score
    higher: float


@dataclass(frozen=True)
class Measured:
    """A reward on a set of pairs."""

    kinds: tuple[Kind, ...]
    #: mean distance of the foretold chance from the share that came true, weighted by pairs (Naeini et al., AAAI 2015)
    calibration: float | None

    def of(self, names: Sequence[str]) -> tuple[float, int]:
        """(accuracy, pairs) over kinds together."""
        rows = [kind for kind in self.kinds if kind.name in names and kind.accuracy is not None]
        count = sum(kind.pairs for kind in rows)
        return sum((kind.accuracy or 0.0) * kind.pairs for kind in rows) / max(count, 1), count


def measure(difference: Float64, shares: Float64, faults: Sequence[str], log_k: float | None) -> Measured:
    """``difference`` ``[n]``: score of A less that of B; ``shares`` ``[n, 3]`` of (A, tie, B); ``faults`` ``[n]``.

    ``log_k``: of a reward that knows ties, whose differences are logits; None for others.
    """
    chances: Float64 | None = None
    if log_k is not None:
        logits = torch.from_numpy(np.asarray(difference, np.float64))
        chances = log_chances(logits, torch.tensor(log_k, dtype=torch.float64)).exp().numpy()
    kinds = []
    for name in dict.fromkeys(faults):
        rows = np.array([fault == name for fault in faults])
        decided = rows & (shares[:, 0] != shares[:, 2])
        won = (difference > 0) == (shares[:, 0] > shares[:, 2])
        kinds.append(
            Kind(
                name,
                int(rows.sum()),
                float(won[decided].mean()) if decided.any() else None,
                None if chances is None else float((chances.argmax(1) == shares.argmax(1))[rows].mean()),
                None if chances is None else float((chances[:, 0] / (chances[:, 0] + chances[:, 2]))[rows].mean()),
                float((difference[rows] > 0).mean()),
            )
        )
    return Measured(tuple(kinds), None if chances is None else _calibration(chances, shares))


def _calibration(chances: Float64, shares: Float64) -> float:
    """Over all three outcomes of all pairs."""
    foretold, true = chances.ravel(), shares.ravel()
    place = np.minimum((foretold * _BINS).astype(int), _BINS - 1)
    gaps = [
        (place == number).mean() * abs(foretold[place == number].mean() - true[place == number].mean())
        for number in range(_BINS)
        if (place == number).any()
    ]
    return float(sum(gaps))
