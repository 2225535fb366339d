"""Convolution and max-pooling as the backbones need them: TensorFlow's SAME padding, and no slow path on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: zeros in front of and behind one dimension
Pad = tuple[int, int]
_ONE_DNN = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def same_padding(size: int, kernel: int, stride: int) -> Pad:
    """Zeros that TensorFlow's SAME adds: ``ceil(size / stride)`` outputs, and of an odd number one more behind.

    >>> same_padding(224, 7, 2), same_padding(15, 3, 2), same_padding(8, 3, 1)
    ((2, 3), (1, 1), (1, 1))
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _same(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> list[Pad]:
    return [same_padding(*numbers) for numbers in zip(x.shape[2:], kernel, stride, strict=True)]


def _pad(x: Tensor, pads: Sequence[Pad]) -> Tensor:
    flat = [number for pair in reversed(pads) for number in pair]  # F.pad counts from the last dimension
    return F.pad(x, flat) if any(flat) else x


def convolve(x: Tensor, conv: nn.Conv3d, padding: Sequence[int]) -> Tensor:
    """``conv`` of ``[N, C, T, H, W]`` with the given symmetric zero padding; that of ``conv`` itself is not used."""
    if x.device.type == "cpu" and x.dtype == torch.float32 and _ONE_DNN:
        # conv3d would take a kernel several times slower for one small clip, and for 1x1x1 on one thread.
        return torch.mkldnn_convolution(
            x, conv.weight, conv.bias, list(padding), conv.stride, conv.dilation, conv.groups
        )
    return F.conv3d(x, conv.weight, conv.bias, conv.stride, tuple(padding), conv.dilation, conv.groups)


def convolve_same(x: Tensor, conv: nn.Conv3d) -> Tensor:
    """``conv`` of ``[N, C, T, H, W]`` with SAME padding, from the size of ``x`` in each dimension."""
    pads = _same(x, conv.kernel_size, conv.stride)
    if all(before == after for before, after in pads):
        return convolve(x, conv, [before for before, _ in pads])
    return convolve(_pad(x, pads), conv, [0, 0, 0])


def max_pool(x: Tensor, kernel: Sequence[int], stride: Sequence[int], pads: Sequence[Pad]) -> Tensor:
    """Max-pooling of ``[N, C, T, H, W]``, padded with zeros: exact where ``x`` >= 0, as it is after a ReLU.

    On the CPU one dimension after the other, since the maximum of a box is a maximum of maxima: 6 comparisons instead
    of 27, and no indices.
    """
    if x.device.type != "cpu":
        return F.max_pool3d(_pad(x, pads), tuple(kernel), tuple(stride))
    for dim, (size, step, pad) in enumerate(zip(kernel, stride, pads, strict=True), start=2):
        x = _max_along(x, dim, size, step, pad)
    return x


def max_pool_same(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """:func:`max_pool` with SAME padding, from the size of ``x`` in each dimension."""
    return max_pool(x, kernel, stride, _same(x, kernel, stride))


def _max_along(x: Tensor, dim: int, kernel: int, stride: int, pad: Pad) -> Tensor:
    """Without a padded copy: at the rim a window is the maximum of the places of it that exist."""
    size = x.shape[dim]
    count = (size + sum(pad) - kernel) // stride + 1
    result = _every(x, dim, 0, count, stride)  # place pad[0] of the windows, which exists in all of them
    owned = False
    for place in range(kernel):
        offset = place - pad[0]
        first, last = max(-(offset // stride), 0), min((size - 1 - offset) // stride, count - 1)
        if offset == 0 or last < first:
            continue
        values = _every(x, dim, first * stride + offset, last - first + 1, stride)
        if not owned and last - first + 1 == count:
            result = torch.maximum(result, values)
        else:
            result = result if owned else result.clone()
            target = result.narrow(dim, first, last - first + 1)
            torch.maximum(target, values, out=target)
        owned = True
    return result


def _every(x: Tensor, dim: int, first: int, count: int, stride: int) -> Tensor:
    return x[(slice(None),) * dim + (slice(first, first + (count - 1) * stride + 1, stride),)]
