"""The only place that decodes, encodes, resizes or hashes pixels.

Decoding is PyAV. Colours follow the file's own matrix and range tags; where a file has none, BT.601 limited range is
assumed, as ffmpeg and OpenCV do. YUV becomes RGB by swscale's default path (nearest chroma sample, values up to 3
levels from exact arithmetic), because that is what other tools see; it may differ by a level between CPU families.
Rotation and mirroring metadata are applied. Pixel aspect ratio, alpha, interlacing and HDR transfer curves are not.

A file that cannot be decoded whole raises :class:`~ipa_bench.errors.Unscorable` with the file's name in its reason.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
import numpy as np
import psutil  # type: ignore[import-untyped, unused-ignore]
from av.video.frame import VideoFrame

from ipa_bench.errors import Unscorable
from ipa_bench.types import UInt8, Video
from ipa_bench.video import timing
from ipa_bench.video.decode import Frame, decode, display_matrix, file_url, frame_rate, opened, read_still, seconds
from ipa_bench.video.pixels import (
    PixelHasher,
    ResizePolicy,
    picture,
    pictures_shared,
    pixel_sha256,
    quarter_turns,
    resize,
    swaps_axes,
)
from ipa_bench.video.write import encode, encode_bytes

__all__ = [
    "DECODER",
    "STILL_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Frame",
    "PixelHasher",
    "ResizePolicy",
    "VideoInfo",
    "encode",
    "encode_bytes",
    "load",
    "picture",
    "pictures_shared",
    "pixel_sha256",
    "probe",
    "read_at",
    "read_bytes",
    "read_frames",
    "resize",
    "video_from_frames",
]

#: what decodes: other versions may give other pixels for the same file
DECODER = f"av{av.__version__}"
#: Lower-case suffixes by which a folder is searched for videos; any file that PyAV opens can be read.
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg", ".ts"})
#: Lower-case suffixes that are read as a video of one frame with fps 1.
STILL_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


@dataclass(frozen=True)
class VideoInfo:
    """What a file says about itself, and its first frame."""

    path: Path
    #: pixels, after rotation
    width: int
    height: int
    #: frames per second while it moves: how long the last frame is held does not count, see :func:`timing.rate_of`
    fps: float
    #: decoder's name, for example ``h264``
    codec: str
    #: of the first decoded frame, for example ``yuv420p10le``
    pixel_format: str
    #: seconds; None where neither stream nor container says
    duration: float | None
    #: None where the container does not say (Matroska, WebM, streams)
    declared_frames: int | None
    #: degrees clockwise that the metadata asks for: 0, 90, 180 or 270; already applied to width and height
    rotation: int
    #: whether the time between frames varies by more than a tenth; None where there are no timestamps
    variable_rate: bool | None


def probe(path: Path | str) -> VideoInfo:
    """Open a video or still, decode its first frame, and read no more pixels.

    Raises :class:`Unscorable` where there is no such file, it is a folder, empty, or has no video that decodes.
    """
    path = Path(path)
    if path.suffix.lower() in STILL_SUFFIXES:
        image, kind = read_still(path)
        height, width = image.shape[:2]
        return VideoInfo(path, width, height, 1.0, kind, "rgb24", None, 1, 0, None)
    with opened(file_url(path), path.name) as (container, stream):
        picture: VideoFrame | None = None
        stamps: list[int] = []
        for packet in container.demux(stream):
            if packet.pts is not None and not packet.is_discard:
                stamps.append(packet.pts)
            if picture is None:
                picture = next(iter(stream.decode(packet)), None)
        if picture is None:
            raise Unscorable(f"{path.name}: no frame decodes")
        matrix = display_matrix(picture)
        height, width = (picture.height, picture.width)[:: -1 if swaps_axes(matrix) else 1]
        times = np.unique(np.array(stamps, np.float64)) * float(stream.time_base or 1)
        declared = float(frame_rate(stream, path.name))
        return VideoInfo(
            path=path,
            width=width,
            height=height,
            fps=timing.rate_of(times - times[:1], declared) or declared,
            codec=stream.codec_context.name,
            pixel_format=picture.format.name,
            duration=seconds(container, stream),
            declared_frames=stream.frames or None,
            rotation=quarter_turns(matrix) * 90,
            variable_rate=None if len(times) < 2 else not timing.is_constant(times),
        )


def read_frames(
    path: Path | str,
    *,
    size: tuple[int, int] | None = None,
    policy: ResizePolicy = "stretch",
    threads: int = 1,
) -> Iterator[Frame]:
    """Decode a video (or a still, as one frame) frame by frame; memory does not grow with its length.

    ``size`` (width, height) and ``policy`` as in :func:`resize`, applied after rotation. ``threads`` of the decoder
    changes speed, never pixels; the default leaves the other cores to the caller's own workers.

    The good frames are yielded first; then a file that is cut short or damaged raises :class:`Unscorable`, as do the
    causes in :func:`probe`, frames of different sizes, and timestamps that do not increase. Errors come with
    iteration, not with the call.
    """
    path = Path(path)
    if path.suffix.lower() in STILL_SUFFIXES:
        frames: Iterator[Frame] = iter([Frame(read_still(path)[0], 0.0)])
    else:
        frames = decode(file_url(path), path.name, threads)
    for frame in frames:
        yield frame if size is None else Frame(resize(frame.image, size, policy), frame.time)


def read_at(
    path: Path | str, fps: float | None = None, *, size: tuple[int, int] | None = None, policy: ResizePolicy = "stretch"
) -> tuple[Iterator[UInt8], float]:
    """The pictures of a clip at a constant rate, and that rate; the clip's own where ``fps`` is None.

    Every clip that is read at another rate than its own comes through here: what is on screen at k / ``fps`` seconds is
    the k-th picture (:func:`ipa_bench.video.timing.shown_at`). A clip at a constant rate keeps every frame at its own
    rate. Raises as :func:`read_frames` does; errors of decoding come with iteration.
    """
    rate = probe(path).fps
    wanted = fps or rate
    return timing.resample(read_frames(path, size=size, policy=policy), rate, wanted), wanted


def read_bytes(data: bytes) -> Iterator[Frame]:
    """:func:`read_frames` of a video file's bytes; reasons name it ``<memory>``."""
    if not data:
        raise Unscorable("<memory>: is empty")
    return decode(io.BytesIO(data), "<memory>", 1)


