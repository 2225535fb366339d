"""From a network with its published weights to one that runs: batch norms folded, layout, number format, device."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from ipa_bench.errors import UserError

#: float64 is for tests; bfloat16 changes features by about half a per cent and is no published number
DTYPES = (torch.float32, torch.bfloat16, torch.float64)


class Backbone(nn.Module):
    """A network that loads a published file and can be made ready by :func:`prepare`."""

    #: memory layout that convolutions of its inputs' rank run fastest in
    layout: ClassVar[torch.memory_format] = torch.channels_last_3d
    #: children that stay in float32 whatever the number format: cheap, and the last to round
    exact: ClassVar[tuple[str, ...]] = ()
    #: where the weights come from, for a report; "random" weights give numbers that compare with nothing
    origin: str = "untrained, not comparable"

    @property
    def comparable(self) -> bool:
        """Whether the weights were read from a file."""
        return "not comparable" not in self.origin

    def published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a published file under the names of this module; what it does not use is left out."""
        return dict(state)

    def fold(self) -> None:
        """Replace, in place, every convolution followed by a batch norm by one convolution."""


AnyBackbone = TypeVar("AnyBackbone", bound=Backbone)


def folded(conv: nn.Conv3d, norm: nn.BatchNorm3d) -> nn.Conv3d:
    """One convolution that does both: with g = gamma / sqrt(var + eps), weight W g and bias beta + (b - mean) g.

    Computed in float64; ``norm`` is taken as it is in evaluation. Raises ValueError for a norm without statistics.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch norm without running statistics cannot be folded")
    gain = (norm.running_var.double() + norm.eps).rsqrt()
    gain = gain * norm.weight.double() if norm.affine else gain
    shift = norm.bias.double() if norm.affine else torch.zeros_like(gain)
    bias = torch.zeros_like(gain) if conv.bias is None else conv.bias.double()
    weight = conv.weight.double() * gain[:, None, None, None, None]
    return as_conv(weight, shift + (bias - norm.running_mean.double()) * gain, conv)


def as_conv(weight: Tensor, bias: Tensor, like: nn.Conv3d) -> nn.Conv3d:
    """A convolution of the given tensors, in the number format, stride and padding of ``like``."""
    out, into = weight.shape[:2]
    made = nn.Conv3d(into, out, like.kernel_size, like.stride, like.padding)  # type: ignore[arg-type]
    made.weight = nn.Parameter(weight.detach().to(like.weight), requires_grad=False)
    made.bias = nn.Parameter(bias.detach().to(like.weight), requires_grad=False)
    return made


def prepare(module: AnyBackbone, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu") -> AnyBackbone:
    """A copy of ``module`` for inference: folded, in evaluation, without gradients, channels last, on ``device``.

    ``dtype`` float32 is the default and the one for published numbers. bfloat16 is faster; its features differ by about
    5e-3 (relative), and mixing both moves a Fréchet distance by per cents: it belongs in a cache key and in a result.
    On CUDA torch convolves float32 in TF32 unless ``torch.backends.cudnn.allow_tf32`` is off.
    Raises UserError for another dtype and for a device that torch does not find.
    """
    if dtype not in DTYPES:
        raise UserError(f"networks do not run in {dtype}", f"use one of {', '.join(str(d) for d in DTYPES)}")
    ready = copy.deepcopy(module).eval().requires_grad_(False)
    ready.fold()
    try:
        for name, child in ready.named_children():
            child.to(device, torch.float32 if name in ready.exact and dtype != torch.float64 else dtype)
            child.to(memory_format=ready.layout)  # type: ignore[call-overload]
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise UserError(f"cannot run on {device}: {str(error).splitlines()[0]}", "use the device cpu") from error
    return ready


def number_format(module: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device and dtype of the first parameter."""
    first = next(module.parameters())
    return first.device, first.dtype


def require_range(values: Tensor, low: float, high: float, what: str, meant: str) -> None:
    """Raise UserError where a value lies outside of [low, high] or is not a number."""
    least, most = (float(v) for v in torch.aminmax(values.detach()))
    if not (low <= least and most <= high):  # written so that NaN fails
        problem = f"{what} expects {meant}, got values from {least:g} to {most:g}"
        raise UserError(problem, "convert the frames as the network's documentation says")
