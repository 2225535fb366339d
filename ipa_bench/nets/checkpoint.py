"""Weights of the backbones: read from published files without running code, or drawn at random for tests."""

from __future__ import annotations

import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ipa_bench.errors import UserError
from ipa_bench.nets.fold import Backbone

#: names shown of each kind of difference between a file and a network
_SHOWN = 3
_COUNTER = "num_batches_tracked"


def load(module: Backbone, path: str | Path) -> None:
    """Fill ``module``, in place and in its number format, with the tensors of a published file.

    The file is a state dict of torch (alone or under ``state_dict``, with or without the prefix ``module.``), the same
    as safetensors, or a TorchScript archive. No code in it is run, and the caller verifies its hash
    (:func:`ipa_bench.weights.path`). Raises UserError for a file that cannot be read and for one of another network.
    """
    path = Path(path)
    given = {name.removeprefix("module."): tensor for name, tensor in read(path).items()}
    given = {name: tensor for name, tensor in module.published(given).items() if not name.endswith(_COUNTER)}
    wanted = {name: tensor for name, tensor in module.state_dict().items() if not name.endswith(_COUNTER)}
    shapes = (
        f"{name} {list(given[name].shape)} for {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in given and given[name].shape != tensor.shape
    )
    differences = {"missing": sorted(wanted.keys() - given.keys()), "unexpected": sorted(given.keys() - wanted.keys())}
    differences["of another shape"] = list(shapes)
    if any(differences.values()):
        told = "; ".join(f"{len(names)} {kind} ({_some(names)})" for kind, names in differences.items() if names)
        raise UserError(f"{path} is not for {type(module).__name__}: {told}", "use the file that is published for it")
    module.load_state_dict(given, strict=False)
    module.origin = path.name


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def random_weights(module: Backbone, seed: int) -> None:
    """Fill ``module`` with seeded random weights (He et al., arXiv 1502.01852), for tests: comparable with nothing.

    Batch norms get statistics and gains near 1, LPIPS heads non-negative weights. The tensors depend on the names, the
    shapes and the seed alone: NumPy freezes the stream of its RandomState (NEP 19).
    """
    state = {name: tensor for name, tensor in module.state_dict().items() if not name.endswith(_COUNTER)}
    source = np.random.RandomState(seed)
    drawn = {name: torch.from_numpy(_draw(source, name, tuple(state[name].shape))) for name in sorted(state)}
    module.load_state_dict(drawn, strict=False)
    for part in module.modules():
        if isinstance(part, Backbone):
            part.origin = f"random (seed {seed}), not comparable"


def _draw(source: np.random.RandomState, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
    if name.endswith(".model.1.weight"):
        values = source.uniform(0.0, 1.0, shape) / shape[1]
    elif len(shape) > 1:
        values = source.standard_normal(shape) * math.sqrt(2.0 / math.prod(shape[1:]))
    elif name.endswith((".running_var", ".weight")):
        values = source.uniform(0.5, 1.5, shape)
    else:
        values = 0.1 * source.standard_normal(shape)
    return np.asarray(values, np.float32)


# ---------------------------------------------------------------------------------------------------------------------
# reading


def read(path: str | Path) -> dict[str, Tensor]:
    """The named tensors of a file, on the CPU. Formats and errors as for :func:`load`."""
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if _is_torchscript(path):
            return read_torchscript(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}", "check the path") from error
    except Exception as error:  # torch and safetensors raise what their parsers stumble over
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise UserError(f"{path} is no file of weights: {reason}", "download it again") from error
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{path} is no state dict", "use the file that is published for this network")
    return {str(name): tensor for name, tensor in found.items()}


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


class _Object:
    """Stands for any class of the archive's own code: attributes, and no behaviour."""


def _first(*arguments: Any) -> Any:
    return arguments[0]


def _rebuild(storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    return torch.as_strided(storage, tuple(size), tuple(stride), offset)


_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    **{("torch.jit._pickle", f"build_{kind}list"): _first for kind in ("int", "double", "bool", "tensor")},
    ("torch.jit._pickle", "restore_type_tag"): _first,
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
}


class _Archive(pickle.Unpickler):
    """Unpickles the data of a TorchScript archive. It knows the names of :data:`_ALLOWED` and no others."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(archive.open(f"{root}/data.pkl"))
        self._storage: Callable[[str], bytes] = lambda key: archive.read(f"{root}/data/{key}")

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Object
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"the archive names {module}.{name}, which no network needs")
        return _ALLOWED[module, name]

    def persistent_load(self, saved: Any) -> Tensor:
        _, dtype, key, _, count = saved
        return torch.frombuffer(bytearray(self._storage(key)), dtype=dtype, count=count) if count else torch.empty(0)


def read_torchscript(path: str | Path) -> dict[str, Tensor]:
    """The parameters and buffers of a TorchScript archive by their attribute paths, without running its code.

    ``torch.jit.load`` would compile and, on use, run the program that the archive carries. Only its data is read here:
    attributes that are tensors, of modules within modules. Raises ``pickle.UnpicklingError`` and ``KeyError`` where the
    archive is not laid out so; :func:`read` turns them into a UserError.
    """
    with zipfile.ZipFile(path) as archive:
        root = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("/data.pkl")
        return dict(_tensors(_Archive(archive, root).load(), ""))


def _tensors(node: Any, prefix: str) -> list[tuple[str, Tensor]]:
    found = []
    for name, value in vars(node).items() if isinstance(node, _Object) else ():
        if isinstance(value, Tensor):
            found.append((prefix + name, value))
        found += _tensors(value, f"{prefix}{name}.")
    return found
