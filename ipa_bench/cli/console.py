"""What the verbs show in a terminal. Thin: everything it prints comes from elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from ipa_bench.engine import processes as pool
from ipa_bench.engine.processes import Progress as OnProgress
from ipa_bench.errors import UserError
from ipa_bench.metrics.set_table import SET_METRICS
from ipa_bench.scorer import ALL, find
from ipa_bench.video import VIDEO_SUFFIXES

if TYPE_CHECKING:
    from ipa_bench.models.folder import FolderMatch
    from ipa_bench.report import ReportView
    from ipa_bench.suite import Suite
    from ipa_bench.weights import WeightStatus

# Names are shown as they are: no emoji for :fire:, and bytes that are no text do not end a run.
for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
OUT = Console(highlight=False, emoji=False)
ERR = Console(stderr=True, highlight=False, emoji=False)
#: what finding hands needs
HAND_MODELS = ("palm_detection_full", "hand_landmark_full", "pose_detection", "pose_landmark_full")
#: the suite of people that the project renders
BUILT_IN = Path(__file__).parents[1] / "embedded" / "suite" / "suite.toml"
#: systems that stand in where the user has none: name -> (damage, strength)
STAND_INS = {
    "re-encoded": ("reencode", "medium"),
    "slightly-blurred": ("blur", "mild"),
    "melted-fingers": ("finger_melt", "medium"),
    "frozen": ("frozen", "strong"),
}


def say(text: str) -> None:
    """A line on standard error, where it does not mix with results."""
    ERR.print(escape(text))


@contextmanager
def progress(hint: str) -> Iterator[OnProgress]:
    """A bar for each stage of long work, on standard error; where that is no terminal, a line now and then."""
    columns = (TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=ERR, disable=not ERR.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def on_progress(stage: str, done: int, total: int) -> None:
            if not ERR.is_terminal:
                if total and (done in (0, total) or done * 10 // total > (done - 1) * 10 // total):
                    ERR.print(f"{stage}: {done}/{total}")
                return
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        try:
            yield on_progress
        except KeyboardInterrupt:
            bars.stop()
            say(hint)
            raise


def suite_of(what: Path | None, models: Sequence[str], *, cross_identity: bool) -> Suite:
    """The suite that the arguments of ``run`` mean; without any, the built-in one. Raises UserError."""
    what = what or BUILT_IN
    from ipa_bench.suite import DamageSpec, Suite, load_suite, suite_from_folders

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
    for name, match in matches.items():
        for title, items in (
            ("missing", [f"{m.case} (seed {m.seed}): {m.reason}" for m in match.missing]),
            ("not asked for", [path.name for path in match.extra]),
        ):
            if items:
                more = f", and {len(items) - 5} more" if len(items) > 5 else ""
                say(f"{name}: {len(items)} {title}: {'; '.join(items[:5])}{more}")


def print_plan(suite: Suite, folder: Path) -> None:
    """What a run would do."""
    from ipa_bench.store import RunStore

    videos = len(suite.cases) * len(suite.models) * len(suite.seeds)
    done = 0
    if (folder / "run.json").exists():
        done = sum(1 for record in RunStore.load(folder).records().values() if record.sha256)
    counts = f"{len(suite.cases)} cases, {len(suite.models)} models, {len(suite.seeds)} seeds"
    OUT.print(f"{suite.name}: {counts}", markup=False)
    OUT.print(f"{videos} videos, {done} scored already in {folder}; nothing was done", markup=False)


def print_report(view: ReportView, folder: Path, *, jobs: int) -> bool:
    """Write the reports of a run, print the leaderboard, and say where the rest is. False where nothing has a score."""
    from ipa_bench.report import write_all
    from ipa_bench.report.terminal import render

    with progress("ipa-bench report goes on where this stopped") as on_progress:
        paths = write_all(
            view, folder, jobs=jobs or pool.cores(), progress=lambda done, total: on_progress("report", done, total)
        )
    OUT.print(render(view))
    scored = any(score.value is not None for score in view.scores())
    if not scored:
        for reason in dict.fromkeys(f"{s.case}: {s.reason}" for s in view.scores()):
            say(f"not scored: {reason}")
    others = ", ".join(path.name for path in paths[:-1])
    OUT.print(f"\n{paths[-1]}   the page; beside it {others}", markup=False, soft_wrap=True)
    return scored


def videos_in(paths: Iterable[Path]) -> list[Path]:
    """The clips that arguments name; folders are searched, not their folders. Raises UserError."""
    clips: list[Path] = []
    for path in paths:
        if path.is_dir():
            seen = [file for file in path.iterdir() if not file.name.startswith(".")]
            found = sorted(file for file in seen if file.suffix.lower() in VIDEO_SUFFIXES)
            if not found:
                raise UserError(f"{path} holds no video", f"videos end in {', '.join(sorted(VIDEO_SUFFIXES))}")
            clips += found
        elif path.exists():
            clips.append(path)
        else:
            raise UserError(f"{path} does not exist", "name a video file, or a folder of them")
    return clips


def print_metrics() -> None:
    """The table of metrics, from the code."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("metric", "unit", "better", "needs", "source", "cannot see"):
        table.add_column(column, overflow="fold")
    for info in [*(metric.info for metric in ALL), *SET_METRICS]:
        table.add_row(info.id, escape(info.unit), info.better, info.needs, escape(info.source), escape(info.blind_spot))
    OUT.print(table)


