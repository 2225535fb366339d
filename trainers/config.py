"""The configuration of post-training: one TOML file for every method, checked by pydantic."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, Strict, create_model, model_validator

from ipa_bench.config.fields import Count, Guidance, Items, Number, Positive, StrictTable, Text, Whole, Words, checked
from ipa_bench.config.toml import read_toml
from ipa_bench.errors import UserError
from ipa_bench.models.outline import Checkpointing
from ipa_bench.models.specs import AnimateMode, AttentionName, BaseSpec
from ipa_bench.models.speed import BACKENDS
from trainers.flow import TSampling
from trainers.halo import Form, Shape
from trainers.methods import METHODS, MethodName
from trainers.methods.loss import TimeWeight
from trainers.optimizer import OptimizerName
from trainers.rewards.config import RewardConfig

MaskSource = Literal["exact", "driving", "generated", "none"]


class DataConfig(StrictTable):
    """What is trained on. Paths are relative to the configuration file."""

    #: the suite whose cases the clips were made for
    suite: Words
    #: what ``ipa-bench select`` wrote for the method: good clips, pairs, or all candidates; none with ``[rollouts]``
    selection: Words | None = None
    #: pairs that no metric contradicts, or all that differ by the margin
    pairs: Literal["strict", "all"] = "strict"
    #: where the hands are: the case's ``mask`` video, its driving clip's keypoints, those seen in the clip itself
    mask: MaskSource = "driving"
    shape: Shape = "hull"
    #: how far a mask reaches around a hand, in hand sizes
    margin: Number = 0.25


class ModelConfig(StrictTable):
    """The model that is trained."""

    #: a diffusers folder, a hub name, or ``embedded``
    model: Words
    revision: Words | None = None
    #: of base model, as a suite calls it; where it is not given, what the folder is
    kind: Words | None = None
    #: of Wan-Animate: ``replace`` for clips in which somebody's place is taken
    mode: AnimateMode | None = None
    #: a file, or a folder of its parts, that the transformer is read from in place of the checkpoint's own;
    #: ``weights_2`` for a second expert
    weights: Words | None = None
    weights_2: Words | None = None
    #: training continues from this LoRA, which is the reference too
    lora: Words | None = None
    #: encode and decode in overlapping tiles, as the clips were made: less memory, faint seams
    vae_tiling: bool = False
    #: of the frozen weights
    dtype: Literal["bf16", "fp32"] = "bf16"
    #: how attention is computed, whether the blocks that repeat are compiled, and the frozen weights in fp8: see
    #: :mod:`ipa_bench.models.speed`
    attention: AttentionName = "native"
    compile: bool = False
    fp8: bool = False

    @model_validator(mode="after")
    def _learns(self) -> ModelConfig:
        if not BACKENDS[self.attention].learns:
            raise ValueError(f'attention = "{self.attention}" has no backward pass: it is for sampling')
        return self


class AdapterConfig(StrictTable):
    """The LoRA; as published 128 on Q, K and V. ``full`` trains every weight instead."""

    full: bool = False
    rank: Count = 128
    #: the LoRA is scaled by alpha / rank; the rank where not given
    alpha: Annotated[float, Field(gt=0)] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    #: store the LoRA in fp16: half the file
    half: bool = False
    #: how many times the change that training made is applied in the saved LoRA; see trainers/lora.py
    strength: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 1.0
    #: Q, K, V of every attention; its output too; every linear layer of a block
    layers: Literal["qkv", "attention", "linear"] = "qkv"
    #: of the transformer itself, of VACE's control branch, or both
    blocks: Literal["all", "main", "vace"] = "all"


class LossConfig(StrictTable):
    """The objective; SFT ignores ``beta`` and ``time_weight``."""

    beta: Positive = 600.0
    #: (1 − t)² as published, or 1
    time_weight: TimeWeight = "squared"
    #: how many times more an error on a hand counts; 1 is no HALO
    hand_weight: Number = 10.0
    #: weight 1 + (w − 1) M of the authors' code, or 1 + λ M of the paper
    hand_form: Form = "authors"
    t: TSampling = "uniform"
    shift: Positive = 1.0

    @model_validator(mode="after")
    def _fits(self) -> LossConfig:
        if self.hand_form == "authors" and self.hand_weight < 1:
            raise ValueError('hand_weight has to be at least 1 with hand_form = "authors"')
        return self


def fast_dtype() -> Literal["bf16", "fp32"]:
    """What this machine is fast in: asked once, where a configuration does not say."""
    from ipa_bench.nets.precision import usual  # brings in torch

    return usual()


class TrainTable(StrictTable):
    """How long and how fast. The result depends on ``batch``, and but for dropout not on how it is divided."""

    seed: Whole = 0
    steps: Count = 1000
    #: clips (pairs, for DPO) of one update, over all processes
    batch: Count = 8
    #: of them at once in a process
    micro_batch: Count = 1
    lr: Annotated[float, Field(gt=0, le=1)] = 1e-4
    #: ``adamw8bit`` keeps moments in a byte each; of bitsandbytes or torchao, whichever is installed
    optimizer: OptimizerName = "adamw"
    warmup: Whole = 20
    schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: Number = 0.0
    #: largest norm of the gradient
    clip: Annotated[float, Field(gt=0)] = 1.0
    #: decay of an average of the weights, which is then what is saved; 0 is none
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    #: of products; where it is not given, what this machine is fast in
    precision: Literal["bf16", "fp32"] = Field(default_factory=fast_dtype)
    #: compute activations again in the backward pass: all, or (``attention``) all but what attention gave, which is
    #: most of the work where clips are long
    gradient_checkpointing: Checkpointing = False
    #: divide weights over the processes (FSDP2), for models that one device does not hold
    shard: bool = False
    save_every: Count = 50
    #: pairs of noise and t that a clip is shown with, again and again; 0: new ones each time
    draws: Whole = 0
    #: keep the reference's error of each (clip, noise, t): what repeats is not computed again
    cache_reference: bool = True
    #: names that accelerate knows, beside the log in JSON lines: ``tensorboard``, ``wandb``
    trackers: Items[Words] = ()

    @model_validator(mode="after")
    def _fits(self) -> TrainTable:
        if self.batch % self.micro_batch:
            raise ValueError("batch has to be a multiple of micro_batch")
        return self


class RolloutConfig(StrictTable):
    """Rounds: the model that is trained makes clips of the suite's train cases, and learns from them before the next.

    Updates of a round are ``cases * per_case / train.batch``: each clip is learnt from once.
    """

    #: of a round
    cases: Count = 16
    #: a case's clips are compared with each other alone
    per_case: Annotated[int, Strict(), Field(ge=2)] = 8
    steps: Count = 20
    guidance: Guidance = 1.0
    #: where it is not given, the base's usual one
    negative_prompt: Text | None = None
    shift: Positive | None = None
    #: that the VAE decodes in; where it is not given, what is fast here
    decode_dtype: Literal["bf16", "fp32"] = Field(default_factory=fast_dtype)
    #: clips made at once on a GPU
    batch: Count = 1
    #: noise levels that each clip is shown at; a method that learns from the sampler's own steps says which
    levels: Count = 1


class WatchConfig(StrictTable):
    """Held-out cases that training is watched on."""

    #: a suite; the one of the data where not given
    suite: Words | None = None
    #: updates between two looks; 0 looks at the beginning and at the end only
    every: Whole = 0
    #: at most this many cases of the suite's val split; 0 looks at none
    cases: Whole = 8
    #: of the samples; none: only the flow error is watched
    seeds: Items[Whole] = (0,)
    steps: Count = 20
    guidance: Guidance = 1.0
    shift: Positive | None = None


if TYPE_CHECKING:
    MethodTables = StrictTable
else:
    #: ``[methods.NAME]`` of every method that has keys of its own
    MethodTables = create_model(
        "MethodTables",
        __base__=StrictTable,
        **{method.name: (method.options, method.options()) for method in METHODS if method.options is not None},
    )


class TrainConfig(StrictTable):
    """Everything that decides the result of a post-training run, but the method."""

    data: DataConfig
    model: ModelConfig
    adapter: AdapterConfig = AdapterConfig()
    loss: LossConfig = LossConfig()
    train: TrainTable = Field(default_factory=TrainTable)
    #: clips that are made as training goes on, in the place of ``data.selection``, and what they are rewarded by
    rollouts: RolloutConfig | None = None
    reward: RewardConfig | None = None
    watch: WatchConfig = WatchConfig()
    methods: MethodTables = MethodTables()

    @model_validator(mode="after")
    def _has_clips(self) -> TrainConfig:
        if (self.data.selection is None) == (self.rollouts is None):
            raise ValueError("clips come from data.selection or from [rollouts]: give one of the two")
        if (self.rollouts is None) != (self.reward is None):
            raise ValueError("[rollouts] and [reward] go together: what is selected has been scored before")
        if self.rollouts is not None and self.rollouts.cases * self.rollouts.per_case % self.train.batch:
            raise ValueError("rollouts.cases * rollouts.per_case has to be a multiple of train.batch")
        return self

    @model_validator(mode="after")
    def _fits(self) -> TrainConfig:
        if self.adapter.full and self.model.lora:
            raise ValueError("adapter.full trains every weight: model.lora cannot be continued")
        if self.adapter.full and self.adapter.strength != 1.0:
            raise ValueError("adapter.strength is a LoRA's; adapter.full has none")
        if self.adapter.full and self.train.shard and self.train.optimizer != "adamw":
            raise ValueError("adapter.full with train.shard has no moments of 8 bits: leave train.optimizer out")
        if self.model.fp8 and (self.adapter.full or self.train.shard):
            raise ValueError("model.fp8 goes with neither adapter.full nor train.shard")
        if self.model.fp8 and not self.train.gradient_checkpointing:
            raise ValueError("model.fp8 saves memory with train.gradient_checkpointing alone: widened weights are kept")
        if self.adapter.full and self.model.dtype == "bf16":
            raise ValueError('adapter.full needs model.dtype = "fp32": small steps vanish in bf16')
        return self

    def options(self, method: MethodName) -> Any:
        """Keys that only this method reads; None where it has none."""
        return getattr(self.methods, method, None)

    @property
    def unused(self) -> set[str]:
        """Tables that are not there: what is written of a configuration does not name them."""
        return {name for name in ("rollouts", "reward") if getattr(self, name) is None}

    @property
    def updates(self) -> int:
        """Of a round. Raises ValueError where there are no rounds."""
        if self.rollouts is None:
            raise ValueError("there are no rounds")
        return self.rollouts.cases * self.rollouts.per_case // self.train.batch

    @property
    def weighted(self) -> bool:
        """Whether hands weigh more than the rest."""
        neutral = 1.0 if self.loss.hand_form == "authors" else 0.0
        return self.data.mask != "none" and self.loss.hand_weight != neutral


def base_of(spec: BaseSpec) -> dict[str, Any]:
    """The keys of ``[model]`` that name the base of a suite. Raises UserError for a LoRA that cannot be continued."""
    if spec.lora_2 is not None:
        fix = "lay it beside lora as NAME_2.safetensors, NAME being that of lora"
        raise UserError(f"model {spec.name}: training continues from lora alone, not from lora_2", fix)
    files = {
        key: None if path is None else str(path) for key in ("weights", "weights_2") for path in [getattr(spec, key)]
    }
    more: dict[str, Any] = {key: True for key in ("vae_tiling", "compile", "fp8") if getattr(spec, key)}
    attention = {"attention": spec.attention} if BACKENDS[spec.attention].learns else {}
    named = {"model": spec.model, "revision": spec.revision, "kind": spec.kind, "dtype": spec.dtype}
    return named | files | more | spec.own | (attention if spec.attention != "native" else {})


def load(path: Path) -> TrainConfig:
    """Read a configuration, its paths made relative to the working directory.

    Raises UserError naming the file, the line and what is wrong there.
    """
    return placed(read_toml(path, TrainConfig).value, path.parent)


def placed(config: TrainConfig, folder: Path) -> TrainConfig:
    """The configuration with its relative paths starting at ``folder``."""

    def there(text: str | None) -> str | None:
        return None if text is None else str(folder / text)

    model = config.model
    as_folder = (folder / model.model).is_dir()
    files = {key: there(getattr(model, key)) for key in ("lora", "weights", "weights_2")}
    model = model.model_copy(update=files | ({"model": there(model.model)} if as_folder else {}))
    data = config.data.model_copy(update={"suite": there(config.data.suite), "selection": there(config.data.selection)})
    watch = config.watch.model_copy(update={"suite": there(config.watch.suite)})
    reward = None if config.reward is None else config.reward.placed(folder)
    return config.model_copy(update={"model": model, "data": data, "watch": watch, "reward": reward})


def changed(config: TrainConfig, changes: Mapping[str, Mapping[str, Any]]) -> TrainConfig:
    """A configuration with some values of some tables replaced. Raises UserError for a key that does not exist."""
    content = config.model_dump()
    for table, values in changes.items():
        content[table] = {**(content.get(table) or {}), **values}
    with checked("", "see trainers/config.py for what there is", whole="the configuration"):
        return TrainConfig.model_validate(content)
