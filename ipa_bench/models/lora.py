"""A LoRA file and a pipeline: the one place where they meet, for sampling and for training."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ipa_bench.errors import UserError
from ipa_bench.models.checkpoint import FIRST, SECOND

_DOWN = re.compile(r"lora_A\.|lora_down\.|lora\.down\.weight$")
_UP = re.compile(r"(lora_B|lora_up|lora\.up)\.weight$")
_BIAS = re.compile(r"((lora_B|lora_up)\.bias|\.diff_b)$")
_FIX = "give a LoRA that was trained on this model, as WanVACEPipeline.save_lora_weights writes it"


@dataclass(frozen=True)
class Contents:
    """What a LoRA file changes."""

    layers: int
    #: layers whose output it shifts
    biases: int


def check_lora(file: Path) -> Contents:
    """What a LoRA changes. Raises :class:`UserError` where a file is no LoRA in safetensors, and where it holds more
    than low-rank matrices, biases and scales: such parts (norms, patches, modulations, DoRA) would be left out. Parts
    that are all zero may be left out.
    """
    try:
        with safe_open(file, "pt") as opened:
            found = {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118 - no dictionary
            layers = [name for name in found if _DOWN.search(name)]
            if not layers:
                raise UserError(f"{file} holds no LoRA", "give a file that ipa-bench train wrote")
            biases = 0
            for name in found.keys() - {*layers}:
                if _UP.search(name) or not opened.get_tensor(name).any():
                    continue
                if _BIAS.search(name):
                    biases += 1
                elif not (name.endswith(".alpha") and _scales(name, float(opened.get_tensor(name)), found)):
                    raise UserError(
                        f"{file} holds {name}, which is not low-rank and would be left out",
                        "give a plain LoRA, or merge the file into the model's weights",
                    )
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be read: {error}", "give the LoRA's .safetensors file") from None
    return Contents(len(layers), biases)


def _scales(name: str, alpha: float, found: Mapping[str, Sequence[int]]) -> bool:
    """Whether an alpha is applied: diffusers does that as it renames; names that are its own it reads as alpha = r."""
    if not name.startswith("transformer."):
        return True
    shape = found.get(f"{name.removesuffix('.alpha')}.lora_A.weight")
    return shape is not None and shape[0] == alpha


def lora_values(file: Path) -> tuple[int, int]:
    """Number of values, and of tensors, of the matrices of a LoRA that :func:`check_lora` has seen."""
    with safe_open(file, "pt") as opened:
        shapes = [opened.get_slice(name).get_shape() for name in opened.keys()]  # noqa: SIM118
    return sum(map(prod, shapes)), len(shapes)


def load_lora(pipe: Any, file: Path, name: str, network: str = FIRST) -> None:
    """Add a LoRA to a transformer of a pipeline as the adapter ``name``.

    Raises :class:`UserError` where it does not fit, also where only some of its layers do: diffusers leaves the others
    out with a line in a log.
    """
    held = check_lora(file)
    transformer = getattr(pipe, network)
    try:
        own = _of_authors(file)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # a second one: it is meant
            if own is not None:
                pipe.load_lora_into_transformer(
                    own[0], transformer=transformer, adapter_name=name, metadata=own[1], _pipeline=pipe,
                    low_cpu_mem_usage=True,
                )  # fmt: skip
            else:
                pipe.load_lora_weights(
                    str(file.parent), weight_name=file.name, use_safetensors=True, local_files_only=True,
                    adapter_name=name, load_into_transformer_2=network == SECOND,
                )  # fmt: skip
    except (OSError, ValueError, LookupError, RuntimeError) as error:
        why = str(error).strip().partition("\n")[0]
        raise UserError(f"{file} does not fit {type(transformer).__name__}: {why}", _FIX) from error
    if name not in pipe.get_list_adapters().get(network, []):
        raise UserError(f"{file} has nothing for the transformer", _FIX)
    _without_meta(transformer, name)
    parts = {key: p for key, p in transformer.named_parameters() if f".{name}." in key}
    found = sum(".lora_A." in key for key in parts)
    if found < held.layers:
        raise UserError(f"{file} is for {held.layers} layers, of which the model has {found}", _FIX)
    found = sum(key.endswith(".bias") and bool(p.any()) for key, p in parts.items())
    if found < held.biases:
        raise UserError(f"{file} shifts {held.biases} layers, of which {found} could be", _FIX)


def _of_authors(file: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Tensors and settings of a file with the names of Wan's authors, as diffusers takes them; None for another.

    diffusers renames such files too, but not those of control blocks. Raises ``ValueError`` for what is no LoRA.
    """
    from ipa_bench.models.wan import lora_names

    with safe_open(file, "pt") as opened:
        if not lora_names.is_authors(dict.fromkeys(opened.keys())):
            return None
        found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        said = json.loads((opened.metadata() or {}).get("lora_adapter_metadata", "{}"))
    before = f"{FIRST}."
    tensors, settings = lora_names.to_diffusers(found, {key.removeprefix(before): said[key] for key in said})
    return tuple({before + key: value for key, value in each.items()} for each in (tensors, settings))  # type: ignore[return-value]


def _without_meta(transformer: Any, name: str) -> None:
    """Shifts of 0 for the layers that a file does not shift: diffusers gives every layer one, without values."""
    import torch

    for module in transformer.modules():
        adapters = getattr(module, "lora_B", {})
        up = adapters[name] if name in adapters else None  # noqa: SIM401 - a ModuleDict has no get
        if up is not None and up.bias is not None and up.bias.is_meta:
            up.bias = torch.nn.Parameter(torch.zeros_like(up.bias, device=up.weight.device))
