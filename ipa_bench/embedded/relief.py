"""A hand as a height field: palm, fingers and wrist joined smoothly, lit from its slopes.

Drawn at twice the resolution in a window around the hand. MediaPipe's models find such hands; flat colours they do not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ipa_bench.embedded import hand
from ipa_bench.types import Float32, Float64

#: samples per pixel and axis
OVER = 2
#: height where there is nothing
EMPTY = -1e3
#: drawn radii over the nominal ones
SWELL = 1.08
#: rounding of the palm's rim, palm units
ROUNDING = 0.15
#: width of the smooth joint between a finger and the palm, palm units
BLEND = 0.12
#: steepest slope that is lit; steeper ones are silhouettes
STEEP = 4.0


class Patch(NamedTuple):
    """A picture of a hand: ``colour`` float32 ``[h, w, 3]`` times its coverage ``alpha`` ``[h, w]``, at (x, y)."""

    colour: Float32
    alpha: Float32
    x: int
    y: int


class _Field:
    """Heights on a grid of samples; ``x`` ``[1, W]`` and ``y`` ``[H, 1]`` are pixel coordinates of the samples."""

    def __init__(self, x0: int, y0: int, width: int, height: int) -> None:
        self.x = np.asarray((np.arange(width * OVER) + 0.5) / OVER + x0, np.float32)[None, :]
        self.y = np.asarray((np.arange(height * OVER) + 0.5) / OVER + y0, np.float32)[:, None]
        self.h = np.full((height * OVER, width * OVER), EMPTY, np.float32)

    def window(self, low: Float64, high: Float64) -> tuple[slice, slice]:
        """The samples within a box given by its corners (x, y)."""
        rows, columns = self.h.shape
        x0, y0 = (low - (self.x[0, 0], self.y[0, 0])) * OVER
        x1, y1 = (high - (self.x[0, 0], self.y[0, 0])) * OVER
        return (
            slice(min(max(int(y0), 0), rows), min(max(int(y1) + 2, 0), rows)),
            slice(min(max(int(x0), 0), columns), min(max(int(x1) + 2, 0), columns)),
        )

    def join(self, where: tuple[slice, slice], heights: Float32, blend: float) -> None:
        """Raise the field to ``heights``: a hard maximum, or one smooth over ``blend`` pixels."""
        old = self.h[where]
        if blend == 0:
            np.maximum(old, heights, out=old)
            return
        overlap = np.maximum(blend - np.abs(old - heights), 0) / blend
        old[...] = np.maximum(old, heights) + overlap * overlap * (blend / 4)


def capsule(field: _Field, a: Float64, b: Float64, ra: float, rb: float, blend: float) -> None:
    """Raise ``field`` to a tapered capsule from ``a`` to ``b`` ``[3]`` with radii ``ra`` and ``rb``, pixels."""
    radius = max(ra, rb)
    where = field.window(np.minimum(a, b)[:2] - radius, np.maximum(a, b)[:2] + radius)
    px, py = field.x[:, where[1]] - np.float32(a[0]), field.y[where[0]] - np.float32(a[1])
    if px.size == 0 or py.size == 0:
        return
    dx, dy = np.float32(b[0] - a[0]), np.float32(b[1] - a[1])
    length = max(float(dx * dx + dy * dy), 1e-6)
    t = np.clip((px * dx + py * dy) / np.float32(length), 0, 1)
    r = np.float32(ra) + np.float32(rb - ra) * t
    across = r * r - (px - t * dx) ** 2 - (py - t * dy) ** 2
    heights = np.where(
        across > 0, np.float32(a[2]) + np.float32(b[2] - a[2]) * t + np.sqrt(np.maximum(across, 0)), EMPTY
    )
    field.join(where, heights.astype(np.float32, copy=False), blend)


def palm(field: _Field, outline: Float64, unit: float) -> None:
    """Raise ``field`` to the palm: the plane through ``outline`` ``[8, 3]`` with a rounded rim, pixels."""
    rim = ROUNDING * unit
    where = field.window(outline[:, :2].min(0) - rim, outline[:, :2].max(0) + rim)
    x: Float32 = field.x[:, where[1]]
    y: Float32 = field.y[where[0]]
    if x.size == 0 or y.size == 0:
        return
    outside = _polygon(x, y, outline[:, :2]) - np.float32(rim * 0.7)
    # the plane: z = c0 + c1 x + c2 y
    design = np.column_stack([np.ones(len(outline)), outline[:, :2]])
    c = np.linalg.lstsq(design, outline[:, 2], rcond=None)[0].astype(np.float32)
    edge = np.clip(1 + outside / np.float32(rim), 0, 1)
    heights = c[0] + c[1] * x + c[2] * y + np.float32(rim) * np.sqrt(np.maximum(1 - edge * edge, 0))
    field.join(where, np.where(outside < 0, heights, np.float32(EMPTY)).astype(np.float32, copy=False), 0)


def _polygon(x: Float32, y: Float32, corners: Float64) -> Float32:
    """Distance to a convex polygon, negative inside (exact inside, and outside except near corners)."""
    area = float(np.sum(corners[:, 0] * np.roll(corners[:, 1], -1) - np.roll(corners[:, 0], -1) * corners[:, 1]))
    turn = 1.0 if area > 0 else -1.0
    result: Float32 | None = None
    for a, b in zip(corners, np.roll(corners, -1, 0), strict=True):
        nx, ny = turn * (b[1] - a[1]), -turn * (b[0] - a[0])
        norm = max(float(np.hypot(nx, ny)), 1e-6)
        side = np.float32(nx / norm) * (x - np.float32(a[0])) + np.float32(ny / norm) * (y - np.float32(a[1]))
        result = side if result is None else np.maximum(result, side)
    assert result is not None
    return result


def draw(
    joints: Float64,
    outline: Float64,
    forearm: tuple[Float64, float],
    unit: float,
    skin: tuple[float, float, float],
    light: tuple[float, float, float],
    ambient: float,
    size: tuple[int, int],
) -> Patch | None:
    """The picture of one hand, or None where it lies outside the frame of ``size`` (width, height).

    ``joints`` ``[21, 3]``, or four more for each finger beyond five, ``outline`` ``[8, 3]``; ``forearm``: its far end
    ``[3]`` and radius there; ``unit`` pixels for one palm unit.
    """
    points = np.concatenate([joints, outline, forearm[0][None]])[:, :2]
    low = np.clip(np.floor(points.min(0) - 0.3 * unit).astype(int), 0, size)
    high = np.clip(np.ceil(points.max(0) + 0.3 * unit).astype(int), 0, size)
    if (high - low).min() < 2:
        return None
    field = _Field(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
    capsule(field, joints[0], forearm[0], 0.22 * unit, forearm[1], 0)
    palm(field, outline, unit)
    radii = np.resize(hand.RADII[-4:], len(joints))
    radii[: len(hand.RADII)] = hand.RADII
    radii = radii * SWELL * unit
    for finger in range((len(joints) - 1) // 4):
        first = 1 + 4 * finger
        for segment in range(3):
            j = first + segment
            # Fingers grow out of the palm; curled segments lie in front of it.
            capsule(field, joints[j], joints[j + 1], radii[j], radii[j + 1], BLEND * unit if segment == 0 else 0)
    return _lit(field, int(low[0]), int(low[1]), skin, light, ambient)


def _lit(
    field: _Field,
    x: int,
    y: int,
    skin: tuple[float, float, float],
    light: tuple[float, float, float],
    ambient: float,
) -> Patch:
    """Shade the height field with one soft light and average its samples to pixels."""
    there = field.h > EMPTY / 2
    h = field.h
    if there.any():
        h = np.where(there, h, h[there].min())
    gy, gx = np.gradient(h * OVER)
    steep = np.sqrt(gx * gx + gy * gy)
    shrink = np.minimum(1, STEEP / np.maximum(steep, 1e-6))
    gx, gy, steep = gx * shrink, gy * shrink, steep * shrink
    lambert = (light[2] - gx * light[0] - gy * light[1]) / np.sqrt(1 + steep * steep)
    shade = ambient + (1.12 - ambient) * np.maximum(lambert, 0)
    rows, columns = h.shape[0] // OVER, h.shape[1] // OVER
    covered = there.astype(np.float32)
    alpha = covered.reshape(rows, OVER, columns, OVER).mean((1, 3))
    tone = (shade * covered).reshape(rows, OVER, columns, OVER).mean((1, 3))
    colour = tone[..., None] * np.array(skin, np.float32)
    return Patch(np.minimum(colour, alpha[..., None]).astype(np.float32), alpha.astype(np.float32), x, y)
