"""What a run of training takes: its phases measured, its clips, tokens and FLOPs counted; and memory given back."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from ipa_bench.cost import Phase
from ipa_bench.cost.device import short_name
from ipa_bench.cost.ledger import Ledger
from ipa_bench.models.base import Base
from ipa_bench.models.checkpoint import lora_parts
from ipa_bench.models.lora import lora_values
from ipa_bench.models.outline import DTYPE_BYTES, Bytes, Lora, Outline
from trainers.config import AdapterConfig, TrainConfig
from trainers.data.encode import Batch
from trainers.methods import Method, MethodName, find


def trained(adapter: AdapterConfig) -> Lora | Literal["full"]:
    """What an adapter's settings train, in the words of arithmetic."""
    return "full" if adapter.full else Lora(adapter.rank, adapter.layers, adapter.blocks)


def held(config: TrainConfig, start: Path | None, outline: Outline) -> Bytes:
    """Exact bytes of weights and of all that is trained, ``start`` being a LoRA that training continues from.

    Its shape is then that of the new one, and it lies frozen beside it, counted with the weights.
    """
    average, dtype = config.train.ema > 0, config.model.dtype
    if start is None:
        found = outline.training_bytes(dtype, trained(config.adapter), average=average)
    else:
        values, tensors = map(sum, zip(*map(lora_values, lora_parts(start).values()), strict=True))
        weights = outline.training_bytes(dtype, None).weights + values * DTYPE_BYTES[dtype]
        found = Bytes.of_adapter(weights, values, tensors, average=average)
    # A byte a moment instead of four, and a scale for each 256 of them, which is little.
    return replace(found, optimizer=found.optimizer // 4) if config.train.optimizer == "adamw8bit" else found


def passes_of(method: Method, config: TrainConfig, outline: Outline) -> int:
    """Passes of an item that are differentiated: a sampler's step has those of its guidance."""
    if method.takes == "steps" and config.rollouts is not None:
        return outline.passes(config.rollouts.guidance)
    return method.clips


class Spent:
    """The cost sheet of one process of a run, kept in the run's folder."""

    def __init__(self, out: Path, method: MethodName, config: TrainConfig, base: Base) -> None:
        """``base``: the model whose arithmetic is counted."""
        self._ledger = Ledger(out)
        self._method, self._config, self._base = find(method), config, base
        options = config.options(method)
        self._asked = options is not None and options.reference
        self._train: Phase | None = None
        self._dtype = "bf16" if config.train.precision == "bf16" else short_name(base.dtype)

    @contextmanager
    def encoding(self) -> Iterator[Callable[[], None]]:
        """The phase in which clips become latents; what it gives is called after each."""
        with self._ledger.phase("encode", unit="clip") as phase:

            def encoded() -> None:
                phase.add(1)
                self._ledger.tick()

            yield encoded

    @contextmanager
    def training(self) -> Iterator[None]:
        """The phase of updates; looking, inside it, has a phase of its own."""
        with self._ledger.phase("train", unit=self._method.unit, dtype=self._dtype) as self._train:
            yield
        self._train = None

    @contextmanager
    def looking(self, looks: bool) -> Iterator[None]:
        """The phase in which held-out cases are looked at, or in which a process that does not look waits."""
        with self._ledger.phase("evaluate", unit="evaluation") as phase:
            yield
            phase.add(int(looks))

    def rolling(self) -> AbstractContextManager[Phase]:
        """The phase in which clips of a round are made."""
        return self._ledger.phase("generate", unit="clip", dtype=short_name(self._base.dtype))

    def rewarding(self) -> AbstractContextManager[Phase]:
        """The phase in which they are looked at."""
        return self._ledger.phase("observe", unit="video")

    def step(self, batch: Batch, *, reference_known: bool) -> None:
        """Count a micro-batch (its good half, for pairs). An adapter of the reference's is not in its FLOPs."""
        if self._train is None:
            return
        shape, outline = self._base.shape(batch.latents, batch.condition), self._base.outline
        clips = passes_of(self._method, self._config, outline)
        flops = outline.update_flops(
            shape,
            trained(self._config.adapter),
            clips=clips,
            checkpointing=self._config.train.gradient_checkpointing,
            reference=(self._method.reference and not reference_known) or self._asked,
            old=self._method.old,
        )
        self._train.add(len(batch), tokens=clips * outline.tokens(shape), flops=flops)
        self._ledger.tick()


class Away:
    """Networks in host memory while others train on a GPU: they are needed to encode and to look."""

    def __init__(self, parts: Sequence[nn.Module], device: torch.device) -> None:
        """Moves them away. ``device``: where they are when they are needed."""
        self._parts = parts
        self._device = device
        self._to(torch.device("cpu"))

    @contextmanager
    def back(self) -> Iterator[None]:
        """On the device inside."""
        self._to(self._device)
        try:
            yield
        finally:
            self._to(torch.device("cpu"))

    def _to(self, device: torch.device) -> None:
        for part in self._parts:
            part.to(device)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
