"""I3D on RGB, Kinetics-400: the network of FVD (Carreira & Zisserman, arXiv 1705.07750; Unterthiner, arXiv 1812.01717).

Layer sizes, paddings and epsilon are those of the graph tf.hub deepmind/i3d-kinetics-400/1: SAME padding everywhere
(from the actual size in every dimension), batch norms with epsilon 1e-3, average pooling [2, 7, 7] VALID with stride 1,
1x1x1 logits with bias, and their mean over time. An FVD feature is the 400 logits before the softmax.

Published files that fit: ``i3d_pretrained_400.pt`` (VideoGPT, TATS) has these very names; ``i3d_torchscript.pt``
(StyleGAN-V) has those of hassony2/kinetics_i3d_pytorch, which are translated. At odd lengths the latter's own code may
pad its temporal poolings otherwise than SAME does; with 16 frames every length on the way is even and both agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ipa_bench.errors import Unscorable
from ipa_bench.nets.fold import Backbone, as_conv, folded, number_format, require_range
from ipa_bench.nets.layers import convolve_same, max_pool_same

#: side of the input
SIZE = 224
#: the largest absolute value that the original code of FVD lets through
LIMIT = 1.001
#: after a bicubic resize in floating point (DisCo): a row of its weights sums to at most 1.25 in absolute value
BICUBIC_LIMIT = 1.25**2 + 0.001
EPSILON = 1e-3

#: outputs of a block's branches: 1x1x1 | 1x1x1, 3x3x3 | 1x1x1, 3x3x3 | pool, 1x1x1
_MIXED: dict[str, tuple[int, int, int, int, int, int]] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
#: block -> kernel and stride of the pooling before it
_POOLS = {
    "Conv3d_2b_1x1": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}
#: names of hassony2/kinetics_i3d_pytorch -> ours
_OTHER_NAMES = {
    "conv3d_0c_1x1.": "logits.",
    "conv3d_1a_": "Conv3d_1a_",
    "conv3d_2b_": "Conv3d_2b_",
    "conv3d_2c_": "Conv3d_2c_",
    "mixed_": "Mixed_",
    ".branch_0.": ".b0.",
    ".branch_1.0.": ".b1a.",
    ".branch_1.1.": ".b1b.",
    ".branch_2.0.": ".b2a.",
    ".branch_2.1.": ".b2b.",
    ".branch_3.1.": ".b3b.",
    ".batch3d.": ".bn.",
}


class Unit(nn.Module):
    """Convolution with SAME padding, batch norm, ReLU."""

    def __init__(self, into: int, out: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(into, out, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(out, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """[N, into, T, H, W] -> [N, out, T / stride, H / stride, W / stride], sizes rounded up."""
        y: Tensor = self.bn(convolve_same(x, self.conv3d))
        return y.relu_()

    def folded(self) -> nn.Conv3d:
        """Convolution and batch norm in one."""
        return folded(self.conv3d, self.bn)


class FoldedUnit(nn.Module):
    """:class:`Unit` without its batch norm."""

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self.conv3d = unit.folded()

    def forward(self, x: Tensor) -> Tensor:
        """As :meth:`Unit.forward`."""
        return convolve_same(x, self.conv3d).relu_()


class Mixed(nn.Module):
    """Four parallel branches, concatenated."""

    def __init__(self, into: int, outs: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        self.b0 = Unit(into, outs[0])
        self.b1a, self.b1b = Unit(into, outs[1]), Unit(outs[1], outs[2], 3)
        self.b2a, self.b2b = Unit(into, outs[3]), Unit(outs[3], outs[4], 3)
        self.b3b = Unit(into, outs[5])

    def forward(self, x: Tensor) -> Tensor:
        """[N, into, T, H, W] -> the same size with the branches' channels."""
        pooled = max_pool_same(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], 1)


class FoldedMixed(nn.Module):
    """:class:`Mixed` without batch norms; the three 1x1x1 convolutions of its input are one, which reads it once."""

    def __init__(self, block: Mixed) -> None:
        super().__init__()
        parts = [unit.folded() for unit in (block.b0, block.b1a, block.b2a)]
        self.widths = [part.out_channels for part in parts]
        biases = [part.bias for part in parts if part.bias is not None]
        self.point = as_conv(torch.cat([part.weight for part in parts]), torch.cat(biases), parts[0])
        self.b1b, self.b2b, self.b3b = (unit.folded() for unit in (block.b1b, block.b2b, block.b3b))

    def forward(self, x: Tensor) -> Tensor:
        """As :meth:`Mixed.forward`."""
        b0, b1, b2 = torch.split(convolve_same(x, self.point).relu_(), self.widths, 1)
        pooled = max_pool_same(x, (3, 3, 3), (1, 1, 1))
        rest = ((b1, self.b1b), (b2, self.b2b), (pooled, self.b3b))
        return torch.cat([b0, *(convolve_same(y, conv).relu_() for y, conv in rest)], 1)


