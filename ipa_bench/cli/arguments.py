"""Arguments and options that several verbs share. Light to import: ``--help`` waits for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

T = TypeVar("T")


def examples(*lines: str) -> str:
    """The end of a verb's help: ``lines`` as they would be typed."""
    return "\n\n".join([f"Example{'s' * (len(lines) > 1)}:", *(f"  {line}" for line in lines)])


def each(text: str | None, of: Callable[[str], T]) -> tuple[T, ...]:
    """The parts of a list with commas, made into what they say."""
    return tuple(of(part.strip()) for part in (text or "").split(",") if part.strip())


def finite(price: float | None) -> float | None:
    """A price that is a number."""
    if price is not None and not math.isfinite(price):
        raise typer.BadParameter(f"{price} is no price")
    return price


Clips = Annotated[list[Path], typer.Argument(metavar="CLIP...", help="Video files, or folders of them.")]
CrossIdentity = Annotated[bool, typer.Option("--cross-identity", help="Another person is animated: no pixel metrics.")]
Engine = Annotated[
    Literal["processes", "ray"], typer.Option("--engine", help="Score here, or on a Ray cluster (extra \\[ray]).")
]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=0, help="Processes (one a core).", show_default=False)]
Limit = Annotated[int | None, typer.Option(help="Only the first N cases.")]
Price = Annotated[
    float | None,
    typer.Option(min=0, metavar="PER_HOUR", callback=finite, help="Of one device: adds prices to the table of costs."),
]


def videos_in(paths: Iterable[Path]) -> list[Path]:
    """The clips that arguments name; folders are searched, not their folders. Raises UserError."""
    from ipa_bench.errors import UserError
    from ipa_bench.video import VIDEO_SUFFIXES

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
