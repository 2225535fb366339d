"""LoRA arithmetic, once: sums of changes, their mean, how far to go along one, and the best LoRA of a smaller rank.

A LoRA changes a layer's weight by ``scale · up @ down`` and its output by ``scale · bias``; the scale is alpha / r, or
alpha / sqrt(r) with rsLoRA, and alpha and r may differ from layer to layer. A sum of LoRAs is a LoRA whose rank is the
sum of theirs, so sums, means and strengths are exact; only :func:`extract` leaves something out, and says how much.

What is not of that kind (DoRA, changes of norms, layers without both matrices) is refused by name, never left out.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ipa_bench.cost import ledger as cost_ledger
from ipa_bench.errors import UserError
from ipa_bench.files import write_atomic
from ipa_bench.models.wan import lora_names

#: of a file's tensors, and of its settings
PREFIX, METADATA_KEY = "transformer.", "lora_adapter_metadata"
_PART = re.compile(r"(.+)\.lora_(A\.weight|B\.weight|B\.bias)")
_FIX = "give .safetensors files of ipa-bench train"


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer's change of its weight: ``scale · up @ down``."""

    #: ``[r, in, ...]``
    down: Tensor
    #: ``[out, r, ...]``
    up: Tensor
    #: ``[out]``: added to the output, times the scale
    bias: Tensor | None
    scale: float

    @property
    def rank(self) -> int:
        """Rows of the one matrix, columns of the other."""
        return int(self.down.shape[0])


#: by the layer's name in the transformer
Lora = Mapping[str, Layer]


def of(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Layer]:
    """The layers of a LoRA as peft names them (``blocks.0.attn1.to_q.lora_A.weight``) with the settings of its config.

    Without settings every scale is 1, as diffusers and peft load it. Raises ValueError naming the tensor or the setting
    that is none of a LoRA's.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        found = _PART.fullmatch(name)
        if found is None:
            raise ValueError(f"{name} is no part of a LoRA")
        parts.setdefault(found[1], {})[found[2]] = tensor
    for setting in ("use_dora", "modules_to_save", "megatron_config", "layer_replication", "trainable_token_indices"):
        if settings.get(setting):
            raise ValueError(f"it is not low-rank matrices alone: {setting}")
    return {name: _layer(name, part, settings) for name, part in parts.items()}


def _layer(name: str, part: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Layer:
    down, up, bias = (part.get(key) for key in ("A.weight", "B.weight", "B.bias"))
    if down is None or up is None:
        raise ValueError(f"{name} lacks one of its two matrices")
    rank = int(down.shape[0])
    if up.shape[1] != rank or (bias is not None and bias.shape != up.shape[:1]):
        raise ValueError(f"the parts of {name} do not fit together")
    if not settings:
        return Layer(down, up, bias, 1.0)
    told, alpha = (_setting(name, settings, *keys) for keys in (("r", "rank_pattern"), ("lora_alpha", "alpha_pattern")))
    if told != rank:
        raise ValueError(f"{name} has rank {rank}, its settings say {told:g}")
    return Layer(down, up, bias, alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank))


def _setting(name: str, settings: Mapping[str, Any], common: str, pattern: str) -> float:
    """A layer's setting: that of the first pattern that its name ends with, else the common one. As peft does it."""
    for key, value in (settings.get(pattern) or {}).items():
        if re.match(rf"(.*\.)?({key})$", name):
            return float(value)
    return float(settings[common])


