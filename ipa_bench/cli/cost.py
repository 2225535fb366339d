"""The verb ``cost``: what a model takes to train and to run, on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from ipa_bench.cli.arguments import each, examples, finite
from trainers.methods import recipes
from trainers.optimizer import OptimizerName

if TYPE_CHECKING:
    from trainers.cost_sheet.plan import Sweep
    from trainers.cost_sheet.sheet import Result, Sheet
    from trainers.cost_sheet.subject import Subject

COST = examples(
    "ipa-bench cost                                             the built-in model, on this machine",
    "ipa-bench cost wan2.1-vace-1.3b --random-weights --shapes 480x832x17,480x832x81 --checkpointing on",
    "ipa-bench cost wan2.1-vace-14b --random-weights --estimate 720x1280x81 --price 3.5",
    "ipa-bench cost my_model/ --methods ipa-cached,generate --memory 24      does it fit on a smaller GPU?",
)
_WORKS = ",".join([*(recipe.name for recipe in recipes()), "generate"])
_ON_OFF: dict[str, tuple[bool, ...]] = {"on": (True,), "off": (False,), "both": (False, True)}
_CHECKPOINTING: dict[str, tuple[object, ...]] = {**_ON_OFF, "attention": ("attention",)}


Models = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODEL...]", help="wan2.1-vace-1.3b, wan2.1-vace-14b, a diffusers folder, or embedded (default)."
    ),
]
Shapes = Annotated[str | None, typer.Option(metavar="HxWxFRAMES,...", help="Clips (480x832 of 17, 49 and 81 frames).")]
Methods = Annotated[str, typer.Option(help=f"Of {_WORKS.replace(',', ', ')}.")]
Batch = Annotated[str, typer.Option(metavar="N,...", help="Clips at once.")]
Dtype = Annotated[
    str | None, typer.Option(help="Of bf16, fp32; bf16, but for the built-in model where the processor is slow in it.")
]
Checkpointing = Annotated[
    Literal["on", "off", "both", "attention"], typer.Option(help="Of gradients; attention: but for what that gave.")
]
#: as :mod:`ipa_bench.models.speed` has them, whose room brings in what ``--help`` need not wait for
ATTENTION = "native, flash, efficient, cudnn, math, flash_attn, flash_attn_3, sage, xformers"
Attention = Annotated[str, typer.Option(help=f"Of {ATTENTION}.")]
OnOff = Literal["on", "off", "both"]
Compile = Annotated[OnOff, typer.Option(help="Of the blocks that repeat.")]
Fp8 = Annotated[OnOff, typer.Option(help="Frozen weights in fp8.")]
Optimizer = Annotated[str, typer.Option(help=f"Of {', '.join(get_args(OptimizerName))}.")]
Rank = Annotated[int, typer.Option(min=1, help="Of the LoRA on Q, K and V.")]
Steps = Annotated[int, typer.Option(min=1, help="Denoising steps of a clip.")]
Guidance = Annotated[float, typer.Option(min=1, help="Above 1 each step runs the model twice.")]
Repeats = Annotated[int, typer.Option(min=5, help="Of each measurement.")]
RandomWeights = Annotated[bool, typer.Option("--random-weights", help="Only the configuration is needed.")]
Memory = Annotated[float | None, typer.Option(metavar="GB", help="Treat the device as one of so much memory.")]
Unmeasured = Annotated[
    str | None, typer.Option(metavar="HxWxFRAMES,...", help="Clips to estimate from the measured ones.")
]
Price = Annotated[float | None, typer.Option(min=0, metavar="PER_HOUR", callback=finite, help="Of the machine.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of the sheet; an old one goes on.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be measured.")]


def cost(
    models: Models = None,
    shapes: Shapes = None,
    methods: Methods = _WORKS,
    batch: Batch = "1",
    dtype: Dtype = None,
    checkpointing: Checkpointing = "off",
    attention: Attention = "native",
    compile: Compile = "off",
    fp8: Fp8 = "off",
    optimizer: Optimizer = "adamw",
    rank: Rank = 128,
    steps: Steps = 50,
    guidance: Guidance = 5.0,
    repeats: Repeats = 5,
    random_weights: RandomWeights = False,
    memory: Memory = None,
    estimate: Unmeasured = None,
    price: Price = None,
    out: Out = Path("runs/cost"),
    dry_run: DryRun = False,
) -> None:
    """Measure what training steps and clips take: time, memory, energy, money. Goes on where it stopped.

    Every measurement is a process of its own. Memory that runs out is a result.
    """
    from ipa_bench.cli import console
    from trainers.cost_sheet import plan, run
    from trainers.cost_sheet.sheet import load

    chosen = tuple(models or ["embedded"])
    sweep = plan.sweep(
        models=chosen,
        clips=each(shapes, plan.Clip.parse),
        works=each(methods, str),
        batches=each(batch, str),
        dtypes=each(dtype, str) or (_usual(chosen),),
        checkpointing=_CHECKPOINTING[checkpointing],
        attention=each(attention, str),
        compile=_ON_OFF[compile],
        fp8=_ON_OFF[fp8],
        optimizers=each(optimizer, str),
        rank=rank,
        steps=steps,
        guidance=guidance,
        repeats=repeats,
        random_weights=random_weights,
        memory=memory,
    )
    unmeasured = each(estimate, plan.Clip.parse)
    if dry_run:
        _describe(sweep, run.subjects(sweep, unmeasured), load(out).done)
        return
    with console.progress() as progress:
        sheet = run.cost(sweep, out, unmeasured=unmeasured, price=price, progress=progress, tell=_tell)
    _show(sheet, out, price)
    if any(result.state == "failed" for result in sheet.results.values()):
        raise typer.Exit(1)


def _show(sheet: Sheet, out: Path, price: float | None) -> None:
    """The whole sheet, and where its page is."""
    from ipa_bench.cli.console import OUT
    from trainers.cost_sheet import pages  # draws in matplotlib

    pictures = [name for name in pages.PLOTS if (out / name).is_file()]
    OUT.print(pages.readable(sheet, price, pictures), markup=False)
    OUT.print(str(out / pages.HTML_NAME), markup=False)


def _usual(models: Sequence[str]) -> str:
    """The dtype where none is asked for."""
    from ipa_bench.nets.precision import usual

    return usual() if set(models) == {"embedded"} else "bf16"


def _describe(sweep: Sweep, known: Mapping[str, Subject], done: Callable[..., bool]) -> None:
    from ipa_bench.cli.console import OUT
    from trainers.cost_sheet.tables import gigabytes, options

    cells = sweep.cells()
    for cell in cells:
        state = "there" if done(cell) else "to do"
        held = gigabytes(known[cell.model].held(cell))
        text = f"{state}  {cell.model}  {cell.clip}  batch {cell.batch}  {cell.work}  {options(cell)}, holds {held} GB"
        OUT.print(text, markup=False)
    OUT.print(f"{sum(not done(cell) for cell in cells)} of {len(cells)} to measure", markup=False)


def _tell(result: Result) -> None:
    """A line for each measurement."""
    from ipa_bench.cli.console import say
    from trainers.cost_sheet.tables import gigabytes, timing

    cell = result.cell
    what = f"{cell.model} {cell.clip} x {cell.batch} {cell.work}"
    if result.state != "measured":
        say(f"{what}: {result.state}: {result.reason}")
        return
    say(f"{what}: {timing(result.step)} s/step, peak {gigabytes(result.memory)} GB")
