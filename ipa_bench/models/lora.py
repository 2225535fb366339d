"""A LoRA file and a pipeline: the one place where they meet, for sampling and for training."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ipa_bench.errors import UserError

_FIX = "give a LoRA that was trained on this model, as WanVACEPipeline.save_lora_weights writes it"


def check_lora(file: Path) -> int:
    """Number of layers that a LoRA has. Raises :class:`UserError` where a file is no LoRA in safetensors."""
    try:
        with safe_open(file, "pt") as opened:
            names: list[str] = list(opened.keys())
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be read: {error}", "give the LoRA's .safetensors file") from None
    layers = sum("lora_A" in name or "lora_down" in name or name.endswith("lora.down.weight") for name in names)
    if not layers:
        raise UserError(f"{file} holds no LoRA", "give a file that ipa-bench train wrote")
    return layers


def load_lora(pipe: Any, file: Path, name: str) -> None:
    """Add a LoRA to a pipeline's transformer as the adapter ``name``.

    Raises :class:`UserError` where it does not fit, also where only some of its layers do: diffusers leaves the others
    out with a line in a log.
    """
    layers = check_lora(file)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # a second one: it is meant
            pipe.load_lora_weights(
                str(file.parent), weight_name=file.name, use_safetensors=True, local_files_only=True, adapter_name=name
            )
    except (OSError, ValueError, LookupError, RuntimeError) as error:
        why = str(error).strip().partition("\n")[0]
        raise UserError(f"{file} does not fit {type(pipe.transformer).__name__}: {why}", _FIX) from error
    if name not in pipe.get_list_adapters().get("transformer", []):
        raise UserError(f"{file} has nothing for the transformer", _FIX)
    found = sum(f".lora_A.{name}." in key for key, _ in pipe.transformer.named_parameters())
    if found < layers:
        raise UserError(f"{file} is for {layers} layers, of which the model has {found}", _FIX)
