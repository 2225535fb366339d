"""Hands that are missed for a moment are looked for where they were: in the frame after, and in the frames before.

A real look at the frame's pixels, with the landmark net alone and its own presence; nothing is interpolated. It is what
MediaPipe's video mode does, but for a moment and in both directions: where nothing is missed, every frame is seen by
itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ipa_bench.observers.crops import change, sharpness
from ipa_bench.observers.mediapipe.detect import iou
from ipa_bench.observers.mediapipe.palm import FOLLOWED, MIN_PRESENCE, Hand

#: a hand is followed for this many seconds: six frames of 25 a second
MEMORY = 0.25
#: a hand further than this many hand sizes from where one was is another
REACH = 1.0
#: two hands are one where their middles are nearer than this many sizes of the larger, and one is mostly inside the
#: other's box
SAME_MIDDLE, INSIDE = 0.25, 0.75

#: the hands of each frame, and sharpness and change of each
Seen = tuple[list[list[Hand]], list[list[tuple[float, float]]]]


@dataclass(eq=False)
class _Frame:
    image: Image.Image
    before: Image.Image | None
    time: float
    hands: list[Hand]


@dataclass(eq=False)
class Follower:
    """Takes the hands that were found in each frame by itself, in order, and gives them with those that were missed.

    ``where(image, hand)`` looks at an image where a hand was in another; None where that cannot be asked.
    """

    where: Callable[[Image.Image, Hand], Hand | None]
    #: told each frame's picture and hands, in order, once no more are added to it
    tell: Callable[[Image.Image, Sequence[Hand]], None] | None = None
    _recent: deque[_Frame] = field(default_factory=deque)
    _hands: list[list[Hand]] = field(default_factory=list)
    _crops: list[list[tuple[float, float]]] = field(default_factory=list)
    #: when a hand was last found by itself; of those that are followed
    _since: dict[int, float] = field(default_factory=dict)

    def push(self, image: Image.Image, time: float, hands: Iterable[Hand]) -> None:
        """The next frame."""
        last = self._recent[-1] if self._recent else None
        frame = _Frame(image, last.image if last else None, time, list(hands))
        if last is not None:
            self._forward(last, frame)
            self._backward(frame)
        self._recent.append(frame)
        while self._recent[0].time < time - MEMORY - 1e-6 and len(self._recent) > 1:
            self._done(self._recent.popleft())

    def finish(self) -> Seen:
        """Everything, once no frame comes any more."""
        while self._recent:
            self._done(self._recent.popleft())
        return self._hands, self._crops

    def _forward(self, last: _Frame, frame: _Frame) -> None:
        since: dict[int, float] = {}
        for hand in last.hands:
            seen = self._since.get(id(hand), last.time)
            if frame.time - seen <= MEMORY + 1e-6 and (found := self._missed(hand, frame)) is not None:
                since[id(found)] = seen
        self._since = since

    def _backward(self, frame: _Frame) -> None:
        for hand in [h for h in frame.hands if h.how != FOLLOWED]:
            for before in reversed(self._recent):
                if frame.time - before.time > MEMORY + 1e-6 or (found := self._missed(hand, before)) is None:
                    break
                hand = found

    def _missed(self, hand: Hand, frame: _Frame) -> Hand | None:
        """Look for a hand in a frame beside and add it there; None where it was not missed, or is not there."""
        if any(hand.apart(other) <= REACH for other in frame.hands):
            return None
        found = self.where(frame.image, hand)
        if found is None or found.presence < MIN_PRESENCE or hand.apart(found) > REACH:
            return None
        if found not in distinct([*frame.hands, found]) or any(same(found, other) for other in frame.hands):
            return None
        frame.hands.append(found)
        return found

    def _done(self, frame: _Frame) -> None:
        if self.tell is not None:
            self.tell(frame.image, frame.hands)
        self._hands.append(frame.hands)
        self._crops.append(
            [(sharpness(frame.image, h.landmarks), change(frame.image, frame.before, h.landmarks)) for h in frame.hands]
        )


def distinct(hands: Iterable[Hand]) -> list[Hand]:
    """Merge hands that were found twice: of two that are the same, the surer one stays."""
    kept: list[Hand] = []
    for hand in sorted(hands, key=lambda h: -h.presence):
        if not any(same(hand, other) for other in kept):
            kept.append(hand)
    return kept


def same(one: Hand, other: Hand) -> bool:
    """Whether two hands of a frame are one: their boxes overlap by half, or one is inside the other's middle."""
    a, b = one.box, other.box
    if float(iou(a, b[None])[0]) > 0.5:
        return True
    apart = float(np.hypot(*((a[:2] + a[2:]) / 2 - (b[:2] + b[2:]) / 2)))
    if apart > SAME_MIDDLE * max(one.size, other.size):
        return False
    shared = float(np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)))
    return shared > INSIDE * min(float(np.prod(a[2:] - a[:2])), float(np.prod(b[2:] - b[:2])))
