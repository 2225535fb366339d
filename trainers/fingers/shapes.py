"""Masks, fills and copies along a hand's joints: what the training edits are made of.

None of it is what the ladder of damage uses (`ipa_bench/models/fingers.py`): masks are distances from tapering bones,
holes are filled from the nearest pixel outside of the hand, copies take their mask with them. A head that knew the
seams of one would not know those of the other.

Points are joints in px of a square picture, ``u`` is the length of the palm in px, angles are in radians.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

from ipa_bench.types import Float32, Float64, UInt8

#: joints of thumb, index, middle, ring and little finger, from the knuckle to the tip
CHAINS = np.arange(1, 21).reshape(5, 4)
#: half a finger's width at its knuckle and at its tip, in palms
ROOT, TIP = 0.125, 0.095
#: bones of the palm, each as wide as a fifth of a palm to both sides
_PALM = ((0, 1), (0, 5), (0, 9), (0, 13), (0, 17), (5, 9), (9, 13), (13, 17), (1, 5))


@dataclass(frozen=True, eq=False)
class Hand:
    """A picture uint8 ``[S, S, 3]`` of one hand, and its joints float32 ``[21, 2]``."""

    image: UInt8
    points: Float32

    @cached_property
    def u(self) -> float:
        """Length of the palm in px, as little foreshortened as its sides let see."""
        p = self.points
        lengths = (np.hypot(*(p[9] - p[0])), np.hypot(*(p[5] - p[0])), 1.25 * np.hypot(*(p[17] - p[5])))
        return float(max(*lengths, 8.0))

    @cached_property
    def pixels(self) -> Float32:
        """The picture as float32."""
        return self.image.astype(np.float32)

    @cached_property
    def outside(self) -> Float32:
        """The surroundings drawn over the hand: of each of its pixels the nearest one outside, softened."""
        _, (rows, columns) = distance_transform_edt(self.mask > 0.02, return_indices=True)
        filled = self.pixels[rows, columns]
        return np.asarray(np.stack([gaussian_filter(filled[..., c], 0.06 * self.u) for c in range(3)], -1), np.float32)

    @cached_property
    def mask(self) -> Float32:
        """1 on the hand and a little beyond, float32 ``[S, S]``."""
        fingers = [self.finger(f, slack=0.05) for f in range(5)]
        return np.asarray(np.max([*fingers, self.palm], axis=0), np.float32)

    @cached_property
    def palm(self) -> Float32:
        """1 on the palm, float32 ``[S, S]``."""
        side = self.image.shape[0]
        return np.asarray(
            np.max([bones(side, self.points[list(b)], (0.2 * self.u, 0.2 * self.u), 0.05 * self.u) for b in _PALM], 0),
            np.float32,
        )

    def finger(self, finger: int, start: int = 0, slack: float = 0.0, feather: float = 0.03, end: int = 3) -> Float32:
        """1 on a finger from joint to joint, float32 ``[S, S]``; ``slack`` and ``feather`` in palms."""
        chain = self.points[CHAINS[finger][start : end + 1]].copy()
        if end == 3:  # the last joint lies inside the fingertip
            way = chain[-1] - self.points[CHAINS[finger][2]]
            chain[-1] += np.float32(0.07 * self.u / max(float(np.hypot(*way)), 1e-6)) * way
        widths = np.linspace(ROOT, TIP, 4)[start : end + 1] + slack
        return bones(self.image.shape[0], chain, widths * self.u, max(feather * self.u, 0.7))

    def others(self, finger: int) -> Float32:
        """1 on the fingers but this one, float32 ``[S, S]``."""
        return np.asarray(np.max([self.finger(f) for f in range(5) if f != finger], axis=0), np.float32)


def bones(side: int, chain: Float32, radii: Float64 | tuple[float, ...], feather: float) -> Float32:
    """1 within ``radii`` (px, one a joint) of a chain of joints ``[n, 2]``, falling to 0 over ``feather`` px."""
    reach = max(radii) + feather
    x0, y0 = np.clip(np.floor(chain.min(axis=0) - reach), 0, side).astype(int)
    x1, y1 = np.clip(np.ceil(chain.max(axis=0) + reach) + 1, 0, side).astype(int)
    result = np.zeros((side, side), np.float32)
    if x0 >= x1 or y0 >= y1:
        return result
    y, x = np.mgrid[y0:y1, x0:x1].astype(np.float32)
    away = np.full(x.shape, np.inf, np.float32)
    for (a, b), (r, s) in zip(pairwise(chain), pairwise(radii), strict=True):
        way = b - a
        share = np.clip(((x - a[0]) * way[0] + (y - a[1]) * way[1]) / max(float(way @ way), 1e-6), 0, 1)
        gap = np.hypot(x - a[0] - share * way[0], y - a[1] - share * way[1])
        away = np.minimum(away, gap - (r + share * (s - r)))
    result[y0:y1, x0:x1] = np.clip(0.5 - away / feather, 0, 1)
    return result


def turn(angle: float) -> Float64:
    """The matrix of a turn, clockwise as seen."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def stretch(along: Float32, share: float) -> Float64:
    """The matrix that makes things longer in one direction ``[2]``."""
    unit = along / max(float(np.hypot(*along)), 1e-6)
    return np.asarray(np.eye(2) + (share - 1) * np.outer(unit, unit))


