"""The judge's network: joints of a hand whose place is known, from 64 pixels, for the built-in world.

It is no detector: it is told where the hand must be and says where the joints are, so there are no misses. It is made
by ``ipa-bench embedded nets joints`` from renderings of people that nothing else uses, and it shares no weight, no
picture and no label with what selects or rewards (MediaPipe's networks). Its numbers compare with no published number.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ipa_bench.weights.shipped import JOINTS_SHA256 as JOINTS_SHA256

JOINTS = "joints.safetensors"
#: side of its input
SIDE = 64
_WIDTHS = (32, 48, 64, 96)


class _Pair(nn.Sequential):
    """Two convolutions of 3 x 3 with group norms: the same result for a batch and for each of its crops."""

    def __init__(self, into: int, out: int) -> None:
        parts: list[nn.Module] = []
        for channels in (into, out):
            parts += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.GroupNorm(8, out), nn.SiLU()]
        super().__init__(*parts)


class HandJoints(nn.Module):
    """A U-Net (Ronneberger et al., arXiv 1505.04597) with soft-argmax (Sun et al., arXiv 1711.08229); 0.44 M weights.

    A crop shows a right hand, or a left one mirrored.
    """

    def __init__(self) -> None:
        super().__init__()
        first, *rest = _WIDTHS
        self.first = nn.Sequential(nn.Conv2d(3, first, 5, stride=2, padding=2), nn.SiLU())
        self.down = nn.ModuleList(_Pair(a, b) for a, b in zip(_WIDTHS, rest, strict=False))
        self.up = nn.ModuleList(_Pair(a + b, b) for a, b in zip(_WIDTHS[:1:-1], _WIDTHS[-2:0:-1], strict=True))
        self.maps = nn.Conv2d(_WIDTHS[1], 21, 1)

    def forward(self, crops: Tensor) -> Tensor:
        """float ``[N, 3, 64, 64]``, RGB in [-1, 1] -> joints ``[N, 21, 2]`` (x, y) in crop sides, 0 to 1."""
        return self.expected(self.heat(crops))

    def heat(self, crops: Tensor) -> Tensor:
        """Logits of where each joint is, ``[N, 21, 32, 32]``."""
        x = self.first(crops)
        kept: list[Tensor] = []
        for block in self.down:
            x = block(x if not kept else F.max_pool2d(x, 2))
            kept.append(x)
        for block, beside in zip(self.up, kept[-2::-1], strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), beside], 1))
        maps: Tensor = self.maps(x)
        return maps

    @staticmethod
    def expected(heat: Tensor) -> Tensor:
        """The mean place under softmax of logits ``[N, 21, h, w]``: ``[N, 21, 2]`` in crop sides."""
        height, width = heat.shape[-2:]
        share = heat.flatten(2).softmax(-1).reshape(heat.shape)
        across = (torch.arange(width, device=heat.device, dtype=heat.dtype) + 0.5) / width
        along = (torch.arange(height, device=heat.device, dtype=heat.dtype) + 0.5) / height
        return torch.stack([(share.sum(2) * across).sum(-1), (share.sum(3) * along).sum(-1)], -1)


def load_joints(folder: Path | None = None) -> HandJoints:
    """The shipped network, in evaluation, without gradients.

    Raises UserError where its file cannot be read or is not the one of :data:`JOINTS_SHA256`.
    """
    from ipa_bench.nets.embedded import shipped

    return shipped(HandJoints(), JOINTS, JOINTS_SHA256, folder)
