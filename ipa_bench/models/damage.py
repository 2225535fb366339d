"""Known damage to the hands of a video, at three strengths: what a metric must be able to see.

Spatial damage acts on the hand region of each frame, which is known from the undamaged video; temporal damage shows
other frames than are due. All of it is deterministic. Lengths are shares of the hand size (longer side of the
landmarks' box). Beside it stand changes that nobody sees without the original beside it: no metric should put them
below damage.
"""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ipa_bench import video
from ipa_bench.errors import UserError
from ipa_bench.models.fingers import (
    extra_fingers,
    long_finger,
    widest_gaps,
    with_bent,
    with_doubled,
    with_extra,
    with_fused,
    with_posture,
)
from ipa_bench.types import Float32, HandTracks, UInt8

Strength = Literal["mild", "medium", "strong"]
STRENGTHS: tuple[Strength, ...] = get_args(Strength)
Kind = Literal["spatial", "temporal", "codec", "frame"]


@dataclass(frozen=True)
class Damage:
    """One kind of damage and what its strengths mean."""

    name: str
    kind: Kind
    #: value for mild, medium and strong
    levels: tuple[float, float, float]
    #: what the value is, for the report
    meaning: str

    def level(self, strength: Strength) -> float:
        """The value that belongs to a strength."""
        return self.levels[STRENGTHS.index(strength)]


DAMAGES: tuple[Damage, ...] = (
    Damage("blur", "spatial", (0.02, 0.04, 0.08), "Gaussian blur, sigma / hand size"),
    Damage("low_resolution", "spatial", (48, 28, 16), "hand drawn with this many pixels a side"),
    Damage("finger_erased", "spatial", (1, 2, 3), "fingers painted over with background"),
    Damage("finger_melt", "spatial", (0.03, 0.05, 0.08), "steady smooth warp, RMS / hand size"),
    Damage("smear", "spatial", (0.1, 0.2, 0.4), "linear motion blur, length / hand size"),
    Damage("flicker", "spatial", (0.02, 0.04, 0.08), "another smooth warp in each frame, RMS / hand size"),
    Damage("stutter", "temporal", (2, 3, 4), "each frame is shown this many times"),
    Damage("frozen", "temporal", (1 / 3, 2 / 3, 1.0), "share of each second that stands still"),
    Damage("lag", "temporal", (2, 4, 8), "frames late"),
    Damage("compression", "codec", (35, 41, 47), "H.264 CRF"),
    Damage("finger_added", "spatial", (1, 2, 3), "fingers too many: copies of the hand's own"),
    Damage("posture", "spatial", (20, 40, 60), "degrees by which four fingers are turned about their knuckles"),
    Damage("frame_blur", "temporal", (3, 5, 7), "each frame is the mean of this many"),
    Damage("slow", "temporal", (0.75, 0.5, 0.25), "share of the speed"),
    Damage("finger_fused", "spatial", (0.5, 1, 2), "gaps between fingers filled with skin; half: half of one"),
    Damage("finger_doubled", "spatial", (1, 2, 3), "bones at a finger's end that are there twice, 40 degrees apart"),
    Damage("finger_bent", "spatial", (25, 45, 70), "degrees to the side by which a finger's last two bones are turned"),
)
#: what nobody sees without the original beside it
UNSEEN: tuple[Damage, ...] = (
    Damage("late", "temporal", (-1, 1, 2), "frames late; early where negative"),
    Damage("shift", "frame", (0.005, 0.01, 0.02), "whole picture moved right by this share of its width"),
    Damage("hue", "frame", (8, -16, 16), "degrees by which every colour is turned"),
    Damage("jpeg", "frame", (40, 30, 20), "JPEG quality of each frame"),
)
#: the undamaged clip as any video is stored; every damaged one is stored like it, so that only the damage differs
CLEAN = Damage("clean", "codec", (18, 18, 18), "H.264 CRF")
#: harmless: what a score does between these and the clean clip is its noise floor
HARMLESS: tuple[Damage, ...] = (
    Damage("reencode", "codec", (17, 19, 21), "H.264 CRF"),
    Damage("reencode_too", "codec", (16, 20, 22), "H.264 CRF"),
)


