"""What changes with the number of a step: the share of the learning rate, and an average that follows the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def warm_up(step: int, steps: int) -> float:
    """Linear from 1 / ``steps`` at step 0 up to 1; 1 throughout where ``steps`` is 0."""
    return min(1.0, (step + 1) / steps) if steps else 1.0


def cosine(done: float) -> float:
    """From 1 where nothing is done to 0 where all is; ``done`` outside [0, 1] counts as its nearer end."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, done))))


def decay(most: float, step: int) -> float:
    """How much of itself an average keeps at a step: little at first, at most ``most``."""
    return min(most, (1 + step) / (10 + step))


def follow(average: Mapping[str, Tensor], weights: Mapping[str, Tensor], keep: float) -> None:
    """Let an average keep the share ``keep`` of itself and take the rest from the weights; names in the same order."""
    with torch.no_grad():
        torch._foreach_lerp_([*average.values()], [w.detach() for w in weights.values()], 1 - keep)
