"""A folder of numbered pictures as a clip: what many systems write where others write a video."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from ipa_bench import video
from ipa_bench.cache import digest
from ipa_bench.errors import Unscorable
from ipa_bench.types import UInt8
from ipa_bench.video import STILL_SUFFIXES, VIDEO_SUFFIXES

#: one picture is no clip: it may be a preview of one
LEAST = 2
_NUMBER = re.compile(r"([0-9]+)[^0-9]*$")


def is_frame_folder(folder: Path) -> bool:
    """Whether a folder holds pictures and no video. One that cannot be listed holds nothing that could be used."""
    try:
        suffixes = [file.suffix.lower() for file in folder.iterdir() if not file.name.startswith(".")]
    except OSError:
        return False
    return sum(suffix in STILL_SUFFIXES for suffix in suffixes) >= LEAST and not VIDEO_SUFFIXES & {*suffixes}


def frames_of(folder: Path) -> tuple[Path, ...]:
    """The pictures in order of the last number in their names.

    Raises :class:`Unscorable` for a picture without a number, two with one, or a number that is missing in between: a
    frame that is not there would shift all that follow.
    """
    numbered: dict[int, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.name.startswith(".") or file.suffix.lower() not in STILL_SUFFIXES:
            continue
        number = _NUMBER.search(file.stem)
        if number is None:
            raise Unscorable(f"{folder.name}: {file.name} has no number to put it in order")
        other = numbered.setdefault(int(number[1]), file)
        if other != file:
            raise Unscorable(f"{folder.name}: {other.name} and {file.name} are both frame {int(number[1])}")
    order = sorted(numbered)
    for before, after in pairwise(order):
        if after != before + 1:
            raise Unscorable(f"{folder.name}: no frame {before + 1} between {before} and {after}")
    return tuple(numbered[number] for number in order)


def clip_of(folder: Path, frames: Sequence[Path], fps: float, made: Path, name: str) -> Path:
    """A video without loss of the pictures, ``fps`` a second, in the folder ``made``; made once for the same pictures.

    Raises :class:`Unscorable` where a picture does not decode or has another size than the first.
    """
    key = digest([video.file_sha256(frame) for frame in frames], fps)
    path = made / f"{name}_{key[:16]}.mp4"
    if not path.exists():
        made.mkdir(parents=True, exist_ok=True)
        video.encode(_pictures(folder, frames), path, fps, lossless=True)
    return path


def _pictures(folder: Path, frames: Sequence[Path]) -> Iterator[UInt8]:
    size = None
    for frame in frames:
        image = next(video.read_frames(frame)).image
        size = size or image.shape
        if image.shape != size:
            shapes = [f"{shape[1]}x{shape[0]}" for shape in (image.shape, size)]
            raise Unscorable(f"{folder.name}: {frame.name} is {shapes[0]}, the first frame {shapes[1]}")
        yield image
