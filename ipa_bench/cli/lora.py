"""The verbs about trained LoRAs: ``lora mean``, ``lora strength``, ``lora export``, ``lora extract``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ipa_bench.cli.arguments import examples

if TYPE_CHECKING:
    from trainers.lora import Written

group = typer.Typer(no_args_is_help=True, help="LoRAs that training wrote: their mean, how far to go, their rank.")
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The LoRA to write (.safetensors).")]
Start = Annotated[Path | None, typer.Option(help="The LoRA that training continued from, where there was one.")]
Rank = Annotated[int | None, typer.Option(min=1, help="The nearest of this rank; else it is exact and ranks add up.")]


def _tell(made: Written, what: str) -> None:
    from ipa_bench.cli.console import OUT

    lost = f"; {made.left_out:.2%} of the change left out" if made.left_out else ""
    OUT.print(f"{made.file}: rank {made.rank}, {what}{lost}", markup=False)


@group.command(
    epilog=examples(
        "ipa-bench lora mean mean.safetensors run0.safetensors run1.safetensors run2.safetensors",
        "ipa-bench lora mean mean.safetensors run0.safetensors run1.safetensors --start base.safetensors --strength 2",
    )
)
def mean(
    out: Out,
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="LoRAs of runs that differ in train.seed.")],
    start: Start = None,
    strength: Annotated[float, typer.Option(help="How many times the mean change is applied.")] = 1.0,
    rank: Rank = None,
) -> None:
    """The mean of several runs, which differ in noise that their mean has less of. Exact: ranks add up."""
    from trainers import lora

    _tell(lora.write_mean(out, runs, start=start, strength=strength, rank=rank), f"the mean of {len(runs)} runs")


@group.command(epilog=examples("ipa-bench lora strength further.safetensors run.safetensors 1.5"))
def strength(
    out: Out,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The LoRA of a run.")],
    times: Annotated[float, typer.Argument(metavar="TIMES", help="How many times its change is applied.")],
    start: Start = None,
    rank: Rank = None,
) -> None:
    """Apply what a run changed more, or less, than once."""
    from trainers import lora

    _tell(lora.write_strength(out, run, times, start=start, rank=rank), f"{times:g} times the change of {run}")


@group.command(
    epilog=examples(
        "ipa-bench lora export comfy.safetensors runs/mine/lora/pytorch_lora_weights.safetensors",
        "ipa-bench lora export mine.safetensors somebodys.safetensors --diffusers",
    )
)
def export(
    out: Out,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A LoRA; of two experts the first, the other beside it.")],
    diffusers: Annotated[bool, typer.Option("--diffusers", help="The way back: diffusers' names.")] = False,
) -> None:
    """Write a LoRA under the key names of Wan's authors and ComfyUI. There and back is the same file."""
    from ipa_bench.cli.console import OUT
    from trainers import lora_formats

    made = lora_formats.write(out, run, diffusers=diffusers)
    whose = "diffusers'" if diffusers else "Wan's authors' and ComfyUI's"
    for file in made.files:
        OUT.print(f"{file}: under {whose} names", markup=False)


@group.command(epilog=examples("ipa-bench lora extract small.safetensors run.safetensors 16"))
def extract(
    out: Out,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The LoRA of a run.")],
    rank: Annotated[int, typer.Argument(min=1, metavar="RANK", help="Of the LoRA to write.")],
) -> None:
    """The nearest LoRA of a smaller rank, and how much of the change that leaves out."""
    from trainers import lora

    _tell(lora.write_extract(out, run, rank), f"the nearest to {run}")
