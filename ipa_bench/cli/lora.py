"""The verbs about trained LoRAs: ``lora mean``, ``lora strength``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ipa_bench.cli.arguments import examples

group = typer.Typer(no_args_is_help=True, help="LoRAs that training wrote: their mean, and how far to go along them.")
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The LoRA to write (.safetensors).")]
Start = Annotated[Path | None, typer.Option(help="The LoRA that training continued from, where there was one.")]


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
) -> None:
    """The mean of several runs, which differ in noise that their mean has less of. Exact: ranks add up."""
    from ipa_bench.cli.console import OUT
    from trainers import soup

    rank = soup.cook(out, runs, start, strength)
    OUT.print(f"{out}: rank {rank}, the mean of {len(runs)} runs", markup=False, soft_wrap=True)


@group.command(epilog=examples("ipa-bench lora strength further.safetensors run.safetensors 1.5"))
def strength(
    out: Out,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The LoRA of a run.")],
    times: Annotated[float, typer.Argument(metavar="TIMES", help="How many times its change is applied.")],
    start: Start = None,
) -> None:
    """Apply what a run changed more, or less, than once."""
    from ipa_bench.cli.console import OUT
    from trainers import soup

    rank = soup.cook(out, [run], start, times)
    OUT.print(f"{out}: rank {rank}, {times:g} times the change of {run}", markup=False, soft_wrap=True)
