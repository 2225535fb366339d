"""The hand observer: what hands a video shows, frame by frame, on two tracks.

Palm detector on the full frame, and on a crop around each body wrist that the full frame left without a hand (small
hands vanish when a whole person is squeezed into 192 pixels). Hands are looked for in every frame by itself, without
tracking, so that they do not depend on where a clip is cut; the body is looked at every eighth frame or less.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from itertools import chain, repeat

import numpy as np
from PIL import Image

from ipa_bench.errors import UserError
from ipa_bench.observers.base import Arrays, Observer, Truth
from ipa_bench.observers.crops import change, sharpness
from ipa_bench.observers.mediapipe import tasks as mediapipe_tasks
from ipa_bench.observers.mediapipe.body import (
    LEFT_ELBOW,
    LEFT_SHOULDER,
    LEFT_WRIST,
    RIGHT_ELBOW,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
    Body,
    BodyNet,
)
from ipa_bench.observers.mediapipe.detect import iou
from ipa_bench.observers.mediapipe.litert import Roi
from ipa_bench.observers.mediapipe.palm import MIN_PRESENCE, WRIST, Hand, HandNet
from ipa_bench.observers.tracks import assign
from ipa_bench.types import Float32, HandTracks, Observation, UInt8

#: changes whenever a value of the observation may change
OBSERVER_ID = "hands@1"
#: ``litert`` runs the models themselves, ``mediapipe`` the official Tasks runtime (extra ``[mediapipe]``)
BACKENDS = ("litert", "mediapipe")
#: the body is looked at every this many frames and its wrists are interpolated between
BODY_STRIDE = 8
#: and where no wrist could be magnified, at every third of them
SELDOM = 3
#: side of a wrist crop, in reaches
CROP = 1.6
#: a wrist crop that magnifies less than this shows the palm detector nothing that the full frame did not
MIN_ZOOM = 2.5


class _Nets(threading.local):
    """The nets of one thread, loaded when first used: what is cached needs none."""

    def __init__(self, backend: str, tilt: float, runtimes: list[mediapipe_tasks.TasksHands]) -> None:
        self._backend, self._tilt = backend, tilt
        #: of every thread, so that they can be closed
        self.runtimes = runtimes
        self._find: Callable[[Image.Image, Float32], list[Hand]] | None = None
        self._body: BodyNet | None = None

    def find(self, image: Image.Image, wrists: Float32) -> list[Hand]:
        """The hands of one image."""
        if self._find is None:
            if self._backend == "mediapipe":
                tasks = mediapipe_tasks.TasksHands()
                self.runtimes.append(tasks)
                self._find = lambda picture, _: tasks.find(picture)
            else:
                self._find = partial(find_hands, HandNet(self._tilt))
        return self._find(image, wrists)

    def body(self, image: Image.Image) -> Body | None:
        """The body of one image."""
        if self._body is None:
            self._body = BodyNet()
        return self._body(image)


#: the hands of a frame, and sharpness and change of each
_Seen = tuple[list[Hand], list[tuple[float, float]]]


class HandObserver(Observer):
    """Looks at frames; reusable for any number of videos.

    ``threads`` frames are looked at at a time; the result does not depend on it.
    ``backend`` is one of ``BACKENDS``; raises UserError for another, or where its runtime does not start.
    ``tilt`` is for parity tests alone (:data:`ipa_bench.observers.mediapipe.palm.TASKS_TILT`): observations made with
    one are not comparable with others.
    """

    def __init__(self, threads: int = 1, backend: str = "litert", tilt: float = 0.0) -> None:
        if backend not in BACKENDS:
            raise UserError(f"there is no hand observer called {backend!r}", f"use one of {', '.join(BACKENDS)}")
        #: goes into every observation, and so into the cache's keys
        self.id = mediapipe_tasks.runtime_id() if backend == "mediapipe" else OBSERVER_ID
        self._nets = _Nets(backend, tilt, [])
        self._pool: Executor | None = ThreadPoolExecutor(threads, "hands") if threads > 1 else None

    def close(self) -> None:
        """Free what the backend holds; the observer is not used again."""
        for runtime in self._nets.runtimes:
            runtime.close()

    def start(self, truth: Truth | None = None) -> HandSession:
        """Begin a video; push its frames, then ``finish``."""
        return HandSession(self._nets, self._pool)

    def observe(self, images: Iterable[UInt8], times: Iterable[float], sha256: str) -> HandTracks:
        """All at once: ``images`` uint8 ``[H, W, 3]`` RGB of one size, ``times`` in seconds, one for each."""
        session = self.start()
        for image, time in zip(images, times, strict=True):
            session.push(image, time)
        return HandTracks.of(Observation(self.id, sha256, session.finish()))


class HandSession:
    """One video under observation; holds at most ``2 * BODY_STRIDE + 1`` frames."""

    def __init__(self, nets: _Nets, pool: Executor | None) -> None:
        self._nets, self._pool = nets, pool
        self._waiting: list[Image.Image] = []
        self._pending: list[Future[_Seen]] = []
        self._body: Body | None = None
        self._hands: list[list[Hand]] = []
        self._crops: list[list[tuple[float, float]]] = []
        self._before: Image.Image | None = None
        self._wrists: list[Float32] = []
        self._times: list[float] = []
        self._size = (0, 0)
        self._blocks = 0

    def push(self, image: UInt8, time: float) -> None:
        """Take the next frame: uint8 ``[H, W, 3]`` RGB, time in seconds."""
        self._times.append(time)
        self._waiting.append(Image.fromarray(np.ascontiguousarray(image)))
        self._size = self._waiting[-1].size
        if len(self._times) == 1:
            self._body = self._nets.body(self._waiting[0])
        if len(self._waiting) == BODY_STRIDE + 1:
            self._look(BODY_STRIDE)

    def finish(self) -> Arrays:
        """The arrays of a :class:`~ipa_bench.types.HandTracks`, of everything pushed."""
        if self._waiting:
            self._look(len(self._waiting))
        self._keep(future.result() for future in self._pending)
        wrists = np.array(self._wrists, dtype=np.float32).reshape(-1, 2, 3)
        arrays = _arrays(self._hands, self._crops, wrists, self._times)
        return {**arrays, "times": np.array(self._times, np.float64), "size": np.array(self._size)}

    def _look(self, count: int) -> None:
        """Look at the first ``count`` waiting frames, with the bodies at both ends of them."""
        self._blocks += 1
        # A body that is far away may need a crop any time; a near one, or none, is only asked which hand is which.
        due = self._blocks % SELDOM == 0 or _far(self._body, max(self._size))
        ahead = self._nets.body(self._waiting[-1]) if due and len(self._waiting) > 1 else self._body
        span = max(len(self._waiting) - 1, 1)
        wrists = [wrists_between(self._body, ahead, i / span) for i in range(count)]
        images = self._waiting[:count]
        work = zip(repeat(self._nets), images, [self._before, *images[:-1]], wrists, strict=False)
        if self._pool is None:
            self._keep(_frame(*item) for item in work)
        else:
            # One block is looked at while the next is decoded and its bodies are found.
            done, pool = self._pending, self._pool
            self._pending = [pool.submit(_frame, *item) for item in work]
            self._keep(future.result() for future in done)
        self._before = images[-1]
        self._wrists += wrists
        self._waiting = self._waiting[count:]
        self._body = ahead

    def _keep(self, seen: Iterable[_Seen]) -> None:
        for hands, values in seen:
            self._hands.append(hands)
            self._crops.append(values)


def _frame(nets: _Nets, image: Image.Image, before: Image.Image | None, wrists: Float32) -> _Seen:
    """Hands of a frame, and sharpness and change of each."""
    hands = nets.find(image, wrists)
    return hands, [(sharpness(image, h.landmarks), change(image, before, h.landmarks)) for h in hands]


def find_hands(net: HandNet, image: Image.Image, wrists: Float32) -> list[Hand]:
    """Hands of one image with presence >= 0.5, surest first, each once. ``wrists`` ``[2, 3]``: x, y, reach or NaN."""
    hands = [net.hand(image, palm) for palm in net.palms(image)]
    hands = [hand for hand in hands if hand.presence >= MIN_PRESENCE]
    for x, y, reach in wrists:
        side = CROP * float(reach)
        # NaN compares false: a wrist that is not seen, or lies outside the image, gets no look.
        inside = 0 <= x < image.width and 0 <= y < image.height and max(image.size) >= MIN_ZOOM * side
        # A hand longer than the forearm belongs to somebody nearer, or the body is imagined into a close-up of a hand.
        if inside and not any(h.size > reach or np.hypot(*(h.landmarks[WRIST] - (x, y))) < 0.5 * reach for h in hands):
            found = [net.small_hand(image, palm) for palm in net.palms(image, Roi(float(x), float(y), side))]
            hands += [hand for hand in found if hand.presence >= MIN_PRESENCE]
    return distinct(hands)


def distinct(hands: Iterable[Hand]) -> list[Hand]:
    """Merge hands that were found twice: of two whose boxes overlap by half, the surer one stays."""
    kept: list[Hand] = []
    for hand in sorted(hands, key=lambda h: -h.presence):
        boxes = np.array([_box(other.landmarks) for other in kept], dtype=np.float32).reshape(-1, 4)
        if not (iou(_box(hand.landmarks), boxes) > 0.5).any():
            kept.append(hand)
    return kept


def wrists_between(before: Body | None, after: Body | None, share: float) -> Float32:
    """Wrists ``[2, 3]`` (x, y, reach in px; NaN where unseen) at ``share`` in [0, 1] of the way between two looks."""
    a, b = _wrists(before), _wrists(after)
    mixed = a + (b - a) * np.float32(share)
    return np.where(np.isfinite(mixed), mixed, np.where(np.isfinite(a), a, b)).astype(np.float32)


def _far(body: Body | None, size: int) -> bool:
    """Whether a crop around a wrist would magnify an image ``size`` pixels long."""
    return bool((size >= MIN_ZOOM * CROP * _wrists(body)[:, 2]).any())  # NaN compares false


def _wrists(body: Body | None) -> Float32:
    result = np.full((2, 3), np.nan, dtype=np.float32)
    if body is None:
        return result
    shoulders = float(np.hypot(*(body.joints[LEFT_SHOULDER] - body.joints[RIGHT_SHOULDER])))
    for slot, (elbow, wrist) in enumerate(((LEFT_ELBOW, LEFT_WRIST), (RIGHT_ELBOW, RIGHT_WRIST))):
        if body.visibility[wrist] >= 0.5:
            forearm = body.joints[wrist] - body.joints[elbow]
            # Foreshortened forearms are short; the shoulders say how large the person is.
            reach = max(float(np.hypot(*forearm)), 0.75 * shoulders, 1.0)
            result[slot] = (*(body.joints[wrist] + 0.25 * forearm), reach)
    return result


def _box(landmarks: Float32) -> Float32:
    return np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)])


def _arrays(
    hands: list[list[Hand]], crops: list[list[tuple[float, float]]], wrists: Float32, times: list[float]
) -> Arrays:
    count = len(times)
    landmarks = np.zeros((count, 2, 21, 2), np.float32)
    world = np.zeros((count, 2, 21, 3), np.float32)
    presence = np.zeros((count, 2), np.float32)
    seen = np.zeros((2, count, 2), np.float32)  # sharpness and change
    box = np.zeros((count, 2, 4), np.float32)
    found = np.zeros((count, 2), bool)
    known = {id(hand): value for hand, value in zip(chain(*hands), chain(*crops), strict=True)}
    for t, pair in enumerate(assign(hands, wrists, times)):
        for slot, hand in enumerate(pair):
            if hand is not None:
                landmarks[t, slot], world[t, slot] = hand.landmarks, hand.world
                presence[t, slot], seen[:, t, slot] = hand.presence, known[id(hand)]
                box[t, slot], found[t, slot] = _box(hand.landmarks), True
    return dict(zip(HandTracks.ARRAYS, (landmarks, world, presence, box, seen[0], seen[1], found), strict=True))