def mirror(along: Float32) -> Float64:
    """The matrix that mirrors at the line in a direction ``[2]``."""
    unit = along / max(float(np.hypot(*along)), 1e-6)
    return np.asarray(2 * np.outer(unit, unit) - np.eye(2))


def moved(
    pixels: Float32, mask: Float32, matrix: Float64, pivot: Float32, to: Float32 | None = None
) -> tuple[Float32, Float32]:
    """Picture and mask by a matrix about a ``pivot``, which goes to ``to``."""
    back = np.linalg.inv(matrix)
    dx, dy = np.asarray(pivot, np.float64) - back @ np.asarray(pivot if to is None else to, np.float64)
    # Pillow samples at pixel centres.
    half = np.array([0.5, 0.5])
    dx, dy = np.array([dx, dy]) + half - back @ half
    affine = (back[0, 0], back[0, 1], dx, back[1, 0], back[1, 1], dy)
    side = (pixels.shape[1], pixels.shape[0])
    planes = [Image.fromarray(plane) for plane in (*pixels.transpose(2, 0, 1), mask)]
    drawn = [np.asarray(p.transform(side, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)) for p in planes]
    return np.stack(drawn[:3], -1), drawn[3]


def over(pixels: Float32, drawn: Float32, mask: Float32) -> Float32:
    """``drawn`` on a picture where a mask says so."""
    return np.asarray(pixels + (drawn - pixels) * mask[..., None], np.float32)


def displaced(pixels: Float32, shift: Float32) -> Float32:
    """Each pixel from where ``shift`` ``[2, S, S]`` (y, x in px) says."""
    y, x = np.mgrid[0 : pixels.shape[0], 0 : pixels.shape[1]].astype(np.float32)
    where = np.stack([y + shift[0], x + shift[1]])
    return np.stack([map_coordinates(pixels[..., c], where, order=1, mode="nearest") for c in range(3)], -1)


def waves(side: int, cells: int, rng: np.random.Generator) -> Float32:
    """Smooth noise ``[2, S, S]`` of deviation 1 with so many cells a side."""
    coarse = rng.standard_normal((2, cells + 2, cells + 2)).astype(np.float32)
    box = (1.0, 1.0, cells + 1.0, cells + 1.0)
    planes = [Image.fromarray(plane).resize((side, side), Image.Resampling.BICUBIC, box=box) for plane in coarse]
    smooth = np.stack([np.asarray(plane) for plane in planes])
    return np.asarray(smooth / max(float(smooth.std()), 1e-6), np.float32)
