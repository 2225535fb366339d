"""The verb ``pose``: pose videos of clips."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ipa_bench.cli.arguments import Clips, Jobs, examples, videos_in
from ipa_bench.errors import UserError

if TYPE_CHECKING:
    from ipa_bench.models.poses import PoseVideo

POSE = examples(
    "ipa-bench pose clip.mp4 --out pose.mp4",
    "ipa-bench pose clip.mp4 --out pose.mp4 --size 128x128 --fps 12 --frames 17",
    "ipa-bench pose clips/ --out poses/ --size 832x480 --fps 16 --frames 81",
    "ipa-bench pose duo.mp4 --out pose.mp4 --people 2          and pose.a.npz, pose.b.npz: `poses` of a case",
)


def pose(
    clips: Clips,
    out: Annotated[Path, typer.Option("--out", "-o", help="An .mp4 for one clip, or a folder.")] = Path("poses"),
    size: Annotated[
        str | None, typer.Option(metavar="WIDTHxHEIGHT", help="The centre of the clip, at this size (the clip's own).")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second (the clip's own).")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Only the first N frames of the pose video.")] = None,
    people: Annotated[
        int, typer.Option(min=1, max=9, help="Draw so many people, and store a track of each beside the pose video.")
    ] = 1,
    jobs: Jobs = 0,
) -> None:
    """Draw the body and hands of a clip as a pose map, the driving signal of pose-conditioned models."""
    from ipa_bench.cli import console

    console.prepare_workers()
    if people > 1:
        _pose_people(clips, out, size, fps, frames, people)
        return
    if not pose_clips(clips, out, size, fps, frames, jobs):
        raise typer.Exit(1)


def pose_clips(
    clips: Sequence[Path], out: Path, size: str | None, fps: float | None, frames: int | None, jobs: int
) -> bool:
    """Write the pose video of every clip and print what is in it; False where some clip could not be drawn.

    ``out`` ending in .mp4 is the video of the one clip; else a folder, made where need be, for NAME.mp4 of each.
    ``size`` is WIDTHxHEIGHT in even pixels. ``jobs`` processes, 0 for every core. Raises UserError.
    """
    from ipa_bench.cli.console import progress, say
    from ipa_bench.engine import processes as pool
    from ipa_bench.models import poses as posing

    if fps is not None and not 0.01 <= fps <= 1000:
        raise UserError(f"--fps {fps:g} is not in 0.01 to 1000", "give frames per second, such as --fps 16")
    shape = size_of(size) if size else None
    files = videos_in(clips)
    work = [posing.Work(clip, path, shape, fps, frames) for clip, path in zip(files, outputs(files, out), strict=True)]
    processes, threads = pool.share_cores(jobs or pool.cores(), len(work))
    failed = False
    with progress("observations so far are cached") as on_progress:
        draw = posing.pose_file
        if processes == 1:  # frames are heard of in this process alone
            draw = partial(draw, progress=partial(on_progress, "frames"))
        results = pool.imap(draw, work, processes, posing.start, (threads,))
        on_progress("clips", 0, len(work))
        for count, result in enumerate(results, 1):
            on_progress("clips", count, len(work))
            if isinstance(result, posing.PoseVideo):
                print_written(result)
            elif len(work) == 1:
                raise result
            else:
                failed = True
                say(f"not drawn: {result}")
    return not failed


def _pose_people(
    clips: Sequence[Path], out: Path, size: str | None, fps: float | None, frames: int | None, people: int
) -> None:
    """The pose video of several people of each clip, and their tracks. Raises UserError."""
    from ipa_bench.models.poses import write_people
    from ipa_bench.observers.looker import Looker

    files, shape, looker = videos_in(clips), size_of(size) if size else None, Looker()
    for clip, path in zip(files, outputs(files, out), strict=True):
        for made in write_people(clip, path, looker, people, size=shape, fps=fps, frames=frames):
            print_written(made)


def print_written(made: PoseVideo) -> None:
    """A line about a pose video."""
    from ipa_bench.cli.console import OUT

    shape = f"{made.size[0]}x{made.size[1]}, {made.frames} frames at {made.fps:g} fps"
    found = f"body in {made.body}, left hand in {made.left_hand}, right hand in {made.right_hand}"
    OUT.print(f"{made.path}  {shape}: {found}", markup=False)


def size_of(text: str) -> tuple[int, int]:
    """(width, height) of WIDTHxHEIGHT. Raises UserError."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.strip().lower())
    width, height = (int(n) for n in match.groups()) if match else (0, 0)
    if not 16 <= min(width, height) <= max(width, height) <= 8192 or width % 2 or height % 2:
        raise UserError(
            f"--size {text!r} is not a size", "give WIDTHxHEIGHT, even and 16 to 8192 each, such as --size 832x480"
        )
    return width, height


def outputs(clips: Sequence[Path], out: Path) -> list[Path]:
    """Where the pose video of each clip goes. Makes the folder. Raises UserError."""
    from ipa_bench.video import VIDEO_SUFFIXES

    suffix = out.suffix.lower()
    if suffix == ".mp4" and not out.is_dir():
        if len(clips) > 1:
            raise UserError(f"{out} is one video, but there are {len(clips)} clips", "let --out name a folder")
        paths, folder = [out], out.parent
    elif suffix in VIDEO_SUFFIXES and not out.is_dir():
        raise UserError(f"pose videos are MP4, not {suffix}", f"use --out {out.with_suffix('.mp4')}")
    else:
        paths, folder = [out / f"{clip.stem}.mp4" for clip in clips], out
    sources = {clip.resolve() for clip in clips}
    for index, path in enumerate(paths):
        if path.resolve() in sources:
            raise UserError(f"{path} would be written over a clip", "let --out name another file or folder")
        if path in paths[:index]:
            raise UserError(f"two clips are called {path.stem}", "draw them into different folders")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror}", "choose a folder that can be written to") from None
    return paths
