"""Single frames through the Wan autoencoder's encoder: the last tap of a causal kernel alone sees them.

Taking only that tap, as a convolution of two dimensions, gives the same latents (to 1e-5) in half of the time of a
batch of sixteen: measured 0.015 s against 0.031 s of processor time for a picture of 128 x 128 with the tiny
autoencoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from diffusers.models.autoencoders import autoencoder_kl_wan
from torch import Tensor


@contextmanager
def single_frames() -> Iterator[None]:
    """While entered, causal convolutions of inputs ``[B, C, 1, H, W]`` without a past take their last tap alone."""
    kind: Any = autoencoder_kl_wan.WanCausalConv3d
    whole = kind.forward

    def forward(self: Any, x: Tensor, cache_x: Tensor | None = None) -> Tensor:
        if x.shape[2] != 1 or cache_x is not None:
            made: Tensor = whole(self, x, cache_x)
            return made
        across, _, down, *_ = self._padding
        kernel = self.weight[:, :, -1]
        return F.conv2d(x[:, :, 0], kernel, self.bias, self.stride[1:], (down, across))[:, :, None]

    kind.forward = forward
    try:
        yield
    finally:
        kind.forward = whole
