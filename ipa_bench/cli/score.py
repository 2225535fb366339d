"""The verbs about scores: ``score``, ``validate``, ``select``, ``metrics``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ipa_bench.cli.arguments import Clips, CrossIdentity, Jobs, examples, videos_in

SCORE = examples(
    "ipa-bench score generated.mp4 --driving driving.mp4",
    "ipa-bench score clips/ --json > scores.json",
)
VALIDATE = (
    f"{examples('ipa-bench validate my_clips/ --out validation/')}\n\n"
    "Damages every clip in seventeen ways at three strengths and asks each metric whether it noticed."
)
SELECT = examples(
    "ipa-bench select runs/train --top-k 1 --out good.json",
    "ipa-bench select runs/train --threshold 0.7 --per-identity 4",
    "ipa-bench select runs/train --pairs 0.05      good and bad videos of a case, for DPO",
    "ipa-bench select runs/train --all             every video with its score; with --pairs, every pair",
)

#: columns from which the metrics are one table
WIDE = 140


def score(
    clips: Clips,
    driving: Annotated[Path | None, typer.Option(help="The video that drove them; few metrics do without.")] = None,
    cross_identity: CrossIdentity = False,
    observer: Annotated[Literal["litert", "mediapipe"], typer.Option(help="What finds the hands.")] = "litert",
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
    jobs: Jobs = 0,
) -> None:
    """Score clips without a suite."""
    from ipa_bench.cli import console
    from ipa_bench.harness.workers import score_files

    files = videos_in(clips)
    with console.progress("observations so far are cached") as on_progress:
        results = list(score_files(files, driving, cross_identity, observer, jobs, on_progress))
    if as_json:
        sys.stdout.write(json.dumps(results, indent=1, allow_nan=False) + "\n")
    else:
        for result in results:
            print_scores(result)
    if not any("scores" in result for result in results):
        raise typer.Exit(1)


def print_scores(result: Mapping[str, Any]) -> None:
    """What :func:`ipa_bench.harness.workers.score_file` found of a clip."""
    from rich.markup import escape

    from ipa_bench.cli.console import OUT
    from ipa_bench.metrics import find

    OUT.print(f"[bold]{escape(result['video'])}[/]")
    if "reason" in result:
        OUT.print(f"  not scored: {escape(result['reason'])}")
        return
    for note in result["notes"]:
        OUT.print(f"  note: {escape(note)}")
    for name, entry in result["scores"].items():
        info = find(name).info
        known = entry["value"] is not None
        value = f"{entry['value']:10.4f} {info.unit}" if known else f"{'-':>10} {entry['reason']}"
        OUT.print(f"  {name:28} {escape(value)}")


def validate(
    clips: Clips,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write validation.json and .md here.")] = None,
    people: Annotated[
        bool, typer.Option("--people", help="Of who is who, on clips that show two people: faces exchanged, blended.")
    ] = False,
    jobs: Jobs = 0,
) -> None:
    """How far can each metric be trusted on this footage?"""
    from ipa_bench.cli import console

    console.prepare_workers()
    from ipa_bench.errors import UserError
    from ipa_bench.files import write_atomic
    from ipa_bench.harness.workers import validate_files
    from ipa_bench.validate.report import as_dict, markdown, render_validation

    files = videos_in(clips)
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make {out}: {error.strerror}", "choose a folder that can be written to") from None
        write_atomic(out / "validation.md", b"not finished\n")  # whether it can be written shows before the work
    if people:
        _validate_people(files, out, jobs)
        return
    with console.progress() as on_progress:
        validation = validate_files(files, jobs, on_progress)
    console.OUT.print(render_validation(validation))
    if out is not None:
        write_atomic(out / "validation.json", json.dumps(as_dict(validation), indent=1, allow_nan=False).encode())
        write_atomic(out / "validation.md", markdown(validation).encode(errors="backslashreplace"))
        console.OUT.print(f"\n{out / 'validation.md'}", markup=False)


def _validate_people(files: list[Path], out: Path | None, jobs: int) -> None:
    """The faults of who is who, printed, and written where a folder is given."""
    from dataclasses import asdict

    from ipa_bench.cli import console
    from ipa_bench.files import write_atomic
    from ipa_bench.harness.workers import validate_people_files
    from ipa_bench.validate import people

    with console.progress() as on_progress:
        found = validate_people_files(files, jobs, on_progress)
    text = people.markdown(found)
    console.OUT.print(people.terminal(found, console.OUT.width))
    if out is not None:
        whole = {"schema_version": 1, **asdict(found)}
        write_atomic(out / "validation.json", json.dumps(whole, indent=1, allow_nan=False).encode())
        write_atomic(out / "validation.md", text.encode(errors="backslashreplace"))
        console.OUT.print(f"\n{out / 'validation.md'}", markup=False)


def select(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    metric: Annotated[str, typer.Option(help="What decides.")] = "hand_quality",
    top_k: Annotated[int | None, typer.Option(min=1, help="The best K of each case.")] = None,
    threshold: Annotated[float | None, typer.Option(help="At least this good.")] = None,
    per_identity: Annotated[int | None, typer.Option(min=1, help="At most so many of each identity.")] = None,
    pairs: Annotated[float | None, typer.Option(metavar="MARGIN", help="Pairs that differ by this much.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All videos with their scores; with --pairs, all pairs of a case.")
    ] = False,
    split: Annotated[
        list[str] | None,
        typer.Option(help="Cases to choose from (train). Training refuses people that it watches: the val cases."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where to write (RUN/selection.json).")] = None,
) -> None:
    """Choose good videos of a run's train cases, or good and bad pairs. Never from cases of the test split."""
    from ipa_bench import select as choose
    from ipa_bench.cli.console import OUT
    from ipa_bench.errors import UserError
    from ipa_bench.store import RunStore

    store, of = RunStore.load(folder), choose.splits_of(split or ["train"])
    if (pairs is not None or every) and (top_k, threshold, per_identity) != (None, None, None):
        what = "--all takes every video" if pairs is None else "--pairs takes the best and the worst of each case"
        raise UserError(what, "leave the other choices out")
    if pairs is None and every:
        candidates = choose.choose_candidates(store, metric, splits=of)
        path = out or folder / "candidates.json"
        choose.write_candidates(candidates, path)
        OUT.print(candidates.message, markup=False)
    elif pairs is not None:
        found = choose.choose_pairs(store, metric, margin=pairs, every=every, splits=of)
        path = out or folder / "pairs.json"
        choose.write_pairs(found, path)
        OUT.print(found.message, markup=False)
    else:
        if top_k is None and threshold is None and per_identity is None:
            top_k = 1
        selection = choose.choose(store, metric, threshold=threshold, top_k=top_k, per_identity=per_identity, splits=of)
        path = out or folder / "selection.json"
        choose.write_selection(selection, path)
        by = ", ".join(selection.by)
        OUT.print(f"{len(selection.rows)} of {selection.candidates} videos chosen by {by}", markup=False)
        if selection.unscored:
            OUT.print(f"{selection.unscored} without a score were left out", markup=False)
    for name, count in choose.left_out(store, of).items():
        what = "1 video" if count == 1 else f"{count} videos"
        OUT.print(f"{what} of {name} cases not looked at: --split {name} asks for them", markup=False)
    OUT.print(str(path), markup=False)


