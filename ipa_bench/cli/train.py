"""What the verbs ``train`` and ``align`` show in a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from ipa_bench.cli.console import ERR, OUT, say
from ipa_bench.engine.processes import Progress
from ipa_bench.errors import UserError
from trainers import methods

if TYPE_CHECKING:
    from trainers.align.stages import Alignment
    from trainers.methods import MethodName
    from trainers.run import Job, Tell

#: metrics of a step that are worth a place beside the bar
_SHOWN = ("loss", "gap", "win", "error")
#: rough bytes that an activation of one token and layer takes, in units of the width, when its gradient is wanted
_PER_TOKEN = 34


def telling(progress: Progress) -> Tell:
    """Progress of training as bars; alarms as lines; where there is no terminal, numbers now and then."""

    def tell(stage: str, done: int, total: int, metrics: Mapping[str, float], alarm: str = "", /) -> None:
        if alarm:
            say(alarm)
            return
        progress(stage, done, total)
        if metrics and not ERR.is_terminal and (done == total or done * 10 // total > (done - 1) * 10 // total):
            ERR.print("  " + " ".join(f"{name} {metrics[name]:.4g}" for name in _SHOWN if name in metrics))

    return tell


def train(method: MethodName, file: Path, out: Path | None, dry_run: bool, progress: Progress) -> None:
    """Train by a configuration file, or say what would be trained."""
    from trainers import config as train_config
    from trainers import run as training

    job = training.prepare(train_config.load(file), method)
    folder = out or Path("runs") / f"{file.stem}-{method}"
    if dry_run:
        describe(job, folder)
        return
    lora = training.train(job, folder, tell=telling(progress))
    OUT.print(str(lora), markup=False, soft_wrap=True)


def describe(job: Job, folder: Path) -> None:
    """What would be trained, on how many clips, and how much memory that takes, by estimate."""
    data, config = job.data, job.config
    people = len({clip.case.identity or clip.case.id for clip in data.all})
    kept = sum(clip.latents is not None for clip in data.all)
    adapter = config.adapter
    lora = f"a LoRA of rank {adapter.rank} on {adapter.layers}, {adapter.blocks} blocks"
    lines = {
        "method": job.method,
        "model": f"{config.model.model} ({job.checkpoint.identity[:23]})",
        "continues": str(job.start) if job.start else "no: from the base model",
        "trains": "every weight" if adapter.full else lora,
        "clips": f"{len(data.all)} of {people} people, {kept} with their latents kept"
        + (f"; {len(data.bad)} pairs" if data.bad else ""),
        "chosen by": ", ".join(data.by) or "nothing",
        "updates": f"{config.train.steps} of {config.train.batch} = "
        f"{config.train.steps * config.train.batch / max(1, len(data.good)):.1f} times each clip",
        "watched": f"{len(job.watched)} cases, {len(config.watch.seeds)} samples each",
        "memory": estimate(job),
        "writes": str(folder),
    }
    width = max(map(len, lines))
    for name, text in lines.items():
        OUT.print(f"{name:<{width}}  {escape(text)}", soft_wrap=True)


def estimate(job: Job) -> str:
    """Memory that training takes, from the sizes of the model's files and of a clip: an estimate, and said so."""
    folder, config = job.checkpoint.folder, job.config
    try:
        shape: dict[str, Any] = json.loads((folder / "transformer" / "config.json").read_bytes())
        weights = _values(folder / "transformer")
        width, layers = shape["num_attention_heads"] * shape["attention_head_dim"], shape["num_layers"]
        vae: dict[str, Any] = json.loads((folder / "vae" / "config.json").read_bytes())
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder} cannot be read: {error}", "download it again") from None
    clip = job.data.good[0]
    from ipa_bench import video

    about = video.probe(clip.video)
    frames = clip.case.frames or about.declared_frames or 81
    space, time = int(vae.get("scale_factor_spatial", 8)), int(vae.get("scale_factor_temporal", 4))
    patch = shape.get("patch_size", [1, 2, 2])
    tokens = ((frames - 1) // time + 2) * (about.width // space // patch[1]) * (about.height // space // patch[2])
    blocks = layers + len(shape.get("vace_layers", ()))
    half = config.train.precision == "bf16"
    # Checkpointing keeps the input of each block alone.
    kept = width * (2 if config.train.gradient_checkpointing else _PER_TOKEN) * (1 if half else 2)
    activations = tokens * config.train.micro_batch * blocks * kept * methods.find(job.method).clips
    held = weights * (2 if config.model.dtype == "bf16" else 4)
    trained = weights if config.adapter.full else 2 * width * config.adapter.rank * 6 * blocks
    total = held + trained * 16 + activations
    return (
        f"about {total / 1e9:.1f} GB: weights {held / 1e9:.2f}, trained values and Adam {trained * 16 / 1e9:.2f}, "
        f"activations {activations / 1e9:.1f} ({tokens} tokens x {config.train.micro_batch}); an estimate"
    )


def _values(folder: Path) -> int:
    """How many values the safetensors files of a folder hold."""
    from math import prod

    from safetensors import safe_open

    total = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "np") as opened:
            total += sum(prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118
    return total


def alignment_of(suite: Path | None, config: Path | None, out: Path) -> Alignment:
    """The alignment that the arguments of ``align`` mean; without a suite, rendered people and the tiny model."""
    from ipa_bench.suite import load_suite
    from trainers.align import config as align_config
    from trainers.align import stages as align

    settings = align_config.load(config) if config else align_config.built_in()
    if suite is None:
        from ipa_bench.embedded import cases

        suite = out / "suite" / "suite.toml"
        if not suite.exists():
            cases.write_alignment(suite.parent)
    return align.alignment(load_suite(suite), suite, settings, out)


def describe_alignment(work: Alignment, stages: Sequence[str]) -> None:
    """What would be done."""
    config = work.config
    count = len(work.cases("train")) * config.candidates.per_case
    test = len(work.cases("test")) * config.evaluate.seeds
    lines = {
        "base": f"{work.base.name}: {work.base.model}, {work.base.steps} steps",
        "stages": ", ".join(stages),
        "candidates": f"{len(work.cases('train'))} train cases x {config.candidates.per_case} = {count}, "
        f"in {config.rounds} round{'s' if config.rounds > 1 else ''}",
        "choose": f"{config.choose.metric}, the best {config.choose.top_k or 'all'} of each case",
        "train": f"{config.method}, {config.train.steps} updates of {config.train.batch}",
        "evaluate": f"{len(work.cases('test'))} test cases x {config.evaluate.seeds} seeds x "
        f"{len(work.evaluation().models)} models = {test * len(work.evaluation().models)} clips",
        "writes": str(work.out),
    }
    width = max(map(len, lines))
    for name, text in lines.items():
        OUT.print(f"{name:<{width}}  {escape(text)}", soft_wrap=True)
