"""Names of a Wan transformer's parts: diffusers' and those of its authors, which ComfyUI has too.

Source: the renaming of diffusers 0.42.1 (``convert_wan_transformer_to_diffusers`` in ``loaders/single_file_utils.py``),
the other way round. Face adapter and motion encoder of Wan-Animate are not in it: no adapter of ours sits there.
"""

from __future__ import annotations

import re

#: (diffusers, authors), outside of blocks
_OUTSIDE = (
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("condition_embedder.image_embedder.norm1", "img_emb.proj.0"),
    ("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"),
    ("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
    ("condition_embedder.image_embedder.norm2", "img_emb.proj.4"),
    ("patch_embedding", "patch_embedding"),
    ("vace_patch_embedding", "vace_patch_embedding"),
    ("proj_out", "head.head"),
    ("scale_shift_table", "head.modulation"),
)
#: inside of them
_INSIDE = (
    *((f"attn1.to_{x}", f"self_attn.{x}") for x in "qkv"),
    *((f"attn2.to_{x}", f"cross_attn.{x}") for x in "qkv"),
    *((f"attn1.norm_{x}", f"self_attn.norm_{x}") for x in "qk"),
    *((f"attn2.norm_{x}", f"cross_attn.norm_{x}") for x in "qk"),
    ("attn1.to_out.0", "self_attn.o"),
    ("attn2.to_out.0", "cross_attn.o"),
    ("attn2.add_k_proj", "cross_attn.k_img"),
    ("attn2.add_v_proj", "cross_attn.v_img"),
    ("attn2.norm_added_k", "cross_attn.norm_k_img"),
    ("ffn.net.0.proj", "ffn.0"),
    ("ffn.net.2", "ffn.2"),
    ("norm2", "norm3"),
    ("scale_shift_table", "modulation"),
)
#: and of those that VACE adds
_CONTROL = (("proj_in", "before_proj"), ("proj_out", "after_proj"))

_BLOCK = re.compile(r"((?:vace_)?blocks\.\d+)\.(.+)")


def authors(layer: str) -> str | None:
    """What the authors call a layer that diffusers calls ``blocks.0.attn1.to_q``; None for one without such a name."""
    return _renamed(layer, 0, 1)


def diffusers(layer: str) -> str | None:
    """What diffusers calls a layer of the authors' name; None for one that is none."""
    return _renamed(layer, 1, 0)


def _renamed(layer: str, here: int, there: int) -> str | None:
    block = _BLOCK.fullmatch(layer)
    if block is None:
        return next((pair[there] for pair in _OUTSIDE if pair[here] == layer), None)
    among = (*_INSIDE, *_CONTROL) if layer.startswith("vace_") else _INSIDE
    return next((f"{block[1]}.{pair[there]}" for pair in among if pair[here] == block[2]), None)
