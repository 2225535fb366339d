"""dlib's face network, a ResNet of 29 convolutions (D. King): an aligned face in 128 numbers.

The file is ``dlib_face_recognition_resnet_model_v1.dat``. Two pictures show one person where the L2 distance of their
numbers is below :data:`SAME`. The file is a serialised dlib network, whose format is given by dlib's ``core.h`` and
``layers.h``: the versions of all layers from the last to the first, the input, then the layers from first to last, each
with its name, its tensors and the state of its training. :func:`read_dlib` reads all of it, against the layers that are
expected, to the last byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ipa_bench.errors import UserError
from ipa_bench.nets.fold import Backbone, number_format, prepare
from ipa_bench.types import Float32

#: side of the square input, pixels
SIDE = 150
#: L2 distance below which the author calls two pictures one person
SAME = 0.6
#: where the eyes (right, left), the nose and the corners of the mouth (right, left) come to lie, pixels of the input:
#: dlib's mean face in the unit square, with a margin of a quarter all around
_MEAN_FACE = ((0.2255, 0.216), (0.7548, 0.216), (0.4901, 0.5156), (0.2541, 0.7802), (0.7261, 0.7802))
POINTS: Float32 = ((np.array(_MEAN_FACE) + 0.25) / 1.5 * SIDE).astype(np.float32)
#: red, green, blue
_MEAN = (122.782, 117.001, 104.298)
#: channels of the residual blocks, first to last, and whether a block halves the picture
_BLOCKS = (
    *((32, False),) * 3,
    (64, True), *((64, False),) * 3,
    (128, True), *((128, False),) * 2,
    (256, True), *((256, False),) * 2,
    (256, True),
)  # fmt: skip
_OUT = 128


class _Block(nn.Module):
    """Two 3x3 convolutions and what came in, added. Where channels or sizes differ, zeros fill up the smaller."""

    def __init__(self, into: int, out: int, down: bool) -> None:
        super().__init__()
        self.down = down
        self.conv1 = nn.Conv2d(into, out, 3, stride=2 if down else 1, padding=0 if down else 1)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, into, H, W] -> [N, max(into, out), h, w]."""
        y: Tensor = self.conv2(self.conv1(x).relu_())
        if not self.down:
            return (y + x).relu_()
        skip = F.avg_pool2d(x, 2)
        channels, height, width = (max(a, b) for a, b in zip(y.shape[1:], skip.shape[1:], strict=True))
        return (_filled(y, channels, height, width) + _filled(skip, channels, height, width)).relu_()


def _filled(x: Tensor, channels: int, height: int, width: int) -> Tensor:
    missing = (0, width - x.shape[3], 0, height - x.shape[2], 0, channels - x.shape[1])
    return F.pad(x, missing) if any(missing) else x


class DlibFace(Backbone):
    """The network with its affine layers multiplied into the convolutions."""

    layout: ClassVar[torch.memory_format] = torch.channels_last

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 7, stride=2)
        channels = (32, *(out for out, _ in _BLOCKS))
        self.blocks = nn.Sequential(
            *(_Block(into, out, down) for into, (out, down) in zip(channels[:-1], _BLOCKS, strict=True))
        )
        self.fc = nn.Linear(channels[-1], _OUT, bias=False)

    def convolutions(self) -> list[nn.Conv2d]:
        """The 29 in the order of the file."""
        return [self.stem, *(conv for block in self.blocks for conv in (block.conv1, block.conv2))]  # type: ignore[list-item]

    def forward(self, faces: Tensor) -> Tensor:
        """Aligned RGB faces [N, 3, 150, 150], 0 to 255 -> [N, 128], of about unit length.

        Raises ValueError for another shape.
        """
        if faces.ndim != 4 or faces.shape[1:] != (3, SIDE, SIDE):
            raise ValueError(f"dlib's face network takes [N, 3, {SIDE}, {SIDE}], got {list(faces.shape)}")
        device, dtype = number_format(self)
        mean = torch.tensor(_MEAN, dtype=dtype, device=device)[:, None, None]
        x = ((faces.to(device, dtype) - mean) / 256).contiguous(memory_format=self.layout)
        x = F.max_pool2d(self.stem(x).relu_(), 3, 2)
        numbers: Tensor = self.fc(self.blocks(x).mean((2, 3)))
        return numbers


def load_dlib_face(path: str | Path) -> DlibFace:
    """The network with the weights of the published file. Raises :class:`UserError` as :func:`read_dlib` does."""
    net, layers = DlibFace(), read_dlib(path)
    try:
        _fill(net, layers)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{path} is another network of dlib's: {error}", "download it again") from error
    net.origin = Path(path).name
    return prepare(net)


def _fill(net: DlibFace, layers: list[Float32]) -> None:
    convs = net.convolutions()
    with torch.no_grad():
        for conv, params, affine in zip(convs, layers[0:-1:2], layers[1:-1:2], strict=True):
            gain, shift = (torch.from_numpy(v.copy()).double() for v in np.split(affine, 2))
            weights, bias = np.split(params, [len(params) - len(gain)])
            weight = torch.from_numpy(weights.copy()).double().reshape(conv.weight.shape)
            conv.weight.copy_(weight * gain[:, None, None, None])
            conv.bias.copy_(torch.from_numpy(bias.copy()).double() * gain + shift)  # type: ignore[union-attr]
        net.fc.weight.copy_(torch.from_numpy(layers[-1].reshape(-1, _OUT).T.copy()))


# ---------------------------------------------------------------------------------------------------------------------
# the file


