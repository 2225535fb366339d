"""The verbs about reward models: ``reward pairs``, ``reward page``, ``reward train``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ipa_bench.cli.arguments import examples

if TYPE_CHECKING:
    from rich.table import Table

    from trainers.preferences.outcomes import Trust
    from trainers.reward_model.measure import Measured

group = typer.Typer(
    no_args_is_help=True, help="Video reward models: pairs of a run, a page to vote on, training, accuracy."
)


@group.command(epilog=examples("ipa-bench reward pairs runs/mine suite.toml --out votes --per-case 4"))
def pairs(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder with two videos of a case, or more.")],
    suite: Annotated[Path, typer.Argument(metavar="SUITE", help="The suite file that was run.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for clips, references and the page.")],
    per_case: Annotated[int, typer.Option(min=1, help="Comparisons of each case.")] = 4,
    split: Annotated[str, typer.Option(help="Cases of this split; test people stay unseen.")] = "train",
    seed: Annotated[int, typer.Option(min=0, help="Which pairs.")] = 0,
) -> None:
    """Put pairs of a run's videos into a folder with the page that people vote on."""
    from ipa_bench.cli.console import OUT
    from ipa_bench.errors import UserError
    from ipa_bench.store import RunStore
    from ipa_bench.suite import load_suite
    from trainers.preferences import of_run, read_comparisons
    from trainers.preferences import page as votes_page

    try:
        path = of_run.gather(RunStore.load(run), load_suite(suite).cases, out, per_case, seed, split)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}", "choose a folder that can be written to") from None
    found = read_comparisons(path)
    OUT.print(f"{len(found.comparisons)} comparisons in {path}", markup=False)
    OUT.print(str(votes_page.write(found, path)), markup=False)


@group.command(epilog=examples("ipa-bench reward page votes/comparisons.json"))
def page(
    comparisons: Annotated[Path, typer.Argument(metavar="COMPARISONS", help="A file of comparisons (JSON).")],
) -> None:
    """Write the page on which people vote: two clips in step, keys for A, B and no difference, a file in the end."""
    from ipa_bench.cli.console import OUT
    from trainers.preferences import page as votes_page
    from trainers.preferences import read_comparisons

    OUT.print(str(votes_page.write(read_comparisons(comparisons), comparisons)), markup=False)


@group.command(epilog=examples("ipa-bench reward train trainers/configs/reward-embedded.toml --out runs/reward"))
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="What to learn from, and how (TOML).")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the run (runs/CONFIG).")] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=0, help="Processes that render (one a core).")] = 0,
) -> None:
    """Train a reward model on votes, on synthetic faults, or on both; measure it on other people."""
    from ipa_bench.cli import console

    console.prepare_workers("trainers.preferences.synthetic")
    from ipa_bench.engine.processes import cores
    from trainers.reward_model import config as configs
    from trainers.reward_model import run

    settings, folder = configs.load(config), out or Path("runs") / config.stem
    with console.progress() as progress, console.resumable():

        def tell(done: int, total: int, losses: Mapping[str, float]) -> None:
            progress("train", done, total)

        trained = run.train(settings, config.parent, folder, jobs or cores(), progress, tell)
    if trained.trust is not None:
        for line in _trust_lines(trained.trust):
            console.OUT.print(line, markup=False)
    console.OUT.print(_table(trained.measured))
    console.OUT.print(f"{trained.folder}   as a reward: video:{trained.folder}", markup=False)


def _trust_lines(trust: Trust) -> list[str]:
    lines = [f"{trust.votes} votes of {trust.annotators} annotators"]
    for name, found in (("agreement (Krippendorff's alpha)", trust.agreement), ("votes for the left", trust.left)):
        lines.append(f"{name}: {found.reason if found.value is None else f'{found.value:.2f}'}")
    return lines


def _table(measured: Mapping[str, Measured]) -> Table:
    """A row for the model and for each baseline."""
    from rich.table import Table

    from trainers.reward_model.run import summary

    rows = {name: summary(each) for name, each in measured.items()}
    table = Table(title="on people that it was not trained on", title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    heads = list(next(iter(rows.values())))
    for head in heads:
        table.add_column(head, justify="right")
    for name, values in rows.items():
        table.add_row(name, *("-" if (value := values[head]) is None else f"{value:.3f}" for head in heads))
    return table
