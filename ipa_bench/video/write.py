"""Writing H.264. Use through :mod:`ipa_bench.video`."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from ipa_bench.errors import UserError
from ipa_bench.files import replacing
from ipa_bench.types import UInt8

PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo",
)  # fmt: skip

#: With macroblock trees and B-frames, x264's AVX-512 code reads memory that nobody wrote: the same frames give another
#: file now and then, and so other scores.
X264_PARAMETERS = "mbtree=0"
#: BT.709 in H.273, for matrix, primaries and transfer alike
_BT709 = 1


def encode(
    frames: Iterable[UInt8],
    path: Path | str,
    fps: float | Fraction,
    *,
    crf: int = 18,
    preset: str = "medium",
    threads: int = 1,
    lossless: bool = False,
) -> None:
    """Write frames as H.264 (yuv420p, BT.709 limited range and tagged so) in an MP4 with its index at the front.

    ``frames`` uint8 ``[H, W, 3]`` RGB, all of one size; an odd width or height grows by one pixel, a copy of the last
    column or row, because 4:2:0 has none. ``fps`` in frames per second, rounded to the nearest fraction with a
    denominator up to 1001, so that 29.97003 is 30000/1001 exactly. ``crf`` 0 (lossless) to 51; ``preset`` of x264.

    ``lossless`` keeps every value of RGB and odd sides, whatever ``crf`` and ``preset``; browsers play no such file.

    ``path`` appears only when complete: the file is written beside it and renamed. The bytes depend on the frames,
    the arguments and the version of x264; ``threads`` is an argument because x264's output depends on it.

    Raises :class:`UserError` where ``path`` cannot be written, ``ValueError`` for a bad argument, no frames or a
    frame of another shape.
    """
    path = Path(path)
    rate = _rate(fps)
    if not 0 <= crf <= 51:
        raise ValueError(f"crf must be in 0..51, got {crf}")
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}")
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    options = {"crf": str(crf), "preset": preset, "x264-params": X264_PARAMETERS}
    if lossless:
        options |= {"crf": "0", "preset": "superfast"}
    try:
        with replacing(path.absolute()) as part:
            _write(_checked(frames, even=not lossless), part, rate, options, threads, lossless)
    except (OSError, av.error.FFmpegError) as error:
        why = error.strerror or type(error).__name__
        raise UserError(f"cannot write {path}: {why}", "choose an existing, writable folder with free space") from error


def encode_bytes(frames: Iterable[UInt8], fps: float | Fraction, *, crf: int = 18, preset: str = "medium") -> bytes:
    """:func:`encode` into memory: the bytes of the file it would write. Same errors."""
    # through a file: putting the index at the front needs one that can be opened a second time
    with tempfile.TemporaryDirectory(prefix="ipa-bench-") as folder:
        path = Path(folder, "clip.mp4")
        encode(frames, path, fps, crf=crf, preset=preset)
        return path.read_bytes()


def _rate(fps: float | Fraction) -> Fraction:
    if not math.isfinite(fps) or fps <= 0:
        raise ValueError(f"fps must be positive, got {fps}")
    rate = Fraction(fps).limit_denominator(1001)
    if not 0 < rate <= 1000:
        raise ValueError(f"fps must be in 1/1001..1000, got {fps}")
    return rate


def _checked(frames: Iterable[UInt8], *, even: bool) -> Iterator[UInt8]:
    """The frames, checked; with ``even`` width and height where that is asked for."""
    shape: tuple[int, ...] | None = None
    for index, image in enumerate(frames):
        shape = shape or image.shape
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"frame {index}: expected uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
        if image.shape != shape:
            raise ValueError(f"frame {index} has shape {image.shape}, the first one {shape}")
        odd_rows, odd_columns = image.shape[0] % 2, image.shape[1] % 2
        if even and (odd_rows or odd_columns):
            image = np.pad(image, ((0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")
        yield np.ascontiguousarray(image)
    if shape is None:
        raise ValueError("no frames to encode")


def _write(
    frames: Iterator[UInt8], path: Path, rate: Fraction, options: dict[str, str], threads: int, lossless: bool
) -> None:
    first = next(frames)  # before the file is made: a bad or missing first frame leaves nothing behind
    converter = VideoReformatter()
    with av.open(f"file:{path}", "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264rgb" if lossless else "libx264", rate=rate, options=options)
        _describe(stream, first, threads)
        if lossless:
            stream.pix_fmt = "rgb24"
        else:
            _tag(stream)
        for index, image in enumerate(_chain(first, frames)):
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            if not lossless:
                picture = converter.reformat(
                    picture,
                    format="yuv420p",
                    dst_colorspace=Colorspace.ITU709,
                    dst_color_range=ColorRange.MPEG,
                    threads=1,  # swscale would start a thread per core
                )
            picture.pts, picture.time_base = index, 1 / rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def _describe(stream: VideoStream, image: UInt8, threads: int) -> None:
    stream.height, stream.width = image.shape[:2]
    stream.thread_count = threads


def _tag(stream: VideoStream) -> None:
    stream.pix_fmt = "yuv420p"
    # so that players and our own decoder undo exactly this conversion whatever the size
    stream.color_range = ColorRange.MPEG
    stream.colorspace = stream.color_primaries = stream.color_trc = _BT709


def _chain(first: UInt8, rest: Iterator[UInt8]) -> Iterator[UInt8]:
    yield first
    yield from rest
