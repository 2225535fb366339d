"""The hand observer: what hands a video shows, frame by frame, on two tracks.

Palm detector on the full frame, and on a crop around each body wrist that the full frame left without a hand (small
hands vanish when a whole person is squeezed into 192 pixels), and where that finds none either the region between the
body's wrist and knuckles (a hand seen edge-on shows no palm). Hands are looked for in every frame by itself, so that
they do not depend on where a clip is cut; one that is missed for a moment is looked for where it was before and after
(``follow.py``), and says so. The body is looked at every third of a second or less.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from itertools import chain

import numpy as np
from PIL import Image

from ipa_bench import video
from ipa_bench.errors import UserError
from ipa_bench.observers.base import Arrays, Observer, Truth
from ipa_bench.observers.follow import Follower, distinct
from ipa_bench.observers.mediapipe import tasks as mediapipe_tasks
from ipa_bench.observers.mediapipe.body import (
    LEFT_ELBOW,
    LEFT_INDEX,
    LEFT_LITTLE,
    LEFT_SHOULDER,
    LEFT_WRIST,
    RIGHT_ELBOW,
    RIGHT_INDEX,
    RIGHT_LITTLE,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
    Body,
    BodyNet,
)
from ipa_bench.observers.mediapipe.litert import Roi
from ipa_bench.observers.mediapipe.palm import MIN_PRESENCE, WRIST, Hand, HandNet
from ipa_bench.observers.tracks import assign
from ipa_bench.types import Float32, HandTracks, Observation, UInt8

#: changes whenever a value of the observation may change
OBSERVER_ID = "hands@2"
#: ``litert`` runs the models themselves, ``mediapipe`` the official Tasks runtime (extra ``[mediapipe]``)
BACKENDS = ("litert", "mediapipe")
#: the body is looked at after this many seconds, or so many frames, and its wrists are interpolated between
BODY_SECONDS, BODY_FRAMES = 0.32, 16
#: a look may come this much earlier, so that rates whose frames do not fall on it are looked at no more seldom
EARLY = 0.02
#: a body that is not seen for so many seconds is given up for another
LOST_SECONDS = 2.0
#: and where no wrist could be magnified, at every third of them
SELDOM = 3
NOBODY = np.zeros((0, 3), np.float32)
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
        self._find: Callable[[Image.Image, Float32, Float32], list[Hand]] | None = None
        self._hand: HandNet | None = None
        self._body: BodyNet | None = None

    def find(self, image: Image.Image, wrists: Float32, joints: Float32) -> list[Hand]:
        """The hands of one image."""
        if self._find is None:
            if self._backend == "mediapipe":
                tasks = mediapipe_tasks.TasksHands()
                self.runtimes.append(tasks)
                self._find = lambda picture, *_: tasks.find(picture)
            else:
                self._find = partial(find_hands, self._net())
        return self._find(image, wrists, joints)

    def where(self, image: Image.Image, before: Hand) -> Hand | None:
        """What is where a hand was in a frame beside; None where the backend cannot be asked."""
        return None if self._backend == "mediapipe" else self._net().where(image, before)

    def body(self, image: Image.Image, before: Body | None) -> Body | None:
        """The body of one image, of somebody who was seen before."""
        if self._body is None:
            self._body = BodyNet()
        return self._body(image, before)

    def _net(self) -> HandNet:
        if self._hand is None:
            self._hand = HandNet(self._tilt)
        return self._hand


def id_of(backend: str) -> str:
    """What observations by a backend are called. Raises UserError for an unknown one."""
    if backend not in BACKENDS:
        raise UserError(f"there is no hand observer called {backend!r}", f"use one of {', '.join(BACKENDS)}")
    return mediapipe_tasks.runtime_id() if backend == "mediapipe" else OBSERVER_ID


class HandObserver(Observer):
    """Looks at frames; reusable for any number of videos.

    ``threads`` frames are looked at at a time; the result does not depend on it.
    ``backend`` is one of ``BACKENDS``; raises UserError for another, or where its runtime does not start.
    ``tilt`` is for parity tests alone (:data:`ipa_bench.observers.mediapipe.palm.TASKS_TILT`): observations made with
    one are not comparable with others.
    """

    def __init__(self, threads: int = 1, backend: str = "litert", tilt: float = 0.0) -> None:
        #: goes into every observation, and so into the cache's keys
        self.id = id_of(backend)
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
    """One video under observation; holds at most ``2 * BODY_FRAMES + 1`` frames, and those of ``follow.MEMORY``."""

    def __init__(self, nets: _Nets, pool: Executor | None) -> None:
        self._nets, self._pool = nets, pool
        self._waiting: list[Image.Image] = []
        self._pending: list[tuple[Image.Image, float, Future[list[Hand]]]] = []
        self._body: Body | None = None
        #: who was seen last, and when: one body is followed
        self._known: tuple[Body, float] | None = None
        self._follower = Follower(nets.where)
        self._wrists: list[Float32] = []
        self._people: list[Float32] = []
        self._times: list[float] = []
        self._size = (0, 0)
        self._blocks = 0
        #: what :meth:`finish` gave
        self.seen: Arrays | None = None

    def tell(self, listener: Callable[[Image.Image, Sequence[Hand]], None]) -> None:
        """Have each frame's picture and hands told, in order, as soon as no more hands are added to it."""
        self._follower.tell = listener

    def push(self, image: UInt8, time: float) -> None:
        """Take the next frame: uint8 ``[H, W, 3]`` RGB, time in seconds."""
        self._times.append(time)
        self._waiting.append(video.picture(np.ascontiguousarray(image)))
        self._size = self._waiting[-1].size
        if len(self._times) == 1:
            self._body = self._look_at_body(self._waiting[0], time)
        count = len(self._waiting) - 1
        if count >= BODY_FRAMES or (count and time - self._times[-1 - count] >= BODY_SECONDS - EARLY):
            self._look(count)

    def finish(self) -> Arrays:
        """The arrays of a :class:`~ipa_bench.types.HandTracks`, of everything pushed."""
        if self._waiting:
            self._look(len(self._waiting))
        self._keep(self._pending)
        wrists = np.array(self._wrists, dtype=np.float32).reshape(-1, 2, 3)
        arrays = _arrays(*self._follower.finish(), wrists, self._times, self._people)
        self.seen = {**arrays, "times": np.array(self._times, np.float64), "size": np.array(self._size)}
        return self.seen

    def _look(self, count: int) -> None:
        """Look at the first ``count`` waiting frames, with the bodies at both ends of them."""
        self._blocks += 1
        # A body that is far away may need a crop any time; a near one, or none, is only asked which hand is which.
        due = self._blocks % SELDOM == 0 or _far(self._body, max(self._size))
        ahead = self._body
        if due and len(self._waiting) > 1:
            ahead = self._look_at_body(self._waiting[-1], self._times[-1])
        span = max(len(self._waiting) - 1, 1)
        wrists = [wrists_between(self._body, ahead, i / span) for i in range(count)]
        joints = [joints_between(self._body, ahead, i / span) for i in range(count)]
        images, times = self._waiting[:count], self._times[len(self._wrists) : len(self._wrists) + count]
        work = zip(images, wrists, joints, strict=True)
        if self._pool is None:
            for image, time, item in zip(images, times, work, strict=True):
                self._follower.push(image, time, self._nets.find(*item))
        else:
            # One block is looked at while the next is decoded and its bodies are found.
            done, pool = self._pending, self._pool
            found = [pool.submit(self._nets.find, *item) for item in work]
            self._pending = list(zip(images, times, found, strict=True))
            self._keep(done)
        self._wrists += wrists
        self._people += [NOBODY if self._body is None else self._body.people] * count
        self._waiting = self._waiting[count:]
        self._body = ahead

    def _look_at_body(self, image: Image.Image, time: float) -> Body | None:
        """The body, and after a while without the one that was known anybody's."""
        before = self._known[0] if self._known and time - self._known[1] <= LOST_SECONDS else None
        body = self._nets.body(image, before)
        if body is not None:
            self._known = body, time
        return body

    def _keep(self, seen: Sequence[tuple[Image.Image, float, Future[list[Hand]]]]) -> None:
        for image, time, hands in seen:
            self._follower.push(image, time, hands.result())


