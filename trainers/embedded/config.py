"""The configuration of pretraining: a TOML file checked by pydantic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ipa_bench.config.toml import read_toml
from ipa_bench.nets.precision import Precision
from trainers.flow import TSampling

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, le=1e-1)]
Ints = Annotated[
    tuple[int, ...],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
    Field(min_length=1),
]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DataConfig(_Table):
    """How much of the world's train split is shown to the autoencoder."""

    identities: Positive = 500
    takes: Positive = 2


class Phase(_Table):
    """``steps`` updates on ``batch`` crops of ``crop`` pixels and ``frames`` frames (1 more than a multiple of 4)."""

    steps: Positive
    batch: Positive
    frames: Positive
    crop: Positive


class VaeConfig(_Table):
    """The autoencoder, and how it is trained."""

    z_dim: Positive
    encoder_dim: Positive
    decoder_dim: Positive
    dim_mult: Ints
    kl: Annotated[float, Field(ge=0)]
    #: how many times more an error on a hand's pixel counts
    hand_weight: Annotated[float, Field(ge=1)]
    lr: Rate
    lr_rest: Rate
    ema: Annotated[float, Field(ge=0, lt=1)]
    phases: Annotated[tuple[Phase, ...], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)]
    #: a diffusers folder, or "embedded": its autoencoder is taken as it is, and none is trained
    start: str = ""


class Part(_Table):
    """An update of the transformer on ``batch`` samples of ``frames`` latent frames and their references.

    ``stills`` are single frames of many people, ``clips`` a run of latent frames from anywhere in a clip, ``pairs`` the
    same of clips of two people with two references.
    """

    source: Literal["stills", "clips", "pairs"]
    batch: Positive
    frames: Positive = 1
    #: people, or pairs of them, of a shard
    people: Positive = 512
    #: share of each frame's tokens that a step computes, those about hands first
    keep: Annotated[float, Field(gt=0, le=1)] = 1.0


class Stage(_Table):
    """``steps`` updates that take ``turns``; where there is one turn, its keys may stand in the stage's own table."""

    steps: Positive
    #: updates after which the next shard joins those that samples are drawn from
    every: Positive = 200
    turns: Annotated[
        tuple[Part, ...],
        BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
        Field(min_length=1),
    ]

    @model_validator(mode="before")
    @classmethod
    def _one_turn(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "turns" in value:
            return value
        own = {key: each for key, each in value.items() if key in Part.model_fields}
        return {key: each for key, each in value.items() if key not in own} | {"turns": (own,)}

    def has(self, kind: str) -> bool:
        """Whether a turn draws from this source."""
        return any(part.source == kind for part in self.turns)


class TransformerConfig(_Table):
    """The denoising transformer, and how it is trained."""

    heads: Positive
    head_dim: Positive
    layers: Positive
    vace_layers: Ints
    ffn_dim: Positive
    #: latents to a token, down and across
    patch: Annotated[tuple[Positive, Positive], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)] = (
        2,
        2,
    )
    lr: Rate
    lr_rest: Rate
    ema: Annotated[float, Field(ge=0, lt=1)]
    stages: Annotated[
        tuple[Stage, ...],
        BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v),
        Field(min_length=1),
    ]
    #: chance that a sample is trained without its prompt, for guidance
    drop_prompt: Annotated[float, Field(ge=0, le=1)] = 0.1
    #: how many times more an error counts where a latent is all hand
    hand_weight: Annotated[float, Field(ge=1)] = 1.0
    #: how much an error on the reference's latent frame counts, which a sampler throws away
    reference_weight: Annotated[float, Field(ge=0, le=1)] = 1.0
    t: TSampling = "uniform"
    #: share of the updates before the learning rate falls
    plateau: Annotated[float, Field(ge=0, lt=1)] = 0.3
    #: a diffusers folder, or "embedded": training begins with its weights
    start: str = ""
    #: compile the blocks: minutes of a C++ compiler once, then several times faster
    compile: bool = False
    #: updates between two measurements on held-out people
    gate_every: Positive = 250
    #: held-out people of such a measurement
    gate_people: Positive = 64

    @property
    def steps(self) -> int:
        """Updates of all stages."""
        return sum(stage.steps for stage in self.stages)


class PretrainConfig(_Table):
    """Everything that decides the result of a pretraining run."""

    seed: Annotated[int, Field(ge=0)] = 0
    #: of products; "auto" asks the processor which is faster
    precision: Precision = "auto"
    data: DataConfig
    vae: VaeConfig
    transformer: TransformerConfig


def load(path: Path) -> PretrainConfig:
    """Read a configuration. Raises UserError naming the file, the line and what is wrong there."""
    return read_toml(path, PretrainConfig).value
