"""The body observer: the joints of the person in a video, by MediaPipe's pose landmark net on each frame by itself."""

from __future__ import annotations

import threading

import numpy as np

from ipa_bench import video
from ipa_bench.observers.base import Arrays, Observer, Truth
from ipa_bench.observers.mediapipe.body import BodyNet, coco18
from ipa_bench.types import Bool, Float32, UInt8

#: changes whenever a value of the observation may change; named before there was an observer, and caches know it so
OBSERVER_ID = "pose@1"


class _Nets(threading.local):
    net: BodyNet | None = None


class BodyObserver(Observer):
    """Looks at frames; reusable for any number of videos."""

    id = OBSERVER_ID

    def __init__(self) -> None:
        self._nets = _Nets()

    def start(self, truth: Truth | None = None) -> BodySession:
        """Begin a video."""
        self._nets.net = self._nets.net or BodyNet()
        return BodySession(self._nets.net)


class BodySession:
    """One video under observation."""

    def __init__(self, net: BodyNet) -> None:
        self._net = net
        self._joints: list[Float32] = []
        self._found: list[Bool] = []

    def push(self, image: UInt8, time: float) -> None:
        """Take the next frame: uint8 ``[H, W, 3]`` RGB; time in seconds from the first frame."""
        joints, found = coco18(self._net(video.picture(np.ascontiguousarray(image))))
        self._joints.append(joints)
        self._found.append(found)

    def finish(self) -> Arrays:
        """``body`` float32 [T, 18, 2], px, and ``found`` bool [T, 18]: :data:`ipa_bench.pose.BODY_JOINTS` in order."""
        count = len(self._joints)
        body, found = np.zeros((count, 18, 2), np.float32), np.zeros((count, 18), bool)
        for t, each in enumerate(zip(self._joints, self._found, strict=True)):
            body[t], found[t] = each
        return {"body": body, "found": found}
