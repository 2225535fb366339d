"""The velocity of a tiny ``WanVACETransformer3DModel`` in few operations, for training on a processor.

The function is that of diffusers' own ``forward``, to bf16's rounding, with the same parameters; what differs is how it
is computed: see :mod:`ipa_bench.models.wan.blocks`.

Tokens can be left out (``keep``): what a step computes is then about hands.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ipa_bench.models.wan import blocks
from ipa_bench.models.wan.blocks import Block


def fits(transformer: Any) -> bool:
    """Whether :func:`velocity` computes what this transformer does."""
    return blocks.fits(transformer) and transformer.config.patch_size[0] == 1


def velocity(
    transformer: Any,
    x: Tensor,
    control: Tensor,
    timestep: Tensor,
    prompt: Tensor,
    *,
    keep: Tensor | None = None,
    run: Block | None = None,
    dtype: torch.dtype = torch.bfloat16,
) -> Tensor:
    """As ``transformer(hidden_states=x, ...)[0]``, float32; with ``keep`` rows of :func:`tokens` for these alone.

    ``x`` ``[B, z, T, h, w]``, ``control`` ``[B, 2 z + 64, T, h, w]``, ``timestep`` ``[B]`` on 0-1000, ``prompt``
    ``[B, L, text]``; ``keep`` ``[B, K]`` are numbers of tokens; ``dtype`` is that of products.
    """
    config = transformer.config
    run = run or blocks.block
    patch = tuple(config.patch_size)
    hidden, hints_in = (
        _embedded(x, transformer.patch_embedding, dtype),
        _embedded(control, transformer.vace_patch_embedding, dtype),
    )
    cos, sin = transformer.rope(x)
    cos, sin = cos[..., 0::2], sin[..., 1::2]
    if keep is not None:
        hidden, hints_in = _some(hidden, keep), _some(hints_in, keep)
        cos, sin = (table[0, :, 0][keep][:, :, None] for table in (cos, sin))
    temb, steps, text, _ = transformer.condition_embedder(timestep, prompt, None)
    steps, text = steps.unflatten(1, (6, -1)).float(), text.to(dtype)
    heads = int(config.num_attention_heads)
    hints = []
    for part in transformer.vace_blocks:
        if part.proj_in is not None:
            hints_in = _linear(hints_in, part.proj_in, dtype) + hidden
        hints_in = run(hints_in, text, part.scale_shift_table + steps, cos, sin, heads, blocks.weights(part, dtype))
        hints.append(_linear(hints_in, part.proj_out, dtype))
    added = dict(zip(config.vace_layers, hints, strict=True))
    for number, part in enumerate(transformer.blocks):
        hidden = run(hidden, text, part.scale_shift_table + steps, cos, sin, heads, blocks.weights(part, dtype))
        if number in added:
            hidden = hidden + added[number]
    shift, scale = (transformer.scale_shift_table + temb.float().unsqueeze(1)).chunk(2, 1)
    out = _linear(blocks.normed(hidden) * (1 + scale) + shift, transformer.proj_out, dtype)
    return out if keep is not None else _pictures(out, x.shape, patch)


def tokens(z: Tensor, patch: tuple[int, ...], keep: Tensor) -> Tensor:
    """Rows ``[B, K, ph pw c]`` of the tokens ``keep`` of ``z`` ``[B, c, T, h, w]``, in the order of the output."""
    batch, channels, time, height, width = z.shape
    _, ph, pw = patch
    rows = z.reshape(batch, channels, time, height // ph, ph, width // pw, pw).permute(0, 2, 3, 5, 4, 6, 1)
    return _some(rows.flatten(4).flatten(1, 3), keep)


def _linear(x: Tensor, layer: nn.Linear, dtype: torch.dtype) -> Tensor:
    return F.linear(x.to(dtype), layer.weight.to(dtype), layer.bias.to(dtype)).float()


def _embedded(z: Tensor, layer: nn.Conv3d, dtype: torch.dtype) -> Tensor:
    """A convolution whose kernel is its stride, as one product: ``[B, n, c]`` float32."""
    batch, channels, time, height, width = z.shape
    _, ph, pw = layer.kernel_size
    rows = z.reshape(batch, channels, time, height // ph, ph, width // pw, pw).permute(0, 2, 3, 5, 1, 4, 6)
    rows = rows.flatten(4).flatten(1, 3).to(dtype)
    assert layer.bias is not None
    return F.linear(rows, layer.weight.flatten(1).to(dtype), layer.bias.to(dtype)).float()


def _some(rows: Tensor, keep: Tensor) -> Tensor:
    return rows.gather(1, keep[..., None].expand(-1, -1, rows.shape[-1]))


def _pictures(rows: Tensor, shape: torch.Size, patch: tuple[int, ...]) -> Tensor:
    batch, _, time, height, width = shape
    _, ph, pw = patch
    grid = rows.reshape(batch, time, height // ph, width // pw, ph, pw, -1)
    return grid.permute(0, 6, 1, 2, 4, 3, 5).reshape(batch, -1, time, height, width)