class Logits(nn.Module):
    """The last 1x1x1 convolution; its name in the published files is ``logits.conv3d``."""

    def __init__(self, into: int, classes: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(into, classes, 1)

    def forward(self, features: Tensor) -> Tensor:
        """[N, into] -> [N, classes]."""
        return nn.functional.linear(features, self.conv3d.weight.flatten(1), self.conv3d.bias)


class I3D(Backbone):
    """Inception-v1 inflated to 3D with 400 Kinetics logits; 12.70 M parameters, 55.6 GFLOP for 16 frames.

    ``pool_frames`` is the temporal size of the average pooling: 2 as in the graph, 1 as in DisCo's scripts.
    ``limit`` is the largest absolute input: :data:`LIMIT`, or :data:`BICUBIC_LIMIT` after a bicubic resize that is not
    rounded and cut to [-1, 1].
    """

    exact: ClassVar[tuple[str, ...]] = ("logits",)

    def __init__(self, pool_frames: Literal[1, 2] = 2, limit: float = LIMIT) -> None:
        super().__init__()
        self.pool_frames, self.limit = pool_frames, limit
        self.Conv3d_1a_7x7 = Unit(3, 64, 7, 2)
        self.Conv3d_2b_1x1 = Unit(64, 64)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3)
        into = 192
        for name, outs in _MIXED.items():
            self.add_module(name, Mixed(into, outs))
            into = outs[0] + outs[2] + outs[4] + outs[5]
        self.logits = Logits(into, 400)
        self.eval()  # never trained here, and batch statistics would be silently wrong

    def forward(self, clips: Tensor) -> Tensor:
        """float [N, 3, T, 224, 224], RGB in [-1, 1] -> float32 logits [N, 400], the FVD feature.

        Raises ValueError for another shape, UserError for values beyond ``limit`` and Unscorable for fewer than 9
        frames (1 with ``pool_frames`` 1): the network halves time three times, rounding up.
        """
        logits: Tensor = self.logits(self.pooled(clips))
        return logits

    def pooled(self, clips: Tensor) -> Tensor:
        """The 1024 features before the logits, [N, 1024], mean over time. Input and errors as :meth:`forward`.

        The logits are affine in them and averaging commutes with that, so time is averaged here. In float32 at least.
        """
        self._check(clips)
        device, _ = number_format(self.Conv3d_1a_7x7)
        # On a CPU one clip fills the cores, and several overflow the caches: a quarter slower per clip.
        at_once = len(clips) if device.type != "cpu" else 1
        return torch.cat([self._pooled(some.to(device)) for some in torch.split(clips, at_once)])

    def _pooled(self, x: Tensor) -> Tensor:
        _, dtype = number_format(self.Conv3d_1a_7x7)
        x = x.to(dtype).contiguous(memory_format=self.layout)
        for name, block in self.named_children():
            if name in _POOLS:
                x = max_pool_same(x, *_POOLS[name])
            if name != "logits":
                x = block(x)
        frames = x.to(torch.float64 if dtype == torch.float64 else torch.float32).mean((3, 4))
        return frames.unfold(2, self.pool_frames, 1).mean((2, 3))

    def _check(self, clips: Tensor) -> None:
        fits = clips.ndim == 5 and len(clips) > 0 and clips.shape[1] == 3 and clips.shape[3:] == (SIZE, SIZE)
        if not fits or not clips.is_floating_point():
            raise ValueError(f"I3D takes float [N, 3, T, {SIZE}, {SIZE}], got {clips.dtype} {list(clips.shape)}")
        least = 8 * (self.pool_frames - 1) + 1
        if clips.shape[2] < least:
            raise Unscorable(f"I3D needs {least} frames or more, the clip has {clips.shape[2]}")
        require_range(clips, -self.limit, self.limit, "I3D", "RGB in [-1, 1]")

    def published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Names of either published file -> ours. The graph's batch norms have no gamma: where none is given, ones."""
        result = {}
        for name, tensor in state.items():
            for theirs, ours in _OTHER_NAMES.items():
                name = name.replace(theirs, ours)
            result[name] = tensor
        if not any(name.endswith(".bn.weight") for name in result):
            shifts = {name: tensor for name, tensor in result.items() if name.endswith(".bn.bias")}
            result |= {name[: -len("bias")] + "weight": torch.ones_like(tensor) for name, tensor in shifts.items()}
        return result

    def fold(self) -> None:
        """Fold every batch norm, and merge the 1x1x1 convolutions that read the same tensor."""
        for name, block in list(self.named_children()):
            if isinstance(block, Unit):
                self.add_module(name, FoldedUnit(block))
            elif isinstance(block, Mixed):
                self.add_module(name, FoldedMixed(block))