def find(name: str) -> Damage:
    """A damage by name. Raises UserError naming those that exist."""
    every = (*DAMAGES, *UNSEEN, *HARMLESS, CLEAN)
    for damage in every:
        if damage.name == name:
            return damage
    raise UserError(f"there is no damage called {name!r}", f"use one of {', '.join(d.name for d in every)}")


def damaged(
    frames: Iterable[UInt8], tracks: HandTracks, fps: float, damage: Damage, strength: Strength
) -> Iterator[UInt8]:
    """The frames uint8 ``[H, W, 3]`` of a video with damage done to them, as many as there were.

    ``tracks`` are the hands of the undamaged video. The codec is not part of it: see :func:`stored`.
    """
    level = damage.level(strength)
    if damage.kind == "codec":
        yield from frames
    elif damage.kind == "frame":
        yield from (_FRAME[damage.name](frame, level) for frame in frames)
    elif damage.name == "frame_blur":
        yield from _averaged(frames, int(level) // 2)
    elif damage.kind == "temporal":
        yield from in_order(frames, shown_frames(damage.name, level, len(tracks.times), fps))
    else:
        for index, frame in enumerate(frames):
            yield damage_frame(frame, tracks, index, damage.name, level)


def crf(damage: Damage, strength: Strength) -> int:
    """The H.264 quality that a damaged clip is stored at."""
    return int(damage.level(strength) if damage.kind == "codec" else CLEAN.levels[0])


def stored(
    frames: Iterable[UInt8], tracks: HandTracks, fps: float, damage: Damage, strength: Strength
) -> Iterator[UInt8]:
    """:func:`damaged` frames as they come out of the file that they are stored in, which is held in memory."""
    data = file_of(damaged(frames, tracks, fps, damage, strength), fps, crf(damage, strength))
    yield from (frame.image for frame in video.read_bytes(data))


def file_of(frames: Iterable[UInt8], fps: float, quality: int) -> bytes:
    """Frames as every damaged version is stored, at an H.264 quality."""
    return video.encode_bytes(frames, fps, crf=quality, preset="veryfast")


def shown_frames(name: str, level: float, count: int, fps: float) -> list[int]:
    """Which frame is shown at each of ``count`` times; never one from the future, but for ``late`` below 0."""
    if name == "slow":
        return [int(t * level) for t in range(count)]
    if name == "late":
        return [min(max(t - int(level), 0), count - 1) for t in range(count)]
    if name == "stutter":
        return [t - t % int(level) for t in range(count)]
    if name == "lag":
        return [max(t - int(level), 0) for t in range(count)]
    second = max(round(fps), 2)
    moving = round(second * (1 - level))
    # At full strength the clip stands still from its first frame on, not from the beginning of each second.
    return [0 if level >= 1 else t if t % second < moving else t - t % second + moving - 1 for t in range(count)]


def in_order(frames: Iterable[UInt8], order: Sequence[int]) -> Iterator[UInt8]:
    """The frames with these indices, which do not decrease."""
    source, at, current = iter(frames), -1, np.zeros((0, 0, 3), np.uint8)
    for index in order:
        while at < index:
            current, at = next(source), at + 1
        yield current


def _averaged(frames: Iterable[UInt8], reach: int) -> Iterator[UInt8]:
    """Each frame is the mean of those up to ``reach`` frames away that there are."""
    held: deque[UInt8] = deque()
    due = count = 0
    for frame in frames:
        held.append(frame)
        count += 1
        if count > reach:  # everything that the frame due is a mean of is here
            yield _mean(held)
            due += 1
            if due > reach:
                held.popleft()
    while due < count:
        yield _mean(held)
        due += 1
        if due > reach:
            held.popleft()


def _mean(images: Sequence[UInt8]) -> UInt8:
    total = sum(image.astype(np.uint16) for image in images)
    return np.asarray((total + len(images) // 2) // len(images), np.uint8)


def _moved(frame: UInt8, level: float) -> UInt8:
    """The picture moved right by a share of its width, to a pixel; its left edge is drawn out."""
    by = round(level * frame.shape[1])
    return np.ascontiguousarray(np.concatenate([frame[:, :1].repeat(by, 1), frame[:, : frame.shape[1] - by]], axis=1))


def _hue(frame: UInt8, level: float) -> UInt8:
    """Every colour turned by ``level`` degrees about the grey axis (YIQ's): luma stays, skin turns green or red."""
    angle = np.radians(level)
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    matrix = (np.linalg.inv(to_yiq) @ turn @ to_yiq).astype(np.float32)
    return np.asarray(np.clip(np.rint(frame.astype(np.float32) @ matrix.T), 0, 255), np.uint8)


def _jpeg(frame: UInt8, level: float) -> UInt8:
    data = io.BytesIO()
    Image.fromarray(frame).save(data, "JPEG", quality=int(level))
    return np.asarray(Image.open(data))


_FRAME: dict[str, Callable[[UInt8, float], UInt8]] = {"shift": _moved, "hue": _hue, "jpeg": _jpeg}


def damage_frame(frame: UInt8, tracks: HandTracks, index: int, name: str, level: float) -> UInt8:
    """One frame with every hand that ``tracks`` shows in it damaged."""
    result = frame
    for slot in np.flatnonzero(tracks.found[index]):
        points = tracks.landmarks[index, slot]
        size = float(np.ptp(points, axis=0).max())
        # Fingers that are turned reach further than the hand did.
        pad = (0.7 if name in _REDRAWN else 0.35) * size
        x0, y0 = (max(int(v), 0) for v in points.min(axis=0) - pad)
        x1, y1 = (int(np.ceil(v)) for v in points.max(axis=0) + pad)
        crop = result[y0:y1, x0:x1]
        if min(crop.shape[:2]) < 8 or size < 8:
            continue
        inside = points - np.array([x0, y0], np.float32)
        if name in _REDRAWN:
            changed = _redrawn(crop, inside, size, tracks, int(slot), name, level)
        else:
            seed = [index if name == "flicker" else 0, int(slot)]
            rng = np.random.default_rng([*hashlib.sha256(name.encode()).digest()[:4], *seed])
            mask = _mask(crop.shape, inside, size)[..., None]
            changed = crop + (_SPATIAL[name](crop, inside, size, level, rng) - crop) * mask
        result = result.copy()
        result[y0:y1, x0:x1] = np.round(changed).astype(np.uint8)
    return result


def _redrawn(
    crop: UInt8, points: Float32, size: float, tracks: HandTracks, slot: int, name: str, level: float
) -> Float32:
    """Fingers drawn where none are due; which ones is the same in all frames of a clip."""
    if name == "finger_added":
        return with_extra(crop, points, size, extra_fingers(tracks, slot, int(level)))
    if name == "finger_fused":
        return with_fused(crop, points, size, widest_gaps(tracks, slot), level)
    if name == "finger_doubled":
        return with_doubled(crop, points, size, long_finger(tracks, slot), int(level))
    background = _background(crop, points, size)
    if name == "finger_bent":
        return with_bent(crop, background, points, size, long_finger(tracks, slot), level)
    return with_posture(crop, background, points, size, level)


def _mask(shape: tuple[int, ...], points: Float32, size: float) -> Float32:
    """1 on the hand, falling softly to 0 around it."""
    return _drawn(shape, [list(range(i, i + 4)) for i in range(1, 21, 4)], points, 0.22 * size, 0.04 * size)


def _drawn(
    shape: tuple[int, ...], chains: Sequence[Sequence[int]], points: Float32, width: float, soft: float
) -> Float32:
    """Thick lines along chains of joints and the palm, softened; ``[h, w]`` in [0, 1]."""
    image = Image.new("L", (shape[1], shape[0]), 0)
    draw = ImageDraw.Draw(image)
    palm = [0, 1, 5, 9, 13, 17] if len(chains) == 5 else []
    for chain in ([*c[:1], *c] if not palm else [0, *c] for c in chains):
        line = [(float(points[j, 0]), float(points[j, 1])) for j in chain]
        draw.line(line, 255, max(int(width), 1), "curve")
        for x, y in line:
            draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), 255)
    if palm:
        draw.polygon([(float(points[j, 0]), float(points[j, 1])) for j in palm], 255)
    blurred = image.filter(ImageFilter.GaussianBlur(max(soft, 0.5)))
    return np.asarray(np.asarray(blurred, np.float32) / 255, np.float32)


def _blur(crop: UInt8, points: Float32, size: float, level: float, rng: np.random.Generator) -> Float32:
    return np.asarray(Image.fromarray(crop).filter(ImageFilter.GaussianBlur(level * size)), np.float32)


def _low_resolution(crop: UInt8, points: Float32, size: float, level: float, rng: np.random.Generator) -> Float32:
    # A hand that is small already loses detail all the same: at least half its pixels a side.
    factor = max(size / level, 2.0)
    image = Image.fromarray(crop)
    small = image.resize(
        (max(round(image.width / factor), 1), max(round(image.height / factor), 1)), Image.Resampling.BOX
    )
    return np.asarray(small.resize(image.size, Image.Resampling.BICUBIC), np.float32)


def _background(crop: UInt8, points: Float32, size: float) -> Float32:
    """What surrounds a hand, spread over it: so smooth that it is made at a small scale."""
    from scipy.ndimage import gaussian_filter  # slow to import; most commands do no damage

    factor = max(int(0.15 * size / 4), 1)
    small = (max(crop.shape[1] // factor, 1), max(crop.shape[0] // factor, 1))
    outside = 1 - _mask(crop.shape, points, size)

    def reduced(plane: Float32) -> Float32:
        return np.asarray(Image.fromarray(plane).resize(small, Image.Resampling.BOX), np.float32)

    sigma = 0.15 * size / factor
    weight = gaussian_filter(reduced(outside), sigma, mode="nearest") + 1e-3
    planes = [gaussian_filter(reduced(crop[..., c] * outside), sigma, mode="nearest") / weight for c in range(3)]
    full = (crop.shape[1], crop.shape[0])
    large = (Image.fromarray(plane).resize(full, Image.Resampling.BILINEAR) for plane in planes)
    return np.stack([np.asarray(plane, np.float32) for plane in large], -1)


def _finger_erased(crop: UInt8, points: Float32, size: float, level: float, rng: np.random.Generator) -> Float32:
    """Fingers 8, 16, 12 (index, ring, middle) from the first joint on, filled from what surrounds the hand."""
    background = _background(crop, points, size)
    chains = [[6, 7, 8], [14, 15, 16], [10, 11, 12]][: int(level)]
    erase = _drawn(crop.shape, chains, points, 0.2 * size, 0.03 * size)[..., None]
    return np.asarray(crop + (background - crop) * erase, np.float32)


def _warp(crop: UInt8, points: Float32, size: float, level: float, rng: np.random.Generator) -> Float32:
    """Displacement by smooth noise with features of a quarter of the hand, anchored to the hand's centre."""
    from scipy.ndimage import map_coordinates

    grid = np.linspace(-1, 1, 9)
    coarse = rng.standard_normal((2, 9, 9))
    height, width = crop.shape[:2]
    centre = points.mean(axis=0)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    u = np.stack([(y - centre[1]) / size, (x - centre[0]) / size])
    at = np.clip((u - grid[0]) / (grid[1] - grid[0]), 0, 8)
    shift = np.stack([map_coordinates(c, at, order=3, mode="nearest") for c in coarse])
    shift *= level * size / max(float(np.sqrt((shift**2).mean())), 1e-6)
    where = [y + shift[0], x + shift[1]]
    return np.stack([map_coordinates(crop[..., c], where, order=1, mode="nearest") for c in range(3)], -1).astype(
        np.float32
    )


def _smear(crop: UInt8, points: Float32, size: float, level: float, rng: np.random.Generator) -> Float32:
    """Mean of copies shifted along 30 degrees."""
    length = level * size
    steps = max(int(length), 2)
    direction = np.array([np.cos(np.pi / 6), np.sin(np.pi / 6)])
    image = Image.fromarray(crop)
    total = np.zeros(crop.shape, np.float32)
    for shift in np.linspace(-length / 2, length / 2, steps):
        dx, dy = shift * direction
        # Pillow fills with black outside; at the crop's border the mask is 0.
        total += np.asarray(image.transform(image.size, Image.Transform.AFFINE, (1, 0, dx, 0, 1, dy)), np.float32)
    return np.asarray(total / steps, np.float32)


#: fingers drawn where there were none: not cut to the hand's own outline
_REDRAWN = ("finger_added", "posture", "finger_fused", "finger_doubled", "finger_bent")
_SPATIAL: dict[str, Callable[[UInt8, Float32, float, float, np.random.Generator], Float32]] = {
    "blur": _blur,
    "low_resolution": _low_resolution,
    "finger_erased": _finger_erased,
    "finger_melt": _warp,
    "smear": _smear,
    "flicker": _warp,
}
