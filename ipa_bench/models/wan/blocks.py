"""Blocks of Wan's transformers in few operations: what ``compile`` means on a processor.

The function is that of diffusers' own blocks (0.42.1, ``WanTransformerBlock`` and ``WanVACETransformerBlock``), to the
rounding of the type of products, with the same parameters; what differs is how it is computed: three projections at
once, a LoRA added to its weight in place of two more products, and each block one compiled piece. Measured on one core
with AMX, forward and backward of a tiny model (6 M parameters) in bf16: 32 stills at 128 tokens 2.9 s of processor time
as diffusers has it under autocast, 1.2 s here, gradients equal to 0.3 %; four clips at 1,456 tokens with a LoRA 6.5 s
and 3.2 s. Compiled, diffusers' own block gives NaN gradients there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

#: of the norms, as the library has it
EPS = 1e-6
#: from so many scores of a head on, attention does not keep them
MANY = 2**18
#: (x, text, modulation, cos, sin, heads, weights) -> x
Block = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int, Mapping[str, Tensor]], Tensor]


def fits(transformer: Any) -> bool:
    """Whether :func:`block` computes what this transformer's blocks do."""
    c = transformer.config
    plain = c.get("image_dim") is None and c.get("cross_attn_norm") and c.get("eps") == EPS
    return bool(plain and c.get("qk_norm") == "rms_norm_across_heads")


def compiled() -> Block:
    """:func:`block` as one compiled piece for each shape; the first step of a shape takes a C++ compiler's time."""
    made: Block = torch.compile(block, dynamic=False)
    return made


