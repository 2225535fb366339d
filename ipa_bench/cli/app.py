"""The verbs. Each imports what it needs when it runs, so that ``--help`` is instant."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ipa_bench.cli.cost import EPILOG as COST_EPILOG
from ipa_bench.cli.cost import cost, finite
from ipa_bench.engine import processes as pool
from ipa_bench.errors import Unscorable, UserError
from trainers.methods import MethodName

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Score human-animation videos, compare models with paired intervals, choose clips to post-train on.",
)
weights_app = typer.Typer(no_args_is_help=True, help="Model files: what is needed, where it comes from, is it intact.")
app.add_typer(weights_app, name="weights")
app.command(epilog=COST_EPILOG)(cost)

Engine = Annotated[
    Literal["processes", "ray"], typer.Option("--engine", help="Score here, or on a Ray cluster (extra \\[ray]).")
]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=0, help="Processes (one a core).", show_default=False)]
Price = Annotated[
    float | None,
    typer.Option(min=0, metavar="PER_HOUR", callback=finite, help="Of one device: adds prices to the table of costs."),
]
Clips = Annotated[list[Path], typer.Argument(metavar="CLIP...", help="Video files, or folders of them.")]


@app.command(
    epilog="Examples:\n\n"
    "  ipa-bench run                             the built-in suite: a tiny Wan-VACE animates rendered people\n\n"
    "  ipa-bench run clips/ outA/ outB/          two systems' videos of the same driving clips\n\n"
    "  ipa-bench run clips/ A=out1/ B=out2/      the same, named\n\n"
    "  ipa-bench run suite.toml --limit 4        a trial of a suite\n\n"
    "  ipa-bench run clips/                      no system yet: the clips themselves, damaged in known ways"
)
def run(
    what: Annotated[
        Path | None, typer.Argument(metavar="[SUITE|CLIPS]", help="A suite file (TOML), or driving clips.")
    ] = None,
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=]FOLDER...", help="A folder of videos for each system.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder (runs/NAME); an old one goes on.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N cases.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and what is missing.")] = False,
    cross_identity: Annotated[
        bool, typer.Option("--cross-identity", help="Another person is animated: no pixel metrics.")
    ] = False,
    price: Price = None,
    jobs: Jobs = 0,
    engine: Engine = "processes",
) -> None:
    """Make and score every video of every system, compare them, and write a page. Goes on where it stopped.

    Without arguments: the built-in suite.
    """
    pool.prepare()
    from ipa_bench import harness
    from ipa_bench.cli import console

    suite = console.suite_of(what, models or [], cross_identity=cross_identity)
    if limit is not None:
        suite = suite.limit(limit)
    folder = out or Path("runs") / suite.name
    console.print_matches(harness.matches(suite))
    if dry_run:
        console.print_plan(suite, folder)
        return
    with console.progress("the same command goes on where this stopped") as progress:
        store = harness.run(suite, folder, jobs=jobs, progress=progress, engine=engine)
    if not console.print_report(harness.view(store, price), folder, jobs=jobs):
        raise typer.Exit(1)


@app.command(
    epilog="Examples:\n\n"
    "  ipa-bench generate suite.toml --out runs/mine\n\n"
    "  accelerate launch --num_processes 4 -m ipa_bench generate suite.toml --out runs/mine"
)
def generate(
    what: Annotated[Path | None, typer.Argument(metavar="[SUITE]", help="A suite file (the built-in one).")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder (runs/NAME).")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N cases.")] = None,
) -> None:
    """Only make the clips of a suite's generative models; `run` with the same folder finds them.

    Each of the processes that `accelerate launch` starts makes its share, on a device of its own.
    """
    from ipa_bench.cli import console
    from ipa_bench.harness.generate import generate_share

    suite = console.suite_of(what, [], cross_identity=False)
    suite = suite if limit is None else suite.limit(limit)
    with console.progress("the same command goes on where this stopped") as progress:
        outcome = generate_share(suite, out or Path("runs") / suite.name, progress=progress)
    console.say(f"{outcome.made} clips made, {outcome.kept} were there, {outcome.failed} could not be made")


@app.command(
    epilog="Examples:\n\n"
    "  ipa-bench train ipa config.toml --dry-run      what would be trained, and how much memory it takes\n\n"
    "  ipa-bench train ipa config.toml --out runs/mine\n\n"
    "  accelerate launch --num_processes 8 -m ipa_bench train ipa config.toml --out runs/mine"
)
def train(
    method: Annotated[MethodName, typer.Argument(help="The objective.")],
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A training configuration (TOML).")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the run (runs/CONFIG-METHOD).")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would be trained.")] = False,
) -> None:
    """Post-train a Wan-VACE on selected clips of its own; writes a LoRA and its card. Goes on where it stopped."""
    pool.prepare()
    from ipa_bench.cli import console
    from ipa_bench.cli import train as console_align

    with console.progress("the same command goes on where this stopped") as progress:
        console_align.train(method, config, out, dry_run, progress)


@app.command(
    epilog="Examples:\n\n"
    "  ipa-bench align                                the tiny Wan-VACE on rendered people, with its defaults\n\n"
    "  ipa-bench align suite.toml --config align.toml --out runs/mine\n\n"
    "  ipa-bench align suite.toml --only select --only train      some of the stages\n\n"
    "  ipa-bench align suite.toml --again select                  these and those after them anew"
)
def align(
    suite: Annotated[
        Path | None, typer.Argument(metavar="[SUITE]", help="Train and test cases and one wan_vace model: the base.")
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
    pool.prepare()
    from ipa_bench import harness
    from ipa_bench.cli import console
    from ipa_bench.cli import train as console_align
    from trainers.align import stages as aligning

    work = console_align.alignment_of(suite, config, out)
    stages = aligning.stages(only or aligning.STAGES)
    if dry_run:
        console_align.describe_alignment(work, stages)
        return
    if again is not None:
        (again,) = aligning.stages([again])
        aligning.forget(work, again)
    with console.progress("the same command goes on where this stopped") as progress:
        store = aligning.align(work, only=stages, jobs=jobs, progress=progress, tell=console_align.telling(progress))
    if store and not console.print_report(harness.view(store), store.folder, jobs=jobs):
        raise typer.Exit(1)


@app.command(
    epilog="Examples:\n\n"
    "  ipa-bench pose clip.mp4 --out pose.mp4\n\n"
    "  ipa-bench pose clip.mp4 --out pose.mp4 --size 128x128 --fps 12 --frames 17\n\n"
    "  ipa-bench pose clips/ --out poses/ --size 832x480 --fps 16 --frames 81"
)
def pose(
    clips: Clips,
    out: Annotated[Path, typer.Option("--out", "-o", help="An .mp4 for one clip, or a folder.")] = Path("poses"),
    size: Annotated[
        str | None, typer.Option(metavar="WIDTHxHEIGHT", help="The centre of the clip, at this size (the clip's own).")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second (the clip's own).")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Only the first N frames of the pose video.")] = None,
    jobs: Jobs = 0,
) -> None:
    """Draw the body and hands of a clip as a pose map, the driving signal of pose-conditioned models."""
    pool.prepare()
    from ipa_bench.cli import pose as console_pose

    if not console_pose.pose_clips(clips, out, size, fps, frames, jobs):
        raise typer.Exit(1)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    price: Price = None,
    jobs: Jobs = 0,
) -> None:
    """Print the leaderboard of a run and write its reports again, without scoring anything."""
    from ipa_bench import harness
    from ipa_bench.cli import console
    from ipa_bench.store import RunStore

    if not console.print_report(harness.view(RunStore.load(folder), price), folder, jobs=jobs):
        raise typer.Exit(1)


@app.command(
    epilog="Examples:\n\n"
    "  ipa-bench score generated.mp4 --driving driving.mp4\n\n"
    "  ipa-bench score clips/ --json > scores.json"
)
def score(
    clips: Clips,
    driving: Annotated[Path | None, typer.Option(help="The video that drove them; few metrics do without.")] = None,
    cross_identity: Annotated[
        bool, typer.Option("--cross-identity", help="Another person is animated: no pixel metrics.")
    ] = False,
    observer: Annotated[Literal["litert", "mediapipe"], typer.Option(help="What finds the hands.")] = "litert",
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
    jobs: Jobs = 0,
) -> None:
    """Score clips without a suite."""
    from ipa_bench.cli import console

    if not console.score_clips(clips, driving, cross_identity, observer, as_json, jobs):
        raise typer.Exit(1)


@app.command(
    epilog="Example:\n\n  ipa-bench validate my_clips/ --out validation/\n\n"
    "Damages every clip in ten ways at three strengths and asks each metric whether it noticed."
)
def validate(
    clips: Clips,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write validation.json and .md here.")] = None,
    jobs: Jobs = 0,
) -> None:
    """How far can each metric be trusted on this footage?"""
    pool.prepare()
    from ipa_bench.cli import console

    console.validate_clips(clips, out, jobs)


@app.command(
    epilog="Examples:\n\n"
    "  ipa-bench select runs/train --top-k 1 --out good.json\n\n"
    "  ipa-bench select runs/train --threshold 0.7 --per-identity 4\n\n"
    "  ipa-bench select runs/train --pairs 0.05      good and bad videos of a case, for DPO"
)
def select(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    metric: Annotated[str, typer.Option(help="What decides.")] = "hand_quality",
    top_k: Annotated[int | None, typer.Option(min=1, help="The best K of each case.")] = None,
    threshold: Annotated[float | None, typer.Option(help="At least this good.")] = None,
    per_identity: Annotated[int | None, typer.Option(min=1, help="At most so many of each identity.")] = None,
    pairs: Annotated[float | None, typer.Option(metavar="MARGIN", help="Pairs that differ by this much.")] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(help="Cases to choose from (train). Training refuses people that it watches: the val cases."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where to write (RUN/selection.json).")] = None,
) -> None:
    """Choose good videos of a run's train cases, or good and bad pairs. Never from cases of the test split."""
    from ipa_bench.cli import console

    console.select_videos(folder, metric, top_k, threshold, per_identity, pairs, split or ["train"], out)


