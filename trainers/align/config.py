"""The configuration of ``ipa-bench align`` and of ablations: a TOML file checked by pydantic, every key optional."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ipa_bench.config.fields import Count, Number, Table, Text, Whole
from ipa_bench.config.toml import read_toml
from ipa_bench.errors import UserError
from trainers import rewards
from trainers.config import (
    AdapterConfig,
    DataConfig,
    LossConfig,
    MaskSource,
    MethodTables,
    ModelConfig,
    RolloutConfig,
    TrainConfig,
    TrainTable,
    WatchConfig,
    fast_dtype,
)
from trainers.halo import Shape
from trainers.methods import MethodName
from trainers.rewards import RewardConfig


class CandidatesConfig(Table):
    """What a case's candidates are: samples of the base model, seeds 0 to ``per_case`` − 1."""

    per_case: Count = 8
    #: as in a suite; candidates are looked at by a scorer, not by people; where it is not given, what is fast here
    decode_dtype: Literal["bf16", "fp32"] = Field(default_factory=fast_dtype)


def _reward(name: str) -> str:
    try:
        rewards.find(name)
    except UserError as error:
        raise ValueError(error.reason) from None
    return name


class ChooseConfig(Table):
    """Which candidates are good, as ``ipa-bench select`` takes it."""

    #: a metric, or another reward as :mod:`trainers.rewards` names it; none that only judges
    metric: Annotated[Text, AfterValidator(_reward)] = "hand_quality"
    #: the best of each case: relative to the case, or the easy cases are what is selected
    #: 0: all that pass the threshold
    top_k: Whole = 1
    threshold: float | None = None
    per_identity: Count | None = None
    #: for DPO: how far apart good and bad are, and whether a pair must be one that no metric contradicts
    margin: Annotated[float, Field(gt=0)] = 0.02
    pairs: Literal["strict", "all"] = "strict"
    #: every pair of a case that differs by the margin, not the one that differs most
    every: bool = False


class MasksConfig(Table):
    """Where the hands of a training clip are."""

    mask: MaskSource = "driving"
    shape: Shape = "hull"
    margin: Number = 0.25


class EvaluateConfig(Table):
    """How the aligned model is compared with its base on the test split: seeds 0 to ``seeds`` − 1."""

    seeds: Count = 2


class AlignConfig(Table):
    """Everything but the suite. The defaults are those of the built-in suite and its tiny model."""

    method: MethodName = "ipa"
    #: the suite's model that is aligned, where it has several that could be
    base: Text | None = None
    rounds: Count = 1
    #: also trains on as many clips of the first round's candidates that nobody chose, or with scores that are dealt out
    #: anew within each case: what is left of the gain then has nothing to do with choosing
    control: bool = False
    candidates: CandidatesConfig = Field(default_factory=CandidatesConfig)
    choose: ChooseConfig = ChooseConfig()
    #: several rewards in the place of ``choose.metric``
    reward: RewardConfig | None = None
    masks: MasksConfig = MasksConfig()
    adapter: AdapterConfig = AdapterConfig(rank=16)
    loss: LossConfig = LossConfig()
    train: TrainTable = Field(default_factory=lambda: TrainTable(steps=200, batch=4, micro_batch=4, lr=1e-3))
    watch: WatchConfig = WatchConfig()
    methods: MethodTables = MethodTables()
    evaluate: EvaluateConfig = EvaluateConfig()

    def training(
        self,
        model: dict[str, Any],
        suite: Path,
        selection: Path | None,
        lora: Path | None,
        rollouts: RolloutConfig | None = None,
        reward: RewardConfig | None = None,
    ) -> TrainConfig:
        """The training configuration of a round; ``model`` are the keys of ``[model]`` that name the base.

        ``rollouts`` and ``reward`` stand in the place of ``selection`` where clips are made as training goes on.
        """
        chosen = None if selection is None else str(selection)
        return TrainConfig(
            data=DataConfig(suite=str(suite), selection=chosen, pairs=self.choose.pairs, **self.masks.model_dump()),
            rollouts=rollouts,
            reward=reward,
            model=ModelConfig(**model, lora=None if lora is None else str(lora)),
            adapter=self.adapter,
            loss=self.loss,
            train=self.train,
            watch=self.watch,
            methods=self.methods,
        )


def load(path: Path) -> AlignConfig:
    """Read a configuration. Raises UserError naming the file, the line and what is wrong there."""
    return placed(read_toml(path, AlignConfig).value, path.parent)


def placed(config: AlignConfig, folder: Path) -> AlignConfig:
    """With what ``[reward]`` names found in ``folder``, where it lies there."""
    return config if config.reward is None else config.model_copy(update={"reward": config.reward.placed(folder)})


def built_in() -> AlignConfig:
    """What ``ipa-bench align`` does on the built-in suite."""
    return load(Path(__file__).parents[1] / "configs" / "align-embedded.toml")
