"""What a training run leaves on disk while it runs: a state to go on from, and a log of every step."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ipa_bench.errors import UserError
from ipa_bench.files import replacing

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class State:
    """Everything that the next step depends on; all that is random is a function of the step's number."""

    step: int
    weights: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    #: of the configuration and the data: another run's state is refused
    run: str
    #: the weights of the old policy, where the method keeps one
    old: Mapping[str, Tensor] = field(default_factory=dict)


def save(state: State, path: Path) -> None:
    """Write a state whole or not at all. Raises :class:`UserError` where there is no room."""
    content: dict[str, Any] = {
        "step": state.step,
        "weights": {name: t.detach().cpu() for name, t in state.weights.items()},
        "average": {name: t.cpu() for name, t in state.average.items()},
        "optimizer": dict(state.optimizer),
        "run": state.run,
    }
    if state.old:
        content["old"] = {name: t.cpu() for name, t in state.old.items()}
    write(content, path)


def write(content: Mapping[str, Any], path: Path) -> None:
    """Write tensors and numbers whole or not at all. Raises :class:`UserError` where there is no room."""
    try:
        with replacing(path, sync=True, alone=True) as part:
            torch.save(dict(content), part)
    except (OSError, RuntimeError) as error:  # torch.save makes a RuntimeError of a full disk
        raise UserError(
            f"cannot write {path}: {str(error).partition(chr(10))[0]}",
            "free some space and run again: it goes on from the last saved state",
        ) from None


def load(path: Path, run: str, shapes: Mapping[str, Tensor], *, mapped: bool = False) -> State | None:
    """The saved state, or None where there is none.

    Raises :class:`UserError` where it is damaged, or belongs to another configuration, other data or another model.
    """

    def state_of(content: Mapping[str, Any]) -> tuple[State, bool]:
        state = State(**content)
        return state, fits(state.weights, shapes)

    found = read(path, state_of, mapped=mapped)
    if found is None:
        return None
    state, same = found
    if state.run != run or not same:
        raise UserError(
            f"{path} belongs to another configuration, other data or another model",
            "give another --out, or go back to that configuration",
        )
    return state


def read(path: Path, of: Callable[[Mapping[str, Any]], T], *, mapped: bool = False) -> T | None:
    """What ``of`` makes of a saved content, its tensors in host memory; None where there is none.

    Raises :class:`UserError` where it is damaged, or ``of`` finds something else in it.
    """
    if not path.exists():
        return None
    try:
        return of(torch.load(path, weights_only=True, map_location="cpu", mmap=mapped))
    except Exception as error:  # a damaged zip, a pickle of something else, missing keys: a dozen kinds
        raise UserError(f"{path} is damaged ({type(error).__name__})", f"delete {path}: training begins anew") from None


def fits(weights: Mapping[str, Tensor], shapes: Mapping[str, Tensor]) -> bool:
    """Whether saved weights are of a model with these names and shapes."""
    return {n: t.shape for n, t in weights.items()} == {n: t.shape for n, t in shapes.items()}


def append(log: Path, line: Mapping[str, Any]) -> None:
    """Add a line to a log of JSON lines. Raises :class:`UserError` where there is no room."""
    try:
        with log.open("a") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise UserError(
            f"cannot write {log}: {error.strerror}",
            "free some space and run again: it goes on from the last saved state",
        ) from None


def trim(log: Path, steps: int) -> None:
    """Drop the log's lines of steps that are not in the saved state: they are taken again."""
    if not log.exists():
        return
    kept = []
    for line in log.read_text().splitlines(keepends=True):
        try:
            if json.loads(line)["step"] < steps:
                kept.append(line)
        except (ValueError, KeyError, TypeError):  # cut off by a kill
            continue
    log.write_text("".join(kept))
