"""Smooth random gestures: where the wrists go, how the hands turn, what the fingers do.

Everything is a function of a random generator. Positions are in pixels of the 128-pixel world with the origin between
the shoulders, x right, y down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ipa_bench.types import Float64

#: flexion of thumb, index, middle, ring, little; spread of the fingers
POSTURES: dict[str, tuple[tuple[float, float, float, float, float], float]] = {
    "open": ((0.05, 0.05, 0.05, 0.05, 0.05), 1.4),
    "spread": ((0.0, 0.0, 0.0, 0.0, 0.0), 1.8),
    "flat": ((0.3, 0.05, 0.05, 0.05, 0.05), 0.8),
    "relaxed": ((0.25, 0.25, 0.3, 0.35, 0.35), 1.1),
    "claw": ((0.3, 0.4, 0.4, 0.4, 0.4), 1.5),
    "fist": ((0.6, 0.85, 0.85, 0.85, 0.85), 0.9),
    "point": ((0.5, 0.0, 0.8, 0.8, 0.8), 1.0),
    "victory": ((0.5, 0.0, 0.0, 0.8, 0.8), 1.7),
    "thumb": ((0.0, 0.8, 0.8, 0.8, 0.8), 1.0),
    "pinch": ((0.45, 0.55, 0.1, 0.1, 0.1), 1.3),
    "four": ((0.6, 0.03, 0.03, 0.03, 0.03), 1.3),
}
#: shown by nobody in training
TEST_POSTURES: dict[str, tuple[tuple[float, float, float, float, float], float]] = {
    "gun": ((0.0, 0.0, 0.8, 0.8, 0.8), 1.2),
    "three": ((0.0, 0.0, 0.0, 0.75, 0.75), 1.4),
    "call": ((0.0, 0.7, 0.7, 0.7, 0.0), 1.3),
}
MOTIONS = ("move", "move", "wave", "cross", "face", "still")
#: those that stay on the hand's own side
ASIDE = ("move", "wave", "still")
TEST_MOTION = "circle"
#: of clips of the test split: how many hands show a posture, and make a motion, that training never shows
UNSEEN = 0.3


@dataclass(frozen=True, eq=False)
class HandMotion:
    """One hand over time. ``wrist`` ``[T, 2]`` pixels from the chest; the others radians or as in ``hand.joints``."""

    wrist: Float64
    pitch: Float64
    yaw: Float64
    #: turn in the image plane relative to the forearm
    bend: Float64
    flexion: Float64
    spread: Float64
    #: whether the palm, not the back of the hand, faces the viewer
    palm: bool
    posture: str
    motion: str


def ease(t: Float64) -> Float64:
    """Minimum-jerk progress for ``t`` in [0, 1], as reaching people move."""
    t = np.clip(t, 0, 1)
    return np.asarray(t**3 * (10 - 15 * t + 6 * t**2))


def drift(rng: np.random.Generator, times: Float64, size: float) -> Float64:
    """A slow random function ``[T]`` within about ``±size``: three sines below 1 Hz."""
    speed, phase = rng.uniform(0.5, 5.0, (3, 1)), rng.uniform(0, 2 * np.pi, (3, 1))
    return np.asarray(size * np.sin(speed * times + phase).mean(0) * 1.5)


def hand_motion(rng: np.random.Generator, times: Float64, side: int, unseen: bool, aside: bool) -> HandMotion:
    """One hand's gesture at ``times`` ``[T]`` seconds; ``side`` −1 moves on the image's left, +1 on its right.

    ``unseen`` allows the postures and the motion that are kept for the test split. ``aside`` keeps the hand on its own
    side, because the other one may cross the middle.
    """
    motion = TEST_MOTION if unseen and rng.random() < UNSEEN else str(rng.choice(ASIDE if aside else MOTIONS))
    names, postures = list(POSTURES), POSTURES | TEST_POSTURES
    if unseen and rng.random() < UNSEEN:
        names = list(TEST_POSTURES)
    first, last = str(rng.choice(names)), str(rng.choice(names))
    if rng.random() < 0.35:
        last = first
    length = times[-1] - times[0] + 1e-9
    progress = ease(((times - times[0]) / length - rng.uniform(0, 0.45)) / rng.uniform(0.3, 0.55))
    palm = bool(rng.random() < 0.8)
    flexion, spread = _between(postures[first], postures[last], progress)
    flexion = flexion + rng.normal(0, 0.04, 5) + drift(rng, times, 0.04)[:, None]
    if not palm:  # the back of a fist shows no finger
        flexion = np.minimum(flexion, 0.45)
    swing = rng.uniform(0.2, 0.35) * np.sin(2 * np.pi * rng.uniform(1.0, 2.0) * times + rng.uniform(0, 6))
    return HandMotion(
        wrist=_path(rng, times, side, motion),
        pitch=rng.uniform(-0.2, 0.2) + drift(rng, times, 0.1),
        yaw=rng.uniform(-0.25, 0.25) + drift(rng, times, 0.12),
        bend=rng.uniform(-0.2, 0.2) + drift(rng, times, 0.12) + (swing if motion == "wave" else 0.0),
        flexion=np.clip(flexion, 0, 0.95),
        spread=np.clip(spread + rng.uniform(-0.1, 0.1), 0.8, 1.8),
        palm=palm,
        posture=last,
        motion=motion,
    )


def _between(
    a: tuple[tuple[float, ...], float], b: tuple[tuple[float, ...], float], progress: Float64
) -> tuple[Float64, Float64]:
    share = progress[:, None]
    return np.array(a[0]) * (1 - share) + np.array(b[0]) * share, a[1] * (1 - progress) + b[1] * progress


def _path(rng: np.random.Generator, times: Float64, side: int, motion: str) -> Float64:
    """The wrist's way ``[T, 2]``, within reach of the arm on its side."""
    start = np.array([side * rng.uniform(24, 41), rng.uniform(4, 26)])
    if motion == "face":
        start = np.array([side * rng.uniform(6, 22), rng.uniform(0, 10)])
    end = start + rng.uniform(-1, 1, 2) * np.array([12, 16])
    if motion == "cross":
        end = np.array([-side * rng.uniform(0, 12), rng.uniform(6, 26)])
    elif motion in ("still", "wave"):
        end = start + rng.uniform(-3, 3, 2)
    length = times[-1] - times[0] + 1e-9
    progress = ease(((times - times[0]) / length - rng.uniform(0, 0.2)) / rng.uniform(0.6, 0.8))[:, None]
    path = start * (1 - progress) + end * progress
    if motion == TEST_MOTION:
        turn = 2 * np.pi * rng.uniform(0.5, 0.9) * times * rng.choice([-1, 1]) + rng.uniform(0, 6)
        path = start + rng.uniform(5, 9) * np.stack([np.cos(turn), np.sin(turn)], -1)
    path = path + np.stack([drift(rng, times, 1.0), drift(rng, times, 1.0)], -1)
    path[:, 0] = np.clip(side * path[:, 0], -14, 46) * side
    return np.stack([path[:, 0], np.clip(path[:, 1], -2, 32)], -1)
