"""Opening files and decoding their pictures. Use through :mod:`ipa_bench.video`."""

from __future__ import annotations

import contextlib
import heapq
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter
from av.video.stream import VideoStream
from PIL import Image, ImageOps, UnidentifiedImageError

from ipa_bench.errors import Unscorable
from ipa_bench.types import UInt8
from ipa_bench.video.pixels import DisplayMatrix, upright

#: AVColorSpace (H.273) -> SWS_CS_*, the numbers swscale knows matrices by; any other is read as BT.601.
_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
_BT601 = 5
#: Demuxers that make a "video" out of plain text.
_NOT_VIDEO = frozenset({"tty", "bin", "xbin", "adf", "idf"})


class Frame(NamedTuple):
    """One decoded frame."""

    #: uint8 ``[H, W, 3]`` RGB, C-contiguous
    image: UInt8
    #: seconds from the first frame, strictly increasing
    time: float


# ---------------------------------------------------------------------------------------------------------------------
# opening


def file_url(path: Path) -> str:
    """The file for libav; :class:`Unscorable` where there is none to read."""
    try:
        if path.is_dir():
            raise Unscorable(f"{path.name}: is a folder")
        if path.stat().st_size == 0:
            raise Unscorable(f"{path.name}: is empty")
    except FileNotFoundError:
        raise Unscorable(f"{path.name}: no such file") from None
    except ValueError as error:  # a null character in the name
        raise Unscorable(f"{path.name}: cannot be read: {error}") from error
    except OSError as error:
        raise Unscorable(f"{path.name}: cannot be read: {error.strerror}") from error
    # not the bare name: libav takes what stands before a colon for a protocol
    return f"file:{path.absolute()}"


