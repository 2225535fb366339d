"""Transformers out of files that their authors or ComfyUI wrote: other key names, one file or several parts.

diffusers renames the keys (``from_single_file``), and passes over what it does not know and what is not there. Here
every tensor of a file is used, and every one of the transformer has come from it, or the file is refused.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ipa_bench.errors import UserError


def read(kind: Any, config: Path, files: Sequence[Path], dtype: torch.dtype) -> Any:
    """A transformer of the class ``kind`` with the weights of ``files``, in ``dtype`` but for what stays in fp32.

    ``config``: the folder with its ``config.json``. Raises :class:`UserError` naming what is missing, what is too much
    and what does not fit.
    """
    found: dict[str, Tensor] = {}
    for file in files:
        found |= _tensors(file)
    about = kind.load_config(str(config), local_files_only=True)
    with torch.device("meta"):
        wanted = {name: tensor.shape for name, tensor in kind.from_config(about).state_dict().items()}
    if not wanted.keys() <= found.keys():
        found = convert_wan_transformer_to_diffusers(found)
    _check(files, found, wanted, config)
    made = kind.from_single_file(found, config=str(config), local_files_only=True)
    kept = set(kind._keep_in_fp32_modules or ())
    for name, parameter in made.named_parameters():
        parameter.data = parameter.data.to(torch.float32 if kept & set(name.split(".")) else dtype)
    return made


def _tensors(file: Path) -> dict[str, Tensor]:
    """Tensors by name; of a pickle nothing else is taken."""
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        while isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
            content = content["state_dict"]
        if not isinstance(content, dict) or not all(isinstance(t, Tensor) for t in content.values()):
            raise ValueError("it holds more than named tensors")
        return content
    except (OSError, ValueError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        why = str(error).strip().partition("\n")[0]
        raise UserError(f"{file} cannot be read as weights: {why}", "download it again") from error


def _check(files: Sequence[Path], found: Mapping[str, Tensor], wanted: Mapping[str, torch.Size], config: Path) -> None:
    where = files[0] if len(files) == 1 else files[0].parent
    fix = f"give the weights that {config / 'config.json'} describes, in bf16, fp16 or fp32"
    lacking, beyond = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if lacking:
        raise UserError(f"{where} lacks {lacking[0]}{_more(lacking)}", fix)
    if beyond:
        raise UserError(f"the transformer has no place for {beyond[0]}{_more(beyond)} of {where}", fix)
    for name, tensor in found.items():
        if tensor.shape != wanted[name]:
            raise UserError(f"{name} of {where} is {list(tensor.shape)}, not {list(wanted[name])}", fix)
        if tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise UserError(f"{name} of {where} is {str(tensor.dtype).removeprefix('torch.')}", fix)


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
