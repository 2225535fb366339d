"""The flow convention, in one place: z_t = (1 − t) x + t ε, velocity v = ε − x, t = 1 is noise.

It is that of Wan and of diffusers' flow-matching schedulers, whose timestep is 1000 t.
"""

from __future__ import annotations

from torch import Tensor

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
