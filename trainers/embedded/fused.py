"""The velocity of a tiny ``WanVACETransformer3DModel`` in few operations, for training on a processor.

The function is that of diffusers' own ``forward``, to bf16's rounding, with the same parameters; what differs is how it
is computed: products in bf16, three projections at once, attention from plain products, and each block one compiled
piece. Measured on one core with AMX for 32 stills at 128 tokens (6 M parameters, forward and backward): 2.9 s of
processor time as diffusers has it under autocast, 1.2 s here, gradients equal to 0.3 %. Compiled, diffusers' own block
gives NaN gradients there.

Tokens can be left out (``keep``): what a step computes is then about hands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: of the norms, as the library has it
EPS = 1e-6
#: (x, text, modulation, cos, sin, heads, weights) -> x
Block = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int, Mapping[str, Tensor]], Tensor]


def fits(transformer: Any) -> bool:
    """Whether :func:`velocity` computes what this transformer does."""
    c = transformer.config
    return c.qk_norm == "rms_norm_across_heads" and c.image_dim is None and c.cross_attn_norm and c.patch_size[0] == 1


def compiled() -> Block:
    """:func:`block` as one compiled piece for each shape; the first step of a shape takes a C++ compiler's time."""
    made: Block = torch.compile(block, dynamic=False)
    return made


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
    run = run or block
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
        hints_in = run(hints_in, text, part.scale_shift_table + steps, cos, sin, heads, weights(part, dtype))
        hints.append(_linear(hints_in, part.proj_out, dtype))
    added = dict(zip(config.vace_layers, hints, strict=True))
    for number, part in enumerate(transformer.blocks):
        hidden = run(hidden, text, part.scale_shift_table + steps, cos, sin, heads, weights(part, dtype))
        if number in added:
            hidden = hidden + added[number]
    shift, scale = (transformer.scale_shift_table + temb.float().unsqueeze(1)).chunk(2, 1)
    out = _linear(_normed(hidden) * (1 + scale) + shift, transformer.proj_out, dtype)
    return out if keep is not None else _pictures(out, x.shape, patch)


def tokens(z: Tensor, patch: tuple[int, ...], keep: Tensor) -> Tensor:
    """Rows ``[B, K, ph pw c]`` of the tokens ``keep`` of ``z`` ``[B, c, T, h, w]``, in the order of the output."""
    batch, channels, time, height, width = z.shape
    _, ph, pw = patch
    rows = z.reshape(batch, channels, time, height // ph, ph, width // pw, pw).permute(0, 2, 3, 5, 4, 6, 1)
    return _some(rows.flatten(4).flatten(1, 3), keep)


def block(
    x: Tensor, text: Tensor, modulation: Tensor, cos: Tensor, sin: Tensor, heads: int, p: Mapping[str, Tensor]
) -> Tensor:
    """One block: ``x`` float32 ``[B, n, c]``, ``text`` ``[B, L, c]`` in the type of products, ``modulation``
    ``[B, 6, c]``, ``cos`` and ``sin`` ``[1 or B, n, 1, d / 2]``, ``p`` of :func:`weights`."""
    shift, scale, gate, ff_shift, ff_scale, ff_gate = modulation.unbind(1)
    width, dtype = x.shape[-1], text.dtype
    small = (width // heads) ** -0.5
    h = (_normed(x) * (1 + scale[:, None]) + shift[:, None]).to(dtype)
    q, k, v = torch.split(F.linear(h, p["qkv"], p["qkv.bias"]), width, -1)
    q = _turned(_split(_rms(q, p["q.norm"]) * small, heads), cos, sin)
    k = _turned(_split(_rms(k, p["k.norm"]), heads), cos, sin)
    x = x + F.linear(_attended(q, k, _split(v, heads), dtype), p["out"], p["out.bias"]).float() * gate[:, None]
    h = (_normed(x) * p["norm2"] + p["norm2.bias"]).to(dtype)
    q = _split(_rms(F.linear(h, p["text.q"], p["text.q.bias"]), p["text.q.norm"]) * small, heads)
    k, v = torch.split(F.linear(text, p["text.kv"], p["text.kv.bias"]), width, -1)
    mixed = _attended(q, _split(_rms(k, p["text.k.norm"]), heads), _split(v, heads), dtype)
    x = x + F.linear(mixed, p["text.out"], p["text.out.bias"]).float()
    h = (_normed(x) * (1 + ff_scale[:, None]) + ff_shift[:, None]).to(dtype)
    h = F.gelu(F.linear(h, p["up"], p["up.bias"]).float(), approximate="tanh").to(dtype)
    return x + F.linear(h, p["down"], p["down.bias"]).float() * ff_gate[:, None]


def weights(part: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    """A block's parameters as :func:`block` takes them: matrices in ``dtype``, projections of one input joined."""
    own, text, ff = part.attn1, part.attn2, part.ffn.net
    joined = {
        "qkv": (own.to_q, own.to_k, own.to_v), "out": (own.to_out[0],), "text.q": (text.to_q,),
        "text.kv": (text.to_k, text.to_v), "text.out": (text.to_out[0],), "up": (ff[0].proj,), "down": (ff[2],),
    }  # fmt: skip
    found: dict[str, Tensor] = {}
    for name, layers in joined.items():
        found[name] = torch.cat([layer.weight for layer in layers]).to(dtype)
        found[f"{name}.bias"] = torch.cat([layer.bias for layer in layers]).to(dtype)
    norms = {
        "q.norm": own.norm_q.weight, "k.norm": own.norm_k.weight, "text.q.norm": text.norm_q.weight,
        "text.k.norm": text.norm_k.weight, "norm2": part.norm2.weight, "norm2.bias": part.norm2.bias,
    }  # fmt: skip
    return found | norms


def _normed(x: Tensor) -> Tensor:
    away = x - x.mean(-1, keepdim=True)
    return away * torch.rsqrt(away.square().mean(-1, keepdim=True) + EPS)


def _rms(x: Tensor, weight: Tensor) -> Tensor:
    wide = x.float()
    return wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPS) * weight


def _split(x: Tensor, heads: int) -> Tensor:
    """``[B, n, c]`` -> ``[B, n, heads, d]``."""
    return x.reshape(*x.shape[:-1], heads, -1)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    even, odd = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


def _attended(q: Tensor, k: Tensor, v: Tensor, dtype: torch.dtype) -> Tensor:
    """Attention of ``[B, n, heads, d]``: ``[B, n, c]`` in ``dtype``; ``q`` is scaled already."""
    q, k, v = (part.to(dtype).transpose(1, 2) for part in (q, k, v))
    scores = (q @ k.transpose(2, 3)).float()
    share = torch.exp(scores - scores.amax(-1, keepdim=True))
    share = (share / share.sum(-1, keepdim=True)).to(dtype)
    return (share @ v).transpose(1, 2).flatten(2)


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
