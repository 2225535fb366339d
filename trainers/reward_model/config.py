"""The configuration of a reward model's training: a TOML file checked by pydantic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from ipa_bench.config.fields import Count, Items, Number, StrictTable, Whole, Words
from ipa_bench.config.toml import read_toml
from trainers.reward_model.file import BackboneName

Share = Annotated[float, Field(ge=0, lt=1)]


class VotesConfig(StrictTable):
    """People's votes; paths relative to the configuration."""

    comparisons: Words
    votes: Annotated[Items[Words], Field(min_length=1)]
    #: share of the comparisons to try the model on, of people that it was not trained on
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2


class SyntheticConfig(StrictTable):
    """Faults of known outcome in the built-in world of two people."""

    #: groups of people to train on, each in a pair of every kind; and to try the model on
    groups: Count = 130
    held_out: Count = 16


class TrainConfig(StrictTable):
    """How it is trained."""

    steps: Count = 700
    #: comparisons of an update
    batch: Count = 12
    lr: Annotated[float, Field(gt=0, le=1e-1)] = 2e-3
    #: whether tied comparisons teach that scores are equal; without them they count for nothing
    ties: bool = True
    #: how much the squared difference of tied scores counts beside the votes' likelihood
    even: Number = 0.0
    #: share of the comparisons turned the wrong way round, to see how careless voters hurt
    flipped: Share = 0.0


class VisionLanguageConfig(StrictTable):
    """The vision-language backbone."""

    #: a folder of Qwen2.5-VL's weights, or its name on the hub
    base: Words = "Qwen/Qwen2.5-VL-3B-Instruct"
    #: of the adapter on the language model's layers
    rank: Count = 64
    alpha: Count = 128
    #: frames that it looks at
    frames: Annotated[int, Field(ge=2)] = 4


class RewardModelConfig(StrictTable):
    """Everything that decides the result."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    backbone: BackboneName = "small"
    seed: Whole = 0
    votes: VotesConfig | None = None
    synthetic: SyntheticConfig | None = None
    train: TrainConfig = TrainConfig()
    vision_language: VisionLanguageConfig = VisionLanguageConfig()

    @model_validator(mode="after")
    def _some_data(self) -> RewardModelConfig:
        if self.votes is None and self.synthetic is None:
            raise ValueError("give [votes], [synthetic] or both: there is nothing to learn from")
        return self


def load(path: Path) -> RewardModelConfig:
    """Read a configuration. Raises UserError naming the file, the line and what is wrong there."""
    return read_toml(path, RewardModelConfig).value
