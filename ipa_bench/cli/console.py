"""What the verbs print with: results on standard output, what happens meanwhile on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from ipa_bench.engine.processes import Progress as OnProgress

# Names are shown as they are: no emoji for :fire:. A sentence is one line, however long the path in it: the terminal
# breaks it, and whoever reads it with a program finds it whole.
OUT = Console(highlight=False, emoji=False, soft_wrap=True)
ERR = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)
#: said where long work is interrupted
GOES_ON = "the same command goes on where this stopped"


def prepare_streams() -> None:
    """Let bytes that are no text, in a file's name, not end a run: they are spelled out."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def prepare_workers(module: str = "ipa_bench.harness.workers") -> None:
    """Start the process that workers are forked from: it imports ``module`` while this one imports the rest."""
    from ipa_bench.engine import processes

    processes.prepare(module)


def say(text: str) -> None:
    """A line on standard error, where it does not mix with results."""
    ERR.print(escape(text))


@contextmanager
def resumable(hint: str = GOES_ON) -> Iterator[None]:
    """Say ``hint`` where Ctrl-C ends the block."""
    try:
        yield
    except KeyboardInterrupt:
        say(hint)
        raise


@contextmanager
def progress(hint: str = GOES_ON) -> Iterator[OnProgress]:
    """A bar for each stage of long work, on standard error; where that is no terminal, a line now and then."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    tasks: dict[str, Any] = {}
    with resumable(hint), Progress(*columns, Remaining(), console=ERR, disable=not ERR.is_terminal) as bars:

        def on_progress(stage: str, done: int, total: int) -> None:
            if not ERR.is_terminal:
                if total and (done in (0, total) or done * 10 // total > (done - 1) * 10 // total):
                    ERR.print(f"{stage}: {done}/{total}")
                return
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield on_progress


def print_facts(lines: Mapping[str, str]) -> None:
    """A name and what there is to say of it, one a line."""
    width = max(map(len, lines))
    for name, text in lines.items():
        OUT.print(f"{name:<{width}}  {escape(text)}")
