"""``ipa-bench train``: a configuration and a method in, a LoRA and its card out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError

from ipa_bench import weights
from ipa_bench.cache import digest
from ipa_bench.errors import UserError
from ipa_bench.files import LORA_FILE, read_json
from ipa_bench.harness.generate import Poses
from ipa_bench.models import hasten, kinds
from ipa_bench.models.base import Base
from ipa_bench.models.checkpoint import lora_sha256
from trainers import card, devices, policy
from trainers.card import LORA_FOLDER
from trainers.data.encode import Batch, Encoded, Encoder
from trainers.data.reference import ReferenceErrors
from trainers.job import Job, prepare
from trainers.loop import STATE, Items, Loop
from trainers.methods import find
from trainers.methods import objective as objectives
from trainers.methods.draw import Draw
from trainers.methods.objective import Objective
from trainers.policy import Policy
from trainers.rollouts.rounds import Rounds, Tools
from trainers.spent import Spent
from trainers.watch import Watch


class Tell(Protocol):
    """What is told while training goes on: progress and the numbers of a step, or an alarm for the user to read."""

    def __call__(self, stage: str, done: int, total: int, metrics: Mapping[str, float], alarm: str = "", /) -> None: ...


def train(job: Job, out: Path, *, stop_after: int | None = None, tell: Tell = lambda *_: None) -> Path | None:
    """Train, or go on with what ``out`` holds; the LoRA's file, or None where ``stop_after`` ended it early.

    Raises :class:`UserError` for data that do not encode, a state of another run, and a loss that is not finite.
    """
    from accelerate.state import AcceleratorState

    config = job.config
    _make(out)
    finished = _finished(job, out)
    if finished is not None:
        return finished
    try:
        accelerator = devices.accelerator(config.train, out, {"method": job.method, "run": job.key})
        base = _base(job, accelerator)
        # That of looks first, where rounds have their own: the prompts that the base keeps are the last one's.
        watching = None if job.reward is None else _encoder(replace(job, reward=None), base, out)
        encoder = _encoder(job, base, out)
        spent = Spent(out, job.method, config, base)
        _encode_all(job, encoder, accelerator, tell, spent)
        base.leave_texts()
        trained, whole = _placed(job, base, accelerator)
        tools = Tools(
            trained, encoder, accelerator, spent, whole, lambda stage, done, total: tell(stage, done, total, {})
        )
        rounds = _rounds(job, tools, out)
        items = Items(tuple(_keys(job)), config.train.seed, config.train.draws)
        loop = Loop(config.train, trained, rounds or items, out, job.key, accelerator, _keep(job))
        processes = devices.ranks_of(accelerator)
        watch = Watch(trained, watching or encoder, job.watched, config.watch, job.spec, job.data.by, out, processes)
        if loop.step == 0 and accelerator.is_main_process:
            watch.forget()  # of a run with another configuration that was killed before its first state
        accelerator.wait_for_everyone()

        def look(step: int) -> None:
            # An average is put in place before divided weights are gathered.
            with spent.looking(accelerator.is_main_process), loop.averaged(), whole():
                _look(watch, step, accelerator, tell)

        with spent.training():
            done = loop.run(
                _step_loss(job, trained, encoder, accelerator, spent, rounds),
                stop_after=stop_after,
                tell=lambda step, total, metrics: tell("train", step, total, metrics),
                look=look,
                look_every=config.watch.every,
            )
        if not done:
            return None
        _publish(job, trained, loop, out, accelerator)
        return _finished(job, out)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        AcceleratorState._reset_state(True)  # the next run of this process has a precision and a group of its own


def _base(job: Job, accelerator: Any) -> Base:
    """The base on its device. Weights in fp8 are made when the adapter is there, whose values are none."""
    wide = job.spec.model_copy(update={"fp8": False})
    return kinds.base_kind(job.spec).load(wide, job.checkpoint, accelerator.device)


def _publish(job: Job, trained: Policy, loop: Loop, out: Path, accelerator: Any) -> None:
    """The adapter and its card, by the main process; the others wait for it."""
    accelerator.wait_for_everyone()  # every process has written what it took
    with loop.averaged() if job.config.train.ema else nullcontext():
        trained.collect(keep=accelerator.is_main_process)
        if accelerator.is_main_process:
            _save(trained, out / LORA_FOLDER)
    if accelerator.is_main_process:
        card.write(job, trained, out, accelerator.num_processes)
    accelerator.wait_for_everyone()
    accelerator.end_training()


def _save(trained: Policy, folder: Path) -> None:
    try:
        trained.save(folder)
    except (OSError, SafetensorError) as error:  # safetensors has an error of its own for a full disk
        raise UserError(
            f"cannot write {folder}: {str(error).partition(chr(10))[0]}",
            "free some space and run again: it goes on from the last saved state",
        ) from None


def _placed(job: Job, base: Base, accelerator: Any) -> tuple[Policy, Callable[[], AbstractContextManager[None]]]:
    """What is trained, its weights where they stay, and a context in which all networks are whole."""
    trained = _policy(job, base)
    whole = devices.whole(base, accelerator, shard=job.config.train.shard)
    if job.config.train.shard:
        trained.begin()
    if find(job.method).old:
        trained.keep_old()
    return trained, whole


def _policy(job: Job, base: Base) -> Policy:
    """What is trained, as it is trained."""
    config = job.config.train
    trained = policy.build(base, job.config.adapter, job.start, config.seed, later=config.shard)
    if config.gradient_checkpointing:
        trained.checkpoint_gradients(config.gradient_checkpointing)
    if job.spec.fp8:
        hasten.shrink(trained.networks)
    trained.train()
    return trained


def _encoder(job: Job, base: Base, out: Path) -> Encoder:
    """What makes tensors of clips: those of rounds pass, and a sampler's steps are whatever is where in the frame."""
    given, online = job.config.data, job.reward is not None
    if online and find(job.method).takes == "steps":
        given = given.model_copy(update={"mask": "none"})
    poses = Poses(out / "poses")
    model = job.checkpoint.identity + (", tiled" if job.config.model.vae_tiling else "")
    return Encoder(base, model, given, weights.cache_dir() / "encoded", poses.of, passing=online)


