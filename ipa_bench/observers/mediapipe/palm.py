"""Hands of one image: palm detector, then landmarks and presence on the palm's region, on LiteRT.

Models and constants are those of MediaPipe Hands (palm_detection_full, hand_landmark_full, release 0.10.21).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from ipa_bench import weights
from ipa_bench.observers.mediapipe.detect import Detection, detect, upright, whole
from ipa_bench.observers.mediapipe.litert import Net, Roi, ssd_anchors, warp
from ipa_bench.types import Float32

WRIST, MIDDLE_KNUCKLE = 0, 9
#: wrist, thumb base and the two lower joints of each finger: the part that MediaPipe tracks a hand by
STEADY = np.array([0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18])
MIN_PRESENCE = 0.5
#: a presence below this is a plain no
DOUBTFUL = 0.05
#: side of the region around a body's knuckles, in lengths from its wrist to them
JOINTS_SCALE = 4.4
#: MediaPipe's Tasks runtime gives the upright direction, 90 degrees, to a field that is read in radians, so its regions
#: are turned by 90 rad - pi/2 = 0.465 rad (26.6 degrees) against its own earlier graphs and against what the net
#: expects. We keep the upright region, which jitters less; this constant reproduces the Tasks runtime in parity tests.
TASKS_TILT = 90 - 14 * 2 * np.pi - np.pi / 2


#: how a hand was found: by its palm, in the region that the body's joints name, or where it was a frame before or after
PALM, BODY, FOLLOWED = 1, 2, 3


@dataclass(frozen=True, eq=False)
class Hand:
    """``landmarks`` float32 ``[21, 2]`` px; ``world`` ``[21, 3]`` m; ``presence`` in [0, 1]; ``how`` it was found."""

    landmarks: Float32
    world: Float32
    presence: float
    how: int = PALM

    @property
    def size(self) -> float:
        """Longer side of the landmarks' bounding box, in pixels."""
        return float(np.ptp(self.landmarks, axis=0).max())

    @property
    def box(self) -> Float32:
        """The landmarks' bounding box: x0, y0, x1, y1."""
        return np.concatenate([self.landmarks.min(axis=0), self.landmarks.max(axis=0)])

    def apart(self, other: Hand) -> float:
        """Mean landmark distance from another hand, in sizes of this one."""
        return float(np.linalg.norm(other.landmarks - self.landmarks, axis=1).mean()) / max(self.size, 1.0)


class HandNet:
    """Palm detector and landmark net. One instance per thread: the nets keep state between set and invoke."""

    def __init__(self, tilt: float = 0.0) -> None:
        """``tilt`` turns the landmark net's region by an angle in radians; see ``TASKS_TILT``."""
        self._tilt = tilt
        self._palm = Net(weights.path("palm_detection_full"))
        self._hand = Net(weights.path("hand_landmark_full"))
        self._anchors = ssd_anchors(self._palm.side, (8, 16, 16, 16))

    def palms(self, image: Image.Image, roi: Roi | None = None) -> list[Detection]:
        """Palms in the whole image or in an unrotated square of it."""
        return detect(self._palm, self._anchors, image, roi or whole(image))

    def hand(self, image: Image.Image, palm: Detection) -> Hand:
        """Landmarks of the hand that a palm belongs to; its presence may be low."""
        return self._look(image, palm_roi(palm, self._tilt))

    def small_hand(self, image: Image.Image, palm: Detection) -> Hand:
        """The same for a palm that only a magnified crop showed.

        Where the first look says "no hand" without being sure, a second one on the region that the landmarks
        themselves span decides.
        """
        first = self.hand(image, palm)
        if not DOUBTFUL < first.presence < MIN_PRESENCE:
            return first
        second = self._look(image, landmark_roi(first.landmarks))
        return max(first, second, key=lambda h: h.presence)

    def at_joints(self, image: Image.Image, wrist: Float32, knuckles: Float32) -> Hand:
        """The hand between a body's ``wrist`` and its ``knuckles`` ``[2]``, for a palm that was not recognised.

        Twice, as for a small hand: the body's joints are coarse. Its presence may be low.
        """
        length = float(np.hypot(*(knuckles - wrist)))
        x, y = (float(v) for v in knuckles)
        roi = _shifted(x, y, length, length, upright(wrist, knuckles), up=0.1, scale=JOINTS_SCALE)
        first = self._look(image, roi)
        second = self.where(image, first) if first.presence > DOUBTFUL else first
        return replace(max(first, second, key=lambda h: h.presence), how=BODY)

    def where(self, image: Image.Image, before: Hand) -> Hand:
        """What is where a hand was in a frame beside; its presence may be low."""
        return replace(self._look(image, landmark_roi(before.landmarks)), how=FOLLOWED)

    def _look(self, image: Image.Image, roi: Roi) -> Hand:
        points, presence, _, world = self._hand(warp(image, roi, self._hand.side, extend=True))
        landmarks = roi.to_image(points.reshape(21, 3)[:, :2] / self._hand.side)
        cos, sin = np.cos(roi.rotation), np.sin(roi.rotation)
        turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], dtype=np.float32)
        return Hand(landmarks, world.reshape(21, 3) @ turn.T, float(presence.reshape(-1)[0]))


def palm_roi(palm: Detection, tilt: float = 0.0) -> Roi:
    """Region for the landmark net: the middle finger points up, 2.6 palms wide, shifted half a palm up."""
    rotation = upright(palm.keypoints[0], palm.keypoints[2]) + tilt
    width, height = palm.box[2] - palm.box[0], palm.box[3] - palm.box[1]
    x, y = (palm.box[:2] + palm.box[2:]) / 2
    return _shifted(float(x), float(y), float(width), float(height), rotation, up=0.5, scale=2.6)


def landmark_roi(landmarks: Float32) -> Roi:
    """Region for a second look, from landmarks ``[21, 2]``: the rotated box of the steady joints, doubled, 0.1 up."""
    target = ((landmarks[5] + landmarks[13]) / 2 + landmarks[9]) / 2
    rotation = upright(landmarks[WRIST], target)
    cos, sin = np.cos(-rotation), np.sin(-rotation)
    turn = np.array([[cos, -sin], [sin, cos]], dtype=np.float32)
    points = landmarks[STEADY]
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    local = (points - middle) @ turn.T
    low, high = local.min(axis=0), local.max(axis=0)
    x, y = turn.T @ ((low + high) / 2) + middle
    width, height = high - low
    return _shifted(float(x), float(y), float(width), float(height), rotation, up=0.1, scale=2.0)


def _shifted(x: float, y: float, width: float, height: float, rotation: float, *, up: float, scale: float) -> Roi:
    shift = height * up
    x, y = x + shift * float(np.sin(rotation)), y - shift * float(np.cos(rotation))
    return Roi(x, y, max(width, height) * scale, rotation)
