"""HALO: where the hands are, as a weight on the flow error (Hand-Aware Local Optimization, arXiv 2605.07545).

The paper takes a binary mask from the hand's keypoints and does not say how: hull or box, how far it is grown, how it
is brought to latent size. Here it is the convex hull (or the bounding box) of the 21 joints, grown by a share of the
hand's size because joints lie inside the hand, and averaged over the pixels and frames of a latent element, so that an
element that is half hand has half the weight.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ipa_bench.types import Bool, Float32, Float64

#: what is drawn round the joints of a hand
Shape = Literal["hull", "box"]
#: how strength is written: 1 + (w − 1)·M in the authors' code, 1 + λ·M in the paper
Form = Literal["authors", "paper"]

#: Half the diagonal of a pixel, rounded up. No shape is grown by less, so that the pixel a joint is in is covered and
#: a hand seen edge-on or as one point still has a mask.
LEAST = 0.7072


def hand_mask(
    landmarks: Float32,
    found: Bool,
    size: tuple[int, int],
    out: tuple[int, int],
    *,
    shape: Shape = "hull",
    margin: float = 0.25,
) -> Float32:
    """1 on the hands and 0 elsewhere: float32 ``[T, H, W]`` in [0, 1] at the size ``out`` (width, height).

    ``landmarks`` ``[T, 2, 21, 2]`` pixels of a frame of ``size`` (width, height), x right, y down, the first pixel from
    0 to 1; ``found`` bool ``[T, 2]``: a hand not found adds nothing. ``margin``, at least 0, is in hand sizes, the
    larger side of the joints' bounding box in the mask's pixels: ``hull`` takes every pixel whose centre is at most
    that far from the convex hull, ``box`` the bounding box grown by as much on each side. What lies outside the
    frame is cut off.

    Raises ValueError where shapes do not fit, ``margin`` is negative or a landmark is not finite.
    """
    if landmarks.shape[-1:] != (2,) or landmarks.shape[:-2] != found.shape or found.ndim != 2:
        raise ValueError(f"expected landmarks [T, 2, 21, 2] and found [T, 2], got {landmarks.shape}, {found.shape}")
    if min(*size, *out) < 1:
        raise ValueError(f"sizes must be positive, got {size} and {out}")
    if not 0 <= margin < math.inf:
        raise ValueError(f"margin must be at least 0, got {margin}")
    if not np.isfinite(landmarks).all():
        raise ValueError("landmarks must be finite; a hand that was not found has zeros and found False")
    joints = landmarks.astype(np.float64) * (np.array(out) / np.array(size))
    mask = np.zeros((len(found), out[1], out[0]), np.float32)
    for frame, hand in np.argwhere(found):
        _draw(mask[frame], joints[frame, hand], shape, margin)
    return mask


def to_latent(mask: Float32, frames: int, height: int, width: int) -> Float32:
    """``mask`` ``[T, H, W]`` averaged over what each latent element covers: float32 ``[frames, height, width]``.

    Space is cut into equal blocks. Time is grouped as Wan's causal autoencoder does it: the first latent frame is the
    first video frame alone, the others are equal groups of the rest. Raises ValueError where that does not come out
    even: T − 1 a multiple of ``frames`` − 1 (1 for 1), H of ``height``, W of ``width``.
    """
    total, high, wide = mask.shape
    if min(frames, height, width) < 1 or high < 1 or wide < 1 or high % height or wide % width:
        raise ValueError(f"a mask of {high} × {wide} does not divide into {height} × {width} latent elements")
    groups = frames - 1
    if total < frames or (groups == 0 and total != 1) or (groups > 0 and (total - 1) % groups):
        raise ValueError(
            f"{total} video frames do not divide into {frames} latent frames: the first stands alone and the other "
            f"{total - 1} must be a multiple of {groups}"
        )
    blocks: Float64 = mask.reshape(total, height, high // height, width, wide // width).mean((2, 4), dtype=np.float64)
    if groups == 0:
        return blocks.astype(np.float32)
    rest = blocks[1:].reshape(groups, (total - 1) // groups, height, width).mean(1)
    return np.concatenate([blocks[:1], rest]).astype(np.float32)


def weights(mask: Tensor, strength: float, form: Form = "authors", references: int = 1) -> Tensor:
    """The weight of each latent element, ``[B, 1, references + T', h, w]``, for :func:`trainers.flow.flow_error`.

    ``mask`` ``[B, T', h, w]`` in [0, 1]. ``authors``: 1 + (w − 1)·M with w = ``strength`` at least 1, 10 in their code;
    ``paper``: 1 + λ·M with λ = ``strength`` at least 0 (arXiv 2605.07545; w = 10 is λ = 9). 1 and 0 are no weighting.
    The ``references`` latent frames of the reference image stand in front with weight 1, as in the authors' code.
    Raises ValueError where ``strength``, ``mask`` or ``references`` is out of range.
    """
    least = 1.0 if form == "authors" else 0.0
    if not least <= strength < math.inf:
        raise ValueError(f"strength must be at least {least:g} in the {form} form, got {strength}")
    if mask.ndim != 4 or references < 0:
        raise ValueError(f"expected a mask [B, T', h, w] and references ≥ 0, got {tuple(mask.shape)}, {references}")
    if not ((mask >= 0) & (mask <= 1)).all():
        raise ValueError("mask must be in [0, 1]")
    front = mask.new_ones(mask.shape[0], references, *mask.shape[2:])
    return torch.cat([front, 1 + (strength - least) * mask], 1)[:, None]


def _draw(mask: Float32, joints: Float64, shape: Shape, margin: float) -> None:
    """Set the pixels of one hand in ``mask`` ``[H, W]``; ``joints`` ``[n, 2]`` in its pixels."""
    low, high = joints.min(0), joints.max(0)
    radius = max(margin * float((high - low).max()), LEAST)
    columns, rows = (
        slice(max(math.ceil(low[axis] - radius - 0.5), 0), max(math.floor(high[axis] + radius - 0.5) + 1, 0))
        for axis in (0, 1)
    )
    window = mask[rows, columns]
    if shape == "box":
        window[...] = 1
    elif window.size:
        x = np.arange(columns.start, columns.start + window.shape[1]) + 0.5
        y = np.arange(rows.start, rows.start + window.shape[0])[:, None] + 0.5
        window[_near(_hull(joints), x, y, radius)] = 1


def _near(corners: Float64, x: Float64, y: Float64, radius: float) -> Bool:
    """Which points ``x`` ``[w]``, ``y`` ``[h, 1]`` are in the convex polygon ``corners`` or within ``radius`` of it."""
    near = np.zeros((len(y), len(x)), np.bool_)
    # a point and a line have no inside
    inside = np.full_like(near, len(corners) > 2)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, 0), strict=True):
        dx, dy = bx - ax, by - ay
        along = (x - ax) * dx + (y - ay) * dy
        # an edge of no length is its first corner
        share = np.clip(along / max(dx * dx + dy * dy, np.finfo(float).tiny), 0, 1)
        near |= (x - ax - share * dx) ** 2 + (y - ay - share * dy) ** 2 <= radius**2
        inside &= dx * (y - ay) - dy * (x - ax) >= 0
    return near | inside


def _hull(points: Float64) -> Float64:
    """Corners ``[k, 2]`` of the convex hull of ``points`` ``[n, 2]`` in order (Andrew's monotone chain, 1979).

    One corner where all points are equal, two where they are on a line: Qhull refuses both.
    """
    ordered = np.unique(points, axis=0)
    if len(ordered) < 3:
        return ordered
    ends: list[list[Float64]] = []
    for sequence in (ordered, ordered[::-1]):
        chain: list[Float64] = []
        for point in sequence:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        # the last corner of one chain is the first of the other
        ends.append(chain[:-1])
    return np.array(ends[0] + ends[1])


def _turn(a: Float64, b: Float64, c: Float64) -> float:
    """Positive where a → b → c turns the way the hull runs, 0 on a line."""
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))
