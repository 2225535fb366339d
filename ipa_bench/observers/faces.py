"""The face observers: the faces of every frame, joined to tracks, and in numbers that tell people apart.

YuNet finds them in the frame resized to a longer side of 640 pixels, so that a face of 1/50 of it is found in any
video. A network then gives the numbers of each face of at least 24 pixels, taken from the frame itself; faces of more
than 128 pixels are first shrunk to that. Numbers of a small face are unlike those of a large one of the same person:
so a reference picture is shrunk to the sizes of :data:`LADDER`, and each face of a clip stands beside the nearest.

torch is imported when a video is looked at, not before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ipa_bench import weights
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.metrics.people import LADDER, LEAST_HEIGHT
from ipa_bench.observers.base import Arrays, Observer, Truth
from ipa_bench.observers.detector import DETECTION_SIDE, Detector, Face, detector
from ipa_bench.observers.face_tracks import join
from ipa_bench.observers.perceptual import one_thread
from ipa_bench.types import Float32, UInt8

if TYPE_CHECKING:
    from torch import nn


#: what is cut out around a face, in shares of its box's longer side: all that the networks look at
MARGIN = 0.6
#: a second face of a reference that is at least this high, beside the largest one, makes it two people's picture
SECOND = 0.5


@dataclass(frozen=True)
class Embedder:
    """A network that turns an aligned face into numbers, in words; loading it imports torch."""

    name: str
    #: of its file, in the table of weights; a file of ``asked`` is not downloaded before the user says so
    weight: str
    load: Callable[[Path], nn.Module]
    #: points and side of the square that it takes
    square: Callable[[], tuple[Float32, int]]
    asked: bool = False


def _load_sface(path: Path) -> nn.Module:
    from ipa_bench.nets.sface import load_sface

    return load_sface(path)


def _sface_square() -> tuple[Float32, int]:
    from ipa_bench.nets import sface

    return sface.POINTS, sface.SIDE


def _load_dlib(path: Path) -> nn.Module:
    from ipa_bench.nets.dlib_face import load_dlib_face

    return load_dlib_face(path)


def _dlib_square() -> tuple[Float32, int]:
    from ipa_bench.nets import dlib_face

    return dlib_face.POINTS, dlib_face.SIDE


SFACE = Embedder("sface", "sface", _load_sface, _sface_square)
#: its wheel has 93 MB
DLIB = Embedder("dlib", "dlib_face", _load_dlib, _dlib_square, asked=True)


class _Eyes:
    """Both networks, loaded: what looks at one picture, and holds nothing of it."""

    def __init__(self, finder: Detector, embedder: nn.Module, square: tuple[Float32, int]) -> None:
        self.finder, self._embedder, self._square = finder, embedder, square

    def numbers(self, image: UInt8, face: Face, heights: tuple[float, ...]) -> Float32:
        """The network's numbers of a face, [len(heights), 128]: shrunk to each of the heights, px."""
        import torch

        from ipa_bench.nets.align import aligned

        chips = [aligned(*shrunk(image, face, height), *self._square) for height in heights]
        with torch.inference_mode():
            numbers: Float32 = self._embedder(torch.cat(chips)).numpy()
        return numbers


def shrunk(image: UInt8, face: Face, height: float) -> tuple[UInt8, Float32]:
    """The face cut out with a margin, its box shrunk to that height (never enlarged), and its points [1, 5, 2]."""
    factor = min(height / float(face.box[3]), 1.0)
    left, top, width, tall = (float(v) for v in face.box)
    reach = MARGIN * max(width, tall)
    x0, y0 = max(int(left - reach), 0), max(int(top - reach), 0)
    x1, y1 = (int(np.ceil(v)) for v in (left + width + reach, top + tall + reach))
    part = image[y0:y1, x0:x1]
    points = face.points.astype(np.float64) - (x0, y0)
    if factor < 1 and part.size:
        size = max(round(part.shape[1] * factor), 1), max(round(part.shape[0] * factor), 1)
        points = points * (size[0] / part.shape[1], size[1] / part.shape[0])
        part = np.asarray(Image.fromarray(part).resize(size, Image.Resampling.BILINEAR))
    return part, points.astype(np.float32)[None]


# ---------------------------------------------------------------------------------------------------------------------
# observers


class _FaceNetworks(Observer):
    """Loads both networks once; reusable for any number of videos. ``threads`` frames are looked at at a time."""

    def __init__(self, embedder: Embedder, threads: int = 1) -> None:
        self._about = embedder
        self._eyes: _Eyes | None = None
        self._threads = threads
        self._pool: Executor | None = ThreadPoolExecutor(threads, "faces") if threads > 1 else None

    def missing(self) -> str | None:
        """Why the networks cannot be used, with what would mend it; None where their files are here."""
        for status in weights.statuses(("yunet", self._about.weight)):
            if status.state != "ok":
                return f"{status.problem} ({status.fix})"
        return None

    def load(self) -> str | None:
        """Make the networks ready, small files by downloading them. Returns why that is not possible, or None."""
        if self._eyes is not None:
            return None
        if self._about.asked and (reason := self.missing()):
            return reason
        try:
            finder, embedder = detector(weights.path("yunet")), weights.path(self._about.weight)
            finder.look_ahead(2 * self._threads + 1 if self._pool else 1)
            self._eyes = _Eyes(finder, self._about.load(embedder), self._about.square())
        except UserError as error:
            return error.reason
        return None

    def working(self) -> AbstractContextManager[None]:
        """:func:`ipa_bench.observers.perceptual.one_thread`."""
        return one_thread()

    def close(self) -> None:
        """Free what is held; the observer is not used again."""
        self._eyes = None
        if self._pool:
            self._pool.shutdown()