def find_hands(net: HandNet, image: Image.Image, wrists: Float32, joints: Float32 | None = None) -> list[Hand]:
    """Hands of one image with presence >= 0.5, surest first, each once.

    ``wrists`` ``[2, 3]``: x, y, reach; ``joints`` ``[2, 2, 2]``: the body's wrist and the middle of its knuckles; NaN
    where unseen.
    """
    looks = [(palm, net.hand(image, palm)) for palm in net.palms(image)]
    hands = [hand for _, hand in looks if hand.presence >= MIN_PRESENCE]
    refused = [palm for palm, hand in looks if hand.presence < MIN_PRESENCE]
    for slot, (x, y, reach) in enumerate(wrists):
        side = CROP * float(reach)
        # NaN compares false: a wrist that is not seen, or lies outside the image, gets no look.
        inside = 0 <= x < image.width and 0 <= y < image.height
        # A hand longer than the forearm belongs to somebody nearer, or the body is imagined into a close-up of a hand.
        if not inside or any(h.size > reach or _beside(h.landmarks[WRIST], x, y, reach) for h in hands):
            continue
        if max(image.size) >= MIN_ZOOM * side:
            looks = [(palm, net.small_hand(image, palm)) for palm in net.palms(image, Roi(float(x), float(y), side))]
            hands += [hand for _, hand in looks if hand.presence >= MIN_PRESENCE]
            refused += [palm for palm, hand in looks if hand.presence < MIN_PRESENCE]
        if joints is None or any(_beside(h.landmarks[WRIST], x, y, reach) for h in hands):
            continue
        # A palm where a hand is due, and no hand in its region: of one seen edge-on the body knows the region better.
        middles = [np.float32(0.5) * (palm.box[:2] + palm.box[2:]) for palm in refused]
        if any(_beside(middle, x, y, 2 * reach) for middle in middles):
            hand = net.at_joints(image, *joints[slot])
            if hand.presence >= MIN_PRESENCE and hand.size <= reach and _beside(hand.landmarks[WRIST], x, y, reach):
                hands.append(hand)
    return distinct(hands)


