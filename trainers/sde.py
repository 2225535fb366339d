"""Sampling the flow with noise of its own: what reinforcement learning needs of a sampler, in one place.

The flow's ODE dz = v dt has, for any g(s) ≥ 0, stochastic twins with the same marginals at every noise level s (Song et
al., arXiv 2011.13456; for flows Flow-GRPO, arXiv 2505.05470, and DanceGRPO, arXiv 2505.07818). One Euler–Maruyama step
from s to s' < s, with dt = s' − s < 0 and v = ε − x in the convention of :mod:`trainers.flow`:

    mean = z + [ v + g² / (2 s) · (z + (1 − s) v) ] · dt        std = g · √−dt        z' = mean + std · N(0, I)

z + (1 − s) v is the noise that the model sees in z, and −(that) / s the score of the marginal, so that the correction
is −g²/2 · score · dt. Published variants differ in g alone: see :func:`diffusion`. (CPS, a sampler that keeps
coefficients instead of marginals, is none of them, and is not here.)

A step is Gaussian, so it has a likelihood. It is a mean over latent elements and not a sum, as everywhere in published
code, and ratios of likelihoods then differ from 1 by 1e-5 to 1e-3: clip ranges are of that size.

The last step, to s' = 0, is never one of these: :func:`steps` leaves it to the ODE. There dt is all of s, and g (where
it falls with s) makes the deviation a small fraction of what one rounding of the model's output is: with 6 steps, shift
2 and the shipped schedulers' smallest sigma of 0.004 it is 2.3e-4, and log-ratios explode. Where g does not fall, the
noise of that step is never denoised: it stays in the clip.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

#: how much noise a step adds: see :func:`diffusion`
Noise = Literal["wan", "flow", "constant"]


def levels(sigmas: Tensor) -> Tensor:
    """Noise levels of a sampler, float64 ``[T + 1]`` falling from at most 1 to 0. Raises ValueError for others."""
    found = sigmas.double().cpu()
    if found.ndim != 1 or len(found) < 2 or found[0] > 1 or found[-1] != 0 or not bool((found.diff() < 0).all()):
        raise ValueError(f"noise levels fall from at most 1 to 0, not {found.tolist()}")
    return found


def steps(count: int, window: int = 0, first: int = 0) -> range:
    """The steps of a sampler of ``count`` steps that have noise and are trained: ``window`` of them from ``first`` on.

    A ``window`` of 0 is all that there are from ``first``; the last step is never among them. Raises ValueError where
    the window does not fit, or nothing is left.
    """
    last = count - 1
    chosen = range(first, first + window if window else last)
    if not 0 <= first < chosen.stop <= last:
        raise ValueError(
            f"{window or 'all'} steps from step {first} do not fit into the {last} of {count} steps that have noise"
        )
    return chosen


def diffusion(s: Tensor, sigmas: Tensor, kind: Noise, scale: float) -> Tensor:
    """g(s) of the noise levels ``s``, in their shape; ``sigmas`` are the sampler's :func:`levels`.

    ``wan``: ``scale · (σ₁ − σ_T) s + σ_T`` with the sampler's second and last level (Identity-GRPO and Flow-GRPO's code
    for Wan, where the scale is 1). ``flow``: ``scale · √(s / (1 − s))`` (Flow-GRPO, 0.7); it diverges at s = 1, and Wan
    begins at 0.9997 and not at 1, so that a guard against exactly 1 lets a deviation of 4.5 through: levels above the
    second are taken as the second. ``constant``: ``scale`` (DanceGRPO, 0.3).
    """
    if kind == "constant":
        return torch.full_like(s, scale)
    if kind == "wan":
        return scale * (sigmas[-1] + (sigmas[1] - sigmas[-1]) * s)
    held = torch.minimum(s, sigmas[1].to(s))
    return scale * (held / (1 - held)).sqrt()


def step(z: Tensor, velocity: Tensor, s: Tensor, after: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``[B, ...]`` and deviation ``[B]`` of one step from the levels ``s`` ``[B]`` down to ``after`` ``[B]``.

    ``z`` and ``velocity`` ``[B, ...]``; ``g`` ``[B]`` of :func:`diffusion`; with g = 0 it is a step of the ODE.
    """
    dt = after - s
    drift, back = (1 + (1 - s) * g.square() / (2 * s)) * dt, g.square() / (2 * s) * dt
    # velocity first: without noise exactly z + v dt
    mean = z + spread(drift, z) * velocity + spread(back, z) * z
    return mean, g * (-dt).sqrt()


def log_probability(z: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """The logarithm of a step's density at ``z`` ``[B, ...]``, a mean over elements: ``[B]``; ``std`` ``[B]`` > 0."""
    wide = spread(std, z)
    whole = -((z - mean) / wide).square() / 2 - wide.log() - torch.tensor(2 * torch.pi).log() / 2
    return whole.flatten(1).mean(1)


def log_ratio(z: Tensor, mean: Tensor, old: Tensor, std: Tensor) -> Tensor:
    """``log p(z | mean) − log p(z | old)`` of one deviation, ``[B]``: exactly 0 where both means are the same.

    The difference of two :func:`log_probability` without what cancels, whose rounding would be as large as the rest.
    """
    moved = mean - old
    return (moved * (2 * (z - old) - moved)).flatten(1).mean(1) / (2 * std.to(mean).square())


def divergence(mean: Tensor, other: Tensor, std: Tensor) -> Tensor:
    """Kullback–Leibler divergence of two steps of one deviation, a mean over elements: ``[B]``."""
    return (mean - other).square().flatten(1).mean(1) / (2 * std.to(mean).square())


def time_factor(s: Tensor, after: Tensor, g: Tensor) -> Tensor:
    """How far a step's mean moves with the velocity, in deviations of the step: ``[B]``, above 0.

    ``√−dt / g + g √−dt (1 − s) / (2 s)``. Gradients of log-ratios grow with it, so that dividing by it lets all steps
    weigh the same (Flash-GRPO, arXiv 2605.15980).
    """
    root = (s - after).sqrt()
    return root / g + g * root * (1 - s) / (2 * s)


def spread(values: Tensor, like: Tensor) -> Tensor:
    """Values ``[B]`` in the dtype of ``like`` ``[B, ...]``, to be multiplied with it."""
    return values.to(like).reshape(-1, *[1] * (like.ndim - 1))
