"""The verbs that train: ``train``, ``align``, ``ablation``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ipa_bench.cli.arguments import Jobs, examples
from trainers import methods
from trainers.methods import MethodName

if TYPE_CHECKING:
    from ipa_bench.engine.processes import Progress
    from ipa_bench.models.outline import Outline, Shape
    from trainers.align.stages import Alignment
    from trainers.config import TrainConfig
    from trainers.job import Job
    from trainers.run import Tell

#: metrics of a step that are worth a place beside the bar
_SHOWN = ("loss", "gap", "win", "error")
#: rough bytes that an activation of one token and layer takes, in units of the width, when its gradient is wanted
_PER_TOKEN = 34
TRAIN = examples(
    "ipa-bench train ipa config.toml --dry-run      what would be trained, and how much memory it takes",
    "ipa-bench train ipa config.toml --out runs/mine",
    "accelerate launch --num_processes 8 -m ipa_bench train ipa config.toml --out runs/mine",
)
ALIGN = examples(
    "ipa-bench align                                the tiny Wan-VACE on rendered people, with its defaults",
    "ipa-bench align suite.toml --config align.toml --out runs/mine",
    "ipa-bench align suite.toml --only select --only train      some of the stages",
    "ipa-bench align suite.toml --again select                  these and those after them anew",
)
ABLATION = examples("ipa-bench ablation benchmarks/embedded-ablation/ablation.toml --out runs/ablation")


def train(
    method: Annotated[MethodName, typer.Argument(help="The objective.")],
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A training configuration (TOML).")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the run (runs/CONFIG-METHOD).")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would be trained.")] = False,
    push: Annotated[
        str | None,
        typer.Option("--push-to-hub", metavar="OWNER/NAME", help="Upload the LoRA and its card; never without this."),
    ] = None,
) -> None:
    """Post-train a base model on selected clips of its own; writes a LoRA and its card. Goes on where it stopped."""
    from ipa_bench.cli import console

    console.prepare_workers()
    from trainers import config as train_config
    from trainers import hub
    from trainers import run as training

    if push is not None:
        hub.check_name(push)
    with console.progress() as progress:
        job = training.prepare(train_config.load(config), method, dry=dry_run)
        folder = out or Path("runs") / f"{config.stem}-{method}"
        if dry_run:
            describe(job, folder)
            return
        lora = training.train(job, folder, tell=telling(progress))
        console.OUT.print(str(lora), markup=False)
    if push is not None and os.environ.get("RANK", "0") == "0":
        console.OUT.print(hub.push(folder / training.LORA_FOLDER, push), markup=False)


def align(
    suite: Annotated[
        Path | None, typer.Argument(metavar="[SUITE]", help="Train and test cases and one base model.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="How to align (TOML).")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of everything.")] = Path("runs/align"),
    only: Annotated[
        list[str] | None, typer.Option(help="A stage: generate, score, select, train or evaluate.", show_default=False)
    ] = None,
    again: Annotated[str | None, typer.Option(help="Forget what this stage and later ones have left.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    jobs: Jobs = 0,
) -> None:
    """Align a model with no labels: generate candidates, score, select, train, evaluate on other people.

    Goes on where it stopped; the page compares base and aligned model. Without arguments: the built-in world.
    """
    from ipa_bench.cli import console

    console.prepare_workers()
    from ipa_bench import harness
    from ipa_bench.cli.run import print_report
    from trainers.align import stages as aligning

    work = alignment_of(suite, config, out)
    stages = aligning.stages(only or aligning.STAGES)
    if dry_run:
        describe_alignment(work, stages)
        return
    if again is not None:
        (again,) = aligning.stages([again])
        aligning.forget(work, again)
    with console.progress() as progress:
        store = aligning.align(work, only=stages, jobs=jobs, progress=progress, tell=telling(progress))
    if store and not print_report(harness.view(store), store.folder, jobs=jobs):
        raise typer.Exit(1)


def ablation(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A suite, what rows share, and the rows (TOML).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of everything.")] = Path("runs/ablation"),
    jobs: Jobs = 0,
) -> None:
    """Which part of alignment does what: rows that differ in one thing, from the same candidates, compared together.

    Writes ablation.md, .json and .png. Goes on where it stopped.
    """
    from ipa_bench.cli import console

    console.prepare_workers()
    from trainers.align import ablation as rows

    work = rows.Ablation.load(config, out)
    with console.progress() as progress:
        store = rows.run(work, jobs=jobs, progress=progress, tell=telling(progress))
    console.OUT.print(str(rows.write(work, store, out)), markup=False)


def telling(progress: Progress) -> Tell:
    """Progress of training as bars; alarms as lines; where there is no terminal, numbers now and then."""
    from ipa_bench.cli.console import ERR, say

    def tell(stage: str, done: int, total: int, metrics: Mapping[str, float], alarm: str = "", /) -> None:
        if alarm:
            say(alarm)
            return
        progress(stage, done, total)
        if metrics and not ERR.is_terminal and (done == total or done * 10 // total > (done - 1) * 10 // total):
            ERR.print("  " + " ".join(f"{name} {metrics[name]:.4g}" for name in _SHOWN if name in metrics))

    return tell


def describe(job: Job, folder: Path) -> None:
    """What would be trained, on how many clips, and how much memory that takes, by estimate."""
    from ipa_bench.cli.console import print_facts

    data, config = job.data, job.config
    people = len({case.identity or case.id for case in data.cases})
    kept = sum(clip.latents is not None for clip in data.all)
    adapter = config.adapter
    lora = f"a LoRA of rank {adapter.rank} on {adapter.layers}, {adapter.blocks} blocks"
    if job.start is not None:
        lora = "that LoRA: rank, alpha, dropout, layers and blocks are its own"
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
        **(_rounds(job) if config.rollouts else {}),
        "watched": f"{len(job.watched)} cases, {len(config.watch.seeds)} samples each",
        "memory": estimate(job),
        **({} if config.rollouts else _spends(job)),
        "measured": "nothing of this: weights, trained values, Adam and disk are counted, activations a rule of thumb, "
        "hours are FLOPs at an assumed speed",
        "writes": str(folder),
    }
    print_facts(lines)


def _spends(job: Job) -> dict[str, str]:
    """Hours and disk of a run on clips that are there."""
    from trainers.cost_sheet import planned
    from trainers.cost_sheet.rounds import DEVICE, PEAK, SHARE

    config, data, outline, shape = job.config, job.data, _outline(job), _shape(job)
    work = planned.work(config, job.method, outline, shape, len(job.watched))
    count = _processes(config)
    several = f", {work.hours(count):.1f} on {count}" if count > 1 else ""
    cases = len({clip.case.id for clip in data.all})
    disk = planned.disk(config, job.method, outline, shape, len(data.all), cases, job.start)
    return {
        "hours": f"{work.hours(1):.1f} on one {DEVICE}{several} ({work.flops / 1e15:.3g} PFLOP, "
        f"{work.looks / work.flops:.0%} of it looks), at {SHARE:.0%} of {PEAK / 1e12:.0f} TFLOP/s; VAE, text and "
        "scores are not in it",
        "disk": f"{disk.most / 1e9:.2f} GB: encoded clips {disk.encoded / 1e9:.2f} (in the cache, {len(data.all)} of "
        f"{cases} cases), the state {disk.state / 1e9:.2f}, twice while it is written, the result "
        f"{disk.result / 1e9:.2f}",
    }


def _processes(config: TrainConfig) -> int:
    """Those that share the work: as many as there are, or eight where weights are to be divided."""
    return int(os.environ.get("WORLD_SIZE") or (8 if config.train.shard else 1))


def _rounds(job: Job) -> dict[str, str]:
    """What is said of clips that are made as training goes on, in the place of those that are there."""
    from trainers.cost_sheet import rounds as cost

    config, data = job.config, job.data
    asked, shape = config.rollouts, _shape(job)
    assert asked is not None
    priced = cost.price(config, job.method, _outline(job), shape)
    count = -(-config.train.steps // config.updates)
    people = len({case.identity or case.id for case in data.cases})
    unit = methods.find(job.method).unit
    shown = (
        f"{priced.shown} {'steps' if unit == 'step' else 'noise levels'} of each" if priced.shown > 1 else "once each"
    )
    share = f"{priced.sampling / priced.flops:.0%} of it sampling"
    kept = f"; {priced.kept / 1e9:.2f} GB of steps on disk" if priced.kept else ""
    return {
        "clips": f"{count} rounds of {asked.cases} cases x {asked.per_case} = {priced.clips} clips, "
        f"{asked.steps} steps with guidance {asked.guidance:g}; {len(data.cases)} cases of {people} people",
        "chosen by": f"rewarded: {', '.join(data.by)}",
        "updates": f"{config.train.steps} of {config.train.batch} clips, {config.updates} a round, {shown}{kept}",
        "hours": f"{priced.hours * count:.1f} on one {cost.DEVICE}, {priced.hours * 60:.1f} minutes a round "
        f"({priced.flops / 1e15:.3g} PFLOP, {share}), at {cost.SHARE:.0%} of {cost.PEAK / 1e12:.0f} TFLOP/s, "
        "which is assumed; VAE, text and reward are not in it",
    }


def _outline(job: Job) -> Outline:
    from ipa_bench.models import kinds

    kind = kinds.base_kind(job.spec)
    if job.checkpoint.folder.is_dir():
        return kind.outline_of(job.spec.name, job.checkpoint.folder)
    return kind.outline(job.spec.model, True)


def _shape(job: Job) -> Shape:
    """What a pass sees of the first clip."""
    from ipa_bench import video
    from trainers.cost_sheet.rounds import shape_of

    data = job.data
    case, file = (data.good[0].case, data.good[0].video) if data.good else (data.cases[0], data.cases[0].driving)
    about = video.probe(file)
    fallback = (about.declared_frames or 81, (about.width, about.height))
    asked = case if data.online else replace(case, size=None, references=())
    return shape_of(asked, _outline(job), fallback)


def estimate(job: Job) -> str:
    """Memory that training takes: weights, trained values and Adam exactly, activations by a rule of thumb."""
    from trainers.spent import held, passes_of

    config, outline = job.config, _outline(job)
    tokens = outline.tokens(_shape(job))
    blocks, width = outline.layers
    half = config.train.precision == "bf16"
    # Checkpointing keeps the input of each block alone, or what its two attentions gave too.
    again = config.train.gradient_checkpointing
    kept = width * (6 if again == "attention" else 2 if again else _PER_TOKEN) * (1 if half else 2)
    activations = tokens * config.train.micro_batch * blocks * kept
    activations *= passes_of(methods.find(job.method), config, outline)
    known = held(config, job.start, outline)
    learned, total = known.device - known.weights, known.device + activations
    count = _processes(config) if config.train.shard else 1
    # What is trained is divided too, unless it is an adapter.
    shared = known.device if config.adapter.full else known.weights
    total -= shared - shared // count
    host = f"; {known.host / count / 1e9:.2f} GB of host memory for the reference" if known.host else ""
    if config.model.fp8:
        host += "; of linear layers the weights are a byte each in fp8, once they are loaded: that is not in it"
    if count > 1:
        host += f"; weights divided over {count} processes, whole while it loads and looks"
    return (
        f"about {total / 1e9:.1f} GB: weights {known.weights / 1e9:.2f}, trained values and Adam {learned / 1e9:.2f}, "
        f"activations {activations / 1e9:.1f} ({tokens} tokens x {config.train.micro_batch}); an estimate{host}"
    )


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
        if settings.base is None:
            settings = settings.model_copy(update={"base": cases.BASE})
    return align.alignment(load_suite(suite), suite, settings, out)


def describe_alignment(work: Alignment, stages: Sequence[str]) -> None:
    """What would be done."""
    from ipa_bench.cli.console import print_facts

    config = work.config
    count = len(work.cases("train")) * config.candidates.per_case
    test = len(work.cases("test")) * config.evaluate.seeds
    by = config.choose.metric if config.reward is None else " + ".join(term.reward for term in config.reward.term)
    takes = methods.find(config.method).takes
    other = "on clips that nobody chose" if takes == "clips" else "with scores that are dealt out anew within each case"
    again = f"; the same {other}" if config.control else ""
    chosen = {
        "clips": f"the best {config.choose.top_k or 'all'} of each case",
        "pairs": "good against bad clips of each case",
    }.get(takes, "every clip by its score")
    lines = {
        "base": f"{work.base.name}: {work.base.model}, {work.base.steps} steps",
        "stages": ", ".join(stages),
        "candidates": f"{len(work.cases('train'))} train cases x {config.candidates.per_case} = {count}, "
        f"in {config.rounds} round{'s' if config.rounds > 1 else ''}",
        "choose": f"{by}, {chosen}",
        "train": f"{config.method}, {config.train.steps} updates of {config.train.batch}{again}",
        "evaluate": f"{len(work.cases('test'))} test cases x {config.evaluate.seeds} seeds x "
        f"{len(work.evaluation().models)} models = {test * len(work.evaluation().models)} clips",
        "writes": str(work.out),
    }
    print_facts(lines)
