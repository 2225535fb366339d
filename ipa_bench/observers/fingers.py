"""The finger observer: how each hand that the hand observer found looks to a head on the landmark net's own maps.

It looks only where a metric asks for it. Each hand is looked at once more, in the region that its final landmarks span:
the same region whatever way it was found, so that two videos of one hand are seen alike.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ipa_bench import video
from ipa_bench.errors import UserError
from ipa_bench.observers.base import Arrays, Observer, Session, Truth
from ipa_bench.observers.hands import HandSession, id_of
from ipa_bench.observers.mediapipe.maps import MapNet
from ipa_bench.observers.mediapipe.palm import Hand
from ipa_bench.types import Float32, Observation, UInt8
from ipa_bench.weights.shipped import FINGERS_SHA256

if TYPE_CHECKING:
    from ipa_bench.nets.fingers import FingerHead

#: changes whenever a value of the observation may change
OBSERVER_ID = "fingers@1"
#: hands that wait for a thread, for each thread: their pictures are held
_WAITING = 8

#: (picture, landmarks ``[21, 2]`` in px) -> logit of "an edited hand", fingers seen
Look = Callable[[Image.Image, Float32], tuple[float, float]]


class FingerObserver(Observer):
    """Looks at the hands that another observer found. Loads its networks, and torch, when first asked."""

    id = OBSERVER_ID

    def __init__(self, threads: int = 1, backend: str = "litert") -> None:
        """``backend`` of the hand observer that is followed. Raises UserError for an unknown one."""
        self._hands = id_of(backend)
        self._head: FingerHead | None = None
        self._local = threading.local()
        self._pool: Executor | None = ThreadPoolExecutor(threads, "fingers") if threads > 1 else None
        self._most = _WAITING * threads

    def kind(self) -> str:
        """What the cache calls its observations: the head's weights, and who found the hands, are part of it."""
        return f"{OBSERVER_ID}-{FINGERS_SHA256[:12]}-{self._hands}"

    def load(self) -> str | None:
        """Load the head. Returns why that is not possible, or None."""
        from ipa_bench.nets.fingers import load_fingers

        try:
            self._head = self._head or load_fingers()
        except UserError as error:
            return f"{error.problem}: {error.fix}"
        return None

    def start(self, truth: Truth | None = None) -> FingerSession:
        """Begin a video. Raises ValueError where the head cannot be had."""
        if self._head is None and (why := self.load()):
            raise ValueError(why)
        return FingerSession(self.look, self._pool, self._most)

    def look(self, image: Image.Image, landmarks: Float32) -> tuple[float, float]:
        """The logit of "an edited hand" and how many fingers are seen, of a hand ``[21, 2]`` px of an RGB image."""
        import torch

        if not hasattr(self._local, "maps"):
            self._local.maps = MapNet()
        maps = self._local.maps(image, landmarks)
        assert self._head is not None
        # One hand at a time: the same result whatever else is in the frame.
        with torch.inference_mode():
            wrong, count = self._head(torch.from_numpy(maps)[None])[0].tolist()
        return float(wrong), float(count)


class FingerSession:
    """One video under observation."""

    def __init__(self, look: Look, pool: Executor | None, most: int) -> None:
        self._look, self._pool, self._most = look, pool, most
        self._known: Observation | None = None
        self._session: HandSession | None = None
        self._frames = 0
        #: of each hand: its frame, its landmarks, and what is seen
        self._seen: list[tuple[int, Float32, Future[tuple[float, float]]]] = []
        self._pending: deque[Future[tuple[float, float]]] = deque()

    def follow(self, other: Observation | Session) -> None:
        """The hands, as they were kept, or the session that finds them in this pass."""
        if isinstance(other, Observation):
            self._known = other
        else:
            assert isinstance(other, HandSession)
            self._session = other
            other.tell(self._told)

    def push(self, image: UInt8, time: float) -> None:
        """Take the next frame: uint8 ``[H, W, 3]`` RGB, time in seconds."""
        if self._known is None:
            return  # its hands are told later
        found, landmarks = self._known["found"][self._frames], self._known["landmarks"][self._frames]
        if found.any():
            self._add(video.picture(np.ascontiguousarray(image)), [landmarks[slot] for slot in np.flatnonzero(found)])
        self._frames += 1

    def finish(self) -> Arrays:
        """``wrong`` and ``count`` float32 ``[T, 2]``, ``found`` bool ``[T, 2]``: those of the hands; 0 where not found.

        ``wrong`` is the logit of "an edited hand", ``count`` how many fingers are seen.
        """
        hands = self._known.values if self._known is not None else self._session.seen if self._session else None
        if hands is None:
            raise ValueError("there is nobody to follow, or not finished")
        found, landmarks = np.asarray(hands["found"], bool), hands["landmarks"]
        values = np.zeros((2, *found.shape), np.float32)
        for t, points, seen in self._seen:
            for slot in np.flatnonzero(found[t]):
                if np.array_equal(landmarks[t, slot], points):
                    values[:, t, slot] = seen.result()
        return {"wrong": values[0], "count": values[1], "found": found}

    def _told(self, image: Image.Image, hands: Sequence[Hand]) -> None:
        self._add(image, [hand.landmarks for hand in hands])
        self._frames += 1

    def _add(self, image: Image.Image, hands: Sequence[Float32]) -> None:
        for points in hands:
            if self._pool is None:
                seen: Future[tuple[float, float]] = Future()
                seen.set_result(self._look(image, points))
            else:
                seen = self._pool.submit(self._look, image, points)
                self._pending.append(seen)
            self._seen.append((self._frames, points, seen))
        while len(self._pending) > self._most:
            self._pending.popleft().result()
