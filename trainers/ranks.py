"""The processes of a run, and work that they share: each does every n-th piece, and all hear what came of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ipa_bench.errors import UserError

T = TypeVar("T")
R = TypeVar("R")

#: kinds of ``accelerate`` that a run can be divided by: each process holds the whole model
DATA_PARALLEL = {"NO", "MULTI_GPU", "MULTI_CPU"}


@dataclass(frozen=True)
class Ranks:
    """This process among all of a run."""

    index: int = 0
    count: int = 1

    def all(self, value: T) -> list[T]:
        """What each process gives, in the order of the processes; every one has to ask."""
        if self.count == 1:
            return [value]
        import torch

        found: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(found, value)
        return found

    def shared(self, items: Sequence[T], work: Callable[[T], R]) -> list[R]:
        """``work`` on every item, each done by one of the processes; all get all, in the order of the items.

        Where one raises :class:`UserError`, all do: none is left waiting for what does not come.
        """
        mine: list[R] = []
        failed: tuple[str, str] | None = None
        try:
            mine = [work(item) for item in items[self.index :: self.count]]
        except UserError as error:
            if self.count == 1:
                raise
            failed = (error.problem, error.fix)
        parts = self.all((mine, failed))
        for _, problem in parts:
            if problem is not None:
                raise UserError(*problem)
        return [parts[place % self.count][0][place // self.count] for place in range(len(items))]


def check(kind: str) -> None:
    """Raise :class:`UserError` for a way of accelerate to divide a run other than data parallelism."""
    if kind not in DATA_PARALLEL:
        raise UserError(
            f"training cannot be divided by {kind} of accelerate",
            "a configuration with distributed_type MULTI_GPU (accelerate launch --multi_gpu), and train.shard = true "
            "where a device does not hold the model",
        )