def load(
    path: Path | str,
    *,
    max_frames: int | None = None,
    size: tuple[int, int] | None = None,
    policy: ResizePolicy = "stretch",
    threads: int = 1,
) -> Video:
    """A short clip in memory: its first ``max_frames`` frames (at least 1), or all; a still is one frame at fps 1.

    ``size``, ``policy`` and ``threads`` as in :func:`read_frames`. Raises :class:`Unscorable` as :func:`read_frames`
    does (damage after ``max_frames`` is not seen), and for a clip that does not fit in memory.
    """
    if max_frames is not None and max_frames < 1:
        raise ValueError(f"max_frames must be at least 1, got {max_frames}")
    info = probe(path)
    width, height = size or (info.width, info.height)
    expected = info.declared_frames or math.ceil((info.duration or 0) * info.fps)
    expected = max(1, min(expected, max_frames or expected))
    _check_fits(path, expected, expected * height * width * 3)
    frames = np.empty(
        (expected, height, width, 3), np.uint8
    )  # filled in place: a list and a copy cost twice the memory
    count = 0
    for frame in islice(read_frames(path, size=size, policy=policy, threads=threads), max_frames):
        if count == len(frames):
            frames = np.concatenate([frames, np.empty_like(frames)])
        frames[count] = frame.image
        count += 1
    return video_from_frames(frames[:count], info.fps)


def video_from_frames(frames: UInt8, fps: float) -> Video:
    """A :class:`Video` of an array: uint8 ``[T, H, W, 3]`` RGB with at least one frame, copied only if not contiguous.

    Raises ``ValueError`` for another dtype or shape, or an ``fps`` that is not a positive number.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise ValueError(f"expected uint8 [T, H, W, 3], got {frames.dtype} {list(frames.shape)}")
    if not math.isfinite(fps) or fps <= 0:
        raise ValueError(f"fps must be positive, got {fps}")
    frames = np.ascontiguousarray(frames)
    return Video(frames, float(fps), pixel_sha256(frames))


def _check_fits(path: Path | str, frames: int, needed: int) -> None:
    if needed > 2**30 and needed > psutil.virtual_memory().available:
        raise Unscorable(f"{Path(path).name}: {frames} frames do not fit in memory ({needed / 2**30:.0f} GiB)")
