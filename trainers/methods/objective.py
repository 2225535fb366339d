"""One batch to one loss: the only place where noise, t, policy, reference and weights meet, whatever the method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainers import flow, halo
from trainers.config import LossConfig
from trainers.data.encode import Batch
from trainers.data.reference import ReferenceErrors
from trainers.methods import MethodName, find
from trainers.methods.draw import Draw, drawn
from trainers.policy import Policy

#: changes whenever an error may change: errors that are kept are of one version
VERSION = 1


def weights(batch: Batch, config: LossConfig, weighted: bool) -> Tensor | None:
    """HALO's weight on each latent element ``[B, 1, n_ref + T', h, w]``; None where everything weighs the same."""
    if not weighted:
        return None
    of_clip = halo.weights(batch.mask, config.hand_weight, config.hand_form, references=0)
    return batch.references.beside(of_clip, batch.latents.shape[2] - batch.mask.shape[1], fill=1.0, axis=2)


@dataclass(frozen=True, eq=False)
class Objective:
    """A method's loss on a batch of clips (of pairs, for methods that take pairs)."""

    method: MethodName
    config: LossConfig
    weighted: bool
    seed: int
    policy: Policy
    #: errors of the reference that are known; None: always computed
    known: ReferenceErrors | None = None

    def loss(self, good: Batch, bad: Batch | None, draws: Sequence[Draw]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss to differentiate, and metrics. Raises ValueError for pairs without their bad half."""
        method = find(self.method)
        if method.takes == "pairs" and bad is None:
            raise ValueError(f"{method.title} needs pairs")
        noise, t = drawn(draws, good.latents.shape[1:], self.seed, self.config)
        noise, t = noise.to(good.latents.device), t.to(good.latents.device)
        found, metrics = method.loss(Step(self, good, bad, tuple(draws), noise, t))
        return found, {**metrics, "t": t.mean()}


@dataclass(frozen=True, eq=False)
class Step:
    """A batch with its noise, as a method's ``loss`` is given it."""

    objective: Objective
    good: Batch
    bad: Batch | None
    draws: tuple[Draw, ...]
    #: of every clip ``[B, z, T, h, w]``; both clips of a pair share it
    noise: Tensor
    #: ``[B]``
    t: Tensor

    @property
    def config(self) -> LossConfig:
        """Settings of the loss."""
        return self.objective.config

    @property
    def pair(self) -> tuple[Batch, Batch]:
        """Good and bad clips. Raises ValueError where there are no pairs."""
        if self.bad is None:
            raise ValueError("this batch is none of pairs")
        return self.good, self.bad

    def error(self, batch: Batch) -> Tensor:
        """The flow error of each clip ``[B]``, hands weighted, of the transformer as it is switched now."""
        predicted = self.objective.policy.predict(batch, flow.noised(batch.latents, self.noise, self.t), self.t)
        target = flow.velocity(batch.latents, self.noise)
        return flow.flow_error(predicted, target, weights(batch, self.config, self.objective.weighted))

    def reference(self, batch: Batch) -> Tensor:
        """The reference's errors ``[B]``, without gradients; those that are known are not computed."""
        known = self.objective.known
        names = [f"{key}:{draw.key}:{draw.number}" for key, draw in zip(batch.keys, self.draws, strict=True)]
        values = [None if known is None else known.get(name) for name in names]
        if None in values:
            with self.objective.policy.reference():
                error = self.error(batch)
            if known is not None:
                known.add(names, error.tolist())
            return error
        return torch.tensor(values, dtype=torch.float32, device=self.t.device)