def _rounds(job: Job, tools: Tools, out: Path) -> Rounds | None:
    """Clips that are made as training goes on, or None where they are there."""
    if job.reward is None:
        return None
    return Rounds(job.config, find(job.method), job.reward, job.data, job.spec, tools, out, job.key)


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write in {out}: {error.strerror}", "choose a folder that can be written to") from None


def _finished(job: Job, out: Path) -> Path | None:
    """What the same run has left in ``out`` when it was done."""
    about = read_json(out / LORA_FOLDER / card.JSON_NAME)
    if about is None:
        return None
    file = out / LORA_FOLDER / LORA_FILE
    if not isinstance(about, dict) or about.get("run") != job.key:
        raise UserError(
            f"{out / LORA_FOLDER} was trained with another configuration or other data", "give another --out"
        )
    if job.config.adapter.full:
        return out / LORA_FOLDER
    return file if file.is_file() and about.get("sha256") == lora_sha256(file) else None


def _encode_all(job: Job, encoder: Encoder, accelerator: Any, tell: Tell, spent: Spent) -> None:
    """Encode what the cache lacks, each process its share, and check that all clips fit together."""
    # One process alone loads the text encoder, where a prompt is not in the cache; the others find what it put there.
    if accelerator.is_main_process:
        cases = [*(clip.case for clip in job.data.all), *job.data.online, *job.watched]
        guided = [each for each in (job.spec, job.config.rollouts) if each is not None and each.guidance > 1]
        asked = [each.negative_prompt or "" for each in guided]
        encoder.texts(list(dict.fromkeys([*(case.prompt for case in cases), *asked])))
    accelerator.wait_for_everyone()
    every = job.data.all
    mine = every[accelerator.process_index :: accelerator.num_processes]
    sides: dict[str, Path] = {}
    with spent.encoding() as encoded:
        for count, clip in enumerate(mine, 1):
            sides[_sides(encoder.encode(clip))] = clip.video
            encoded()
            tell("encode", count, len(mine), {})
    processes = devices.ranks_of(accelerator)
    if not all(processes.all(encoder.keeps)):  # what one cannot leave for the others, each makes itself, and holds
        for clip in every:
            encoder.encode(clip)
    shapes = {shown: file for each in processes.all(sides) for shown, file in each.items()}
    if len(shapes) > 1 and job.config.train.micro_batch > 1:
        several = ", ".join(f"{video.name} {shown}" for shown, video in list(shapes.items())[:2])
        raise UserError(f"clips of different shapes: {several}", "train.micro_batch = 1, or select clips of one size")