class FaceObserver(_FaceNetworks):
    """The faces of a video; :meth:`FaceSession.finish` says what is given of them."""

    def __init__(self, embedder: Embedder, threads: int = 1) -> None:
        super().__init__(embedder, threads)
        self.id = f"faces.{embedder.name}@1"

    def start(self, truth: Truth | None = None) -> FaceSession:
        """Begin a video once the networks are loaded. Raises ValueError before."""
        if self._eyes is None:
            raise ValueError("faces take loaded networks")
        return FaceSession(self._eyes, self._pool, self._threads)


class FaceSession:
    """One video under observation."""

    def __init__(self, eyes: _Eyes, pool: Executor | None, threads: int) -> None:
        self._eyes, self._pool, self._ahead = eyes, pool, 2 * threads
        self._due: deque[Future[list[tuple[Face, Float32]]]] = deque()
        self._frames: list[list[tuple[Face, Float32]]] = []
        self._times: list[float] = []
        self._size = (0, 0)

    def push(self, image: UInt8, time: float) -> None:
        """Take the next frame: uint8 ``[H, W, 3]`` RGB; time in seconds from the first frame."""
        self._times.append(time)
        self._size = (image.shape[1], image.shape[0])
        if self._pool is None:
            self._frames.append(self._look(image))
            return
        self._due.append(self._pool.submit(self._look, image))
        while len(self._due) > self._ahead:
            self._frames.append(self._due.popleft().result())

    def finish(self) -> Arrays:
        """T frames, N tracks: ``found`` [T, N], and 0 elsewhere ``box`` [T, N, 4] (left, top, width, height) and
        ``points`` [T, N, 5, 2], px, ``score`` [T, N], ``numbers`` [T, N, D], 0 where a face is too small;
        ``times`` [T], s; ``size`` (width, height).
        """
        self._frames += [future.result() for future in self._due]
        self._eyes.finder.forget()
        boxes = [np.array([face.box for face, _ in frame], np.float32).reshape(-1, 4) for frame in self._frames]
        numbers = [np.stack([n for _, n in frame]) if frame else None for frame in self._frames]
        tracks = join(boxes, numbers, self._times)
        count = max((int(t.max()) + 1 for t in tracks if len(t)), default=0)
        width = next((n.shape[1] for n in numbers if n is not None), 0)
        shape = (len(self._frames), count)
        made = {
            "found": np.zeros(shape, bool),
            "box": np.zeros((*shape, 4), np.float32),
            "points": np.zeros((*shape, 5, 2), np.float32),
            "score": np.zeros(shape, np.float32),
            "numbers": np.zeros((*shape, width), np.float32),
        }
        for frame, (faces, owners) in enumerate(zip(self._frames, tracks, strict=True)):
            for (face, number), track in zip(faces, owners, strict=True):
                where = (frame, track)
                made["found"][where], made["score"][where] = True, face.score
                made["box"][where], made["points"][where], made["numbers"][where] = face.box, face.points, number
        return {**made, "times": np.array(self._times), "size": np.array(self._size)}

    def _look(self, image: UInt8) -> list[tuple[Face, Float32]]:
        return [(face, self._numbers(image, face)) for face in self._eyes.finder.faces(image)]

    def _numbers(self, image: UInt8, face: Face) -> Float32:
        numbers = self._eyes.numbers(image, face, (LADDER[-1],))[0]
        return numbers if face.box[3] >= LEAST_HEIGHT else np.zeros_like(numbers)


class ReferenceObserver(_FaceNetworks):
    """The face of a reference picture at the sizes of :data:`LADDER`."""

    def __init__(self, embedder: Embedder, threads: int = 1) -> None:
        super().__init__(embedder, threads)
        self.id = f"reference.{embedder.name}@1"

    def start(self, truth: Truth | None = None) -> ReferenceSession:
        """Begin a picture once the networks are loaded. Raises ValueError before."""
        if self._eyes is None:
            raise ValueError("faces take loaded networks")
        return ReferenceSession(self._eyes)


class ReferenceSession:
    """One picture under observation: a video of one frame."""

    def __init__(self, eyes: _Eyes) -> None:
        self._eyes = eyes
        self._image: UInt8 | None = None

    def push(self, image: UInt8, time: float) -> None:
        """Take the picture: uint8 ``[H, W, 3]`` RGB. Only the first frame of a video counts."""
        self._image = image if self._image is None else self._image

    def finish(self) -> Arrays:
        """``ladder`` [1, L, D]: the face's numbers at each height of the ladder, at its own where that is
        less; ``box`` [1, 4] left, top, width, height, px. Raises Unscorable without a face, with two people, and for a
        face that is too small.
        """
        if self._image is None:
            raise Unscorable("the reference has no picture")
        faces = self._eyes.finder.faces(self._image) or self._eyes.finder.faces(self._image, 2 * DETECTION_SIDE)
        if not faces:
            raise Unscorable("no face is found in the reference picture")
        largest, *others = sorted(faces, key=lambda face: -face.box[3])
        if any(face.box[3] >= SECOND * largest.box[3] for face in others):
            raise Unscorable("the reference picture shows more than one face: cut out the person's own")
        if largest.box[3] < LEAST_HEIGHT:
            raise Unscorable(f"the reference's face is {largest.box[3]:.0f} pixels high; {LEAST_HEIGHT:.0f} are needed")
        return {"ladder": self._eyes.numbers(self._image, largest, LADDER)[None], "box": largest.box[None]}
