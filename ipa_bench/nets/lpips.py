"""LPIPS v0.1: AlexNet, VGG-16 or SqueezeNet-1.1 and the learned heads (Zhang et al., arXiv 1801.03924).

The arithmetic is that of richzhang/PerceptualSimilarity (package ``lpips`` 0.1.4): shift and scale of [-1, 1], every
map divided by its norm over channels plus 1e-10, squared differences weighted by a head, mean over space, sum over
maps. The trunks take torchvision's files (names ``features.N...``; the classifier is left out), the heads the 6 to
11 kB files of the package.

The usual mistake is to feed [0, 1], which no check of the range can tell from a dark picture in [-1, 1]. So
:meth:`Lpips.features` takes bytes and converts them itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ipa_bench.errors import Unscorable
from ipa_bench.nets.fold import Backbone, number_format, require_range
from ipa_bench.types import UInt8

Net = Literal["alex", "vgg", "squeeze", "embedded"]
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
NORM_FLOOR = 1e-10
#: modules of torchvision's ``features`` after which a map is taken, the map's channels, and the smallest side (pixels)
_TAPS: dict[Net, tuple[int, ...]] = {
    "alex": (1, 4, 7, 9, 11),
    "vgg": (3, 8, 15, 22, 29),
    "squeeze": (1, 4, 7, 9, 10, 11, 12),
    "embedded": (1, 4, 7, 9, 12),
}
_CHANNELS: dict[Net, tuple[int, ...]] = {
    "alex": (64, 192, 384, 256, 256),
    "vgg": (64, 128, 256, 512, 512),
    "squeeze": (64, 128, 256, 384, 384, 512, 512),
    "embedded": (16, 32, 48, 64, 64),
}
_LEAST: dict[Net, int] = {"alex": 31, "vgg": 16, "squeeze": 17, "embedded": 15}


class Fire(nn.Module):
    """SqueezeNet's block: 1x1 down to few channels, then 1x1 and 3x3 side by side."""

    def __init__(self, into: int, narrow: int, wide: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(into, narrow, 1)
        self.expand1x1 = nn.Conv2d(narrow, wide, 1)
        self.expand3x3 = nn.Conv2d(narrow, wide, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, into, H, W] -> [N, 2 wide, H, W]."""
        x = self.squeeze(x).relu_()
        return torch.cat([self.expand1x1(x).relu_(), self.expand3x3(x).relu_()], 1)


def _alex() -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    for into, out in ((192, 384), (384, 256), (256, 256)):
        layers += [nn.Conv2d(into, out, 3, padding=1), nn.ReLU()]
    return layers


def _vgg() -> list[nn.Module]:
    layers: list[nn.Module] = []
    into = 3
    for out, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        layers += [nn.MaxPool2d(2)] if layers else []
        for _ in range(count):
            layers += [nn.Conv2d(into, out, 3, padding=1), nn.ReLU()]
            into = out
    return layers


def _squeeze() -> list[nn.Module]:
    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(), Fire(64, 16, 64), Fire(128, 16, 64), pool()]
    layers += [Fire(128, 32, 128), Fire(256, 32, 128), pool(), Fire(256, 48, 192), Fire(384, 48, 192)]
    return [*layers, Fire(384, 64, 256), Fire(512, 64, 256)]


def _embedded() -> list[nn.Module]:
    """This project's own trunk for the built-in world; see :mod:`ipa_bench.nets.embedded`."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 5, 2, 2), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(32, 48, 3, padding=1), nn.ReLU(), nn.Conv2d(48, 64, 3, padding=1), nn.ReLU()]
    return [*layers, nn.MaxPool2d(2), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()]


_LAYERS: dict[Net, Callable[[], list[nn.Module]]] = {
    "alex": _alex,
    "vgg": _vgg,
    "squeeze": _squeeze,
    "embedded": _embedded,
}


class Trunk(Backbone):
    """The convolutions of a torchvision classifier, up to the last map that LPIPS takes."""

    layout: ClassVar[torch.memory_format] = torch.channels_last

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net
        self.features = nn.Sequential(*_LAYERS[net]())

    def forward(self, images: Tensor) -> list[Tensor]:
        """float [N, 3, H, W] in [-1, 1] -> maps [N, C, h, w] after the ReLUs of the paper, in the trunk's dtype."""
        device, dtype = number_format(self)
        x = images.to(device)
        shift, scale = (torch.tensor(v, dtype=x.dtype, device=device)[:, None, None] for v in (SHIFT, SCALE))
        x = ((x - shift) / scale).to(dtype).contiguous(memory_format=self.layout)
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in _TAPS[self.net]:
                maps.append(x)
        return maps

    def published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """torchvision's names are ours; the classifier is left out."""
        return {name: tensor for name, tensor in state.items() if not name.startswith("classifier.")}


class Head(nn.Module):
    """One weight for every channel of a map; its name in the published files is ``linN.model.1.weight``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # in the published files module 0 is a dropout, which has no tensors
        self.model = nn.ModuleList([nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False)])

    def forward(self, squares: Tensor) -> Tensor:
        """[N, C, h, w] -> [N, h, w]: the weighted sum over channels."""
        value: Tensor = self.model[1](squares)
        return value[:, 0]


class Heads(Backbone):
    """The learned heads of one trunk, ``lin0`` to ``lin4`` (``lin6`` for SqueezeNet)."""

    layout: ClassVar[torch.memory_format] = torch.channels_last

    def __init__(self, net: Net) -> None:
        super().__init__()
        for index, channels in enumerate(_CHANNELS[net]):
            self.add_module(f"lin{index}", Head(channels))

    def forward(self, squares: Sequence[Tensor]) -> list[Tensor]:
        """Maps [N, C, h, w] of squared differences -> maps [N, h, w]."""
        return [head(square) for head, square in zip(self.children(), squares, strict=True)]


class Lpips(Backbone):
    """LPIPS v0.1. Load ``trunk`` and ``heads`` from their files; features of a reference can be kept and used again."""

    layout: ClassVar[torch.memory_format] = torch.channels_last
    exact: ClassVar[tuple[str, ...]] = ("heads",)

    def __init__(self, net: Net = "alex") -> None:
        super().__init__()
        self.net = net
        self.trunk, self.heads = Trunk(net), Heads(net)

    @property
    def comparable(self) -> bool:
        """Whether both the trunk's and the heads' weights were read from files."""
        return self.trunk.comparable and self.heads.comparable

    def features(self, images: UInt8 | Tensor) -> list[Tensor]:
        """uint8 RGB [N, H, W, 3] -> maps [N, C, h, w], float32, of unit norm over channels (0 where nothing fires).

        Raises ValueError for another shape or type and Unscorable for images too small for the trunk.
        """
        given = torch.tensor(images) if isinstance(images, np.ndarray) else images  # a copy: arrays may be read-only
        if given.ndim != 4 or not len(given) or given.shape[3] != 3 or given.dtype != torch.uint8:
            raise ValueError(f"LPIPS takes uint8 [N, H, W, 3], got {given.dtype} {list(given.shape)}")
        device, dtype = number_format(self.heads)
        return self.features_of_floats(given.to(device, dtype).permute(0, 3, 1, 2) / 127.5 - 1.0)

    def features_of_floats(self, images: Tensor) -> list[Tensor]:
        """float RGB [N, 3, H, W] in [-1, 1] -> as :meth:`features`.

        Images in [0, 1] pass the check of the range and give a wrong distance: prefer :meth:`features`.
        Raises ValueError for another shape or type, UserError for values outside of [-1, 1] and Unscorable for images
        too small for the trunk.
        """
        if images.ndim != 4 or not len(images) or images.shape[1] != 3 or not images.is_floating_point():
            raise ValueError(f"LPIPS takes float [N, 3, H, W], got {images.dtype} {list(images.shape)}")
        if min(images.shape[2:]) < _LEAST[self.net]:
            least, (height, width) = _LEAST[self.net], images.shape[2:]
            raise Unscorable(
                f"LPIPS ({self.net}) needs images of {least} x {least} pixels or more, got {width} x {height}"
            )
        require_range(images, -1.001, 1.001, "LPIPS", "RGB in [-1, 1]")
        exact = number_format(self.heads)[1]
        return [_unit(each.to(exact)) for each in self.trunk(images)]

    def distance(self, one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
        """Features of N images and of N others -> N distances, >= 0 with the published heads; 0 for equal features.

        Raises ValueError where the images were not of one size.
        """
        return torch.stack([each.mean((1, 2)) for each in self._weighted(one, other)]).sum(0)

    def distance_map(self, one: Sequence[Tensor], other: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """The distance where it arises, [N, height, width] for ``size`` (height, width) of the images.

        Every map is enlarged bilinearly, as with the package's ``spatial=True``; take the mean over a region. The mean
        over the whole is close to :meth:`distance`, not equal to it.
        """
        weighted = [each[:, None] for each in self._weighted(one, other)]
        enlarged = [F.interpolate(each, size, mode="bilinear", align_corners=False)[:, 0] for each in weighted]
        return torch.stack(enlarged).sum(0)

    def _weighted(self, one: Sequence[Tensor], other: Sequence[Tensor]) -> list[Tensor]:
        shapes = [[list(each.shape) for each in maps] for maps in (one, other)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"LPIPS compares images of one size, got maps {shapes[0][0]} and {shapes[1][0]}")
        weighted: list[Tensor] = self.heads([(a - b).square_() for a, b in zip(one, other, strict=True)])
        return weighted


def _unit(values: Tensor) -> Tensor:
    return values / (values.square().sum(1, keepdim=True).sqrt() + NORM_FLOOR)