def replace(transformer: Any, run: Block) -> None:
    """Let the blocks of a transformer that :func:`fits` be computed by ``run``; adapters may come later.

    A block whose adapters cannot be added to its weights (dropout while training, DoRA, biases), and a noise level for
    each token, stay diffusers' own.
    """
    heads = int(transformer.config.num_attention_heads)

    def computed(part: Any, x: Tensor, text: Tensor, temb: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        cos, sin = rotary[0][..., 0::2], rotary[1][..., 1::2]
        # Given what the library transposed, a compiled piece gives gradients for a batch of one that are off by a tenth
        # (torch 2.13).
        x, text = x.contiguous(), text.to(dtype).contiguous()
        with torch.autocast(kind, enabled=False):
            modulation = part.scale_shift_table + temb.float()
            made = run(x.float(), text, modulation, cos, sin, heads, weights(part, dtype))
        return made.to(x.dtype)

    def plain(part: Any, x: Tensor, text: Tensor, temb: Tensor, rotary: Any) -> Tensor:
        if temb.ndim == 4 or not _foldable(part):
            found: Tensor = type(part).forward(part, x, text, temb, rotary)
            return found
        return computed(part, x, text, temb, rotary)

    def control(part: Any, x: Tensor, text: Tensor, hints: Tensor, temb: Tensor, rotary: Any) -> Any:
        if temb.ndim == 4 or not _foldable(part):
            return type(part).forward(part, x, text, hints, temb, rotary)
        if part.proj_in is not None:
            hints = part.proj_in(hints) + x
        hints = computed(part, hints, text, temb, rotary)
        return None if part.proj_out is None else part.proj_out(hints), hints

    for part in transformer.blocks:
        part.forward = MethodType(plain, part)
    for part in getattr(transformer, "vace_blocks", ()):
        part.forward = MethodType(control, part)


def block(
    x: Tensor, text: Tensor, modulation: Tensor, cos: Tensor, sin: Tensor, heads: int, p: Mapping[str, Tensor]
) -> Tensor:
    """One block: ``x`` float32 ``[B, n, c]``, ``text`` ``[B, L, c]`` in the type of products, ``modulation``
    ``[B, 6, c]``, ``cos`` and ``sin`` ``[1 or B, n, 1, d / 2]``, ``p`` of :func:`weights`."""
    shift, scale, gate, ff_shift, ff_scale, ff_gate = modulation.unbind(1)
    width, dtype = x.shape[-1], text.dtype
    small = (width // heads) ** -0.5
    h = (normed(x) * (1 + scale[:, None]) + shift[:, None]).to(dtype)
    q, k, v = torch.split(F.linear(h, p["qkv"], p["qkv.bias"]), width, -1)
    q = _turned(_split(_rms(q, p["q.norm"]) * small, heads), cos, sin)
    k = _turned(_split(_rms(k, p["k.norm"]), heads), cos, sin)
    x = x + F.linear(_attended(q, k, _split(v, heads), dtype), p["out"], p["out.bias"]).float() * gate[:, None]
    h = (normed(x) * p["norm2"] + p["norm2.bias"]).to(dtype)
    q = _split(_rms(F.linear(h, p["text.q"], p["text.q.bias"]), p["text.q.norm"]) * small, heads)
    k, v = torch.split(F.linear(text, p["text.kv"], p["text.kv.bias"]), width, -1)
    mixed = _attended(q, _split(_rms(k, p["text.k.norm"]), heads), _split(v, heads), dtype)
    x = x + F.linear(mixed, p["text.out"], p["text.out.bias"]).float()
    h = (normed(x) * (1 + ff_scale[:, None]) + ff_shift[:, None]).to(dtype)
    h = F.gelu(F.linear(h, p["up"], p["up.bias"]).float(), approximate="tanh").to(dtype)
    return x + F.linear(h, p["down"], p["down.bias"]).float() * ff_gate[:, None]


def weights(part: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    """A block's parameters as :func:`block` takes them: matrices in ``dtype``, projections of one input joined.

    Adapters that are switched on are added, and gradients flow into them.
    """
    own, text, ff = part.attn1, part.attn2, part.ffn.net
    joined = {
        "qkv": (own.to_q, own.to_k, own.to_v), "out": (own.to_out[0],), "text.q": (text.to_q,),
        "text.kv": (text.to_k, text.to_v), "text.out": (text.to_out[0],), "up": (ff[0].proj,), "down": (ff[2],),
    }  # fmt: skip
    found: dict[str, Tensor] = {}
    for name, layers in joined.items():
        found[name] = torch.cat([_weight(layer) for layer in layers]).to(dtype)
        found[f"{name}.bias"] = torch.cat([layer.bias for layer in layers]).to(dtype)
    norms = {
        "q.norm": own.norm_q.weight, "k.norm": own.norm_k.weight, "text.q.norm": text.norm_q.weight,
        "text.k.norm": text.norm_k.weight, "norm2": part.norm2.weight, "norm2.bias": part.norm2.bias,
    }  # fmt: skip
    return found | norms


def _foldable(part: Any) -> bool:
    """Whether what adapters add to a block's layers can be added to their weights."""
    for layer in part.modules():
        for name in _adapters(layer):
            dropped = part.training and getattr(layer.lora_dropout[name], "p", 0.0) > 0
            if dropped or name in layer.lora_variant or layer.lora_B[name].bias is not None:
                return False
    return True


def _adapters(layer: Any) -> list[str]:
    """LoRAs of a layer that are switched on, and not in its weight already."""
    if not hasattr(layer, "lora_A") or layer.disable_adapters or layer.merged:
        return []
    return [name for name in layer.active_adapters if name in layer.lora_A]


def _weight(layer: Any) -> Tensor:
    """A linear layer's weight ``[out, in]`` with its adapters."""
    weight: Tensor = layer.weight
    for name in _adapters(layer):
        weight = weight + layer.scaling[name] * (layer.lora_B[name].weight @ layer.lora_A[name].weight)
    return weight


def normed(x: Tensor) -> Tensor:
    """Without mean and scale, over the last axis."""
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
    if q.shape[2] * k.shape[2] > MANY:
        return F.scaled_dot_product_attention(q, k, v, scale=1.0).transpose(1, 2).flatten(2)
    scores = (q @ k.transpose(2, 3)).float()
    share = torch.exp(scores - scores.amax(-1, keepdim=True))
    share = (share / share.sum(-1, keepdim=True)).to(dtype)
    return (share @ v).transpose(1, 2).flatten(2)
