"""A LoRA file under other names: those of Wan's authors and ComfyUI, or diffusers'. There and back is the same file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save

from ipa_bench.errors import UserError
from ipa_bench.files import write_atomic
from ipa_bench.models.checkpoint import lora_parts, second_lora
from ipa_bench.models.wan import lora_names
from trainers import lora


@dataclass(frozen=True)
class Exported:
    """LoRA files that were written under other names."""

    #: one, or one for each expert
    files: tuple[Path, ...]
    layers: int


def write(out: Path, file: Path, *, diffusers: bool = False) -> Exported:
    """Write a LoRA (of two experts, both files) under the authors' names, or with ``diffusers`` under diffusers'.

    Tensors keep their bits and dtype, metadata stays. Raises :class:`UserError` for a file that is no LoRA or holds
    anything else, for a layer that has no such name, and for an ``out`` that is one of the files to read.
    """
    parts = lora_parts(file)
    outs = {network: second_lora(out) if part != file else out for network, part in parts.items()}
    if {one.resolve() for one in outs.values()} & {part.resolve() for part in parts.values()}:
        raise UserError(f"{out} is one of the LoRAs to read", "name another file: the one to write")
    layers = 0
    for network, part in parts.items():
        read = lora.read(part)
        tensors = {name: tensor.contiguous() for name, tensor in lora.tensors(read.lora).items()}
        if diffusers:
            stored = {lora.PREFIX + name: tensor for name, tensor in tensors.items()}
        else:
            try:
                stored = lora_names.to_authors(tensors, {name: layer.scale for name, layer in read.lora.items()})
            except ValueError as error:
                raise UserError(f"{part}: {error}", "keep it under diffusers' names") from None
        metadata = read.metadata | {"format": "pt"}
        if lora.METADATA_KEY not in metadata and any(layer.scale != 1.0 for layer in read.lora.values()):
            metadata[lora.METADATA_KEY] = lora.told(read.settings)
        write_atomic(outs[network], lora.ordered(save(stored, metadata=metadata)))
        layers += len(read.lora)
    return Exported(tuple(outs.values()), layers)