def metrics(
    write: Annotated[Path | None, typer.Option(metavar="FILE", help="Put the tables into a Markdown document.")] = None,
) -> None:
    """The metrics: unit, direction, networks they look through, source, blind spot."""
    from rich.markup import escape
    from rich.padding import Padding
    from rich.table import Table

    from ipa_bench.cli.console import OUT
    from ipa_bench.metrics.document import limits
    from ipa_bench.metrics.table import METRICS, SET_METRICS

    if write is not None:
        _write_metrics(write)
        return
    infos = [*(metric.info for metric in METRICS), *SET_METRICS]
    if OUT.width < WIDE:
        for info in infos:
            about = f"{info.unit}, {info.better} is better, needs {info.needs}"
            OUT.print(f"[bold]{escape(info.id)}[/]  {escape(about)}")
            told = Table.grid(padding=(0, 2, 0, 0))
            told.add_row("looks through", escape(", ".join(info.family)))
            told.add_row("source", escape(info.source))
            told.add_row("cannot see", escape(limits(info)))
            OUT.print(Padding(told, (0, 0, 0, 4)), soft_wrap=False)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("metric", "unit", "better", "needs", "looks through", "source", "cannot see"):
        table.add_column(column, overflow="fold", no_wrap=column == "metric")
    for info in infos:
        through = ", ".join(info.family)
        text = map(escape, (info.id, info.unit, info.better, info.needs, through, info.source, limits(info)))
        table.add_row(*text)
    OUT.print(table)


def _write_metrics(path: Path) -> None:
    """Bring the tables of a document, between its marks, up to date. Raises UserError where it has no marks."""
    from ipa_bench.errors import UserError
    from ipa_bench.files import write_atomic
    from ipa_bench.metrics.document import table, updated
    from ipa_bench.metrics.table import METRICS, SET_METRICS

    tables = {"videos": table(metric.info for metric in METRICS), "sets": table(SET_METRICS)}
    try:
        text = updated(path.read_text(encoding="utf-8"), tables)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "name a document that is there") from None
    except ValueError as error:
        fix = "mark their places: <!-- generated: videos --> ... <!-- end -->, and the same for sets"
        raise UserError(f"{path}: {error}", fix) from None
    write_atomic(path, text.encode())
