"""Fingers drawn again elsewhere: one too many, or a posture that nobody held. Pixels of the hand itself, turned.

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


class Extra(NamedTuple):
    """A finger too many: whose copy it is (0 thumb to 4 little finger), and how far it is turned."""

    finger: int
    angle: float


@lru_cache(maxsize=16)
def extra_fingers(tracks: HandTracks, slot: int, count: int) -> tuple[Extra, ...]:
    """Which fingers to add to a hand of a clip, the same in all its frames: long ones, where no other finger is."""
    seen = tracks.landmarks[tracks.found[:, slot], slot].astype(np.float64)
    size = np.ptp(seen, axis=1).max(axis=1)
    taken = seen
    chosen: list[Extra] = []
    for _ in range(count):
        options = [(finger, float(angle)) for finger in range(5) for angle in TURNS]
        scores = [_room(_turned(seen[:, CHAINS[f]], a), taken, size) for f, a in options]
        best = Extra(*options[int(np.argmax(scores))])
        chosen.append(best)
        taken = np.concatenate([taken, _turned(seen[:, CHAINS[best.finger]], best.angle)], axis=1)
    return tuple(chosen)


def _turned(chains: Float64, angle: float) -> Float64:
    """Chains ``[N, 4, 2]`` turned about their first joints."""
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    return np.asarray(chains[:, :1] + (chains - chains[:, :1]) @ turn.T)


def _room(chains: Float64, taken: Float64, size: Float64) -> float:
    """How far the ends of turned fingers are from every joint, in hand sizes, times their length; mean over frames."""
    length = np.linalg.norm(chains[:, 3] - chains[:, 0], axis=-1) / size
    apart = np.linalg.norm(chains[:, 2:, None] - taken[:, None], axis=-1).min(axis=(1, 2)) / size
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
    soft = image.filter(ImageFilter.GaussianBlur(max(0.02 * size, 0.5)))
    return np.asarray(np.asarray(soft, np.float32) / 255, np.float32)[..., None]