def _beside(point: Float32, x: float, y: float, reach: float) -> bool:
    """Whether a point is within half a forearm of a place."""
    return bool(np.hypot(*(point - (x, y))) < 0.5 * reach)


def wrists_between(before: Body | None, after: Body | None, share: float) -> Float32:
    """Wrists ``[2, 3]`` (x, y, reach in px; NaN where unseen) at ``share`` in [0, 1] of the way between two looks."""
    a, b = _wrists(before), _wrists(after)
    mixed = a + (b - a) * np.float32(share)
    return np.where(np.isfinite(mixed), mixed, np.where(np.isfinite(a), a, b)).astype(np.float32)


def joints_between(before: Body | None, after: Body | None, share: float) -> Float32:
    """Wrists and middles of the knuckles ``[2, 2, 2]`` at ``share`` of the way between two looks; NaN where unseen."""
    a, b = _joints(before), _joints(after)
    mixed = a + (b - a) * np.float32(share)
    return np.where(np.isfinite(mixed), mixed, np.where(np.isfinite(a), a, b)).astype(np.float32)


def _joints(body: Body | None) -> Float32:
    result = np.full((2, 2, 2), np.nan, dtype=np.float32)
    if body is None:
        return result
    sides = ((LEFT_WRIST, LEFT_INDEX, LEFT_LITTLE), (RIGHT_WRIST, RIGHT_INDEX, RIGHT_LITTLE))
    for slot, (wrist, index, little) in enumerate(sides):
        if body.visibility[wrist] >= 0.5:
            # nearer to the index finger: the middle finger's knuckle
            result[slot] = body.joints[wrist], (2 * body.joints[index] + body.joints[little]) / 3
    return result


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


def _arrays(
    hands: list[list[Hand]],
    crops: list[list[tuple[float, float]]],
    wrists: Float32,
    times: list[float],
    people: list[Float32],
) -> Arrays:
    count = len(times)
    landmarks = np.zeros((count, 2, 21, 2), np.float32)
    world = np.zeros((count, 2, 21, 3), np.float32)
    presence = np.zeros((count, 2), np.float32)
    seen = np.zeros((2, count, 2), np.float32)  # sharpness and change
    box = np.zeros((count, 2, 4), np.float32)
    found, how = np.zeros((count, 2), bool), np.zeros((count, 2), np.uint8)
    known = {id(hand): value for hand, value in zip(chain(*hands), chain(*crops), strict=True)}
    for t, pair in enumerate(assign(hands, wrists, times, people)):
        for slot, hand in enumerate(pair):
            if hand is not None:
                landmarks[t, slot], world[t, slot] = hand.landmarks, hand.world
                presence[t, slot], seen[:, t, slot] = hand.presence, known[id(hand)]
                box[t, slot], found[t, slot], how[t, slot] = hand.box, True, hand.how
    values = (landmarks, world, presence, box, seen[0], seen[1], found, how)
    return dict(zip((*HandTracks.ARRAYS, "how"), values, strict=True))
