"""The mean of several trained LoRAs, and how far to go along it: runs differ in noise that their mean has less of.

    python -m trainers.soup OUT.safetensors RUN1.safetensors RUN2.safetensors ... [--start BASE] [--strength 2]

Averaged weights of runs that began alike: model soups (Wortsman et al., ICML 2022, arXiv 2203.05482).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ipa_bench.cost import ledger as cost_ledger
from ipa_bench.errors import UserError
from ipa_bench.files import write_atomic

#: matrices by name
Layers = Mapping[str, Tensor]


def mean_change(runs: Sequence[Layers], start: Layers | None, strength: float = 1.0) -> dict[str, Tensor]:
    """A LoRA whose change of the weights is ``start + strength * mean(run - start)``, in float32.

    ``runs``, ``start``: matrices by name, ``...lora_A.weight`` ``[r, in]`` and ``...lora_B.weight`` ``[out, r]``, of
    one scale alpha / r; without a start the runs began with the base model. The rank is the sum of all ranks: the
    result is exact. Raises ``ValueError`` where layers differ or there is no run.
    """
    if not runs:
        raise ValueError("there is no LoRA to average")
    parts = [(run, strength / len(runs)) for run in runs]
    if start is not None and strength != 1.0:
        parts.append((start, 1.0 - strength))
    if any(_sides(part) != _sides(runs[0]) for part, _ in parts):
        raise ValueError("LoRAs to average have the same layers")
    return {
        name: torch.cat([part[name].float() * weight for part, weight in parts], dim=1)
        if ".lora_B." in name
        else torch.cat([part[name].float() for part, _ in parts], dim=0)
        for name in runs[0]
    }


def _sides(layers: Layers) -> dict[str, int]:
    """What a matrix must have in common with its like in another LoRA: all but the rank."""
    return {name: tensor.shape[0 if ".lora_B." in name else 1] for name, tensor in layers.items()}


def cook(out: Path, runs: Sequence[Path], start: Path | None, strength: float) -> int:
    """Write the mean of LoRA files, and give its rank.

    Raises :class:`UserError` for a file that is no LoRA of this project, and for LoRAs of other layers or scales.
    """
    files = [*runs, *([start] if start is not None else [])]
    if out.resolve() in {file.resolve() for file in files}:
        raise UserError(f"{out} is one of the LoRAs to average", "name another file first: the one to write")
    read = [_read(file) for file in files]
    scales = {scale for _, _, scale in read}
    if len(scales) > 1:
        raise UserError(f"the LoRAs have different scales alpha / r: {sorted(scales)}", "average runs of one setting")
    try:
        layers = mean_change([r[0] for r in read[: len(runs)]], read[-1][0] if start is not None else None, strength)
    except ValueError as error:
        raise UserError(str(error), "average runs of one setting") from None
    rank = next(tensor.shape[0] for name, tensor in layers.items() if ".lora_A." in name)
    dtype = next(iter(read[0][0].values())).dtype
    stored = {name: tensor.to(dtype).contiguous() for name, tensor in layers.items()}
    cost_ledger.write_beside_lora(out, None)  # a sheet that lies there is of what it replaces
    write_atomic(out, save(stored, metadata=_with_rank(read[0][1], rank, next(iter(scales)))))
    return rank


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, str], float]:
    """Matrices, metadata, and the scale alpha / r."""
    try:
        with safe_open(file, "pt") as opened:
            layers = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no dictionary
            metadata = dict(opened.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be read: {error}", "give .safetensors files of ipa-bench train") from None
    for settings in _settings(metadata).values():
        found = {name.rpartition(".")[2]: value for name, value in settings.items()}
        if "r" in found and "lora_alpha" in found:
            return layers, metadata, float(found["lora_alpha"]) / float(found["r"])
    raise UserError(f"{file} does not say its rank", "give .safetensors files of ipa-bench train")


def _settings(metadata: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The entries of a file's metadata that are JSON objects."""
    found = {}
    for key, text in metadata.items():
        try:
            value = json.loads(text)
        except ValueError:
            continue
        if isinstance(value, dict):
            found[key] = value
    return found


def _with_rank(metadata: Mapping[str, str], rank: int, scale: float) -> dict[str, str]:
    """Metadata of the first LoRA with the rank of the mean."""
    told = dict(metadata)
    for key, settings in _settings(metadata).items():
        new = {"r": rank, "lora_alpha": scale * rank}
        changed = {name: new.get(name.rpartition(".")[2], value) for name, value in settings.items()}
        told[key] = json.dumps(changed, indent=2, sort_keys=True)
    return told


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the LoRA to write")
    parser.add_argument("runs", type=Path, nargs="+", help="LoRAs of runs that differ in train.seed")
    parser.add_argument("--start", type=Path, help="the LoRA that all of them continued from, where there was one")
    parser.add_argument("--strength", type=float, default=1.0, help="how many times the mean change is applied")
    options = parser.parse_args()
    try:
        rank = cook(options.out, options.runs, options.start, options.strength)
    except UserError as error:
        parser.exit(2, f"error: {error.problem}\n  fix: {error.fix}\n")
    print(f"{options.out}: rank {rank}, the mean of {len(options.runs)} runs")


if __name__ == "__main__":
    main()
