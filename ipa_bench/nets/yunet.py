"""YuNet (Wu et al. 2023, 76 thousand weights): boxes of faces and five points in each, from OpenCV's model zoo.

The file is ``face_detection_yunet_2023mar_int8bq.onnx``. The arithmetic after the network is that of OpenCV's
``FaceDetectorYN``; only that boxes which overlap are compared as they are, where OpenCV first cuts off what is behind
the decimal point.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ipa_bench.nets.fold import Backbone, number_format, prepare
from ipa_bench.nets.onnx import load_convolutions
from ipa_bench.types import Float32, UInt8

STRIDES = (8, 16, 32)
#: sides of the input are zero-padded to multiples of this
MULTIPLE = 32
#: least score of a face, and most overlap (intersection over union) of two; OpenCV's defaults
SCORE, OVERLAP = 0.9, 0.3
#: channels of the backbone's pairs of convolutions, first to last
_CHANNELS = (16, 16, 16, 32, 32, 64, 64, 64, 64, 64, 64, 64)
#: pairs behind which the picture is halved, and those whose maps, of strides 8, 16 and 32, are taken before that
_HALVED, _TAPS = (0, 4, 6, 8), (6, 8, 10)
#: what a head gives for a cell: class, box, whether an object is there, five points; in the order of the file
_HEADS = {"cls": 1, "bbox": 4, "obj": 1, "kps": 10}


@dataclass(frozen=True, eq=False)
class Faces:
    """The faces of one picture, the surest first: pixels of it, x right, y down, (0, 0) the first pixel's corner."""

    #: [n, 4]: left, top, width, height
    box: Float32
    #: [n, 5, 2]: the person's right eye, left eye, nose, right and left corner of the mouth
    points: Float32
    #: [n], from 0 to 1
    score: Float32


class _Pair(nn.Module):
    """A 1x1 convolution and a 3x3 one for each channel."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 1)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, groups=out)

    def forward(self, x: Tensor) -> Tensor:
        """[N, into, H, W] -> [N, out, H, W]."""
        y: Tensor = self.conv2(self.conv1(x))
        return y


class YuNet(Backbone):
    """The network; :func:`detect` makes faces of what it gives."""

    layout: ClassVar[torch.memory_format] = torch.channels_last

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.pairs = nn.ModuleList(_Pair(into, out) for into, out in pairwise(_CHANNELS))
        #: of strides 32, 16, 8
        self.neck = nn.ModuleList(_Pair(64, 64) for _ in STRIDES)
        self.heads = nn.ModuleList(_Pair(64, out) for out in _HEADS.values() for _ in STRIDES)

    def forward(self, images: Tensor) -> dict[str, list[Tensor]]:
        """BGR pictures [N, 3, H, W], 0 to 255, sides multiples of 32 -> of each head a map [N, c, h, w] a stride.

        Raises ValueError for another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3 or any(side % MULTIPLE or not side for side in images.shape[2:]):
            raise ValueError(
                f"YuNet takes [N, 3, H, W] with sides of multiples of {MULTIPLE}, got {list(images.shape)}"
            )
        device, dtype = number_format(self)
        x = self.stem(images.to(device, dtype).contiguous(memory_format=self.layout)).relu_()
        taps = []
        for index, pair in enumerate(self.pairs):
            x = pair(x).relu_()
            if index in _TAPS:
                taps.append(x)
            if index in _HALVED:
                x = F.max_pool2d(x, 2)
        maps = [self.neck[0](taps[2]).relu_()]
        for pair, tap in zip(self.neck[1:], taps[1::-1], strict=True):
            maps.insert(0, pair(tap + F.interpolate(maps[0], scale_factor=2, mode="nearest")).relu_())
        given = [head(maps[index % len(STRIDES)]) for index, head in enumerate(self.heads)]
        return {name: given[n * len(STRIDES) : (n + 1) * len(STRIDES)] for n, name in enumerate(_HEADS)}


def load_yunet(path: str | Path) -> YuNet:
    """The network with the weights of the published file; raises UserError where it is none."""
    net = YuNet()
    # Both the file and this module name convolutions in the order in which they are computed.
    load_convolutions(path, [part for part in net.modules() if isinstance(part, nn.Conv2d)])
    net.origin = Path(path).name
    return prepare(net)


# ---------------------------------------------------------------------------------------------------------------------
# faces


def detect(net: YuNet, images: UInt8, score: float = SCORE, overlap: float = OVERLAP) -> list[Faces]:
    """The faces of RGB pictures, uint8 [N, H, W, 3], as they are: a face of less than about 10 pixels is not found.

    Raises ValueError for another shape or type.
    """
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or not images.size:
        raise ValueError(f"faces are looked for in uint8 [N, H, W, 3], got {images.dtype} {list(images.shape)}")
    below, right = (-side % MULTIPLE for side in images.shape[1:3])
    bgr = torch.from_numpy(np.ascontiguousarray(images[..., ::-1])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        maps = net(F.pad(bgr, (0, right, 0, below)))
        found = _decode({name: [each.float() for each in heads] for name, heads in maps.items()})
    boxes, points, scores = (part.cpu().numpy() for part in found)
    return [_sure(*cells, score, overlap) for cells in zip(boxes, points, scores, strict=True)]


def _decode(maps: dict[str, list[Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes [N, cells, 4], points [N, cells, 5, 2] and scores [N, cells] of all cells of all strides."""
    boxes, points, scores = [], [], []
    for index, stride in enumerate(STRIDES):
        cls, box, obj, kps = (maps[name][index].permute(0, 2, 3, 1) for name in _HEADS)
        count, height, width = cls.shape[:3]
        corner = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"), -1).to(box)
        centre, size = (corner + box[..., :2]) * stride, box[..., 2:].exp() * stride
        boxes.append(torch.cat([centre - size / 2, size], -1).reshape(count, -1, 4))
        points.append(
            ((corner[:, :, None] + kps.reshape(count, height, width, 5, 2)) * stride).reshape(count, -1, 5, 2)
        )
        scores.append((cls.sigmoid() * obj.sigmoid()).sqrt().reshape(count, -1))
    return torch.cat(boxes, 1), torch.cat(points, 1), torch.cat(scores, 1)


def _sure(box: Float32, points: Float32, score: Float32, least: float, overlap: float) -> Faces:
    """The cells of at least the least score, without those that overlap with a surer one."""
    order = np.flatnonzero(score >= least)
    order = order[np.argsort(-score[order], kind="stable")]
    kept: list[int] = []
    for index in order:
        if not kept or overlaps(box[index], box[kept]).max() <= overlap:
            kept.append(int(index))
    return Faces(box[kept], points[kept], score[kept])


def overlaps(box: Float32, others: Float32) -> Float32:
    """Intersection over union of one box [4] with others [n, 4]; boxes are left, top, width, height. [n]."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:])
    common = np.clip(high - low, 0, None).prod(1)
    return np.asarray(common / (box[2:].prod() + others[:, 2:].prod(1) - common), np.float32)
