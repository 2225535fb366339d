"""What is to be measured: a sweep, checked before the first measurement, and the cells that it consists of."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from ipa_bench.cache import digest
from ipa_bench.config.fields import Table, checked
from ipa_bench.errors import UserError
from ipa_bench.models.outline import Checkpointing
from ipa_bench.models.speed import Attention, Speed
from trainers.methods import recipes
from trainers.optimizer import OptimizerName

#: Training (``ipa-cached``: the reference is known; ``published``: it is a deep copy with a pass of its own), and
#: generating.
RECIPES = {recipe.name: recipe for recipe in recipes()}
WORKS = (*RECIPES, "generate")
if TYPE_CHECKING:
    Work = str
else:
    Work = Literal[WORKS]
Dtype = Literal["bf16", "fp32"]
Layers = Literal["qkv", "attention", "linear"]
#: fewer say nothing about how far times differ
LEAST_REPEATS = 5
_CLIP = re.compile(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)")


@dataclass(frozen=True, order=True)
class Clip:
    """The shape of a clip, in pixels and frames."""

    height: int
    width: int
    frames: int

    @classmethod
    def parse(cls, text: str) -> Clip:
        """``HEIGHTxWIDTHxFRAMES``, such as 480x832x81. Raises :class:`UserError` for anything else."""
        found = _CLIP.fullmatch(text.strip())
        if found is None:
            raise UserError(f"{text!r} is no shape", "write HEIGHTxWIDTHxFRAMES, such as 480x832x81")
        return cls(*map(int, found.groups()))

    def __str__(self) -> str:
        return f"{self.height}x{self.width}x{self.frames}"


#: at what a model is measured where nothing is asked for: the published sizes, and that of the built-in world
WAN_CLIPS = (Clip(480, 832, 17), Clip(480, 832, 49), Clip(480, 832, 81))
EMBEDDED_CLIPS = (Clip(128, 128, 17),)


@dataclass(frozen=True)
class Cell:
    """One measurement: everything that decides it but the machine."""

    model: str
    random_weights: bool
    work: Work
    clip: Clip
    #: clips (pairs, for DPO) that the model sees at once: ``train.micro_batch``
    batch: int
    #: of the frozen weights, and of autocast
    dtype: Dtype
    attention: Attention = "native"
    #: of training; False, 0 and empty for ``generate``
    checkpointing: Checkpointing = False
    rank: int = 0
    layers: Layers | Literal[""] = ""
    #: runs of the model in a denoising step: 2 with ``guidance`` above 1
    guidance: float = 1.0
    #: denoising steps of a clip; 0 for training
    steps: int = 0
    #: steps before the first that counts, and those that count
    warmup: int = 2
    repeats: int = LEAST_REPEATS
    #: GB that the device is treated as having; None: all of it
    memory: float | None = None
    #: blocks compiled; weights in fp8; and of training
    compile: bool = False
    fp8: bool = False
    optimizer: OptimizerName = "adamw"

    @property
    def key(self) -> str:
        """The cell's name in a sheet. What there has not always been is named where it is asked for."""
        later = {"compile": False, "fp8": False, "optimizer": "adamw"}
        content = {name: value for name, value in asdict(self).items() if value != later.get(name, ...)}
        return digest(content)[:24]

    @property
    def speed(self) -> Speed:
        """How the networks compute."""
        return Speed(self.attention, self.compile, self.fp8)

    @property
    def trains(self) -> bool:
        """Whether this is a training step."""
        return self.work != "generate"


Whole = Annotated[int, Field(ge=1)]


class Sweep(Table):
    """Every combination of these is a cell. Order is that of measuring: small clips first."""

    #: ``embedded``, a diffusers folder, a hub name, ``wan2.1-vace-1.3b`` or ``wan2.1-vace-14b``
    models: Annotated[tuple[str, ...], Field(min_length=1)]
    clips: tuple[Clip, ...] = ()
    works: Annotated[tuple[Work, ...], Field(min_length=1)] = WORKS
    batches: Annotated[tuple[Whole, ...], Field(min_length=1)] = (1,)
    dtypes: Annotated[tuple[Dtype, ...], Field(min_length=1)] = ("bf16",)
    checkpointing: Annotated[tuple[Checkpointing, ...], Field(min_length=1)] = (False,)
    attention: Annotated[tuple[Attention, ...], Field(min_length=1)] = ("native",)
    compile: Annotated[tuple[bool, ...], Field(min_length=1)] = (False,)
    fp8: Annotated[tuple[bool, ...], Field(min_length=1)] = (False,)
    optimizers: Annotated[tuple[OptimizerName, ...], Field(min_length=1)] = ("adamw",)
    rank: Whole = 128
    layers: Layers = "qkv"
    #: of generating: Wan's own sampling has 50 steps with guidance 5
    steps: Whole = 50
    guidance: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 5.0
    #: at least 2: the first step loads kernels and fills the memory of reference errors
    warmup: Annotated[int, Field(ge=2)] = 2
    repeats: Annotated[int, Field(ge=LEAST_REPEATS)] = LEAST_REPEATS
    random_weights: bool = False
    memory: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None

    @field_validator(
        "models", "clips", "works", "batches", "dtypes", "checkpointing", "attention", "compile", "fp8", "optimizers"
    )
    @classmethod
    def _different(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) < len(values):
            raise ValueError("each may be named once")
        return values

    def clips_of(self, model: str) -> tuple[Clip, ...]:
        """What this model is measured at."""
        return self.clips or (EMBEDDED_CLIPS if model == "embedded" else WAN_CLIPS)

    def cells(self) -> tuple[Cell, ...]:
        """Every cell once: generating has no adapter, checkpointing and optimizer."""
        how = ("batch", "dtype", "attention", "compile", "fp8", "optimizer", "checkpointing")
        choices: tuple[tuple[Any, ...], ...]
        choices = (self.batches, self.dtypes, self.attention, self.compile, self.fp8, self.optimizers)
        found = [
            self._cell(work, {"model": model, "clip": clip} | dict(zip(how, chosen, strict=True)))
            for model in self.models
            for clip in sorted(self.clips_of(model), key=lambda clip: clip.height * clip.width * clip.frames)
            for chosen in product(*choices, self.checkpointing)
            for work in self.works
        ]
        return tuple(dict.fromkeys(found))

    def _cell(self, work: Work, chosen: dict[str, Any]) -> Cell:
        common: dict[str, Any] = chosen | {"random_weights": self.random_weights, "work": work, "memory": self.memory}
        common |= {"warmup": self.warmup, "repeats": self.repeats}
        if work == "generate":
            plain = {"checkpointing": False, "optimizer": "adamw"}
            return Cell(**(common | plain), steps=self.steps, guidance=self.guidance)
        return Cell(**common, rank=self.rank, layers=self.layers)


def sweep(**values: Any) -> Sweep:
    """A sweep of these values. Raises :class:`UserError` naming the first that is wrong."""
    with checked("", "ipa-bench cost --help", whole="the sweep", shown=True):
        return Sweep(**values)
