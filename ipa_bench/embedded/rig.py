"""Body and hands of a person over time, in three dimensions: pixels of the frame, x right, y down, z to the viewer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ipa_bench.embedded import gesture, hand
from ipa_bench.embedded.gesture import HandMotion
from ipa_bench.embedded.people import Person
from ipa_bench.types import Float64

#: side of the square frame, pixels
SIZE = 128
#: hands closer than this many palm units (middles of the palms) would hide each other
CLEARANCE = 1.6
#: a forearm that looks shorter than this, pixels, lies behind its own hand
SHORTEST = 12.0
#: which side of the image a hand slot moves on: slot 0 is the person's left hand, seen on the right
SIDES = (1, -1)


#: of a :class:`Rig`, a row a frame
ARRAYS = ("chest", "head", "tilt", "shoulder", "elbow", "wrist", "hands", "palms")


@dataclass(frozen=True, eq=False)
class Rig:
    """Joints of one clip. Hand slot 0 is the person's left hand, as in ``HandTracks``."""

    #: ``[T, 2]``, between the shoulders
    chest: Float64
    #: ``[T, 2]``, middle of the head
    head: Float64
    #: ``[T]``, radians, turn of the head in the image plane
    tilt: Float64
    #: ``[T, 2, 3]`` each
    shoulder: Float64
    elbow: Float64
    wrist: Float64
    #: ``[T, 2, 21, 3]``
    hands: Float64
    #: ``[T, 2, 8, 3]``, outline of the palm
    palms: Float64
    motions: tuple[HandMotion, HandMotion]


def rig(rng: np.random.Generator, person: Person, times: Float64, unseen: bool) -> Rig:
    """A person's random gestures at ``times`` ``[T]`` seconds; the two hands keep clear of each other."""
    chest = np.array([SIZE / 2, 63.0]) + rng.uniform(-3, 3, 2)
    chest = chest + np.stack([gesture.drift(rng, times, 1.5), gesture.drift(rng, times, 0.8)], -1)
    head = chest + np.array([0.0, -11.0 - person.head[1]])
    head = head + np.stack([gesture.drift(rng, times, 2.0), gesture.drift(rng, times, 0.8)], -1)
    tilt = gesture.drift(rng, times, 0.1)
    while True:
        free = int(rng.integers(2))
        first = gesture.hand_motion(rng, times, SIDES[free], unseen, aside=False)
        second = gesture.hand_motion(rng, times, SIDES[1 - free], unseen, aside=True)
        motions = (first, second) if free == 0 else (second, first)
        parts = [_arm(person, chest, side, motion) for side, motion in zip(SIDES, motions, strict=True)]
        shoulder, elbow, wrist, hands, palms = (
            np.stack([part[i] for part in parts], 1) for i in range(5)
        )  # fmt: skip
        if _apart(hands, person.palm) and _clear(elbow, wrist, hands):
            return Rig(chest, head, tilt, shoulder, elbow, wrist, hands, palms, motions)


def _apart(hands: Float64, palm: float) -> bool:
    middles = hands[:, :, (0, 5, 9, 13, 17), :2].mean(2)
    return float(np.linalg.norm(middles[:, 0] - middles[:, 1], axis=-1).min()) > CLEARANCE * palm


def _clear(elbow: Float64, wrist: Float64, hands: Float64) -> bool:
    """Whether no forearm points at the viewer, its hand before its own elbow, and no hand leaves the frame."""
    shown = np.linalg.norm((wrist - elbow)[..., :2], axis=-1).min()
    return bool(shown > SHORTEST and hands[..., :2].min() > 1 and hands[..., :2].max() < SIZE - 1)


def _arm(person: Person, chest: Float64, side: int, motion: HandMotion) -> tuple[Float64, ...]:
    """Shoulder, elbow, wrist ``[T, 3]``, hand ``[T, 21, 3]`` and palm outline ``[T, 8, 3]`` of one side."""
    count = len(chest)
    shoulder = np.concatenate([chest + np.array([side * person.shoulders, 2.0]), np.zeros((count, 1))], 1)
    wrist = np.concatenate([chest + motion.wrist, np.full((count, 1), 10.0)], 1)
    elbow, wrist = bend_elbow(shoulder, wrist, person.arm, np.array([side * 0.35, 0.95, -0.1]))
    forearm = wrist - elbow
    lean = np.clip(np.arctan2(forearm[:, 0], -forearm[:, 1]), -0.9, 0.9)
    roll = -(0.6 * lean + side * motion.bend)
    mirror = np.array([side * (1 if motion.palm else -1), 1, 1 if motion.palm else -1])
    turn = hand.rotation(motion.pitch, motion.yaw, roll)
    outline = np.concatenate([hand.PALM, np.zeros((len(hand.PALM), 1))], 1)
    local = np.concatenate(
        [hand.joints(motion.flexion, motion.spread), np.broadcast_to(outline, (count, *outline.shape))], 1
    )
    points = (local * mirror) @ turn.transpose(0, 2, 1) * person.palm * np.array([1, -1, 1]) + wrist[:, None]
    return shoulder, elbow, wrist, points[:, : hand.JOINTS], points[:, hand.JOINTS :]


def bend_elbow(
    shoulder: Float64, wrist: Float64, lengths: tuple[float, float], hint: Float64
) -> tuple[Float64, Float64]:
    """Elbow and wrist ``[T, 3]`` of an arm of two bones that reaches for ``wrist``, as near as it can.

    Two-bone inverse kinematics: the elbow lies on the circle both bones allow, toward ``hint``.
    """
    upper, fore = lengths
    reach = wrist - shoulder
    distance = np.linalg.norm(reach, axis=1, keepdims=True)
    near, far = abs(upper - fore) + 1.0, upper + fore - 0.5
    axis = reach / np.maximum(distance, 1e-6)
    distance = np.clip(distance, near, far)
    along = (upper**2 - fore**2 + distance**2) / (2 * distance)
    height = np.sqrt(np.maximum(upper**2 - along**2, 0))
    aside = hint - (hint * axis).sum(1, keepdims=True) * axis
    aside = aside / np.linalg.norm(aside, axis=1, keepdims=True)
    return shoulder + axis * along + aside * height, shoulder + axis * distance
