"""Fingers as nobody has them: one too many, a posture nobody held, two grown together, a forked or a broken one.

Made of the pixels of the hand itself, where its landmarks are.

Points are a hand's 21 joints in px of the picture, angles in radians, clockwise as seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ipa_bench.types import Float32, Float64, HandTracks, UInt8

#: joints of thumb, index, middle, ring and little finger, from the knuckle to the tip
CHAINS = np.arange(1, 21).reshape(5, 4)
#: how far a finger too many is turned from the one that it is a copy of
TURNS = np.radians([-70, -50, -35, 35, 50, 70])
#: which fingers a wrong posture turns, and which way: neighbours part
SPREAD = ((1, -1.0), (2, 1.0), (3, 1.0), (4, -1.0))


#: joint of a chain from which a finger is bent: its last two bones
MIDDLE = 1
#: how far a finger's end that is there twice is turned, to the side on which there is room
ASIDE = float(np.radians(40))
#: cells of the web between two fingers, along them and across
CELLS = (16, 6)


class Extra(NamedTuple):
    """A finger too many: whose copy it is (0 thumb to 4 little finger), and how far it is turned."""

    finger: int
    angle: float


@lru_cache(maxsize=16)
def extra_fingers(tracks: HandTracks, slot: int, count: int) -> tuple[Extra, ...]:
    """Which fingers to add to a hand of a clip, the same in all its frames: long ones, where no other finger is."""
    seen, size = _seen(tracks, slot)
    taken = seen
    chosen: list[Extra] = []
    for _ in range(count):
        options = [(finger, float(angle)) for finger in range(5) for angle in TURNS]
        scores = [_room(_turned(seen[:, CHAINS[f]], a), taken, size) for f, a in options]
        best = Extra(*options[int(np.argmax(scores))])
        chosen.append(best)
        taken = np.concatenate([taken, _turned(seen[:, CHAINS[best.finger]], best.angle)], axis=1)
    return tuple(chosen)


def _seen(tracks: HandTracks, slot: int) -> tuple[Float64, Float64]:
    """Landmarks of a hand where it is found, ``[N, 21, 2]``, and their sizes, ``[N]``."""
    seen = tracks.landmarks[tracks.found[:, slot], slot].astype(np.float64)
    return seen, np.ptp(seen, axis=1).max(axis=1)


def _soft(mask: Image.Image, size: float) -> Float32:
    """A mask with a soft edge, float32 ``[h, w, 1]`` in [0, 1]."""
    soft = mask.filter(ImageFilter.GaussianBlur(max(0.02 * size, 0.5)))
    return np.asarray(np.asarray(soft, np.float32) / 255, np.float32)[..., None]


def _turned(chains: Float64, angle: float) -> Float64:
    """Chains ``[N, 4, 2]`` turned about their first joints."""
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    return np.asarray(chains[:, :1] + (chains - chains[:, :1]) @ turn.T)


def _room(chains: Float64, taken: Float64, size: Float64) -> float:
    """How far the ends of turned fingers are from every joint, in hand sizes, times their length; mean over frames."""
    length = np.linalg.norm(chains[:, -1] - chains[:, 0], axis=-1) / size
    apart = np.linalg.norm(chains[:, -2:, None] - taken[:, None], axis=-1).min(axis=(1, 2)) / size
    return float((np.minimum(apart, 0.3) * length).mean())


def with_extra(crop: UInt8, points: Float32, size: float, extra: Sequence[Extra]) -> Float32:
    """``crop`` float32 ``[h, w, 3]`` with copies of fingers turned about their knuckles."""
    result = crop.astype(np.float32)
    for finger, angle in extra:
        drawn, mask = _copy(crop, points[CHAINS[finger]], size, angle)
        result += (drawn - result) * mask
    return result


def with_posture(crop: UInt8, background: Float32, points: Float32, size: float, degrees: float) -> Float32:
    """``crop`` with four fingers turned about their knuckles, their old place filled with ``background``."""
    result = crop.astype(np.float32)
    for finger, _ in SPREAD:
        mask = finger_mask(crop.shape, points[CHAINS[finger]][1:], size)
        result += (background - result) * mask
    for finger, way in SPREAD:
        drawn, mask = _copy(crop, points[CHAINS[finger]], size, way * float(np.radians(degrees)))
        result += (drawn - result) * mask
    return result


def _copy(crop: UInt8, chain: Float32, size: float, angle: float) -> tuple[Float32, Float32]:
    """The picture turned about the first joint of a finger, and the mask of the finger in it, ``[h, w, 1]``."""
    image = Image.fromarray(crop)
    x, y = (float(v) for v in chain[0])
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    # Pillow asks where each pixel of the result comes from: turn back.
    back = (cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y)
    drawn = np.asarray(image.transform(image.size, Image.Transform.AFFINE, back, Image.Resampling.BILINEAR), np.float32)
    turned = _turned(chain[None].astype(np.float64), angle)[0].astype(np.float32)
    return drawn, finger_mask(crop.shape, turned, size)


def finger_mask(shape: tuple[int, ...], chain: Float32, size: float) -> Float32:
    """1 along a chain of joints, as wide as a finger, falling softly to 0; float32 ``[h, w, 1]``."""
    width = 0.17 * size
    image = Image.new("L", (shape[1], shape[0]), 0)
    draw = ImageDraw.Draw(image)
    line = [(float(x), float(y)) for x, y in chain]
    draw.line(line, 255, max(int(width), 1), "curve")
    for x, y in line:
        draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), 255)
    return _soft(image, size)


@lru_cache(maxsize=16)
def long_finger(tracks: HandTracks, slot: int) -> Extra:
    """The finger whose end stands out most in a clip, and the angle to the side on which it has room."""
    seen, size = _seen(tracks, slot)

    def room(finger: int, angle: float) -> float:
        return _room(_turned(seen[:, CHAINS[finger][MIDDLE:]], angle), np.delete(seen, CHAINS[finger], axis=1), size)

    finger = max(range(5), key=lambda each: room(each, 0.0))
    return Extra(finger, max((-ASIDE, ASIDE), key=lambda angle: room(finger, angle)))


@lru_cache(maxsize=16)
def widest_gaps(tracks: HandTracks, slot: int) -> tuple[int, ...]:
    """The fingers 1 to 3 of a hand by how far they are, in a clip, from the next one: the furthest first."""
    seen, size = _seen(tracks, slot)
    apart = np.linalg.norm(seen[:, CHAINS[1:4]] - seen[:, CHAINS[2:5]], axis=-1)[..., MIDDLE:].mean(axis=-1)
    order = np.argsort(-np.median(apart / size[:, None], axis=0), kind="stable")
    return tuple(int(i) + 1 for i in order)


def with_fused(crop: UInt8, points: Float32, size: float, gaps: Sequence[int], level: float) -> Float32:
    """``crop`` with the gaps behind these fingers filled with skin, as many as ``level``; at half, half as long."""
    result = crop.astype(np.float32)
    soft = Image.fromarray(crop).filter(ImageFilter.GaussianBlur(0.03 * size))
    for finger in gaps[: max(int(level), 1)]:
        web, mask = _web(crop, soft, points[CHAINS[finger]], points[CHAINS[finger + 1]], min(level, 1.0), size)
        result += (web - result) * mask
    return result


def _web(
    crop: UInt8, soft: Image.Image, one: Float32, other: Float32, share: float, size: float
) -> tuple[Float32, Float32]:
    """Skin between two chains, up to a ``share`` of their length, in the colours of both; its mask ``[h, w, 1]``."""
    along, across = CELLS
    at = np.linspace(0, 3 * share, along + 1)
    sides = [np.stack([np.interp(at, range(4), chain[:, axis]) for axis in range(2)], -1) for chain in (one, other)]
    colours = []
    for side in sides:
        x, y = (np.clip(side[:, axis].round().astype(int), 0, soft.size[axis] - 1) for axis in range(2))
        colours.append(np.asarray(soft, np.float32)[y, x])
    image, shape = Image.fromarray(crop), Image.new("L", (crop.shape[1], crop.shape[0]), 0)
    draw, outline = ImageDraw.Draw(image), ImageDraw.Draw(shape)
    corners = [sides[0] + (sides[1] - sides[0]) * v for v in np.linspace(0, 1, across + 1)]
    for j in range(across):
        v = (j + 0.5) / across
        for i in range(along):
            cell = [corners[j][i], corners[j][i + 1], corners[j + 1][i + 1], corners[j + 1][i]]
            line = [(float(x), float(y)) for x, y in cell]
            red, green, blue = ((1 - v) * colours[0][i] + v * colours[1][i]).round().astype(int).tolist()
            draw.polygon(line, (red, green, blue))
            outline.polygon(line, 255)
    return np.asarray(image, np.float32), _soft(shape, size)


def with_doubled(crop: UInt8, points: Float32, size: float, long: Extra, bones: int) -> Float32:
    """``crop`` with the last one to three bones of a finger a second time, turned to the side: a forked finger."""
    result = crop.astype(np.float32)
    drawn, mask = _copy(crop, points[CHAINS[long.finger]][-1 - bones :], size, long.angle)
    return result + (drawn - result) * mask


def with_bent(crop: UInt8, background: Float32, points: Float32, size: float, long: Extra, degrees: float) -> Float32:
    """``crop`` with the last two bones of a finger turned to the side, their old place filled with ``background``."""
    bones = points[CHAINS[long.finger]][MIDDLE:]
    result = crop.astype(np.float32)
    result += (background - result) * finger_mask(crop.shape, bones[1:], size)
    drawn, mask = _copy(crop, bones, size, float(np.copysign(np.radians(degrees), long.angle)))
    return result + (drawn - result) * mask
