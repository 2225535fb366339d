"""The noise and the noise level that a clip is shown with: functions of a seed and of the draw alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ipa_bench.types import Float64
from trainers import flow
from trainers.config import LossConfig


@dataclass(frozen=True)
class Draw:
    """Which noise and t a clip is shown with: a number that repeats where draws repeat."""

    #: of the data: the clip's key, or that of its pair, so that both clips of a pair share noise and t
    key: str
    number: int


def drawn(draws: Sequence[Draw], shape: Sequence[int], seed: int, config: LossConfig) -> tuple[Tensor, Tensor]:
    """Noise ``[B, *shape]`` and t ``[B]``, each a function of ``seed`` and the draw alone: of no batch, no process."""
    noise, times = [], []
    for draw in draws:
        name = hashlib.sha256(f"{seed}\0{draw.key}\0{draw.number}".encode()).digest()
        rng = np.random.default_rng(np.frombuffer(name, np.uint32))
        if config.t == "stratified":
            times.append(flow.levels(_spread(draw, seed), config.shift))
        else:
            times.append(flow.sample_t(rng, 1, config.t, config.shift))
        noise.append(torch.from_numpy(rng.standard_normal(tuple(shape), np.float32)))
    return torch.stack(noise), torch.cat(times)


#: The golden ratio's fraction: its multiples fill [0, 1) evenly, however many there are (Weyl's sequence).
_STEP = (5**0.5 - 1) / 2


def _spread(draw: Draw, seed: int) -> Float64:
    """A place in [0, 1), ``[1]``: a clip's own random one, then on by even steps, so that few draws cover all."""
    first = hashlib.sha256(f"{seed}\0{draw.key}".encode()).digest()
    return np.array([(np.random.default_rng(np.frombuffer(first, np.uint32)).random() + draw.number * _STEP) % 1.0])
