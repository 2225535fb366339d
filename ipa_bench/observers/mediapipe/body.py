"""Where the wrists are: MediaPipe's person detector and pose landmarks (33 joints) on LiteRT."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from ipa_bench import weights
from ipa_bench.observers.mediapipe.detect import detect, upright, whole
from ipa_bench.observers.mediapipe.litert import Net, Roi, sigmoid, ssd_anchors, warp
from ipa_bench.types import Float32

LEFT_SHOULDER, RIGHT_SHOULDER = 11, 12
LEFT_ELBOW, RIGHT_ELBOW = 13, 14
LEFT_WRIST, RIGHT_WRIST = 15, 16
MIN_PRESENCE = 0.5


class Body(NamedTuple):
    """``joints`` float32 ``[33, 2]`` in image pixels; ``visibility`` ``[33]`` in [0, 1]."""

    joints: Float32
    visibility: Float32


class BodyNet:
    """The most prominent person of one image. Sides are the person's own, as in the pose model."""

    def __init__(self) -> None:
        self._detector = Net(weights.path("pose_detection"))
        self._landmarks = Net(weights.path("pose_landmark_full"))
        self._anchors = ssd_anchors(self._detector.side, (8, 16, 32, 32, 32))

    def __call__(self, image: Image.Image) -> Body | None:
        """Find the body, or None where nobody is seen."""
        people = detect(self._detector, self._anchors, image, whole(image), low=-1.0)
        if not people:
            return None
        hips, top = people[0].keypoints[0], people[0].keypoints[1]
        radius = float(np.hypot(*(top - hips)))
        roi = Roi(float(hips[0]), float(hips[1]), 2 * radius * 1.25, upright(hips, top))
        output = self._landmarks(warp(image, roi, self._landmarks.side))
        if float(output[1].reshape(-1)[0]) < MIN_PRESENCE:
            return None
        joints = output[0].reshape(39, 5)[:33]
        return Body(roi.to_image(joints[:, :2] / self._landmarks.side), sigmoid(joints[:, 3]))
