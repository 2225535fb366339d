"""One batch to one loss, for each method: the only place where noise, t, policy, reference and weights meet."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainers import flow, halo
from trainers.config import LossConfig, Method
from trainers.data.encode import Batch
from trainers.data.reference import ReferenceErrors
from trainers.methods import loss as losses
from trainers.policy import Policy


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
        times.append(flow.sample_t(rng, 1, config.t, config.shift))
        noise.append(torch.from_numpy(rng.standard_normal(tuple(shape), np.float32)))
    return torch.stack(noise), torch.cat(times)


def weights(batch: Batch, config: LossConfig, weighted: bool) -> Tensor | None:
    """HALO's weight on each latent element ``[B, 1, n_ref + T', h, w]``; None where everything weighs the same."""
    if not weighted:
        return None
    references = batch.latents.shape[2] - batch.mask.shape[1]
    return halo.weights(batch.mask, config.hand_weight, config.hand_form, references)


@dataclass(frozen=True, eq=False)
class Objective:
    """A method's loss on a batch of clips (of pairs, for DPO)."""

    method: Method
    config: LossConfig
    weighted: bool
    seed: int
    policy: Policy
    #: errors of the reference that are known; None: always computed
    known: ReferenceErrors | None = None

    def loss(self, good: Batch, bad: Batch | None, draws: Sequence[Draw]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss to differentiate, and metrics."""
        noise, t = drawn(draws, good.latents.shape[1:], self.seed, self.config)
        noise, t = noise.to(good.latents.device), t.to(good.latents.device)
        if self.method == "dpo":
            if bad is None:
                raise ValueError("DPO needs pairs")
            chosen_ref, rejected_ref = (self._reference(batch, noise, t, draws) for batch in (good, bad))
            chosen, rejected = (self._error(batch, noise, t) for batch in (good, bad))
            found = losses.dpo_loss(
                chosen, rejected, chosen_ref, rejected_ref, t, beta=self.config.beta, weight=self.config.time_weight
            )
        elif self.method == "ipa":
            reference = self._reference(good, noise, t, draws)
            error = self._error(good, noise, t)
            found = losses.ipa_loss(error, reference, t, beta=self.config.beta, weight=self.config.time_weight)
        else:
            found = losses.sft_loss(self._error(good, noise, t))
        return found[0], {**found[1], "t": t.mean()}

    def _error(self, batch: Batch, noise: Tensor, t: Tensor) -> Tensor:
        predicted = self.policy.predict(batch, flow.noised(batch.latents, noise, t), t)
        target = flow.velocity(batch.latents, noise)
        return flow.flow_error(predicted, target, weights(batch, self.config, self.weighted))

    def _reference(self, batch: Batch, noise: Tensor, t: Tensor, draws: Sequence[Draw]) -> Tensor:
        """The reference's errors ``[B]``; those that are known are not computed."""
        names = [f"{key}:{draw.key}:{draw.number}" for key, draw in zip(batch.keys, draws, strict=True)]
        values = [None if self.known is None else self.known.get(name) for name in names]
        if None in values:
            with self.policy.reference():
                error = self._error(batch, noise, t)
            if self.known is not None:
                self.known.add(names, error.tolist())
            return error
        return torch.tensor(values, dtype=torch.float32, device=t.device)
