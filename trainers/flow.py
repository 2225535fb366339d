"""The flow convention, in one place: z_t = (1 − t) x + t ε, velocity v = ε − x, t = 1 is noise.

It is that of Wan and of diffusers' flow-matching schedulers, whose timestep is 1000 t.

An error is a mean over latent elements, not a sum. The formula of Flow-IPA (arXiv 2605.07545) shows a squared norm,
which is a sum; the authors' code takes the mean of each sample, and their beta = 600 belongs to that mean. A beta from
a paper means nothing without this choice.

A weight (HALO) multiplies the squared error and the mean stays one over all elements: it is not divided by the sum of
the weights, as published. A clip with larger hands therefore has a larger error.

The latent frame of the reference image stands first on the time axis and is part of the error with weight 1, as in the
authors' snippet, whose mask applies to the frames after it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ipa_bench.types import Float64

#: how noise levels are drawn, see :func:`sample_t`
TSampling = Literal["uniform", "logit_normal", "stratified"]
#: the transformer's timestep at t = 1
TIMESTEPS = 1000.0


def noised(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """``x`` and ``noise`` ``[B, ...]`` mixed at ``t`` ``[B]`` in [0, 1]."""
    share = t.reshape(-1, *[1] * (x.ndim - 1))
    return (1 - share) * x + share * noise


def velocity(x: Tensor, noise: Tensor) -> Tensor:
    """What the model predicts: the direction from ``x`` to ``noise``, the same at every t."""
    return noise - x


def shifted(t: Tensor, shift: float) -> Tensor:
    """Noise levels moved toward noise: ``shift t / (1 + (shift − 1) t)``, as the schedulers' ``shift`` does."""
    return shift * t / (1 + (shift - 1) * t)


def sample_t(rng: np.random.Generator, count: int, kind: TSampling = "uniform", shift: float = 1.0) -> Tensor:
    """Noise levels to train at: float32 ``[count]``, strictly between 0 and 1.

    ``uniform`` as in Flow-IPA's formula (arXiv 2605.07545); ``logit_normal`` is the sigmoid of a standard normal (SD3,
    arXiv 2403.03206); ``stratified`` is uniform with one level in each of ``count`` equal parts, in random order. All
    are then :func:`shifted`; ``shift`` 1 changes nothing, the scheduler shipped with Wan2.1-VACE-14B has 3. Raises
    ValueError where ``shift`` is not positive.
    """
    if kind == "logit_normal":
        return levels(1 / (1 + np.exp(-rng.standard_normal(count))), shift)
    if kind == "stratified":
        return levels((rng.permutation(count) + rng.random(count)) / count, shift)
    return levels(rng.random(count), shift)


def levels(drawn: Float64, shift: float = 1.0) -> Tensor:
    """Noise levels ``[n]`` in [0, 1], shifted, as float32 strictly between 0 and 1. Raises ValueError: see above."""
    if not shift > 0:
        raise ValueError(f"shift must be positive, got {shift}")
    # float32 rounds a level near 1 to 1, where a weight of (1 − t)² is 0
    edge = 2.0**-24
    return shifted(torch.from_numpy(drawn), shift).float().clamp(edge, 1 - edge)


def flow_error(predicted: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """The error of each sample, ``[B]``: mean over all latent elements of ``weight · (predicted − target)²``.

    ``predicted`` and ``target`` ``[B, C, T, h, w]`` velocities; ``weight`` ``[B, 1, T, h, w]`` at least 0 (any axis may
    be 1), see :func:`trainers.halo.weights`. Half precision is computed in float32. The mean is over the number of
    elements and not over the sum of the weights (HALO, arXiv 2605.07545, as in the authors' code). Raises ValueError
    where the shapes do not fit.
    """
    if predicted.shape != target.shape:
        raise ValueError(f"predicted {tuple(predicted.shape)} and target {tuple(target.shape)} differ in shape")
    wide = torch.promote_types(predicted.dtype, torch.float32)
    squared = (predicted.to(wide) - target.to(wide)).square()
    if weight is not None:
        # a weight that is larger than the error on some axis would repeat the error silently
        if weight.ndim != squared.ndim or any(
            n not in (1, m) for n, m in zip(weight.shape, squared.shape, strict=True)
        ):
            raise ValueError(f"weight {tuple(weight.shape)} does not spread over an error {tuple(squared.shape)}")
        squared = weight * squared
    return squared.flatten(1).mean(1)