@contextlib.contextmanager
def opened(source: str | io.BytesIO, name: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its first real video stream. Every libav error inside becomes an :class:`Unscorable`."""
    try:
        with av.open(source, "r", metadata_errors="replace") as container:  # a title in Latin-1 is no reason to stop
            if container.format.name in _NOT_VIDEO:
                raise Unscorable(f"{name}: not a video")
            streams = [s for s in container.streams.video if Disposition.attached_pic not in s.disposition]
            if not streams:
                raise Unscorable(f"{name}: has no video stream")
            # None for a codec that this libav cannot decode, whatever the annotation says
            if getattr(streams[0], "codec_context", None) is None:
                raise Unscorable(f"{name}: no decoder for its codec")
            # The largest, the first of those: a preview track may stand before the video.
            yield container, max(streams, key=lambda s: s.width * s.height if s.codec_context else 0)
    except av.error.InvalidDataError as error:
        raise Unscorable(f"{name}: not a video, or cut off before its index") from error
    except av.error.FFmpegError as error:
        raise Unscorable(f"{name}: cannot be decoded: {error.strerror}") from error


def read_still(path: Path) -> tuple[UInt8, str]:
    """(uint8 ``[H, W, 3]``, format's name) of an image file, upright; :class:`Unscorable` where that fails."""
    file_url(path)
    try:
        with Image.open(path) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise Unscorable(f"{path.name}: is an animation; convert it to a video")
            if image.mode[0] in "IF":  # Pillow would clip these to white
                raise Unscorable(f"{path.name}: more than 8 bits per pixel ({image.mode}); convert it to 8-bit RGB")
            return np.array(_opaque(ImageOps.exif_transpose(image))), (image.format or "image").lower()
    except UnidentifiedImageError as error:  # its own text has the whole path
        raise Unscorable(f"{path.name}: not an image") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Unscorable(f"{path.name}: cannot be read: {error}") from error


def _opaque(image: Image.Image) -> Image.Image:
    """RGB, with white behind what is transparent: cut-out people stand on white as image models are shown them."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    cut_out = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", cut_out.size, (255, 255, 255, 255)), cut_out).convert("RGB")


# ---------------------------------------------------------------------------------------------------------------------
# decoding


def decode(source: str | io.BytesIO, name: str, threads: int) -> Iterator[Frame]:
    """Frames of a file or of bytes; what :func:`ipa_bench.video.read_frames` says, without resizing."""
    with opened(source, name) as (container, stream):
        stream.thread_count = threads
        stream.thread_type = "AUTO" if threads > 1 else "NONE"
        converter = VideoReformatter()
        rate = frame_rate(stream, name)
        first: Fraction | None = None
        shape: tuple[int, ...] | None = None
        matrix: DisplayMatrix | None = None
        rotation: int | None = None
        #: frames that share a timestamp, until one with a later one comes
        waiting: list[UInt8] = []
        begin = -1.0
        try:
            for index, (picture, stamp) in enumerate(_pictures(container, stream, name)):
                if stamp is None:  # raw streams carry no timestamps
                    stamp = index / rate
                first = stamp if first is None else first
                time = float(stamp - first)
                if time < begin:
                    raise Unscorable(f"{name}: timestamps go back after {index} frames")
                # Side data that is read ties a frame into a reference cycle: dozens would wait for the collector.
                if picture.rotation != rotation:
                    matrix, rotation = display_matrix(picture), picture.rotation
                image = upright(_rgb(picture, converter, name), matrix)
                shape = shape or image.shape
                if image.shape != shape:
                    raise Unscorable(f"{name}: frames change size after {index} frames")
                if waiting and time > begin:
                    yield from _apart(waiting, begin, time)
                    waiting = []
                begin = time
                waiting.append(image)
        except Unscorable:
            yield from _apart(waiting, begin, begin + len(waiting) / float(rate))  # the good frames come first
            raise
        yield from _apart(waiting, begin, begin + len(waiting) / float(rate))


def _apart(images: Sequence[UInt8], begin: float, end: float) -> Iterator[Frame]:
    """Frames that have one timestamp, evenly until the next one: a muxer that repeats one loses no picture."""
    for index, image in enumerate(images):
        yield Frame(image, begin + (end - begin) * index / len(images))


def _pictures(
    container: InputContainer, stream: VideoStream, name: str
) -> Iterator[tuple[VideoFrame, Fraction | None]]:
    """The stream's pictures as they are shown, each with its timestamp in seconds, None where the file has none.

    Afterwards raises where the file holds fewer, or other, than it declares.
    """
    packets = shown = 0
    end = Fraction(0)
    cut = False
    # AVI keeps no order of showing: pictures come out of the decoder in order and take the timestamps in order.
    stamps: list[int] | None = [] if container.format.name == "avi" else None
    read = container.demux(stream)
    try:
        for packet in read:
            cut = packet.is_corrupt  # a part of it is not in the file: flush instead of decoding garbage
            packets += packet.size > 0 and not cut
            if stamps is not None and packet.pts is not None:
                heapq.heappush(stamps, packet.pts)
            for picture in stream.decode(None if cut else packet):
                if picture.is_corrupt:  # libav conceals lost blocks and says so only here
                    if stream.frames or _goes_on(read):
                        raise Unscorable(f"{name}: damaged after {shown} frames: lost blocks")
                    raise Unscorable(f"{name}: truncated: {shown} frames decode")
                shown += 1
                pts = heapq.heappop(stamps) if stamps else picture.pts
                stamp = None if pts is None else pts * (picture.time_base or stream.time_base or Fraction(1))
                if stamp is not None:
                    held = (picture.duration or 0) * (picture.time_base or Fraction(1))
                    end = stamp + (held or _frame_seconds(stream))
                yield picture, stamp
            if cut:
                if _goes_on(read):
                    raise Unscorable(f"{name}: damaged after {shown} frames: a packet is lost")
                break
    except av.error.FFmpegError as error:
        raise Unscorable(f"{name}: damaged after {shown} frames: {error.strerror}") from error
    if not shown:
        raise Unscorable(f"{name}: no frame decodes")
    if cut or _is_short(stream, packets, end) or _ends_in_a_packet(container):
        of = f" of {stream.frames}" if stream.frames else ""
        raise Unscorable(f"{name}: truncated: {shown}{of} frames decode")


def _goes_on(packets: Iterator[Packet[VideoStream]]) -> bool:
    """Whether there is more after what is broken: then the file is not cut off there."""
    return any(packet.size > 0 for packet in packets)


def _is_short(stream: VideoStream, packets: int, end: Fraction) -> bool:
    """Whether the file, whose last frame is shown until ``end`` seconds, ended more than one frame early.

    Where a number of frames is declared, packets *and* playing time must be missing: an edit list (a clip trimmed
    without re-encoding) hides packets that are declared, and shortens the duration with them. Matroska declares no
    number; there the playing time decides. Other containers cannot tell.
    """
    declared = _declared_end(stream)
    if declared is None or (stream.frames and packets + 1 >= stream.frames):
        return False
    return declared - end > _frame_seconds(stream)


def _ends_in_a_packet(container: InputContainer) -> bool:
    """Whether a transport stream breaks off inside a packet: of 188 bytes, 192 with a time code, 204 with parity.

    Where the cut falls into the first packet of a picture or into a table, every picture before it is whole and the
    decoder has nothing to complain of.
    """
    return container.format.name == "mpegts" and all(container.size % size for size in (188, 192, 204))


def _frame_seconds(stream: VideoStream) -> Fraction:
    return 1 / (stream.average_rate or stream.guessed_rate or Fraction(25))


def _rgb(picture: VideoFrame, converter: VideoReformatter, name: str) -> UInt8:
    if picture.width < 1 or picture.height < 1:
        raise Unscorable(f"{name}: frames have no pixels")
    full = picture.format.is_rgb or picture.color_range == ColorRange.JPEG
    rgb = converter.reformat(
        picture,
        format="rgb24",
        src_colorspace=None if picture.format.is_rgb else _MATRIX.get(picture.colorspace, _BT601),
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        threads=1,  # swscale would start a thread per core
    )
    # rows are padded: a width that is not a multiple of the alignment gives a strided view
    return np.ascontiguousarray(rgb.to_ndarray(), dtype=np.uint8)


def display_matrix(picture: VideoFrame) -> DisplayMatrix | None:
    """The rotation that a frame's metadata asks for; None where it asks for none."""
    sides: Iterable[Any] = picture.side_data  # iterates over values, although it is a Mapping
    for data in sides:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d, *_ = (int(v) for v in np.frombuffer(bytes(data), np.int32))
            return (a, b, c, d) if a * d - b * c else None  # degenerate ones occur; players ignore them
    return None


# ---------------------------------------------------------------------------------------------------------------------
# facts about a stream


def frame_rate(stream: VideoStream, name: str) -> Fraction:
    """Average frames per second, else the container's guess. Raises Unscorable where neither is known."""
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    if not rate or rate <= 0:
        raise Unscorable(f"{name}: declares no frame rate")
    return rate


def _declared_end(stream: VideoStream) -> Fraction | None:
    """Timestamp in seconds where the video stream says it ends; None where the file only says it of the whole."""
    if stream.frames and stream.duration is not None and stream.time_base:
        return ((stream.start_time or 0) + stream.duration) * stream.time_base
    tag = re.fullmatch(r"(\d+):(\d\d):(\d\d\.\d+)", stream.metadata.get("DURATION", ""))  # Matroska, WebM
    return int(tag[1]) * 3600 + int(tag[2]) * 60 + Fraction(tag[3]) if tag else None


def seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """Declared length of the video stream, else of the container, in seconds."""
    end = _declared_end(stream)
    if end is not None:
        return float(end - (stream.start_time or 0) * (stream.time_base or Fraction(1)))
    return container.duration / 1e6 if container.duration else None  # AV_TIME_BASE: microseconds
