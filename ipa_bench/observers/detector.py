"""Faces of pictures by YuNet, found once for all observers that are shown the same picture.

torch is imported when a picture is looked at, not before.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from ipa_bench.types import Float32, UInt8

if TYPE_CHECKING:
    from ipa_bench.nets.yunet import YuNet

#: longer side of the picture in which faces are looked for, px; a reference without a face is looked at twice as large
DETECTION_SIDE = 640
#: least score of a face; three-quarter views have 0.85 and more, hands taken for faces up to 0.6
LEAST_SCORE = 0.7


class Face(NamedTuple):
    """One face: pixels of the frame, x right, y down."""

    #: left, top, width, height
    box: Float32
    #: [5, 2]
    points: Float32
    score: float


class Detector:
    """Finds faces. Of the last pictures, as many as its users look ahead, it remembers what it found."""

    def __init__(self, net: YuNet) -> None:
        self._net = net
        self._lock = Lock()
        self._held: deque[tuple[UInt8, int, Future[list[Face]]]] = deque()
        self._most = 1

    def look_ahead(self, frames: int) -> None:
        """Users of this detector work on up to ``frames`` pictures at a time."""
        self._most = max(self._most, frames)

    def faces(self, image: UInt8, side: int = DETECTION_SIDE) -> list[Face]:
        """The faces of uint8 RGB [H, W, 3], the surest first. The same array is looked at once, by whoever is first."""
        with self._lock:
            known = next((f for held, at, f in self._held if held is image and at == side), None)
            made: Future[list[Face]] = Future()
            if known is None:
                self._held.append((image, side, made))
                while len(self._held) > self._most:
                    self._held.popleft()
        if known is not None:
            return known.result()
        try:
            made.set_result(self._look(image, side))
        except BaseException as error:  # those who wait for it have to hear of it
            made.set_exception(error)
            raise
        return made.result()

    def forget(self) -> None:
        """Let go of the pictures; a clip has ended."""
        with self._lock:
            self._held.clear()

    def _look(self, image: UInt8, side: int) -> list[Face]:
        from ipa_bench.nets.yunet import detect

        height, width = image.shape[:2]
        scale = side / max(height, width)
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        shown = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        (found,) = detect(self._net, shown[None], LEAST_SCORE)
        step = np.array([width / size[0], height / size[1]], np.float32)
        boxes, points = found.box * np.tile(step, 2), found.points * step
        return [Face(*each) for each in zip(boxes, points, found.score.tolist(), strict=True)]


@lru_cache(maxsize=2)
def detector(weights: Path) -> Detector:
    """The one detector of this process with these weights. Raises UserError where the file is none."""
    from ipa_bench.nets.yunet import load_yunet

    return Detector(load_yunet(weights))
