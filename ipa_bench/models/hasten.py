"""Networks of a base made to compute as :class:`ipa_bench.models.speed.Speed` says, where this machine can."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from ipa_bench.errors import UserError
from ipa_bench.models.speed import BACKENDS, Backend, Speed


def check(speed: Speed, name: str) -> None:
    """Raise :class:`UserError` where what is asked for the model ``name`` is not to be had on this machine."""
    backend = BACKENDS[speed.attention]
    lacking = _lacking(backend)
    if lacking is not None:
        there = ", ".join(each for each, other in BACKENDS.items() if _lacking(other) is None)
        raise UserError(f'model {name}: attention = "{speed.attention}" {lacking[0]}', f"{lacking[1]}; here: {there}")
    if speed.compile and speed.fp8:
        raise UserError(
            f"model {name}: compile goes without fp8, whose weights change their type in each pass", "leave one out"
        )
    if speed.compile and not _compiles():
        what = "Triton" if _gpu() else "a C++ compiler"
        raise UserError(f"model {name}: compile needs {what}, which is not here", f"install {what}, or leave it out")


def _lacking(backend: Backend) -> tuple[str, str] | None:
    """What a backend lacks on this machine, and what helps."""
    if backend.package is not None and find_spec(backend.package[0]) is None:
        return f"needs {backend.package[0]}, which is not installed", backend.package[1]
    if backend.gpu and not _gpu():
        return "needs a GPU, and torch finds none", "leave attention out"
    return None


def _gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _compiles() -> bool:
    if _gpu():
        return find_spec("triton") is not None
    return shutil.which(os.environ.get("CXX") or "g++") is not None or shutil.which("clang++") is not None


def apply(networks: Iterable[Any], speed: Speed) -> None:
    """Let diffusers' transformers compute so; fp8 is :func:`shrink`'s. Raises :class:`UserError` where one cannot."""
    backend = BACKENDS[speed.attention].diffusers
    for network in networks:
        if speed.attention != "native":
            _attend(network, backend)
        if speed.compile:
            _compile(network, speed)


def _compile(network: Any, speed: Speed) -> None:
    """Compile the blocks that repeat; on a processor those of few operations, where they are what these are."""
    from ipa_bench.models.wan import blocks

    if not _gpu() and speed.attention == "native" and blocks.fits(network):
        blocks.replace(network, blocks.compiled())
    else:
        network.compile_repeated_blocks()


def _attend(network: Any, backend: str) -> None:
    from diffusers.models.attention_dispatch import attention_backend
    from diffusers.utils import logging

    said = logging.get_verbosity()
    logging.set_verbosity_error()  # it says each time that this is new
    try:
        with attention_backend():  # what it sets for all networks of the process is as before afterwards
            network.set_attention_backend(backend)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"attention {backend}: {error}", "leave attention out") from None
    finally:
        logging.set_verbosity(said)


def shrink(networks: Iterable[Any]) -> None:
    """Keep the weights of linear layers in fp8 (E4M3); patches, norms, embeddings and adapters stay as they are.

    Adapters have to be there already. A backward pass keeps what was widened unless gradients are checkpointed.
    """
    import torch

    for network in networks:
        network.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=network.dtype)