def _sides(clip: Encoded) -> str:
    """What clips of a batch have in common: the sides of the flow, and of what stands beside it where that differs."""
    whole = list(clip.latents.shape)
    rest = {name: list(tensor.shape) for name, tensor in clip.condition.items()}
    other = {name: sides for name, sides in rest.items() if name != "prompt" and sides[1:] != whole[1:]}
    return f"{whole}" + "".join(f", {name} {sides}" for name, sides in other.items())


def _keys(job: Job) -> list[str]:
    """Names of what is trained on, clips or pairs: runs that differ in mask or precision see the same noise."""
    good, bad = ([digest(clip.case.id, clip.sha256) for clip in side] for side in (job.data.good, job.data.bad))
    return [digest(a, b) for a, b in zip(good, bad, strict=True)] if bad else good


def _keep(job: Job) -> Callable[[int], float | None]:
    """How the old policy follows, where there is one."""
    keep = find(job.method).keep
    return lambda update: None if keep is None else keep(update, job.options)


def _step_loss(
    job: Job, trained: Policy, encoder: Encoder, accelerator: Any, spent: Spent, rounds: Rounds | None
) -> Any:
    config = job.config
    known = None
    # Processes that share frozen weights go through them equally often, whatever one of them knows.
    if config.train.cache_reference and find(job.method).reference and not config.train.shard:
        # What the reference's error depends on besides clip, noise and t. Another batch size rounds otherwise.
        began = None if job.start is None else lora_sha256(job.start)
        loss = config.loss.model_dump(include={"hand_weight", "hand_form", "t", "shift"}) | {"on": config.weighted}
        run = config.train.model_dump(include={"precision", "seed", "micro_batch"}) | {"dtype": config.model.dtype}
        made_by = [version("torch"), version("diffusers"), objectives.VERSION, *job.spec.speed.words]
        kind = digest(job.checkpoint.identity, began, loss, run, accelerator.device.type, made_by)
        known = ReferenceErrors(weights.cache_dir() / "reference" / kind[:32])
    seed = config.train.seed
    objective = Objective(job.method, config.loss, config.weighted, seed, trained, known, job.options)

    def batch(chosen: Sequence[Any], index: Sequence[int]) -> Batch:
        return Batch.of([encoder.encode(chosen[i]) for i in index]).to(accelerator.device)

    def loss_of(index: Sequence[int], draws: Sequence[Draw]) -> Any:
        data = job.data if rounds is None else rounds.data
        bad = batch(data.bad, index) if data.bad else None
        good = batch(data.good, index)
        before = 0 if known is None else len(known)
        values = torch.tensor([data.values[i] for i in index]) if data.values else None
        taken = None if rounds is None else rounds.taken(index, draws)
        found = objective.loss(good, bad, draws, values, taken)
        spent.step(good, reference_known=known is not None and len(known) == before)
        return found

    return loss_of


def _look(watch: Watch, step: int, accelerator: Any, tell: Tell) -> None:
    line = watch.look(step)
    for problem in line.get("alarm", ()) if accelerator.is_main_process else ():
        tell("watch", step, step, {}, f"alarm: {problem}")
    accelerator.wait_for_everyone()


__all__ = ["LORA_FOLDER", "STATE", "Job", "prepare", "train"]
