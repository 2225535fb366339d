"""A hand's joints from its posture: forward kinematics in MediaPipe's order.

Local frame, in palm units (wrist to the middle finger's knuckle is 1.05): x to the right, y toward the fingers and z
toward the viewer. The palm faces the viewer, the thumb is on the left (a left hand held up); other hands are
mirrored. The proportions are those that MediaPipe's models accept.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ipa_bench.types import Float64

JOINTS = 21
FINGERS = ("thumb", "index", "middle", "ring", "little")


class Finger(NamedTuple):
    """``base`` is the knuckle; ``lengths`` of three segments; ``radii`` at their four ends; splay in degrees."""

    base: tuple[float, float, float]
    splay: float
    lengths: tuple[float, float, float]
    radii: tuple[float, float, float, float]


THUMB = Finger((-0.22, 0.18, 0.05), 50, (0.40, 0.32, 0.26), (0.17, 0.14, 0.12, 0.10))
LONG_FINGERS = (
    Finger((-0.30, 1.00, 0.0), 10, (0.46, 0.28, 0.22), (0.125, 0.11, 0.10, 0.085)),
    Finger((-0.08, 1.05, 0.0), 2, (0.50, 0.32, 0.23), (0.125, 0.11, 0.10, 0.085)),
    Finger((0.13, 1.00, 0.0), -6, (0.46, 0.30, 0.23), (0.12, 0.105, 0.095, 0.08)),
    Finger((0.32, 0.90, 0.0), -16, (0.36, 0.22, 0.19), (0.105, 0.09, 0.08, 0.07)),
)
#: radius of each joint, in MediaPipe's order
RADII = np.array([0.2, *THUMB.radii, *(r for f in LONG_FINGERS for r in f.radii)])
#: outline of the palm: wrist sides, thumb base, four knuckles, outer edge
PALM = np.array(
    [(0.16, 0.0), (-0.14, 0.0), (-0.24, 0.25), (-0.30, 0.95), (-0.08, 1.0), (0.13, 0.96), (0.31, 0.85), (0.27, 0.4)]
)
#: degrees that a joint bends at full flexion, knuckle first
BEND = np.array([75.0, 95.0, 60.0])
#: a fist; more is not human
MAX_FLEXION = 0.95


def joints(flexion: Float64, spread: Float64) -> Float64:
    """Joints ``[T, 21, 3]`` in the hand's local frame, palm units.

    ``flexion`` ``[T, 5]`` in [0, 0.95], thumb first: 0 straight, 0.95 fist. ``spread`` ``[T]`` in [0.8, 1.8].
    """
    flexion = np.clip(flexion, 0, MAX_FLEXION)
    out = np.zeros((len(flexion), JOINTS, 3))
    out[:, 1:5] = _thumb(flexion[:, 0], flexion[:, 1:].mean(1))
    for index, finger in enumerate(LONG_FINGERS):
        f = flexion[:, index + 1]
        splay = np.radians(finger.splay) * spread * (1 - 0.6 * f)
        bend = np.radians(np.cumsum(BEND) * f[:, None])
        across, along = -np.sin(splay)[:, None], np.cos(splay)[:, None]
        step = np.stack([across * np.cos(bend), along * np.cos(bend), np.sin(bend)], -1)
        first = 5 + 4 * index
        out[:, first] = finger.base
        out[:, first + 1 : first + 4] = np.cumsum(step * np.array(finger.lengths)[:, None], 1) + out[:, first, None]
    return out


def _thumb(f: Float64, fist: Float64) -> Float64:
    """The thumb leans in and rises in front of the palm as it bends."""
    out = np.radians(THUMB.splay - f[:, None] * np.array([25.0, 60.0, 95.0]))
    rise = np.radians(10 + (8 + 10 * fist[:, None]) * np.array([1.0, 1.4, 1.2]) * (0.3 + f[:, None]))
    step = np.stack([-np.sin(out) * np.cos(rise), np.cos(out) * np.cos(rise), np.sin(rise)], -1)
    ends = np.cumsum(step * np.array(THUMB.lengths)[:, None], 1)
    base = np.broadcast_to(np.array(THUMB.base), (len(f), 1, 3))
    return np.concatenate([base, base + ends], 1)


def rotation(pitch: Float64, yaw: Float64, roll: Float64) -> Float64:
    """Rotations ``[T, 3, 3]``: about x, then y, then in the image plane; radians ``[T]`` each."""
    zero, one = np.zeros_like(pitch), np.ones_like(pitch)

    def matrix(rows: list[list[Float64]]) -> Float64:
        return np.stack([np.stack(row, -1) for row in rows], -2)

    cx, sx, cy, sy, cz, sz = (f(a) for a in (pitch, yaw, roll) for f in (np.cos, np.sin))
    about_x = matrix([[one, zero, zero], [zero, cx, -sx], [zero, sx, cx]])
    about_y = matrix([[cy, zero, sy], [zero, one, zero], [-sy, zero, cy]])
    about_z = matrix([[cz, -sz, zero], [sz, cz, zero], [zero, zero, one]])
    return np.asarray(about_z @ about_y @ about_x)
