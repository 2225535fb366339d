"""The loop that trains the shipped nets: AdamW, a warm-up and a cosine, and a state to go on from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor, nn, optim

from trainers import state

#: steps that a stop may cost
_KEEP = 20
Tell = Callable[[int, int, Mapping[str, float]], None]


@dataclass(frozen=True)
class Descent:
    """How long and how fast."""

    steps: int
    batch: int
    rate: float
    decay: float = 0.02
    seed: int = 0


def descend(
    module: nn.Module,
    losses: Callable[[np.random.Generator], dict[str, Tensor]],
    how: Descent,
    file: Path,
    run: str,
    tell: Tell,
) -> None:
    """Train ``module`` in place on the sum of ``losses(rng)``; ``rng`` depends on the seed and the step alone.

    The state is kept in ``file``: the same call goes on from it. ``run`` names what must be the same for that. Raises
    UserError for a state of another run.
    """
    weights = list(module.parameters())
    optimizer = optim.AdamW(weights, how.rate, weight_decay=how.decay)
    kept = state.load(file, f"{run} {how}", module.state_dict())
    if kept is not None:
        module.load_state_dict(dict(kept.weights))
        optimizer.load_state_dict(dict(kept.optimizer))
    for step in range(kept.step if kept else 0, how.steps):
        for group in optimizer.param_groups:
            group["lr"] = how.rate * _share(step, how.steps)
        found = losses(np.random.default_rng([how.seed, step]))
        optimizer.zero_grad()
        sum(found.values(), start=next(iter(found.values())) * 0).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(weights, 5.0)
        optimizer.step()
        if (step + 1) % _KEEP == 0 or step + 1 == how.steps:
            optimum = optimizer.state_dict()
            state.save(state.State(step + 1, module.state_dict(), {}, optimum, f"{run} {how}"), file)
        tell(step + 1, how.steps, {name: float(loss.detach()) for name, loss in found.items()})


def _share(step: int, steps: int) -> float:
    """Of the learning rate: up over the first tenth, then down along half a cosine."""
    warm = max(steps // 10, 1)
    return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * max(step - warm, 0) / max(steps - warm, 1))))
