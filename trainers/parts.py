"""What one process holds of parameters that lie in parts on several: its part, the whole of all parts, and back.

A parameter that is not divided is its own part and its own whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_TINY = 1e-6


def divided(value: Any) -> bool:
    """Whether a tensor lies in parts on several processes."""
    return hasattr(value, "full_tensor")


def mine(parameter: Any) -> nn.Parameter:
    """This process's part of a parameter, in the same memory."""
    return nn.Parameter(parameter.detach().to_local()) if divided(parameter) else parameter


def take_gradients(parameters: Mapping[str, Any], held: Mapping[str, nn.Parameter]) -> None:
    """Give each part the gradient that its parameter has had: averaged over the processes already."""
    for name, parameter in parameters.items():
        if divided(parameter):
            held[name].grad = None if parameter.grad is None else parameter.grad.to_local()
            parameter.grad = None


def clip(parameters: Mapping[str, Any], held: Mapping[str, nn.Parameter], most: float) -> float:
    """The norm of all gradients of all parts, which are scaled down where it is above ``most``."""
    if not any(map(divided, parameters.values())):
        return float(nn.utils.clip_grad_norm_(held.values(), most))
    squares = {True: 0.0, False: 0.0}
    gradients = {name: p.grad for name, p in held.items() if p.grad is not None}
    for name, gradient in gradients.items():
        squares[divided(parameters[name])] += float(gradient.double().square().sum())
    everywhere = torch.tensor(squares[True], dtype=torch.float64, device=next(iter(held.values())).device)
    torch.distributed.all_reduce(everywhere)
    norm = math.sqrt(float(everywhere) + squares[False])
    for gradient in gradients.values():
        gradient.mul_(min(1.0, most / (norm + _TINY)))
    return norm


def whole(value: Tensor, like: Any, *, keep: bool) -> Tensor:
    """All parts of a value together, in host memory, where ``like`` is divided; nothing where it is not to be kept.

    Every process has to ask.
    """
    if not divided(like):
        return value
    from torch.distributed.tensor import DTensor

    made: Any = DTensor.from_local(
        value.detach(), like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
    found: Tensor = made.full_tensor()
    return found.cpu() if keep else found.new_empty(0)


def part(value: Tensor, like: Any) -> Tensor:
    """What :func:`whole` was made of, on this process."""
    if not divided(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    placed: Any = distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    found: Tensor = placed.to_local().clone()
    return found


def whole_moments(state: Mapping[str, Any], parameters: Sequence[Any], *, keep: bool) -> dict[str, Any]:
    """The state of an optimizer of parts, as one of whole parameters has it."""
    return _moments(state, parameters, lambda value, like: whole(value, like, keep=keep))


def part_moments(state: Mapping[str, Any], parameters: Sequence[Any]) -> dict[str, Any]:
    """What :func:`whole_moments` was made of, on this process."""
    return _moments(state, parameters, part)


def _moments(state: Mapping[str, Any], parameters: Sequence[Any], change: Any) -> dict[str, Any]:
    found = {
        index: {
            name: change(value, parameters[index]) if isinstance(value, Tensor) and value.ndim else value
            for name, value in of.items()
        }
        for index, of in state["state"].items()
    }
    return {**state, "state": found}


def collect(networks: Iterable[Any], *, keep: bool) -> None:
    """Put networks together for good, in host memory, where they are to be kept; every process has to ask."""
    for network in networks:
        for name, parameter in list(network.named_parameters()):
            if not divided(parameter):
                continue
            full = parameter.full_tensor()
            if keep:
                owner, _, leaf = name.rpartition(".")
                setattr(network.get_submodule(owner), leaf, nn.Parameter(full.detach().cpu(), requires_grad=False))
        if keep and type(network).__name__.startswith("FSDP"):
            network.__class__ = type(network).__bases__[1]  # under its own name it is saved
