"""3D-ResNet-50 on RGB, Kinetics: the network of FID-VID (Hara, Kataoka & Satoh, arXiv 1711.09577).

As in kenshohara/video-classification-3d-cnn-pytorch, with shortcuts of type B and without the last fully connected
layer: 16 frames of 112 x 112 give 2048 features. Published file: ``resnet-50-kinetics.pth``, of which the tensors lie
under ``state_dict`` with the prefix ``module.``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ipa_bench.errors import Unscorable
from ipa_bench.nets.fold import Backbone, folded, number_format, require_range
from ipa_bench.nets.layers import convolve, max_pool

SIZE, FRAMES, FEATURES = 112, 16, 2048
#: RGB, of values from 0 to 255; subtracted, and nothing is divided (DisCo, tool/metrics)
MEAN = (114.7748, 107.7354, 99.4750)
#: how far a bicubic resize without rounding can leave 0..255: a row of its weights sums to at most 1.25 in absolute
#: value, so that 127.5 +- 127.5 becomes 127.5 +- 127.5 * 1.25**2
OVERSHOOT = 127.5 * (1.25**2 - 1) + 0.1
#: layer -> width, blocks, stride of the first
_LAYERS = {"layer1": (64, 3, 1), "layer2": (128, 4, 2), "layer3": (256, 6, 2), "layer4": (512, 3, 2)}
EXPANSION = 4


def _conv(into: int, out: int, kernel: int, stride: int | tuple[int, int, int] = 1) -> nn.Conv3d:
    return nn.Conv3d(into, out, kernel, stride, padding=kernel // 2, bias=False)


def _apply(conv: nn.Conv3d, norm: nn.Module, x: Tensor) -> Tensor:
    y: Tensor = norm(convolve(x, conv, [size // 2 for size in conv.kernel_size]))
    return y


class Bottleneck(nn.Module):
    """1x1x1, 3x3x3, 1x1x1 with a shortcut; the first block of a layer has a convolution on it."""

    def __init__(self, into: int, width: int, stride: int, project: bool) -> None:
        super().__init__()
        out = EXPANSION * width
        self.conv1, self.bn1 = _conv(into, width, 1), nn.BatchNorm3d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), nn.BatchNorm3d(width)
        self.conv3, self.bn3 = _conv(width, out, 1), nn.BatchNorm3d(out)
        self.downsample = nn.ModuleList([_conv(into, out, 1, stride), nn.BatchNorm3d(out)] if project else [])

    def forward(self, x: Tensor) -> Tensor:
        """[N, into, T, H, W] -> [N, 4 width, T / stride, H / stride, W / stride], sizes rounded up."""
        y = _apply(self.conv1, self.bn1, x).relu_()
        y = _apply(self.conv2, self.bn2, y).relu_()
        y = _apply(self.conv3, self.bn3, y)
        if len(self.downsample):
            conv, norm = self.downsample
            assert isinstance(conv, nn.Conv3d)
            x = _apply(conv, norm, x)
        return y.add_(x).relu_()


class ResNet3D(Backbone):
    """3D-ResNet-50 up to its pooling: 2048 features of 16 frames; 46.2 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(3, 64, 7, (1, 2, 2)), nn.BatchNorm3d(64)
        into = 64
        for name, (width, count, stride) in _LAYERS.items():
            blocks = []
            for index in range(count):
                blocks.append(Bottleneck(into, width, stride if index == 0 else 1, project=index == 0))
                into = EXPANSION * width
            self.add_module(name, nn.Sequential(*blocks))
        self.eval()  # never trained here, and batch statistics would be silently wrong

    def forward(self, clips: Tensor) -> Tensor:
        """float [N, 3, 16, 112, 112], RGB from 0 to 255 (not divided, no mean taken off) -> float32 [N, 2048].

        Raises ValueError for another frame size or type, Unscorable for another number of frames (DisCo repeats the
        last frame up to a multiple of 16 and averages the segments) and UserError for values further outside of 0 to
        255 than a bicubic resize leads.
        """
        self._check(clips)
        device, dtype = number_format(self.conv1)
        mean = torch.tensor(MEAN, dtype=torch.float64)[:, None, None, None]
        # centred before rounding to the network's format: bfloat16 has 8 bits
        x = (clips.to(device) - mean.to(device, torch.promote_types(clips.dtype, torch.float32))).to(dtype)
        x = _apply(self.conv1, self.bn1, x.contiguous(memory_format=self.layout)).relu_()
        x = max_pool(x, (3, 3, 3), (2, 2, 2), ((1, 1),) * 3)
        for name in _LAYERS:
            x = self.get_submodule(name)(x)
        return x.to(torch.float64 if dtype == torch.float64 else torch.float32).mean((2, 3, 4))

    @staticmethod
    def _check(clips: Tensor) -> None:
        fits = clips.ndim == 5 and len(clips) > 0 and clips.shape[1] == 3 and clips.shape[3:] == (SIZE, SIZE)
        if not fits or not clips.is_floating_point():
            wanted = f"float [N, 3, {FRAMES}, {SIZE}, {SIZE}]"
            raise ValueError(f"3D-ResNet-50 takes {wanted}, got {clips.dtype} {list(clips.shape)}")
        if clips.shape[2] != FRAMES:
            raise Unscorable(f"3D-ResNet-50 takes {FRAMES} frames at a time, got {clips.shape[2]}")
        require_range(clips, -OVERSHOOT, 255 + OVERSHOOT, "3D-ResNet-50", "RGB from 0 to 255")

    def published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The names are ours; the fully connected layer is left out."""
        return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}

    def fold(self) -> None:
        """Fold every batch norm; an Identity takes its place."""
        for module in [self, *self.modules()]:
            if isinstance(module, ResNet3D | Bottleneck):
                _fold_pairs(module)


def _fold_pairs(module: nn.Module) -> None:
    """``convN`` and ``bnN``, and the two of ``downsample``."""
    pairs = [(module, name, f"bn{name[-1]}") for name, _ in module.named_children() if name.startswith("conv")]
    if isinstance(module, Bottleneck) and len(module.downsample):
        pairs.append((module.downsample, "0", "1"))
    for owner, conv_name, norm_name in pairs:
        conv, norm = owner.get_submodule(conv_name), owner.get_submodule(norm_name)
        if isinstance(conv, nn.Conv3d) and isinstance(norm, nn.BatchNorm3d):
            owner.add_module(conv_name, folded(conv, norm))
            owner.add_module(norm_name, nn.Identity())
