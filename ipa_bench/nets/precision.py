"""Which precision a processor is fast in: asked of it, once.

A processor without AVX-512-BF16 or AMX computes bf16 products in software: a training step took nine times as long as
in fp32 there, and on one with AMX a third. A list of processors would be out of date; a product of the size that the
tiny transformer has takes a millisecond.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Literal

import torch
from torch import Tensor

Precision = Literal["auto", "fp32", "bf16"]
#: rows, width and hidden width of the product that is timed
_SHAPE = (2048, 256, 512)
#: bf16 must be this many times faster: around its products stand conversions
_GAIN = 1.3
_TRIES = 5


def half(precision: Precision, device: torch.device) -> bool:
    """Whether products on ``device`` shall be in bf16."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return _processor_likes_half()


def usual() -> Literal["bf16", "fp32"]:
    """What is computed in where nobody says otherwise: bf16 where the GPU, or else the processor, is fast in it."""
    return "bf16" if half("auto", torch.device("cuda" if torch.cuda.is_available() else "cpu")) else "fp32"


@cache
def _processor_likes_half() -> bool:
    rows, width, hidden = _SHAPE
    a, b = torch.ones(rows, width), torch.ones(width, hidden)
    return _fastest(a, b) > _GAIN * _fastest(a.bfloat16(), b.bfloat16())


def _fastest(a: Tensor, b: Tensor) -> float:
    """Seconds of the fastest of some products; the first ones set up a kernel."""
    taken = []
    for _ in range(_TRIES):
        begin = time.perf_counter()
        torch.mm(a, b)
        taken.append(time.perf_counter() - begin)
    return min(taken)
