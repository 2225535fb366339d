"""LoRAs of Wan under the names that its authors and ComfyUI use, to diffusers' names and back, to the bit.

There a layer has ``diffusion_model.NAME.lora_down.weight``, ``.lora_up.weight``, ``.alpha`` and, where its output is
shifted, ``.diff_b``. The change is ``alpha / rank · up @ down``, and ``diff_b`` is added as it is; where there is no
alpha it is the rank. diffusers renames such files too, but not those of VACE's control blocks, and multiplies the
alphas into the matrices. What a file of ours says of its own settings goes with it, so that the way back is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ipa_bench.models.wan import names

PREFIX = "diffusion_model."
_DOWN, _UP = ("lora_down.weight", "lora_A.weight"), ("lora_up.weight", "lora_B.weight")


def is_authors(found: Mapping[str, Any]) -> bool:
    """Whether the tensors of a file have the authors' names."""
    return any(name.startswith(PREFIX) for name in found)


def to_authors(tensors: Mapping[str, Tensor], scales: Mapping[str, float]) -> dict[str, Tensor]:
    """The tensors of a LoRA as peft names them (``blocks.0.attn1.to_q.lora_A.weight``) under the authors' names.

    ``scales``: by layer. A shift that scaling would round is stored in float64. Raises ``ValueError`` for a layer that
    the authors have no name for.
    """
    found = {}
    for layer, scale in scales.items():
        own = names.authors(layer)
        if own is None:
            raise ValueError(f"{layer} has no name among those of Wan's authors")
        down = tensors[f"{layer}.lora_A.weight"]
        found[f"{PREFIX}{own}.lora_down.weight"] = down
        found[f"{PREFIX}{own}.lora_up.weight"] = tensors[f"{layer}.lora_B.weight"]
        alpha = torch.tensor(scale * down.shape[0], dtype=torch.float64)
        found[f"{PREFIX}{own}.alpha"] = alpha.float() if float(alpha.float()) == float(alpha) else alpha
        bias = tensors.get(f"{layer}.lora_B.bias")
        if bias is not None:
            read = float(alpha) / down.shape[0]
            wide = bias.double() * read
            narrow = wide.to(bias.dtype)
            found[f"{PREFIX}{own}.diff_b"] = narrow if torch.equal(_unscaled(narrow, read, bias.dtype), bias) else wide
    return found


def to_diffusers(
    found: Mapping[str, Tensor], settings: Mapping[str, Any] | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file with the authors' names as peft names them, and settings for peft's config.

    ``settings``: those that the file's metadata has, where it was ours; else ranks and alphas are read off the tensors.
    Raises ``ValueError`` naming what is no part of a LoRA.
    """
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in found.items():
        layer, part = _split(name)
        if part is not None:
            layers.setdefault(layer, {})[part] = tensor
        elif tensor.any():  # zeros of norms and the like change nothing
            raise ValueError(f"{name} is not low-rank")
    tensors: dict[str, Tensor] = {}
    ranks, alphas = {}, {}
    for layer, parts in layers.items():
        down, up = parts.get("down"), parts.get("up")
        if parts.keys() == {"bias"} and not parts["bias"].any():
            continue
        if "bias" in parts and down is None and up is None:
            raise ValueError(f"{layer} is shifted and has no matrices")
        if down is None or up is None:
            raise ValueError(f"{layer} lacks one of its two matrices")
        rank = int(down.shape[0])
        alpha = float(parts["alpha"]) if "alpha" in parts else float(rank)
        if alpha == 0 and "bias" in parts:
            raise ValueError(f"{layer} shifts its output with an alpha of 0")
        ranks[layer], alphas[layer] = rank, alpha
        tensors[f"{layer}.lora_A.weight"], tensors[f"{layer}.lora_B.weight"] = down, up
        if "bias" in parts:
            tensors[f"{layer}.lora_B.bias"] = _unscaled(parts["bias"], alpha / rank, up.dtype)
    if not tensors:
        return {}, {}
    return tensors, dict(settings) if settings else _settings(ranks, alphas, any("bias" in p for p in layers.values()))


def _settings(ranks: Mapping[str, int], alphas: Mapping[str, float], biases: bool) -> dict[str, Any]:
    rank, alpha = next(iter(ranks.values())), next(iter(alphas.values()))
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {layer: each for layer, each in ranks.items() if each != rank},
        "alpha_pattern": {layer: each for layer, each in alphas.items() if each != alpha},
        "target_modules": sorted(ranks),
        "lora_bias": biases,
    }


def _split(name: str) -> tuple[str, str | None]:
    """Layer and kind of a tensor; no kind for one that is none of a LoRA's."""
    if not name.startswith(PREFIX):
        return name, None
    kinds = {"down": _DOWN, "up": _UP, "alpha": ("alpha",), "bias": ("diff_b",)}
    for kind, endings in kinds.items():
        for ending in endings:
            if name.endswith(f".{ending}"):
                layer = names.diffusers(name[len(PREFIX) : -len(ending) - 1])
                # a norm or an embedding that is shifted without matrices is not for peft
                return (layer, kind) if layer is not None else (name, None)
    return name, None


def _unscaled(shift: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    return (shift.double() / scale).to(dtype) if scale else shift.to(dtype)
