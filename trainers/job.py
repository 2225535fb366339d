"""What is trained, on what and from what: a configuration and a method, checked before anything is loaded."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ipa_bench.cache import digest
from ipa_bench.errors import UserError
from ipa_bench.files import LORA_FILE
from ipa_bench.models import hasten, kinds
from ipa_bench.models.checkpoint import REPLACE, Checkpoint, lora_parts, lora_sha256, negative_prompt, weight_files
from ipa_bench.models.lora import check_lora
from ipa_bench.models.specs import EMBEDDED, BaseSpec
from ipa_bench.suite import Suite, load_suite
from ipa_bench.types import Case
from trainers import devices, optimizer, rewards, sde
from trainers.config import TrainConfig
from trainers.data import clips
from trainers.data.clips import Data
from trainers.methods import METHODS, MethodName, find
from trainers.rewards import Reward

#: settings that change how a run is made, and not what comes out of it
_FREE = {"save_every", "trackers", "gradient_checkpointing", "cache_reference", "shard"}
#: those of the model: what of them counts is asked of :class:`ipa_bench.models.speed.Speed`
_SPEED = ("attention", "compile", "fp8")


@dataclass(frozen=True, eq=False)
class Job:
    """A run of training, checked: everything there, nothing loaded."""

    method: MethodName
    config: TrainConfig
    data: Data
    watched: tuple[Case, ...]
    spec: BaseSpec
    checkpoint: Checkpoint
    #: the LoRA that training continues from
    start: Path | None
    #: of clips that are made as training goes on
    reward: Reward | None = None

    @property
    def options(self) -> Any:
        """Keys that only this method reads; None where it has none."""
        return self.config.options(self.method)

    @cached_property
    def key(self) -> str:
        """One line that changes with anything that the trained weights depend on."""
        # Files count by what is in them, not by where they lie.
        files = {"model", "revision", "kind", "mode", "lora", "weights", "weights_2", "vae_tiling", *_SPEED}
        places = {"data": {"suite", "selection"}, "model": files}
        # what has been the only one for long is not named
        train = _FREE | ({"optimizer"} if self.config.train.optimizer == "adamw" else set())
        left_out: Any = {"train": train, "watch": True, "methods": True, **places}
        left_out |= dict.fromkeys({"reward", *self.config.unused}, True)
        content = self.config.model_dump(mode="json", exclude=left_out)
        # What is published has no options, and keys of before there were any.
        asked = {} if self.options is None else self.options.model_dump(mode="json", exclude_defaults=True)
        content |= {"options": asked} if asked else {}
        content |= {"vae_tiling": True} if self.config.model.vae_tiling else {}
        content |= {"mode": REPLACE} if self.config.model.mode == REPLACE else {}
        content |= self.spec.speed.counts
        content |= {} if self.reward is None else {"reward": self.reward.info.id}
        began = None if self.start is None else lora_sha256(self.start)
        return digest(self.method, content, clips.hashes(self.data), self.checkpoint.identity, began)


def prepare(config: TrainConfig, method: MethodName, suite: Suite | None = None, *, dry: bool = False) -> Job:
    """Check everything that can be checked without loading the model. Raises :class:`UserError` for what is wrong.

    ``suite`` where it is at hand; else the configuration's file is read. ``dry``: nothing is to be trained, and a
    published model's weights are not asked for.
    """
    suite = load_suite(Path(config.data.suite)) if suite is None else suite
    if not dry and (config.rollouts is not None or find(method).file is not None):
        clips.share(config.data, suite, method, devices.together(), online=config.rollouts is not None)
    data, reward = _data(config, method, suite)
    other = load_suite(Path(config.watch.suite)) if config.watch.suite else suite
    watched = tuple(case for case in other.cases if case.split == "val")[: config.watch.cases]
    clips.check_apart(data, watched)
    clips.check_masks(config.data, [*data.cases, *watched])
    devices.check_trackers(config.train.trackers)
    optimizer.check(config.train.optimizer)
    start = None
    if config.model.lora is not None:
        start = Path(config.model.lora)
        start = start / LORA_FILE if start.is_dir() else start
        for part in lora_parts(start).values():
            check_lora(part)
    spec = _spec(config)
    if config.model.mode == REPLACE:
        clips.check_places([*data.cases, *watched])
    found = _checkpoint(spec, dry)
    spec, config = _led(spec, config, found.folder)
    return Job(method, config, data, watched, spec, found, start, reward)


def _led(spec: BaseSpec, config: TrainConfig, folder: Path) -> tuple[BaseSpec, TrainConfig]:
    """Both with the negative prompt that looks and rounds are guided by, where none is given."""
    spec = spec.model_copy(update={"negative_prompt": negative_prompt(None, spec.guidance, folder)})
    rounds = config.rollouts
    if rounds is not None:
        led = negative_prompt(rounds.negative_prompt, rounds.guidance, folder)
        # without guidance it says nothing; what was asked for stays as it was
        rounds = rounds.model_copy(update={"negative_prompt": led or rounds.negative_prompt or ""})
    return spec, config.model_copy(update={"rollouts": rounds})


def _checkpoint(spec: BaseSpec, dry: bool) -> Checkpoint:
    kind = kinds.base_kind(spec)
    hasten.check(spec.speed, spec.name)
    if dry and spec.model != EMBEDDED and not Path(spec.model).is_dir():
        weight_files(spec)  # those named beside it have to be there
        with suppress(UserError):
            kind.outline(spec.model, True)
            return Checkpoint(Path(spec.model), "published, not read")
    return kind.locate(spec)


def _data(config: TrainConfig, method: MethodName, suite: Suite) -> tuple[Data, Reward | None]:
    """What is trained on: clips that are there, or the cases of those to come and what they are rewarded by."""
    about = find(method)
    if about.old and config.rollouts is not None and config.adapter.full and config.train.shard:
        why = "samples rounds with an old policy, which has no place where every weight is trained and divided"
        raise UserError(f"{method} {why}", "leave train.shard or adapter.full out")
    if config.rollouts is None or config.reward is None:
        if about.file is None:
            raise UserError(f"{method} learns from clips that it makes itself", "give [rollouts] and [reward]")
        chosen = clips.clips(config.data, suite, method)
        return clips.valued(chosen, method, config.options(method)), None
    if not about.online:
        others = ", ".join(each.name for each in METHODS if each.online)
        raise UserError(f"{method} learns from clips that were selected", f"leave [rollouts] out, or train {others}")
    if about.takes == "steps":
        if config.adapter.dropout:
            raise UserError("with dropout a step is never as likely as it was when it was taken", "adapter.dropout = 0")
        asked = config.options(method)
        try:
            sde.steps(config.rollouts.steps, asked.window, asked.first)
        except ValueError as error:
            raise UserError(f"methods.{method}: {error}", "give more rollouts.steps, or a smaller window") from None
    reward = rewards.of_config(config.reward)
    data = clips.made_of(suite, reward.chooser.by, config.rollouts.cases)
    rewards.check_usable(reward, data.online)
    return data, reward


def _spec(config: TrainConfig) -> BaseSpec:
    """The base as a suite would name it, sampled as it is watched. Raises :class:`UserError` for an unknown kind."""
    model, watch = config.model, config.watch
    kind = model.kind or kinds.base_of(model.model)
    if kind not in kinds.bases():
        raise UserError(f"model.kind: there is no base model {kind!r}", f"known: {', '.join(kinds.bases())}")
    files = {key: Path(path) for key in ("weights", "weights_2") if (path := getattr(model, key)) is not None}
    table = kinds.KINDS[kind].spec
    if model.mode is not None and "mode" not in table.model_fields:
        raise UserError(f"model.mode: {kind} has no modes", "leave it out")
    mode = {} if model.mode is None else {"mode": model.mode}
    found: BaseSpec = table(
        name="policy", kind=kind, model=model.model, revision=model.revision, **files, **mode,
        vae_tiling=model.vae_tiling, dtype=model.dtype, **{key: getattr(model, key) for key in _SPEED},
        steps=watch.steps, guidance=watch.guidance, shift=watch.shift,
    )  # fmt: skip
    return found
