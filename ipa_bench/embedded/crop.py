"""Crops of hands whose joints are known: one square for each, mirrored where it is a left hand."""

from __future__ import annotations

import numpy as np

from ipa_bench.types import Float32, Float64, UInt8

#: side of a crop over the longer side of the joints' box
MARGIN = 1.6
#: hands of fewer pixels are enlarged from a square of this side at least
SMALLEST = 16.0


def squares(joints: Float64) -> Float64:
    """Centre and side ``[..., 3]`` (x, y, side), pixels, of the crop about joints ``[..., 21, 2]``."""
    low, high = joints.min(-2), joints.max(-2)
    side = np.maximum((high - low).max(-1) * MARGIN, SMALLEST)
    return np.concatenate([(low + high) / 2, side[..., None]], -1)


def crop(image: UInt8, square: Float64, side: int, mirrored: bool) -> Float32:
    """A square (x, y, side) of an image ``[H, W, 3]`` at ``[side, side, 3]``, bilinear, 0-255; the rim continues.

    Pixel (0, 0) of the image covers 0 to 1: the middle of a pixel lies at a half.
    """
    centre_x, centre_y, length = (float(v) for v in square)
    steps = (np.arange(side) + 0.5) / side - 0.5
    columns = centre_x + (steps[::-1] if mirrored else steps) * length - 0.5
    rows = centre_y + steps * length - 0.5
    return _bilinear(image, rows, columns)


def _bilinear(image: UInt8, rows: Float64, columns: Float64) -> Float32:
    height, width = image.shape[:2]
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down = (rows - top).astype(np.float32)[:, None, None]
    across = (columns - left).astype(np.float32)[None, :, None]
    above, below = np.clip(top, 0, height - 1), np.clip(top + 1, 0, height - 1)
    before, after = np.clip(left, 0, width - 1), np.clip(left + 1, 0, width - 1)
    upper = image[above[:, None], before] * (1 - across) + image[above[:, None], after] * across
    lower = image[below[:, None], before] * (1 - across) + image[below[:, None], after] * across
    return np.asarray(upper * (1 - down) + lower * down, np.float32)


def into(joints: Float64, square: Float64, mirrored: bool) -> Float64:
    """Joints ``[21, 2]`` in pixels as shares of the crop's side, 0 to 1."""
    placed = (joints - square[:2]) / square[2] + 0.5
    return np.stack([1 - placed[:, 0] if mirrored else placed[:, 0], placed[:, 1]], -1)


def outside(placed: Float64, square: Float64, mirrored: bool) -> Float64:
    """The inverse of :func:`into`."""
    x = 1 - placed[:, 0] if mirrored else placed[:, 0]
    return np.asarray((np.stack([x, placed[:, 1]], -1) - 0.5) * square[2] + square[:2])
