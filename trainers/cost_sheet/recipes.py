"""The training step of each method on made-up clips, by the code that ``ipa-bench train`` runs: its loop and losses.

``published`` is the step as the authors' integration describes it (github.com/mdswyz/IPA, README): the model is copied
after its adapter has been added, and the copy has a forward pass of its own, without gradients, in every step. What the
reference costs is all that differs: noise, noise levels, weights, losses, clipping and optimizer are the same.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from ipa_bench.cost.clock import Lap, Stopwatch
from ipa_bench.errors import UserError
from ipa_bench.models.base import Base
from ipa_bench.models.outline import Checkpointing, Outline, Shape
from trainers.config import AdapterConfig, LossConfig, TrainTable
from trainers.cost_sheet.plan import RECIPES, Dtype, Work
from trainers.data.encode import Batch, Encoded
from trainers.data.reference import ReferenceErrors
from trainers.loop import Items, Loop
from trainers.methods import Method, Variant
from trainers.methods.draw import Draw
from trainers.methods.objective import Objective
from trainers.optimizer import OptimizerName
from trainers.policy import LoraPolicy, Policy

#: more updates than anybody measures: the loop saves its state after the last one
_ENDLESS = 10**9
#: the share of a latent frame that is hand, each way
_HAND = 4


@final
class PublishedPolicy(Policy):
    """A LoRA whose reference is a deep copy of model and adapter, as published."""

    reference_is = "a deep copy of the model that training began with"

    def __init__(self, base: Base, config: AdapterConfig, seed: int) -> None:
        """As :class:`LoraPolicy`, from the base model. Raises :class:`UserError` for one of several networks."""
        if len(base.networks) > 1:
            raise UserError("the published recipe copies one transformer, not two", "measure the other recipes")
        self._lora = LoraPolicy(base, config, None, seed)
        super().__init__(base)
        self.copy: Any = copy.deepcopy(self.transformer).requires_grad_(False).eval()

    @contextmanager
    def reference(self) -> Iterator[None]:
        """The copy in the model's place."""
        mine = self.transformer
        self.transformer = self.copy
        try:
            with torch.no_grad():
                yield
        finally:
            self.transformer = mine

    def save(self, folder: Path) -> Path:
        """The LoRA, as ours is saved."""
        return self._lora.save(folder)


@dataclass(frozen=True)
class Recipe:
    """How a step is made."""

    work: Work
    adapter: AdapterConfig
    batch: int = 1
    precision: Dtype = "bf16"
    checkpointing: Checkpointing = False
    optimizer: OptimizerName = "adamw"
    loss: LossConfig = field(default_factory=LossConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.work not in RECIPES:
            raise ValueError("generating is no training step")

    @property
    def method(self) -> Method:
        """The objective."""
        return RECIPES[self.work].method

    @property
    def variant(self) -> Variant:
        """How the reference's errors are had."""
        return RECIPES[self.work].variant


@dataclass(frozen=True)
class Update:
    """One update that was taken."""

    #: the device's work included
    lap: Lap
    metrics: Mapping[str, float]


class _Enough(Exception):
    """As many updates as were asked for."""


class Training:
    """Updates of one recipe, as many at a time as are asked for."""

    def __init__(self, recipe: Recipe, base: Base, shape: Shape, folder: Path) -> None:
        """``base`` gets the adapter and is trained on clips of ``shape`` (its batch does not count).

        ``folder``, an empty one, takes the loop's log and the reference's errors. :meth:`close` when all is done.
        """
        from accelerate import Accelerator

        precision = "bf16" if recipe.precision == "bf16" else "no"
        accelerator: Any = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=precision)
        self.device: torch.device = accelerator.device
        if recipe.variant == "published":
            self.policy: Policy = PublishedPolicy(base, recipe.adapter, recipe.seed)
        else:
            self.policy = LoraPolicy(base, recipe.adapter, None, recipe.seed)
        if recipe.checkpointing:
            self.policy.checkpoint_gradients(recipe.checkpointing)
        self.policy.train()
        keys = [f"clip{i}" for i in range(recipe.batch)]
        self._good = [clip(base.outline, shape, f"good {key}", i) for i, key in enumerate(keys)]
        more = recipe.method.takes == "pairs"
        self._bad = [clip(base.outline, shape, f"bad {key}", 1000 + i) for i, key in enumerate(keys) if more]
        known = ReferenceErrors(folder / "reference") if recipe.variant == "known" else None
        self._objective = Objective(recipe.method.name, recipe.loss, True, recipe.seed, self.policy, known)
        table = TrainTable(
            seed=recipe.seed, steps=_ENDLESS, batch=recipe.batch, micro_batch=recipe.batch, warmup=0,
            precision=recipe.precision, gradient_checkpointing=recipe.checkpointing, save_every=_ENDLESS, draws=1,
            cache_reference=known is not None, optimizer=recipe.optimizer,
        )  # fmt: skip
        items = Items(tuple(keys), recipe.seed, table.draws)
        folder.mkdir(parents=True, exist_ok=True)
        self._loop = Loop(table, self.policy, items, folder, "cost", accelerator)

    def take(self, count: int) -> list[Update]:
        """The next updates, each with the time it took. Raises what the loop raises, and out-of-memory errors."""
        found: list[Update] = []
        watch = Stopwatch()

        def tell(_: int, __: int, metrics: Mapping[str, float]) -> None:
            nonlocal watch
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            found.append(Update(watch.lap(), metrics))
            if len(found) == count:
                raise _Enough
            watch = Stopwatch()

        with suppress(_Enough):
            self._loop.run(self._loss, tell=tell)
        return found

    def _loss(self, index: Sequence[int], draws: Sequence[Draw]) -> tuple[Tensor, dict[str, Tensor]]:
        """As the trainer does it: clips wait in host memory and are brought to the device for each step."""
        good, bad = (
            Batch.of([clips[i] for i in index]).to(self.device) if clips else None for clips in (self._good, self._bad)
        )
        assert good is not None
        return self._objective.loss(good, bad, draws)

    def close(self) -> None:
        """Let go of what accelerate keeps for a whole process: the next training may have another precision."""
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(True)

    @property
    def held(self) -> int:
        """Bytes of weights that lie on the device: model, adapter, and the reference's copy where there is one."""
        copies = [self.policy.copy] if isinstance(self.policy, PublishedPolicy) else []
        return bytes_of(*self.policy.networks, *copies)


def bytes_of(*modules: nn.Module) -> int:
    """Bytes of all parameters, each storage once."""
    storages = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for m in modules for p in m.parameters()}
    return sum(storages.values())


def clip(outline: Outline, shape: Shape, key: str, seed: int) -> Encoded:
    """A made-up clip: Gaussian latents and condition, and a square of hand in the middle of every frame."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*sides: int) -> Tensor:
        return torch.randn(*sides, generator=generator)

    mask = torch.zeros(shape.frames - outline.references, shape.height, shape.width)
    high, wide = max(1, shape.height // _HAND), max(1, shape.width // _HAND)
    mask[:, high : 2 * high, wide : 2 * wide] = 1
    latents = normal(*outline.flow(shape))
    condition = {name: normal(*sides) for name, sides in outline.condition(shape).items()}
    return Encoded(latents, condition, mask, key)