def adapter(transformer: Any, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and settings of an adapter that peft has put on a transformer."""
    from peft.utils import get_peft_model_state_dict

    with warnings.catch_warnings():
        # a bias is 1-d, which this function of peft's takes for a matrix that was not gathered
        warnings.filterwarnings("ignore", message="Adapter .* have invalid shape")
        found: dict[str, Tensor] = get_peft_model_state_dict(transformer, adapter_name=name)
    return found, dict(transformer.peft_config[name].to_dict())


def tensors(lora: Lora) -> dict[str, Tensor]:
    """The matrices and biases by the names that :func:`of` reads."""
    found = {}
    for name, layer in lora.items():
        found[f"{name}.lora_A.weight"], found[f"{name}.lora_B.weight"] = layer.down, layer.up
        if layer.bias is not None:
            found[f"{name}.lora_B.bias"] = layer.bias
    return found


def settings(lora: Lora, like: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says of its LoRA for peft's config: ``like`` with this one's ranks, scales and biases."""
    rank = Counter(layer.rank for layer in lora.values()).most_common(1)[0][0]
    alphas = {name: layer.scale * layer.rank for name, layer in lora.items()}
    common = next(alphas[name] for name, layer in lora.items() if layer.rank == rank)
    told = {
        "r": rank,
        "lora_alpha": common,
        "rank_pattern": {name: layer.rank for name, layer in lora.items() if layer.rank != rank},
        "alpha_pattern": {name: alpha for name, alpha in alphas.items() if alpha != common},
        "use_rslora": False,
        "lora_bias": any(layer.bias is not None for layer in lora.values()),
    }
    return {"target_modules": sorted(lora), **like, **told}


def combined(parts: Sequence[tuple[Lora, float]]) -> dict[str, Layer]:
    """The LoRA whose change is the sum of these, each times its factor; float32, its rank the sum of theirs. Exact.

    Scales are those of the first. Raises ValueError where there is none, or where their layers differ.
    """
    if not parts:
        raise ValueError("there is no LoRA to average")
    first = parts[0][0]
    if any(_sides(part) != _sides(first) for part, _ in parts):
        raise ValueError("LoRAs that are put together have the same layers")
    found = {}
    for name, one in first.items():
        scale = one.scale or 1.0
        layers = [(part[name], factor * (part[name].scale / scale)) for part, factor in parts]
        device = one.down.device
        down = torch.cat([layer.down.to(device).float() for layer, _ in layers], dim=0)
        up = torch.cat([layer.up.to(device).float() * factor for layer, factor in layers], dim=1)
        biases = [layer.bias.to(device).float() * factor for layer, factor in layers if layer.bias is not None]
        found[name] = Layer(down, up, torch.stack(biases).sum(0) if biases else None, scale)
    # peft has biases on every layer or on none
    if any(layer.bias is not None for layer in found.values()):
        found = {
            name: replace(layer, bias=layer.up.new_zeros(layer.up.shape[0])) if layer.bias is None else layer
            for name, layer in found.items()
        }
    return found


def _sides(lora: Lora) -> dict[str, tuple[Any, ...]]:
    """What a layer must have in common with its like in another LoRA: all but the rank."""
    return {name: (layer.down.shape[1:], layer.up.shape[:1], layer.up.shape[2:]) for name, layer in lora.items()}


def mean(runs: Sequence[Lora], start: Lora | None = None, strength: float = 1.0) -> dict[str, Layer]:
    """The LoRA whose change of the weights is ``start + strength · mean(run − start)``. Exact.

    ``start``: what all runs continued from; None where they began with the base model. Averaged weights of runs that
    began alike: model soups (Wortsman et al., ICML 2022, arXiv 2203.05482). A strength above 1 goes on along the change
    that training made: ExPO (Zheng et al., ACL 2025, arXiv 2404.16792; there of language models). Raises ValueError
    where there is no run, or where layers differ.
    """
    if not runs:
        raise ValueError("there is no LoRA to average")
    parts = [(run, strength / len(runs)) for run in runs]
    if start is not None and strength != 1.0:
        parts.append((start, 1.0 - strength))
    return combined(parts)


def extract(lora: Lora, rank: int | Mapping[str, int]) -> tuple[dict[str, Layer], float]:
    """The nearest LoRA of a rank, the same or one a layer, and how far off it is: ``‖left out‖ / ‖change‖``.

    By the singular values of each layer's change (Eckart and Young 1936). A layer that has no more than its rank stays
    as it is. Where two LoRAs lie close together one of their rank misses their mean, or what lies beyond one of them,
    by what is second order in their difference. Raises ValueError for a rank below 1.
    """
    found, lost, whole = {}, 0.0, 0.0
    for name, layer in lora.items():
        wanted = rank if isinstance(rank, int) else rank[name]
        if wanted < 1:
            raise ValueError(f"a LoRA of rank {wanted} changes nothing")
        left, inner = torch.linalg.qr(layer.up.double().flatten(1))
        right, outer = torch.linalg.qr(layer.down.double().flatten(1).T)
        u, values, v = torch.linalg.svd(inner @ outer.T)
        squares = (layer.scale * values).square()
        whole += float(squares.sum())
        if layer.rank <= wanted:
            found[name] = layer
            continue
        lost += float(squares[wanted:].sum())
        kept = min(wanted, len(values))  # a small layer has no more
        root = values[:kept].sqrt()
        up, down = left @ u[:, :kept] * root, (root[:, None] * v[:kept]) @ right.T
        found[name] = replace(
            layer,
            up=up.to(layer.up.dtype).reshape(-1, kept, *layer.up.shape[2:]),
            down=down.to(layer.down.dtype).reshape(kept, *layer.down.shape[1:]),
        )
    return found, math.sqrt(lost / whole) if whole else 0.0


@dataclass(frozen=True)
class Written:
    """A LoRA file that was made of others."""

    file: Path
    #: the largest of its layers
    rank: int
    #: share of the change that its rank left out; 0 where the file is exact
    left_out: float


def write_mean(
    out: Path, runs: Sequence[Path], *, start: Path | None = None, strength: float = 1.0, rank: int | None = None
) -> Written:
    """Write ``start + strength · mean(run − start)`` of LoRA files; the metadata and the dtype are the first run's.

    ``start``: the LoRA that all runs continued from. ``rank``: of the result, by :func:`extract`; else it is exact.
    Raises :class:`UserError` for a file that is no LoRA in the diffusers format or holds anything else (naming it), for
    LoRAs of other layers, for an ``out`` that is one of them, and for a strength or a rank that makes no sense.
    """
    files = [*runs, *([start] if start is not None else [])]
    if out.resolve() in {file.resolve() for file in files}:
        raise UserError(f"{out} is one of the LoRAs to read", "name another file: the one to write")
    if not (math.isfinite(strength) and strength > 0):
        raise UserError(f"a strength of {strength} is no strength", "give a number above 0; 1 is what training found")
    if rank is not None and rank < 1:
        raise UserError(f"a LoRA of rank {rank} changes nothing", "give a rank of at least 1")
    found = {file: read(file) for file in files}
    first = found[files[0]]
    try:
        made = mean([found[run].lora for run in runs], found[start].lora if start is not None else None, strength)
    except ValueError as error:
        raise UserError(str(error), "give LoRAs of one setting of layers and blocks") from None
    made, left_out = (made, 0.0) if rank is None else extract(made, rank)
    _write(out, made, first)
    return Written(out, max(layer.rank for layer in made.values()), left_out)


def write_strength(
    out: Path, lora: Path, strength: float, *, start: Path | None = None, rank: int | None = None
) -> Written:
    """Write a LoRA that goes ``strength`` times as far as ``lora`` from ``start``. Raises as :func:`write_mean`."""
    return write_mean(out, [lora], start=start, strength=strength, rank=rank)


def write_extract(out: Path, lora: Path, rank: int) -> Written:
    """Write the nearest LoRA of a rank. Raises as :func:`write_mean`."""
    return write_mean(out, [lora], rank=rank)


@dataclass(frozen=True, eq=False)
class File:
    """What a LoRA file holds."""

    lora: dict[str, Layer]
    settings: dict[str, Any]
    metadata: dict[str, str]
    dtype: torch.dtype


def read(file: Path) -> File:
    """A LoRA file under diffusers' names or those of Wan's authors. Raises :class:`UserError` for any other."""
    try:
        with safe_open(file, "pt") as opened:
            found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no dictionary
            metadata = dict(opened.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be read: {error}", _FIX) from None
    authors = lora_names.is_authors(found)
    other = None if authors else next((name for name in found if not name.startswith(PREFIX)), None)
    if other is not None or not found:
        what = (
            "is empty" if other is None else f"holds {other}, which is no LoRA of a transformer as diffusers writes it"
        )
        raise UserError(f"{file} {what}", _FIX)
    try:
        said = json.loads(metadata.get(METADATA_KEY, "{}"))
        own = {key.removeprefix(PREFIX): value for key, value in said.items() if key.startswith(PREFIX)}
        if authors:
            plain, own = lora_names.to_diffusers(found, own)
            if not plain:
                raise ValueError("it holds no LoRA")
            return File(of(plain, own), own, metadata, next(iter(plain.values())).dtype)
        lora = of({name.removeprefix(PREFIX): tensor for name, tensor in found.items()}, own)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: {error}", "what it holds besides low-rank matrices would be lost") from None
    return File(lora, own, metadata, next(iter(found.values())).dtype)


def _write(file: Path, lora: Lora, like: File) -> None:
    stored = {PREFIX + name: tensor.to("cpu", like.dtype).contiguous() for name, tensor in tensors(lora).items()}
    metadata = like.metadata | {"format": "pt", METADATA_KEY: told(settings(lora, like.settings))}
    cost_ledger.write_beside_lora(file, None)  # a sheet that lies there is of what it replaces
    write_atomic(file, ordered(save(stored, metadata=metadata)))


def write(file: Path, lora: Lora, dtype: torch.dtype) -> Path:
    """A LoRA that was not read from a file, as one that diffusers loads."""
    file.parent.mkdir(parents=True, exist_ok=True)
    _write(file, lora, File(dict(lora), {}, {}, dtype))
    return file


def told(settings: Mapping[str, Any]) -> str:
    """Settings as a file's metadata has them."""
    return json.dumps({PREFIX + key: value for key, value in settings.items()}, indent=2, sort_keys=True)


def ordered(content: bytes) -> bytes:
    """A safetensors file with its metadata in sorted order: safetensors has a new order each time."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]
