"""From a face in a picture to the square that a face network takes: a turn, a scale, a shift, and bilinear samples."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ipa_bench.types import Float32, Float64, UInt8


def similarity(points: Float32, onto: Float32) -> Float64:
    """The turn, scale and shift that bring ``points`` [n, 2] closest to ``onto`` [n, 2]: matrix [2, 3] on (x, y, 1).

    Least squares, never mirrored (Umeyama 1991, in closed form for two dimensions). Raises ValueError where all points
    are one.
    """
    z, w = (each.astype(np.float64) @ (1, 1j) for each in (points, onto))
    from_centre = z - z.mean()
    spread = float((np.abs(from_centre) ** 2).sum())
    if not spread > 0:
        raise ValueError("points that are all in one place have no size and no direction")
    turn = (from_centre.conj() * (w - w.mean())).sum() / spread
    shift = w.mean() - turn * z.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def aligned(image: UInt8, points: Float32, onto: Float32, side: int) -> Tensor:
    """Faces of one RGB picture [H, W, 3], moved so that their ``points`` [n, 5, 2] lie near ``onto`` [5, 2].

    Float [n, 3, side, side], whole numbers from 0 to 255. Points are counted from the middle of the first pixel (pixel
    (0, 0) is at (0, 0)); there is black outside of the picture, and nothing is smoothed: a face that is several times
    larger than ``side`` is to be shrunk before.
    """
    faces = [_sample(image, similarity(each, onto), side) for each in points]
    return torch.cat(faces) if faces else torch.zeros(0, 3, side, side)


def _sample(image: UInt8, matrix: Float64, side: int) -> Tensor:
    """[1, 3, side, side] of a picture through ``matrix``, which leads from the picture to the square."""
    inverse = np.linalg.inv(matrix[:, :2])
    corners = (np.array([[0, 0], [side, 0], [0, side], [side, side]]) - matrix[:, 2]) @ inverse.T
    # Only the part of the picture that is seen becomes floats.
    left, top = np.clip(np.floor(corners.min(0)).astype(int) - 1, 0, None)
    right, bottom = np.ceil(corners.max(0)).astype(int) + 2
    part = image[top:bottom, left:right]
    if not part.size:
        return torch.zeros(1, 3, side, side)
    height, width = part.shape[:2]
    y, x = np.mgrid[:side, :side]
    where = (np.stack([x, y], -1) - matrix[:, 2]) @ inverse.T - (left, top)
    grid = torch.from_numpy((2 * where + 1) / (width, height) - 1)  # what grid_sample calls -1 is a pixel's outer edge
    planes = torch.from_numpy(np.ascontiguousarray(part.transpose(2, 0, 1), np.float64))
    sampled = F.grid_sample(planes[None], grid[None], "bilinear", "zeros", align_corners=False)
    return sampled.round().clamp(0, 255).float()
