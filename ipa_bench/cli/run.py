"""The verbs that make a run and its pages: ``run``, ``generate``, ``report``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ipa_bench.cli.arguments import CrossIdentity, Engine, Jobs, Limit, Price, examples

if TYPE_CHECKING:
    from ipa_bench.models.folder import FolderMatch
    from ipa_bench.report import ReportView
    from ipa_bench.suite import Suite

#: the suite of people that the project renders
BUILT_IN = Path(__file__).parents[1] / "embedded" / "suite" / "suite.toml"
#: systems that stand in where the user has none: name -> (damage, strength)
STAND_INS = {
    "re-encoded": ("reencode", "medium"),
    "slightly-blurred": ("blur", "mild"),
    "melted-fingers": ("finger_melt", "medium"),
    "frozen": ("frozen", "strong"),
}
RUN = examples(
    "ipa-bench run                             the built-in suite: a tiny Wan-VACE animates rendered people",
    "ipa-bench run clips/ outA/ outB/          two systems' videos of the same driving clips",
    "ipa-bench run clips/ A=out1/ B=out2/      the same, named",
    "ipa-bench run suite.toml --limit 4        a trial of a suite",
    "ipa-bench run clips/                      no system yet: the clips themselves, damaged in known ways",
)
GENERATE = examples(
    "ipa-bench generate suite.toml --out runs/mine",
    "accelerate launch --num_processes 4 -m ipa_bench generate suite.toml --out runs/mine",
)


def run(
    what: Annotated[
        Path | None, typer.Argument(metavar="[SUITE|CLIPS]", help="A suite file (TOML), or driving clips.")
    ] = None,
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=]FOLDER...", help="A folder of videos for each system.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder (runs/NAME); an old one goes on.")] = None,
    limit: Limit = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and what is missing.")] = False,
    cross_identity: CrossIdentity = False,
    price: Price = None,
    jobs: Jobs = 0,
    engine: Engine = "processes",
) -> None:
    """Make and score every video of every system, compare them, and write a page. Goes on where it stopped.

    Without arguments: the built-in suite.
    """
    from ipa_bench.cli import console

    console.prepare_workers()
    from ipa_bench import harness

    suite = suite_of(what, models or [], cross_identity=cross_identity)
    if limit is not None:
        suite = suite.limit(limit)
    folder = out or Path("runs") / suite.name
    print_matches(harness.matches(suite))
    if dry_run:
        print_plan(suite, folder)
        return
    with console.progress() as progress:
        store = harness.run(suite, folder, jobs=jobs, progress=progress, engine=engine)
    if not print_report(harness.view(store, price), folder, jobs=jobs):
        raise typer.Exit(1)


def generate(
    what: Annotated[Path | None, typer.Argument(metavar="[SUITE]", help="A suite file (the built-in one).")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder (runs/NAME).")] = None,
    limit: Limit = None,
) -> None:
    """Only make the clips of a suite's generative models; `run` with the same folder finds them.

    Each of the processes that `accelerate launch` starts makes its share, on a device of its own.
    """
    from ipa_bench.cli import console
    from ipa_bench.harness.generate import generate_share

    suite = suite_of(what, [], cross_identity=False)
    suite = suite if limit is None else suite.limit(limit)
    with console.progress() as progress:
        outcome = generate_share(suite, out or Path("runs") / suite.name, progress=progress)
    console.say(f"{outcome.made} clips made, {outcome.kept} were there, {outcome.failed} could not be made")


def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    price: Price = None,
    jobs: Jobs = 0,
) -> None:
    """Print the leaderboard of a run and write its reports again, without scoring anything."""
    from ipa_bench import harness
    from ipa_bench.store import RunStore

    if not print_report(harness.view(RunStore.load(folder), price), folder, jobs=jobs):
        raise typer.Exit(1)


def suite_of(what: Path | None, models: Sequence[str], *, cross_identity: bool) -> Suite:
    """The suite that the arguments of ``run`` mean; without any, the built-in one. Raises UserError."""
    from ipa_bench.cli.console import say
    from ipa_bench.errors import UserError
    from ipa_bench.models.specs import DamageSpec
    from ipa_bench.suite import Suite, load_suite, suite_from_folders

    what = what or BUILT_IN
    if not models and (what / "suite.toml").is_file():
        what = what / "suite.toml"
    if what.suffix.lower() == ".toml":
        if models or cross_identity:
            raise UserError("a suite file names its own models", "give either a suite, or clips and folders")
        return load_suite(what)
    if not what.exists():
        raise UserError(f"{what} does not exist", "name a suite (.toml), a driving clip or a folder of them")
    named = [_named(model) for model in models]
    suite = suite_from_folders(what, named, cross_identity=cross_identity)
    if named:
        return suite
    say("no system named: the clips themselves, damaged in known ways, stand in for four")
    stand_ins = [
        DamageSpec.model_validate({"name": name, "kind": "damage", "damage": damage, "strength": strength})
        for name, (damage, strength) in STAND_INS.items()
    ]
    return Suite(suite.name, suite.cases, tuple(stand_ins), suite.seeds, suite.primary)


def _named(text: str) -> tuple[str, Path]:
    """``NAME=FOLDER``, or a folder that is its own name."""
    name, mark, path = text.partition("=")
    if mark and not Path(text).exists():
        return name, Path(path)
    return Path(text).resolve().name, Path(text)


def print_matches(matches: Mapping[str, FolderMatch]) -> None:
    """What is missing from the folders, and what lies there that no case asks for."""
    from ipa_bench.cli.console import say

    for name, match in matches.items():
        for title, items in (
            ("missing", [f"{m.case} (seed {m.seed}): {m.reason}" for m in match.missing]),
            ("not asked for", [path.name for path in match.extra]),
        ):
            if items:
                more = f", and {len(items) - 5} more" if len(items) > 5 else ""
                say(f"{name}: {len(items)} {title}: {'; '.join(items[:5])}{more}")


def print_plan(suite: Suite, folder: Path) -> None:
    """What a run would do, and what in its cases does not fit."""
    from ipa_bench.cli.console import OUT
    from ipa_bench.harness.fit import misfits
    from ipa_bench.store import RunStore

    videos = len(suite.cases) * len(suite.models) * len(suite.seeds)
    done = 0
    if (folder / "run.json").exists():
        done = sum(1 for record in RunStore.load(folder).records().values() if record.sha256)
    counts = f"{len(suite.cases)} cases, {len(suite.models)} models, {len(suite.seeds)} seeds"
    OUT.print(f"{suite.name}: {counts}", markup=False)
    OUT.print(f"{videos} videos, {done} scored already in {folder}; nothing was done", markup=False)
    for line in misfits(suite):
        OUT.print(line, markup=False)


def print_report(view: ReportView, folder: Path, *, jobs: int) -> bool:
    """Write the reports of a run, print the leaderboard, and say where the rest is. False where nothing has a score."""
    from ipa_bench.cli.console import OUT, progress, say
    from ipa_bench.engine.processes import cores
    from ipa_bench.report import write_all
    from ipa_bench.report.terminal import render

    with progress("ipa-bench report goes on where this stopped") as on_progress:
        paths = write_all(
            view, folder, jobs=jobs or cores(), progress=lambda done, total: on_progress("report", done, total)
        )
    OUT.print(render(view), crop=False)
    scored = any(score.value is not None for score in view.scores())
    if not scored:
        for reason in dict.fromkeys(f"{s.case}: {s.reason}" for s in view.scores()):
            say(f"not scored: {reason}")
    others = ", ".join(path.name for path in paths[:-1])
    OUT.print(f"\n{paths[-1]}   the page; beside it {others}", markup=False)
    return scored
