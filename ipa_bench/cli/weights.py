"""The verbs about model files: ``weights list``, ``weights fetch``, ``weights verify``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ipa_bench.weights import WeightStatus

#: what finding hands needs
HAND_MODELS = ("palm_detection_full", "hand_landmark_full", "pose_detection", "pose_landmark_full")
group = typer.Typer(no_args_is_help=True, help="Model files: what is needed, where it comes from, is it intact.")


@group.command("list")
def list_files() -> None:
    """Every model file: state, size, licence, source."""
    from ipa_bench import weights

    print_weights(weights.statuses())


@group.command()
def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Which ones (those that find hands).")] = None,
) -> None:
    """Download model files, check their hashes, and keep them."""
    from ipa_bench import weights
    from ipa_bench.cli.console import say

    for file in weights.fetch(names or HAND_MODELS, progress=say):
        say(f"have {file}")


@group.command()
def verify(names: Annotated[list[str] | None, typer.Argument(help="Which ones; all by default.")] = None) -> None:
    """Hash the model files that are here."""
    from ipa_bench import weights

    statuses = weights.verify(names)
    print_weights(statuses)
    if any(status.problem for status in statuses):
        raise typer.Exit(1)


def print_weights(statuses: Sequence[WeightStatus]) -> None:
    """State of model files; below, what to do about those that are not there, and where the others lie."""
    from rich.markup import escape
    from rich.table import Table

    from ipa_bench.cli.console import OUT

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column, justify in (("file", "left"), ("state", "left"), ("MB", "right"), ("used by", "left")):
        table.add_column(column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("licence", overflow="fold")
    for status in statuses:
        weight = status.weight
        size = f"{weight.size / 1e6:.2f}" if weight.size else "?"
        style = {"ok": "green", "missing": "yellow", "wrong": "red"}[status.state]
        state = f"[{style}]{status.state}[/]"
        table.add_row(weight.name, state, size, escape(", ".join(weight.used_by)), escape(weight.licence))
    OUT.print(table)
    if fixes := [f"{status.weight.name}: {status.fix}" for status in statuses if status.fix]:
        OUT.print("\n[bold]what to do[/]")
        for line in fixes:
            OUT.print(line, markup=False)
    if folders := dict.fromkeys(str(status.path.parent) for status in statuses if status.path and not status.fix):
        OUT.print(f"\nfound in {', '.join(folders)}", markup=False)
