"""SFace (Zhong et al., arXiv 2205.12010) on MobileFaceNet: an aligned face in 128 numbers, from OpenCV's model zoo.

The file is ``face_recognition_sface_2021dec_int8bq.onnx``. Two pictures show one person where the cosine of their
numbers is at least :data:`SAME`.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ipa_bench.errors import UserError
from ipa_bench.nets.fold import Backbone, number_format, prepare
from ipa_bench.nets.onnx import Graph, Node, load_convolutions
from ipa_bench.types import Float32, Float64

#: side of the square input, pixels
SIDE = 112
#: cosine from which OpenCV calls two pictures one person
SAME = 0.363
#: where the eyes (right, left), the nose and the corners of the mouth (right, left) come to lie, pixels of the input
POINTS: Float32 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
_CHANNELS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
#: the separable convolutions that halve the picture, counted from 0
_HALVED = (1, 3, 5, 11)
_OUT = 128


class SFace(Backbone):
    """The network with its batch norms multiplied into the convolutions and the last layer."""

    layout: ClassVar[torch.memory_format] = torch.channels_last

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, padding=1), nn.PReLU(32)]
        for index, (into, out) in enumerate(pairwise(_CHANNELS)):
            stride = 2 if index in _HALVED else 1
            layers += [nn.Conv2d(into, into, 3, stride, 1, groups=into), nn.PReLU(into)]
            layers += [nn.Conv2d(into, out, 1), nn.PReLU(out)]
        self.layers = nn.Sequential(*layers)
        self.fc = nn.Linear(_CHANNELS[-1] * 7 * 7, _OUT)

    def forward(self, faces: Tensor) -> Tensor:
        """Aligned RGB faces [N, 3, 112, 112], 0 to 255 -> [N, 128], of no set length.

        Raises ValueError for another shape.
        """
        if faces.ndim != 4 or faces.shape[1:] != (3, SIDE, SIDE):
            raise ValueError(f"SFace takes [N, 3, {SIDE}, {SIDE}], got {list(faces.shape)}")
        device, dtype = number_format(self)
        x = ((faces.to(device, dtype) - 127.5) / 128).contiguous(memory_format=self.layout)
        numbers: Tensor = self.fc(self.layers(x).flatten(1))
        return numbers


def load_sface(path: str | Path) -> SFace:
    """The network with the weights of the published file; raises UserError where it is none."""
    net = SFace()
    convs = [part for part in net.layers if isinstance(part, nn.Conv2d)]
    graph = load_convolutions(path, convs)
    try:
        _fill(net, convs, graph)
    except (ValueError, LookupError, RuntimeError) as error:
        raise UserError(f"{path} is another network: {error}", "use the file that is published for SFace") from error
    net.origin = Path(path).name
    return prepare(net)


def _fill(net: SFace, convs: list[nn.Conv2d], graph: Graph) -> None:
    """Slopes, norms and the last layer; what scales the input is checked."""
    scale = [graph.constants[node.inputs[1]].item() for node in graph.nodes if node.op in ("Sub", "Mul")]
    if scale != [127.5, 1 / 128]:
        raise ValueError(f"it scales its input by {scale}")
    slopes = [graph.constants[node.inputs[1]] for node in graph.nodes if node.op == "PRelu"]
    norms = [_norm(graph, node) for node in graph.nodes if node.op == "BatchNormalization"]
    (gemm,) = (node for node in graph.nodes if node.op == "Gemm")
    weight, bias = (np.asarray(graph.constants[name], np.float64) for name in gemm.inputs[1:])
    with torch.no_grad():
        for layer, slope in zip((p for p in net.layers if isinstance(p, nn.PReLU)), slopes, strict=True):
            layer.weight.copy_(_tensor(slope.reshape(-1)))
        for conv, (gain, shift) in zip(convs, norms[:-2], strict=True):
            conv.weight.copy_(conv.weight.double() * _tensor(gain)[:, None, None, None])
            conv.bias.copy_(_tensor(shift))  # type: ignore[union-attr]
        # Of the last two norms one stands before the matrix, one behind it.
        (before, offset), (gain, shift) = norms[-2:]
        places = weight.shape[1] // len(before)
        net.fc.bias.copy_(_tensor(gain * (bias + weight @ offset.repeat(places)) + shift))
        net.fc.weight.copy_(_tensor(gain[:, None] * weight * before.repeat(places)))


def _norm(graph: Graph, node: Node) -> tuple[Float64, Float64]:
    """What a batch norm multiplies by, and then adds."""
    gamma, beta, mean, variance = (np.asarray(graph.constants[name], np.float64) for name in node.inputs[1:])
    epsilon = node.attributes["epsilon"]
    if not isinstance(epsilon, float):
        raise ValueError("a norm without an epsilon")
    gain = gamma / np.sqrt(variance + epsilon)
    return gain, beta - mean * gain


def _tensor(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(values, np.float64))
