"""One batch to one loss: the only place where noise, t, policy, reference and weights meet, whatever the method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
class Taken:
    """Steps of a sampler with noise, one of each clip of a batch, as they were taken when the clips were made."""

    #: where they began, where they went by the policy of then, and where with their noise: each ``[B, C, T, h, w]``
    z: Tensor
    mean: Tensor
    after: Tensor
    #: noise levels before and after, and g at the first: float64 ``[B]``
    s: Tensor
    down: Tensor
    g: Tensor
    #: embeddings of the negative words ``[B, tokens, width]``, where they were guided
    negative: Tensor | None
    guidance: float


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
    #: keys of the method's own; its defaults where not given
    options: Any = None

    def loss(
        self,
        good: Batch,
        bad: Batch | None,
        draws: Sequence[Draw],
        values: Tensor | None = None,
        taken: Taken | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss to differentiate, and metrics. ``values`` ``[B]``: what the scores of candidates became.

        Raises ValueError for pairs without their bad half, for candidates without values, for steps that are not there.
        """
        method = find(self.method)
        if (method.takes == "pairs" and bad is None) or (method.online and values is None):
            raise ValueError(
                f"{method.title} needs {'pairs' if method.takes == 'pairs' else 'values of its candidates'}"
            )
        if taken is None:
            noise, t = drawn(draws, good.latents.shape[1:], self.seed, self.config)
            noise, t = noise.to(good.latents.device), t.to(good.latents.device)
        else:
            noise, t = taken.after - taken.mean, taken.s
        options = method.options() if self.options is None and method.options else self.options
        values = values if values is None else values.to(t.device)
        found, metrics = method.loss(Step(self, good, bad, tuple(draws), noise, t, options, values, taken))
        return found, {**metrics, "t": t.mean()}


@dataclass(frozen=True, eq=False)
class Step:
    """A batch with its noise, as a method's ``loss`` is given it."""

    objective: Objective
    good: Batch
    bad: Batch | None
    draws: tuple[Draw, ...]
    #: of every clip ``[B, z, T, h, w]``; both clips of a pair share it; of a sampler's steps that of the step
    noise: Tensor
    #: ``[B]``
    t: Tensor
    options: Any = None
    values: Tensor | None = None
    steps: Taken | None = None

    @property
    def policy(self) -> Policy:
        """What is trained."""
        return self.objective.policy

    @property
    def given(self) -> Tensor:
        """The values of the candidates ``[B]``. Raises ValueError where they have none."""
        if self.values is None:
            raise ValueError("this batch is none of scored candidates")
        return self.values

    @property
    def taken(self) -> Taken:
        """The sampler's steps. Raises ValueError where there are none."""
        if self.steps is None:
            raise ValueError("this batch is none of a sampler's steps")
        return self.steps

    def guided(self) -> Tensor:
        """The velocity at the sampler's steps as the sampler has it, guidance included: float32 ``[B, C, T, h, w]``."""
        taken, base = self.taken, self.policy.base
        ladder = base.ladder(self.good.condition, taken.negative, taken.guidance)
        return base.guided(taken.z, taken.s, ladder).float()

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

    def velocity(self, batch: Batch) -> Tensor:
        """What the transformer predicts for each clip, as it is switched now: ``[B, z, T, h, w]``."""
        return self.policy.predict(batch, flow.noised(batch.latents, self.noise, self.t), self.t)

    def target(self, batch: Batch) -> Tensor:
        """What it should predict."""
        return flow.velocity(batch.latents, self.noise)

    def weights(self, batch: Batch) -> Tensor | None:
        """HALO's weights, or None."""
        return weights(batch, self.config, self.objective.weighted)

    def error(self, batch: Batch) -> Tensor:
        """The flow error of each clip ``[B]``, hands weighted, of the transformer as it is switched now."""
        return flow.flow_error(self.velocity(batch), self.target(batch), self.weights(batch))

    def reference(self, batch: Batch) -> Tensor:
        """The reference's errors ``[B]``, without gradients; those that are known are not computed."""
        known = self.objective.known
        names = [f"{key}:{draw.key}:{draw.number}" for key, draw in zip(batch.keys, self.draws, strict=True)]
        values = [None if known is None else known.get(name) for name in names]
        if None in values:
            with self.policy.reference():
                error = self.error(batch)
            if known is not None:
                known.add(names, error.tolist())
            return error
        return torch.tensor(values, dtype=torch.float32, device=self.t.device)