def print_weights(statuses: Sequence[WeightStatus]) -> None:
    """State of model files."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("file", "state", "MB", "licence", "used by", "what to do"):
        table.add_column(column, overflow="fold")
    for status in statuses:
        weight = status.weight
        size = f"{weight.size / 1e6:.2f}" if weight.size else "?"
        style = {"ok": "green", "missing": "yellow", "wrong": "red"}[status.state]
        table.add_row(
            weight.name,
            f"[{style}]{status.state}[/]",
            size,
            escape(weight.licence),
            escape(", ".join(weight.used_by)),
            escape(status.fix or (str(status.path) if status.path else "")),
        )
    OUT.print(table)


def print_doctor() -> bool:
    """Print the checks; False where one has failed."""
    from ipa_bench.cli.doctor import checks

    good = True
    for check in checks():
        mark = {True: "[green]ok  [/]", False: "[red]bad [/]", None: "[yellow]note[/]"}[check.ok]
        OUT.print(f"{mark} {escape(check.name)}: {escape(check.detail)}")
        if check.fix and not check.ok:
            OUT.print(f"      fix: {escape(check.fix)}")
        good = good and check.ok is not False
    return good


def score_clips(
    clips: Sequence[Path], driving: Path | None, cross_identity: bool, observer: str, as_json: bool, jobs: int
) -> bool:
    """Score clips and print their scores; False where none could be scored."""
    from ipa_bench.harness.workers import score_files

    files = videos_in(clips)
    with progress("observations so far are cached") as on_progress:
        results = list(score_files(files, driving, cross_identity, observer, jobs, on_progress))
    if as_json:
        sys.stdout.write(json.dumps(results, indent=1, allow_nan=False) + "\n")
        return any("scores" in result for result in results)
    for result in results:
        OUT.print(f"[bold]{escape(result['video'])}[/]")
        if "reason" in result:
            OUT.print(f"  not scored: {escape(result['reason'])}")
            continue
        for note in result["notes"]:
            OUT.print(f"  note: {escape(note)}")
        for name, entry in result["scores"].items():
            info = find(name).info
            known = entry["value"] is not None
            value = f"{entry['value']:10.4f} {info.unit}" if known else f"{'-':>10} {entry['reason']}"
            OUT.print(f"  {name:28} {escape(value)}")
    return any("scores" in result for result in results)


def validate_clips(clips: Sequence[Path], out: Path | None, jobs: int) -> None:
    """Run the ladder of damage, print what was seen, and write it where asked to."""
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
    with progress("the same command goes on where this stopped") as on_progress:
        validation = validate_files(files, jobs, on_progress)
    OUT.print(render_validation(validation))
    if out is not None:
        write_atomic(out / "validation.json", json.dumps(as_dict(validation), indent=1, allow_nan=False).encode())
        write_atomic(out / "validation.md", markdown(validation).encode(errors="backslashreplace"))
        OUT.print(f"\n{out / 'validation.md'}", markup=False)


def select_videos(
    folder: Path,
    metric: str,
    top_k: int | None,
    threshold: float | None,
    per_identity: int | None,
    margin: float | None,
    splits: Sequence[str],
    out: Path | None,
) -> None:
    """Choose, print how many of what, and write the choice."""
    from ipa_bench import select as choose
    from ipa_bench.store import RunStore

    store, of = RunStore.load(folder), choose.splits_of(splits)
    if margin is not None:
        if (top_k, threshold, per_identity) != (None, None, None):
            raise UserError("--pairs takes the best and the worst of each case", "leave the other choices out")
        found = choose.choose_pairs(store, metric, margin=margin, splits=of)
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
    for split, count in choose.left_out(store, of).items():
        what = "1 video" if count == 1 else f"{count} videos"
        OUT.print(f"{what} of {split} cases not looked at: --split {split} asks for them", markup=False)
    OUT.print(str(path), markup=False, soft_wrap=True)
