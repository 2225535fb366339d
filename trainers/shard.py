"""Frozen weights divided over the processes of a run: FSDP2, for models that no device holds beside their training.

What is trained is small and stays whole on every process, so that gradients, states and LoRAs are what they are without
it. Frozen matrices are gathered block by block for each pass and let go of after it. So all processes have to go
through the network equally often; to look at held-out cases, each its own, they gather everything once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ipa_bench.errors import UserError
from ipa_bench.models.base import Base


class Sharded:
    """The networks of a base whose frozen weights lie in parts on the processes."""

    def __init__(self, base: Base) -> None:
        """Divide them. Trained values, and what has another dtype than the rest (norms), stay whole.

        Raises :class:`UserError` for a base with several networks: processes whose clips go through different ones
        would wait for each other.
        """
        from torch.distributed.fsdp import fully_shard

        if len(base.networks) > 1:
            raise UserError("train.shard: a model with two experts cannot be divided", "leave train.shard out")
        network: Any = next(iter(base.networks.values()))
        whole = {p for p in network.parameters() if p.requires_grad or p.dtype != base.dtype or p.ndim < 2}
        names = set(network._no_split_modules)
        blocks = [module for module in network.modules() if type(module).__name__ in names]
        self._parts: list[Any] = [fully_shard(part, ignored_params=whole) for part in (*blocks, network)]

    @contextmanager
    def together(self) -> Iterator[None]:
        """All weights on every process inside, which may then use the network as often as it likes."""
        for part in self._parts:
            part.set_reshard_after_forward(False)
            part.unshard()
        try:
            yield
        finally:
            for part in self._parts:
                part.set_reshard_after_forward(True)
                part.reshard()
