"""Copies of the videos that every browser plays, and stills of the worst moments.

H.264, yuv420p, constant frame rate, long side at most 640: whatever the run's videos are, a page can play three of
them at once and step through them frame by frame. A copy is named after the content of its source, so that two
reports of one run share it and a changed video gets a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from PIL import Image

from ipa_bench import video
from ipa_bench.engine import processes as pool
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.files import replacing
from ipa_bench.types import UInt8

LONG_SIDE = 640
#: A browser shows no more, and stepping through more than this is tedious.
MAX_FPS = 60.0
STILL_SIDE = 320

Progress = Callable[[int, int], None]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Copy:
    """A playable copy in the media folder."""

    name: str
    width: int
    height: int
    fps: float


@dataclass(frozen=True)
class Part:
    """A moment of a video, or a picture."""

    path: Path
    #: seconds from the first frame
    time: float
    #: what to look at, x0, y0, x1, y1 in [0, 1] of width and height; None for the whole frame
    box: tuple[float, float, float, float] | None


@dataclass(frozen=True)
class StillJob:
    """Moments side by side: what was asked for and what was made. ``side`` of each, px."""

    out: Path
    parts: tuple[Part, ...]
    side: int = STILL_SIDE


def make_copies(
    sources: Iterable[Path], folder: Path, *, jobs: int, progress: Progress | None = None
) -> dict[Path, Copy | str]:
    """A :class:`Copy` for each source, or the reason why there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = list(dict.fromkeys(sources))
    results = each(_copy, [(source, folder) for source in wanted], jobs, progress)
    return dict(zip(wanted, results, strict=True))


def make_stills(stills: Sequence[StillJob], *, jobs: int) -> list[str | None]:
    """Write each still; the reason for each that could not be made, None for each that was."""
    return each(_still, stills, jobs, None)


def each(function: Callable[[T], R | str], work: Sequence[T], jobs: int, progress: Progress | None) -> list[R | str]:
    """``function`` over ``work`` in order, in ``jobs`` processes; a failure is a reason, not the end."""
    results: list[R | str] = []
    try:
        for result in pool.imap(partial(_or_reason, function), work, min(jobs, len(work))):
            results.append(result)
            if progress is not None:
                progress(len(results), len(work))
    except UserError as problem:  # a killed worker takes the copies with it, but not the numbers
        results += [problem.problem] * (len(work) - len(results))
    return results


def _or_reason(function: Callable[[T], R | str], item: T) -> R | str:
    try:
        return function(item)
    except Unscorable as problem:
        return problem.reason
    except UserError as problem:
        return problem.problem
    except Exception as problem:  # one odd video must not cost the report of the others
        return f"{type(problem).__name__}: {problem}"


def _copy(work: tuple[Path, Path]) -> Copy | str:
    source, folder = work
    if not source.is_file():
        return f"{source.name}: no such file"
    name = f"{video.file_sha256(source)[:32]}.mp4"
    target = folder / name
    if not target.exists():
        _encode(source, target)  # appears whole or not at all
    info = video.probe(target)
    return Copy(name, info.width, info.height, float(info.fps))


def _encode(source: Path, target: Path) -> None:
    info = video.probe(source)
    fps = min(float(info.fps), MAX_FPS)
    frames, _ = video.read_at(source, fps, size=_fitted(info.width, info.height))
    video.encode(frames, target, fps, crf=20, preset="veryfast")


def _fitted(width: int, height: int) -> tuple[int, int]:
    """``(width, height)`` with even sides, the longer of them at most :data:`LONG_SIDE`."""
    scale = min(1.0, LONG_SIDE / max(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def _still(job: StillJob) -> str | None:
    if job.out.exists():
        return None
    parts = [_crop(_frame_at(part.path, part.time), part.box, job.side) for part in job.parts]
    sheet = Image.new("RGB", (job.side * len(parts) + 2 * (len(parts) - 1), job.side), "white")
    for index, part in enumerate(parts):
        sheet.paste(part, (index * (job.side + 2), 0))
    job.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(job.out) as part_path:
        sheet.save(part_path, format="JPEG", quality=86)
    return None


def _frame_at(path: Path, time: float) -> UInt8:
    """The frame on screen at ``time``; the last one of a video that ends earlier."""
    found = None
    for frame in video.read_frames(path):
        if found is not None and frame.time > time + 1e-3:
            break
        found = frame.image
    if found is None:
        raise Unscorable(f"{path.name}: no frame decodes")
    return found


def _crop(image: UInt8, box: tuple[float, float, float, float] | None, shown: int) -> Image.Image:
    """A square of ``shown`` pixels around ``box`` with room about it, or the whole frame with bars."""
    height, width = image.shape[:2]
    side, middle = float(max(width, height)), [width / 2, height / 2]
    if box is not None:
        shares = [min(max(share, 0.0), 1.0) for share in box]  # joints may lie outside the frame
        x0, y0, x1, y1 = (share * length for share, length in zip(shares, (width, height) * 2, strict=True))
        hand = max(x1 - x0, y1 - y0)
        side = max(min(1.7 * hand, min(width, height)), hand, min(width, height) / 4)
        middle = [(x0 + x1) / 2, (y0 + y1) / 2]
        for axis, length in enumerate((width, height)):  # inside the frame where it fits
            middle[axis] = min(max(middle[axis], side / 2), length - side / 2) if side <= length else length / 2
    left, top = (round(centre - side / 2) for centre in middle)
    cut = Image.fromarray(image).crop((left, top, left + int(side), top + int(side)))
    return cut.resize((shown, shown), Image.Resampling.LANCZOS)
