"""Wan in diffusers: a checkpoint becomes a pipeline that is ready to sample."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler, WanVACEPipeline

from ipa_bench.errors import UserError
from ipa_bench.models import hasten
from ipa_bench.models.checkpoint import FIRST, SECOND, Checkpoint, lora_files, weight_files
from ipa_bench.models.lora import load_lora
from ipa_bench.models.specs import BaseSpec
from ipa_bench.models.wan import original
from ipa_bench.models.wan.conditioning import Pipe
from ipa_bench.models.wan.convolution import quicken

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
#: schedulers of flow models, and what they call the shift
_SHIFTS = {FlowMatchEulerDiscreteScheduler: "shift", UniPCMultistepScheduler: "flow_shift"}


def load_lazily(
    spec: BaseSpec, checkpoint: Checkpoint, device: torch.device | str | None = None, kind: Any = WanVACEPipeline
) -> tuple[Pipe, Callable[[], Any] | None]:
    """:func:`load` without the text encoder, and what loads it: prompts that are kept need none.

    With offloading it is there at once, and None stands for what would load it.
    """
    if spec.offload != "none":
        return load(spec, checkpoint, device, kind), None
    pipe = load(spec, checkpoint, device, kind, texts=False)

    def text_encoder() -> Any:
        source, name = json.loads((checkpoint.folder / "model_index.json").read_bytes())["text_encoder"]
        made = getattr(import_module(source), name).from_pretrained(
            checkpoint.folder / "text_encoder", dtype=DTYPES[spec.dtype], use_safetensors=True, local_files_only=True
        )
        return made.to(pipe._execution_device).eval()

    return pipe, text_encoder


def load(
    spec: BaseSpec,
    checkpoint: Checkpoint,
    device: torch.device | str | None = None,
    kind: Any = WanVACEPipeline,
    *,
    texts: bool = True,
) -> Pipe:
    """The pipeline of a checkpoint with its LoRAs, on ``device`` (CUDA where there is any), ready to sample.

    ``kind``: the pipeline's class; without ``texts`` it has no text encoder. Safetensors only, but for ``weights``,
    and nothing is downloaded. Raises :class:`UserError` where something cannot be loaded.
    """
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    of_diffusers.disable_progress_bar()
    of_transformers.disable_progress_bar()
    dtype = DTYPES[spec.dtype]
    elsewhere = {
        network: original.read(_class_of(checkpoint.folder, network), checkpoint.folder / network, files, dtype)
        for network, files in weight_files(spec).items()
    }
    try:
        pipe: Pipe = kind.from_pretrained(
            checkpoint.folder,
            **elsewhere,
            **({} if texts else {"text_encoder": None}),
            dtype={"default": dtype, "vae": torch.float32},  # encoding in bf16 shows
            use_safetensors=True,
            local_files_only=True,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        why = str(error).strip().partition("\n")[0]
        raise UserError(
            f"model {spec.name}: {checkpoint.folder} cannot be loaded: {why}", "check that it is whole; download again"
        ) from error
    quicken(pipe.vae)
    _add_loras(pipe, spec)
    networks = [network for name in (FIRST, SECOND) if (network := getattr(pipe, name, None)) is not None]
    hasten.apply(networks, spec.speed)
    if spec.fp8:
        hasten.shrink(networks)
    if spec.vae_tiling:
        pipe.vae.enable_tiling()
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if spec.offload != "none" and place.type == "cpu":
        raise UserError(f"model {spec.name}: offload needs a GPU", 'offload = "none"')
    if spec.offload == "model":
        pipe.enable_model_cpu_offload(device=place)
    elif spec.offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=place)
    else:
        pipe.to(place)
    return pipe


def pipeline(name: str) -> Any:
    """A class of diffusers."""
    return getattr(diffusers, name)


def _class_of(folder: Path, network: str) -> Any:
    """The class of a transformer of a folder, as its index says."""
    return pipeline(json.loads((folder / "model_index.json").read_bytes())[network][1])


def _add_loras(pipe: Any, spec: BaseSpec) -> None:
    files = lora_files(spec)
    for network, path in files.items():
        try:
            load_lora(pipe, path, "lora", network)
        except UserError as error:
            raise UserError(f"model {spec.name}: {error.problem}", error.fix) from error
    # As fast as without a LoRA; less precision would round its small values away.
    if files and spec.dtype == "fp32" and not spec.fp8:
        pipe.fuse_lora(components=list(files))
        pipe.unload_lora_weights()


def scheduler_of(pipe: Pipe, shift: float | None = None) -> Any:
    """A fresh scheduler like the pipeline's, with another flow shift where one is given.

    Raises :class:`UserError` for a scheduler that is none of Euler flow matching and UniPC, or has no shift.
    """
    kind: Any = type(pipe.scheduler)
    key = _SHIFTS.get(kind)
    if key is None:
        known = ", ".join(each.__name__ for each in _SHIFTS)
        raise UserError(f"{kind.__name__} is not supported", f"give the checkpoint one of {known}")
    config = pipe.scheduler.config
    if shift is not None and (config.use_dynamic_shifting or not config.get("use_flow_sigmas", True)):
        raise UserError(f"{kind.__name__} of this checkpoint takes no shift", "leave shift out")
    return kind.from_config(config, **({} if shift is None else {key: shift}))
