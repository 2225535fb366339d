"""Where the wrists are: MediaPipe's person detector and pose landmarks (33 joints) on LiteRT."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from ipa_bench import weights
from ipa_bench.observers.mediapipe.detect import Detection, detect, upright, whole
from ipa_bench.observers.mediapipe.litert import Net, Roi, sigmoid, ssd_anchors, warp
from ipa_bench.types import Bool, Float32

LEFT_SHOULDER, RIGHT_SHOULDER = 11, 12
LEFT_ELBOW, RIGHT_ELBOW = 13, 14
LEFT_WRIST, RIGHT_WRIST = 15, 16
LEFT_LITTLE, RIGHT_LITTLE = 17, 18
LEFT_INDEX, RIGHT_INDEX = 19, 20
HIPS = (23, 24)
#: the detector's point in the middle of the upper body
UPPER_BODY = 2
MIN_PRESENCE = 0.5
#: a body joint that is less visible than this is not found
MIN_VISIBILITY = 0.5
#: index among MediaPipe's 33 joints of each of COCO-18's; the neck, which has none, is put between the shoulders
_JOINTS = np.array([0, -1, 12, 14, 16, 11, 13, 15, 24, 26, 28, 23, 25, 27, 5, 2, 8, 7])
_NECK = 1
#: an image this much longer than wide is also searched in squares
LONG = 1.2
#: two bodies are two where their heads and shoulders are at least this many shoulder widths apart, on average
APART = 0.4


class Body(NamedTuple):
    """``joints`` float32 ``[33, 2]`` in image pixels; ``visibility`` ``[33]`` in [0, 1].

    ``people`` ``[N, 3]`` are the middles of the upper bodies of everybody who is seen, this one first, each with this
    one's width of shoulders.
    """

    joints: Float32
    visibility: Float32
    people: Float32 = np.zeros((0, 3), np.float32)


class BodyNet:
    """The most prominent person of one image. Sides are the person's own, as in the pose model."""

    def __init__(self) -> None:
        self._detector = Net(weights.path("pose_detection"))
        self._landmarks = Net(weights.path("pose_landmark_full"))
        self._anchors = ssd_anchors(self._detector.side, (8, 16, 32, 32, 32))

    def __call__(self, image: Image.Image, before: Body | None = None) -> Body | None:
        """Find the body, or None where nobody is seen, or not the one who was seen ``before``, where that is known: of
        two who are as prominent the detector sees now one, now the other, and now both.
        """
        people = detect(self._detector, self._anchors, image, whole(image), low=-1.0)
        person = _nearest(people, before)
        body = None if person is None else self._body(image, person)
        if person is None or body is None:
            return None
        everybody = [person, *(other for other in people if other is not person)]
        rows = [(*each.keypoints[UPPER_BODY], _shoulders(body)) for each in everybody]
        return body._replace(people=np.array(rows, np.float32))

    def all(self, image: Image.Image) -> list[Body]:
        """Everybody who is seen, the surest first: in the whole image, and in squares along it where it is not one."""
        parts = [detect(self._detector, self._anchors, image, part, low=-1.0) for part in _squares(image)]
        found = [person for people in parts for person in people]
        bodies: list[Body] = []
        for person in sorted(found, key=lambda each: -each.score):
            body = self._body(image, person)
            if body is not None and not any(_same(body, other) for other in bodies):
                bodies.append(body)
        return bodies

    def _body(self, image: Image.Image, person: Detection) -> Body | None:
        """The joints of somebody who was detected, or None where nobody is."""
        hips, top = person.keypoints[0], person.keypoints[1]
        radius = float(np.hypot(*(top - hips)))
        roi = Roi(float(hips[0]), float(hips[1]), 2 * radius * 1.25, upright(hips, top))
        output = self._landmarks(warp(image, roi, self._landmarks.side))
        if float(output[1].reshape(-1)[0]) < MIN_PRESENCE:
            return None
        joints = output[0].reshape(39, 5)[:33]
        return Body(roi.to_image(joints[:, :2] / self._landmarks.side), sigmoid(joints[:, 3]))


def coco18(body: Body | None) -> tuple[Float32, Bool]:
    """Joints float32 ``[18, 2]`` in pixels and bool ``[18]`` found, of a body in MediaPipe's order."""
    if body is None:
        return np.zeros((18, 2), np.float32), np.zeros(18, bool)
    joints, visible = body.joints[_JOINTS], body.visibility[_JOINTS] >= MIN_VISIBILITY
    shoulders = [LEFT_SHOULDER, RIGHT_SHOULDER]
    joints[_NECK] = body.joints[shoulders].mean(axis=0)
    visible[_NECK] = bool((body.visibility[shoulders] >= MIN_VISIBILITY).all())
    return joints, visible


def _squares(image: Image.Image) -> list[Roi]:
    """The whole image, and in a long one squares of its short side, each half over the next: people look larger."""
    width, height = image.size
    side, length = sorted((width, height))
    if length < LONG * side:
        return [whole(image)]
    count = int(np.ceil(2 * length / side)) - 1
    middles = np.linspace(side / 2, length - side / 2, count)
    parts = [(m, height / 2) if width > height else (width / 2, m) for m in middles]
    return [whole(image), *(Roi(float(x), float(y), float(side)) for x, y in parts)]


def _same(one: Body, other: Body) -> bool:
    """Whether two bodies are one that was found twice: joints of head and shoulders where the other's are."""
    upper = slice(0, RIGHT_SHOULDER + 1)
    away = float(np.linalg.norm(one.joints[upper] - other.joints[upper], axis=1).mean())
    return away < APART * max(_shoulders(one), _shoulders(other), 1.0)


def _shoulders(body: Body) -> float:
    return float(np.linalg.norm(body.joints[LEFT_SHOULDER] - body.joints[RIGHT_SHOULDER]))


def _nearest(people: list[Detection], before: Body | None) -> Detection | None:
    """The person nearest to where ``before`` had the hips, within half a body's radius, or None."""
    if before is None or not people:
        return people[0] if people else None
    middle = before.joints[list(HIPS)].mean(axis=0)
    apart = [
        float(np.hypot(*(p.keypoints[0] - middle)) / max(np.hypot(*(p.keypoints[1] - p.keypoints[0])), 1.0))
        for p in people
    ]
    nearest = int(np.argmin(apart))
    return people[nearest] if apart[nearest] <= 0.5 else None
