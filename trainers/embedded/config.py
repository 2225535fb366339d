"""The configuration of pretraining: a TOML file checked by pydantic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ipa_bench.config.toml import read_toml

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
    """How much of the world's train split is shown."""

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


class TransformerConfig(_Table):
    """The denoising transformer, and how it is trained."""

    heads: Positive
    head_dim: Positive
    layers: Positive
    vace_layers: Ints
    ffn_dim: Positive
    lr: Rate
    lr_rest: Rate
    ema: Annotated[float, Field(ge=0, lt=1)]
    steps: Positive
    batch: Positive
    #: chance that a sample is trained without its prompt, for guidance
    drop_prompt: Annotated[float, Field(ge=0, le=1)] = 0.1


class PretrainConfig(_Table):
    """Everything that decides the result of a pretraining run."""

    seed: Annotated[int, Field(ge=0)] = 0
    data: DataConfig
    vae: VaeConfig
    transformer: TransformerConfig


def load(path: Path) -> PretrainConfig:
    """Read a configuration. Raises UserError naming the file, the line and what is wrong there."""
    return read_toml(path, PretrainConfig).value