@app.command()
def metrics() -> None:
    """The metrics: unit, direction, source, blind spot."""
    from ipa_bench.cli import console

    console.print_metrics()


@app.command()
def doctor() -> None:
    """Check the environment and name what to do about what is wrong."""
    from ipa_bench.cli import console

    if not console.print_doctor():
        raise typer.Exit(1)


@weights_app.command("list")
def weights_list() -> None:
    """Every model file: state, size, licence, source."""
    from ipa_bench import weights
    from ipa_bench.cli import console

    console.print_weights(weights.statuses())


@weights_app.command("fetch")
def weights_fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Which ones (those that find hands).")] = None,
) -> None:
    """Download model files, check their hashes, and keep them."""
    from ipa_bench import weights
    from ipa_bench.cli import console

    for file in weights.fetch(names or console.HAND_MODELS, progress=console.say):
        console.say(f"have {file}")


@weights_app.command("verify")
def weights_verify(
    names: Annotated[list[str] | None, typer.Argument(help="Which ones; all by default.")] = None,
) -> None:
    """Hash the model files that are here."""
    from ipa_bench import weights
    from ipa_bench.cli import console

    statuses = weights.verify(names)
    console.print_weights(statuses)
    if any(status.problem for status in statuses):
        raise typer.Exit(1)


def main() -> None:
    """Entry point: expected failures are one line and status 2 (typer gives Ctrl-C 130), anything else a traceback."""
    try:
        app()
    except UserError as error:
        print(f"error: {error.problem}", file=sys.stderr)
        if error.fix:
            print(f"  fix: {error.fix}", file=sys.stderr)
        sys.exit(2)
    except Unscorable as error:
        print(f"error: {error.reason}", file=sys.stderr)
        sys.exit(1)
