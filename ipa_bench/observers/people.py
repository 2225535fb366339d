"""The people observer: every body of a clip on a track of its own, with the hands that hang on it.

Bodies are looked for in every frame by itself and joined by where they are, and between bodies that are equally near by
the colours of their clothes: so somebody who was hidden behind another goes on as who it was. A hand belongs to the
wrist that is nearest in reaches of that body's forearm, each wrist to one hand: a neighbour's hand is the neighbour's,
however near to the middle of the picture.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ipa_bench.metrics.assignment import matched
from ipa_bench.observers.base import Arrays, Observer, Truth
from ipa_bench.observers.face_tracks import join
from ipa_bench.observers.hands import find_hands, wrists_between
from ipa_bench.observers.mediapipe.body import LEFT_SHOULDER, RIGHT_SHOULDER, Body, BodyNet, coco18
from ipa_bench.observers.mediapipe.palm import WRIST, Hand, HandNet
from ipa_bench.types import Float32, Float64, UInt8

#: changes whenever a value of the observation may change
OBSERVER_ID = "people@1"
#: a hand further from every wrist than this many reaches is nobody's
REACH = 1.0
#: what wholly different clothes cost, in shoulder widths of distance: more than it takes to pass each other
UNLIKE = 2.0
#: levels of a colour in the histogram of clothes
LEVELS = 4
#: nose, ears and shoulders: the box of a body
_UPPER = (0, 7, 8, LEFT_SHOULDER, RIGHT_SHOULDER)


class _Nets(threading.local):
    def __init__(self) -> None:
        self.body: BodyNet | None = None
        self.hands: HandNet | None = None

    def look(self, image: Image.Image) -> tuple[list[Body], list[Hand]]:
        """Everybody, and all hands."""
        if self.body is None or self.hands is None:
            self.body, self.hands = BodyNet(), HandNet()
        bodies = self.body.all(image)
        wrists = [wrists_between(body, body, 0.0) for body in bodies]
        near = np.concatenate(wrists) if wrists else np.zeros((0, 3), np.float32)
        return bodies, find_hands(self.hands, image, near)


class PeopleObserver(Observer):
    """Looks at frames; reusable for any number of videos."""

    id = OBSERVER_ID

    def __init__(self) -> None:
        self._nets = _Nets()

    def start(self, truth: Truth | None = None) -> PeopleSession:
        """Begin a video."""
        return PeopleSession(self._nets)


class PeopleSession:
    """One video under observation."""

    def __init__(self, nets: _Nets) -> None:
        self._nets = nets
        self._frames: list[tuple[list[Body], list[Hand]]] = []
        self._colours: list[Float32] = []
        self._times: list[float] = []
        self._size = (0, 0)

    def push(self, image: UInt8, time: float) -> None:
        """Take the next frame: uint8 ``[H, W, 3]`` RGB; time in seconds from the first frame."""
        picture = Image.fromarray(np.ascontiguousarray(image))
        bodies, hands = self._nets.look(picture)
        self._frames.append((bodies, hands))
        self._colours.append(np.array([colours(image, body) for body in bodies], np.float32).reshape(-1, LEVELS**3))
        self._times.append(time)
        self._size = picture.size

    def finish(self) -> Arrays:
        """T frames, N tracks, those seen longest first: ``found`` [T, N], ``body`` [T, N, 18, 2] and ``body_found``
        [T, N, 18] in the order of :data:`ipa_bench.pose.BODY_JOINTS`, ``hands`` [T, N, 2, 21, 2] and ``hands_found``
        [T, N, 2] (slot 0 the person's left), px; ``times`` [T], s; ``size`` (width, height).
        """
        boxes = [np.array([box(body) for body in bodies], np.float32).reshape(-1, 4) for bodies, _ in self._frames]
        numbers = [each if len(each) else None for each in self._colours]
        tracks = join(boxes, numbers, self._times, UNLIKE)
        count = max((int(t.max()) + 1 for t in tracks if len(t)), default=0)
        seen = np.bincount(np.concatenate(tracks), minlength=count) if count else np.zeros(0, int)
        rank = np.empty(count, int)
        rank[np.argsort(-seen, kind="stable")] = np.arange(count)
        shape = (len(self._frames), count)
        made = {
            "found": np.zeros(shape, bool),
            "body": np.zeros((*shape, 18, 2), np.float32),
            "body_found": np.zeros((*shape, 18), bool),
            "hands": np.zeros((*shape, 2, 21, 2), np.float32),
            "hands_found": np.zeros((*shape, 2), bool),
        }
        for t, ((bodies, hands), owners) in enumerate(zip(self._frames, tracks, strict=True)):
            for body, owner in zip(bodies, owners, strict=True):
                where = (t, rank[owner])
                made["found"][where] = True
                made["body"][where], made["body_found"][where] = coco18(body)
            for hand, (index, side) in zip(hands, belonging(hands, bodies), strict=True):
                if index >= 0:
                    made["hands"][t, rank[owners[index]], side] = hand.landmarks
                    made["hands_found"][t, rank[owners[index]], side] = True
        return {**made, "times": np.array(self._times), "size": np.array(self._size)}


def belonging(hands: Sequence[Hand], bodies: Sequence[Body]) -> list[tuple[int, int]]:
    """For each hand (index of the body, side: 0 its left), or (-1, 0) for a hand of nobody.

    The sum of distances to wrists, in reaches of each body's forearm, is least; a wrist has one hand.
    """
    owners = [(-1, 0)] * len(hands)
    if not hands or not bodies:
        return owners
    wrists = np.concatenate([wrists_between(body, body, 0.0) for body in bodies]).astype(np.float64)
    held = np.array([hand.landmarks[WRIST] for hand in hands], np.float64)
    away: Float64 = np.linalg.norm(held[:, None] - wrists[None, :, :2], axis=-1) / np.maximum(wrists[:, 2], 1.0)
    cost = np.where(np.isfinite(away) & (away <= REACH), away, 2 * REACH)
    for hand, wrist in zip(*matched(cost), strict=True):
        if cost[hand, wrist] <= REACH:
            owners[hand] = (int(wrist) // 2, int(wrist) % 2)
    return owners


def box(body: Body) -> Float32:
    """Head and shoulders: left, top, width, height; the height is the shoulders' distance, the body's scale."""
    points = body.joints[list(_UPPER)]
    (left, top), (right, bottom) = points.min(0), points.max(0)
    wide = float(np.linalg.norm(body.joints[LEFT_SHOULDER] - body.joints[RIGHT_SHOULDER]))
    side = max(wide, float(bottom - top), 1.0)
    middle = (left + right) / 2, (top + bottom) / 2
    return np.array([middle[0] - side / 2, middle[1] - side / 2, side, side], np.float32)


def colours(image: UInt8, body: Body) -> Float32:
    """Square root of the shares of ``LEVELS``³ colours below the shoulders, float32 [64]; zeros where out of view."""
    one, other = body.joints[LEFT_SHOULDER], body.joints[RIGHT_SHOULDER]
    wide = float(np.linalg.norm(one - other))
    x, y = (one + other) / 2
    height, width = image.shape[:2]
    rows = slice(int(np.clip(y + 0.1 * wide, 0, height)), int(np.clip(y + 0.9 * wide, 0, height)))
    columns = slice(int(np.clip(x - 0.35 * wide, 0, width)), int(np.clip(x + 0.35 * wide, 0, width)))
    part = image[rows, columns].reshape(-1, 3) // (256 // LEVELS)
    if not len(part):
        return np.zeros(LEVELS**3, np.float32)
    counts = np.bincount(part.astype(np.int64) @ (LEVELS**2, LEVELS, 1), minlength=LEVELS**3)
    return np.asarray(np.sqrt(counts / counts.sum()), np.float32)
