"""What a run of training takes: its phases measured, its clips, tokens and FLOPs counted; and memory given back."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ipa_bench.cost import Phase
from ipa_bench.cost.device import short_name
from ipa_bench.cost.ledger import Ledger
from ipa_bench.models.wan.flops import Lora, Shape, update_flops
from trainers.config import TrainConfig
from trainers.data.encode import Batch
from trainers.methods import MethodName, find


class Spent:
    """The cost sheet of one process of a run, kept in the run's folder."""

    def __init__(self, out: Path, method: MethodName, config: TrainConfig, transformer: Any) -> None:
        """``transformer``: the model whose arithmetic is counted."""
        self._ledger = Ledger(out)
        self._method, self._config, self._model = find(method), config, transformer.config
        self._train: Phase | None = None
        self._dtype = "bf16" if config.train.precision == "bf16" else short_name(transformer.dtype)

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

    def step(self, batch: Batch, *, reference_known: bool) -> None:
        """Count a micro-batch (its good half, for pairs). An adapter of the reference's is not in its FLOPs."""
        if self._train is None:
            return
        shape = Shape(*batch.latents.shape[2:], text=batch.prompt.shape[1], batch=len(batch))  # type: ignore[misc]
        adapter, clips = self._config.adapter, self._method.clips
        flops = update_flops(
            self._model,
            shape,
            "full" if adapter.full else Lora(adapter.rank, adapter.layers, adapter.blocks),
            checkpointing=self._config.train.gradient_checkpointing,
            clips=clips,
            reference=self._method.reference and not reference_known,
        )
        self._train.add(len(batch), tokens=clips * shape.tokens(self._model), flops=flops)
        self._ledger.tick()


class Away:
    """VAE and text encoder in host memory while a model trains on a GPU: they are needed to encode and to look."""

    def __init__(self, pipe: Any, device: torch.device) -> None:
        """Moves them away. ``device``: where they are when they are needed."""
        self._parts = [part for part in (pipe.vae, pipe.text_encoder) if part is not None]
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
