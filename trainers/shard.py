"""Weights divided over the processes of a run: FSDP2, for models that no device holds beside their training.

With an adapter the frozen matrices are divided; what is trained is small and stays whole on every process, so that
gradients, states and LoRAs are what they are without it. Where every weight is trained, its gradient, moments and
average are divided with it (:mod:`trainers.parts`). Matrices are gathered block by block for each pass and let go of
after it. So all processes have to go through the networks equally often, which experts for different noise levels
agree on; to look at held-out cases, each its own, they gather everything once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ipa_bench.models.base import Base


class Sharded:
    """The networks of a base whose weights lie in parts on the processes."""

    def __init__(self, base: Base) -> None:
        """Divide them. An adapter, vectors, and what has another dtype than the rest (norms), stay whole."""
        self._base, self._gathered = base, False
        self._parts: list[Any] = [part for network in base.networks.values() for part in _divide(network, base.dtype)]
        if len(base.networks) > 1:
            base.agree = self._agreed

    def _agreed(self, used: Sequence[bool]) -> list[bool]:
        """Which networks any process goes through now."""
        if self._gathered:
            return list(used)
        asked = torch.tensor(used, dtype=torch.int32, device=self._base.device)
        torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
        return [bool(one) for one in asked.tolist()]

    @contextmanager
    def together(self) -> Iterator[None]:
        """All weights on every process inside, which may then use the networks as often as it likes."""
        for part in self._parts:
            part.set_reshard_after_forward(False)
            part.unshard()
        self._gathered = True
        try:
            yield
        finally:
            self._gathered = False
            for part in self._parts:
                part.set_reshard_after_forward(True)
                part.reshard()


def _divide(network: Any, dtype: torch.dtype) -> list[Any]:
    from torch.distributed.fsdp import fully_shard

    trained = [p.requires_grad for p in network.parameters()]
    adapted = any(trained) and not all(trained)
    whole = {
        p for p in network.parameters() if p.dtype != dtype or p.ndim < 2 or (adapted and p.requires_grad)
    }  # fmt: skip
    names = set(network._no_split_modules)
    blocks = [module for module in network.modules() if type(module).__name__ in names]
    # A root would stay gathered after its pass, and a reference that is swapped in would be passed over.
    return [fully_shard(part, ignored_params=whole, reshard_after_forward=True) for part in (*blocks, network)]