def read_dlib(path: str | Path) -> list[Float32]:
    """The parameters, flat, of the layers that have any, first to last: 29 pairs of a convolution's and an affine
    layer's, then those of the last layer. Of a convolution all weights [out, in, row, column], then the biases.

    Raises :class:`UserError` for a file that cannot be read, is of another network or has bytes left over.
    """
    path = Path(path)
    try:
        return _read(_Stream(path.read_bytes()))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}", "check the path") from error
    except (ValueError, IndexError) as error:
        raise UserError(f"{path} is not dlib's face network: {error}", "download it again") from error


def _plan() -> Iterator[tuple[str, tuple[int, ...]]]:
    """The layers first to last: name in the file ("" for a tag or a skip, which only the header knows), and numbers.

    A convolution's are filters, kernel, stride, padding (the last three twice: rows, columns), a pool's the same
    without filters, those of ``fc`` outputs and inputs.
    """
    yield from _conv(32, 7, 2, 0)
    yield "relu_", ()
    yield "max_pool_2", (3, 3, 2, 2, 0, 0)
    for out, down in _BLOCKS:
        yield "", ()
        yield from _conv(out, 3, 2 if down else 1, 0 if down else 1)
        yield "relu_", ()
        yield from _conv(out, 3, 1, 1)
        if down:
            yield "", ()
            yield "", ()
            yield "avg_pool_2", (2, 2, 2, 2, 0, 0)
        yield "add_prev_", ()
        yield "relu_", ()
    yield "avg_pool_2", (0, 0, 1, 1, 0, 0)
    yield "fc_2", (_OUT, _BLOCKS[-1][0])


def _conv(out: int, kernel: int, stride: int, pad: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "con_4", (out, kernel, kernel, stride, stride, pad, pad)
    yield "affine_", ()


def _read(stream: _Stream) -> list[Float32]:
    layers = list(_plan())
    stream.expect_int(1, "version")
    stream.expect_name("loss_metric_2")
    stream.floats(2)
    for name, _ in reversed(layers[1:]):
        stream.expect_int(2 if name else 1, f"version of {name or 'a tag'}")
    stream.expect_int(3, "version of the first layer")
    stream.expect_name("input_rgb_image_sized")
    if not np.allclose(stream.floats(3), _MEAN, atol=1e-4):
        raise ValueError("another mean colour")
    for _ in range(2):
        stream.expect_int(SIDE, "side of the input")
    found = []
    for index, (name, numbers) in enumerate(layers):
        if name:
            stream.expect_name(name)
            found += _READERS[name](stream, numbers)
            stream.state()
        if index == 0:
            stream.expect_int(1, "pictures a sample")
    if stream.at != len(stream.data):
        raise ValueError(f"{len(stream.data) - stream.at} bytes left over")
    return found


def _read_conv(stream: _Stream, numbers: tuple[int, ...]) -> list[Float32]:
    params = stream.tensor()
    stream.expect_ints(numbers, "of a convolution")
    stream.aliases(2)
    stream.floats(4)  # rates of learning and decay
    return [params]


def _read_affine(stream: _Stream, _: tuple[int, ...]) -> list[Float32]:
    params = stream.tensor()
    stream.aliases(2)
    stream.expect_int(0, "mode")
    return [params]


def _read_numbers(stream: _Stream, numbers: tuple[int, ...]) -> list[Float32]:
    stream.expect_ints(numbers, "of a pool")
    return []


def _read_fc(stream: _Stream, numbers: tuple[int, ...]) -> list[Float32]:
    stream.expect_ints(numbers, "of the last layer")
    params = stream.tensor()
    stream.aliases(2)
    stream.expect_int(1, "mode: no bias")
    stream.floats(4)
    return [params]


_READERS = {
    "con_4": _read_conv,
    "affine_": _read_affine,
    "relu_": _read_numbers,
    "add_prev_": _read_numbers,
    "max_pool_2": _read_numbers,
    "avg_pool_2": _read_numbers,
    "fc_2": _read_fc,
}


class _Stream:
    """dlib's primitives: packed integers, floats as mantissa and exponent, names, tensors."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise ValueError(f"cut off: {self.at + count - len(self.data)} bytes are missing")
        self.at += count
        return self.data[self.at - count : self.at]

    def integer(self) -> int:
        """A control byte (sign in the top bit, number of bytes in the low nibble), then the bytes, lowest first."""
        control = self.take(1)[0]
        value = int.from_bytes(self.take(control & 0x0F), "little")
        return -value if control & 0x80 else value

    def floats(self, count: int) -> list[float]:
        return [self.integer() * 2.0 ** self.integer() for _ in range(count)]

    def expect_int(self, wanted: int, what: str) -> None:
        if (value := self.integer()) != wanted:
            raise ValueError(f"{what} is {value}, not {wanted}, before byte {self.at}")

    def expect_ints(self, wanted: tuple[int, ...], what: str) -> None:
        for index, value in enumerate(wanted):
            self.expect_int(value, f"number {index} {what}")

    def expect_name(self, wanted: str) -> None:
        if (name := self.take(self.integer()).decode()) != wanted:
            raise ValueError(f"layer {name!r} where {wanted!r} should be, before byte {self.at}")

    def tensor(self) -> Float32:
        self.expect_int(2, "version of a tensor")
        size = int(np.prod([self.integer() for _ in range(4)]))
        return np.frombuffer(self.take(4 * size), "<f4").astype(np.float32)

    def aliases(self, count: int) -> None:
        """Shapes of the parts of a tensor, which the numbers of the layer give as well."""
        for _ in range(count):
            self.expect_int(1, "version of a part")
            for _ in range(4):
                self.integer()

    def state(self) -> None:
        """Three flags and three tensors that training left behind, all empty in a file that was cleaned."""
        flags = self.take(3)
        if not set(flags) <= set(b"01"):
            raise ValueError(f"flags {flags!r} before byte {self.at}")
        for _ in range(3):
            self.tensor()
