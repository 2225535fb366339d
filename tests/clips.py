"""Awkward video files, written with PyAV. Helpers of the video tests."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from ipa_bench import video
from ipa_bench.errors import Unscorable
from ipa_bench.types import UInt8

RED, GREEN, BLUE, WHITE = (200, 40, 50), (30, 180, 60), (40, 50, 210), (230, 230, 230)


def noise(count: int, height: int = 96, width: int = 128, seed: int = 0) -> UInt8:
    """uint8 ``[count, height, width, 3]``: blurred noise that moves, so that every frame differs."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, height // 8 + 1, width // 8 + 1, 3), np.uint8)
    return np.ascontiguousarray(coarse.repeat(8, 1).repeat(8, 2)[:, :height, :width])


def smooth(count: int, height: int = 96, width: int = 128) -> UInt8:
    """uint8 ``[count, height, width, 3]``: slow gradients that drift."""
    y, x = np.mgrid[:height, :width]
    planes = [
        np.stack([128 + 90 * np.sin(x / 30 + t / 9), 128 + 90 * np.cos(y / 25 + t / 7), 60 + x / width * 120 + t], -1)
        for t in range(count)
    ]
    return np.stack(planes).round().clip(0, 255).astype(np.uint8)


def quadrants(height: int = 64, width: int = 96) -> UInt8:
    """One frame: red, green / blue, white."""
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :] = RED, GREEN
    image[height // 2 :, : width // 2], image[height // 2 :, width // 2 :] = BLUE, WHITE
    return image


def write(
    path: Path,
    frames: Iterable[UInt8],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: Fraction | int = 25,
    stamps: Sequence[int] | None = None,
    colours: tuple[int, int] = (2, 0),
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    format: str | None = None,
    title: str = "",
    hold: int = 1,
) -> Path:
    """Write with any codec. ``stamps`` in ticks of 1/rate; ``colours`` = (matrix, range) code points, 2 and 0 unset;
    ``hold`` = ticks that the last frame is shown."""
    matrix, colour_range = colours
    with av.open(str(path), "w", format=format, options=muxer or {}) as output:
        output.metadata["title"] = title
        stream: Any = output.add_stream(codec, rate=rate, options=options or {})
        packets: list[Any] = []
        for index, image in enumerate(frames):
            if index == 0:
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = pix_fmt
                stream.colorspace, stream.color_range = matrix, colour_range
            picture = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
                format=pix_fmt, dst_colorspace="ITU709" if matrix == 1 else "ITU601", dst_color_range=colour_range or 1
            )
            picture.pts, picture.time_base = stamps[index] if stamps else index, 1 / Fraction(rate)
            packets += stream.encode(picture)
        packets += stream.encode(None)
        if hold > 1:
            last = max(packets, key=lambda packet: packet.pts)
            last.duration = round(hold / Fraction(rate) / last.time_base)
        output.mux(packets)
    return path


def write_audio(path: Path, seconds: float = 0.5, *, cover: bool = False) -> Path:
    """Silence; with ``cover`` also a picture, as music players attach it."""
    with av.open(str(path), "w", format="mp4") as output:
        stream: Any = output.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, int(48000 * seconds)), np.float32), "fltp", "mono")
        frame.sample_rate = 48000
        if cover:
            picture: Any = output.add_stream("png")
            picture.width, picture.height, picture.pix_fmt = 32, 32, "rgb24"
            picture.disposition = Disposition.attached_pic.value
            image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            image.pts = 0
            output.mux(picture.encode(image))
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Patch the track header of an MP4: (x, y) is shown at (a·x + c·y, b·x + d·y)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    one = 1 << 16
    struct.pack_into(">9i", data, at, a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def trim_by_edit_list(path: Path, start: int, length: int) -> None:
    """Patch the edit list of an MP4: ``start`` in ticks of the media, ``length`` in ticks of the movie."""
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 4
    assert struct.unpack_from(">II", data, at) == (0, 1)  # version 0, one entry
    struct.pack_into(">Ii", data, at + 8, length, start)
    path.write_bytes(data)


def psnr(one: UInt8, two: UInt8) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - two) ** 2)))


def until_error(path: Path) -> tuple[int, str]:
    """Frames read before the error, and its reason."""
    read = 0
    try:
        for _ in video.read_frames(path, size=(16, 16)):
            read += 1
    except Unscorable as error:
        return read, error.reason
    pytest.fail(f"{path.name} reads whole")


def reason(path: Path) -> str:
    """Why the file cannot be scored: one line that names it."""
    why = until_error(path)[1]
    assert path.name in why
    assert "\n" not in why
    return why
