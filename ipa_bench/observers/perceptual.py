"""The perceptual observer: LPIPS of a generated video against its ground truth, for the frame, the hands and the rest.

The generated frame is resized to the ground truth's size ("stretch") and both go into the network as bytes; the network
scales them itself, so that no caller can feed it [0, 1].

``frame`` is LPIPS as published: the mean over space of each layer's distance map, summed over layers. For a region the
mean of each layer's map is weighted: a cell counts by the share of its area that lies in the region, the map's h x w
cells being laid over the frame as an even grid (as in the enlarged maps of the package ``lpips``). ``hand`` is the
union of the ground truth's hand boxes with their margin, ``rest`` everything else. As the weights of a layer have the
region's share of the frame as their mean, with A the hands' share: frame = A hand + (1 - A) rest, in every layer and in
the sum. A cell's features look further than the cell: 163 pixels across in AlexNet's deepest layer.

torch is imported when a distance is computed, not before: what is cached, left out or lacks weights needs none.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ipa_bench import video
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.observers.base import Arrays, Beside, Observer, Truth
from ipa_bench.observers.networks import Network
from ipa_bench.observers.pixels import REGIONS, Box, hand_boxes
from ipa_bench.types import Float64, HandTracks, UInt8

if TYPE_CHECKING:
    from torch import Tensor

    from ipa_bench.nets.lpips import Lpips

#: changes whenever a value of the observation may change
OBSERVER_ID = "perceptual@1"
#: frames that pass through a network at a time, and their pixels: more are no faster on a CPU and need more memory
BLOCK_FRAMES, BLOCK_PIXELS = 8, 2**20
#: features of ground truths are kept for the next model while those of one video are fewer bytes than this in all
KEPT_BYTES = 128 * 2**20


def covered(start: float, end: float, length: float, cells: int) -> Float64:
    """Share ``[cells]`` in [0, 1] of each of ``cells`` even parts of 0 to ``length`` that lies in start to end."""
    edges = np.linspace(0.0, length, cells + 1)
    inside = np.minimum(edges[1:], end) - np.maximum(edges[:-1], start)
    return np.asarray(np.maximum(inside, 0.0) * (cells / length), np.float64)


def region_distances(maps: Sequence[Float64], boxes: Sequence[Box], size: tuple[int, int]) -> dict[str, float]:
    """hand and rest -> distance, from the layers' distance maps ``[h, w]`` of one frame; an empty region is left out.

    Sum over layers of the mean of the map, weighted by the share of each cell inside of the region: the union of at
    most two ``boxes`` in a frame of ``size`` (width, height) pixels, and everything else.
    """
    width, height = size
    parts = [(box, 1) for box in boxes]
    if len(boxes) == 2 and (both := boxes[0].cut(boxes[1])):
        parts.append((both, -1))
    share = sum(sign * box.area for box, sign in parts) / (width * height)
    inside, whole = 0.0, 0.0
    for plane in maps:
        rows, columns = plane.shape
        for box, sign in parts:
            down, across = covered(box.y0, box.y1, height, rows), covered(box.x0, box.x1, width, columns)
            inside += sign * float(down @ plane @ across) / plane.size
        whole += float(plane.mean())
    # A box is a whole number of pixels: the shares 0 and 1 are exact. What is nearly 0 may round to less than nothing.
    result = {"hand": max(inside, 0.0) / share} if share > 0 else {}
    return {**result, "rest": max(whole - inside, 0.0) / (1 - share)} if share < 1 else result


# ---------------------------------------------------------------------------------------------------------------------
# networks and what is kept


class _Kept:
    """Features of single frames, those used longest ago the first to go."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = Lock()
        self._features: OrderedDict[tuple[str, int], list[Tensor]] = OrderedDict()
        self._bytes = 0

    def get(self, key: tuple[str, int]) -> list[Tensor] | None:
        with self._lock:
            if key in self._features:
                self._features.move_to_end(key)
            return self._features.get(key)

    def put(self, key: tuple[str, int], features: list[Tensor]) -> None:
        with self._lock:
            if key not in self._features:
                self._features[key] = features
                self._bytes += _bytes(features)
            while self._bytes > self.limit:
                self._bytes -= _bytes(self._features.popitem(last=False)[1])


def _bytes(features: Sequence[Tensor]) -> int:
    return sum(each.numel() * each.element_size() for each in features)


class PerceptualObserver(Observer):
    """Compares videos with their ground truth by one network; reusable for any number of videos, loaded once.

    ``threads`` blocks of frames are compared at a time, each by one thread of torch; the result does not depend on it.
    Features of ground truths are kept for the next model of a case, up to ``kept_bytes``.
    """

    id = OBSERVER_ID

    def __init__(self, network: Network, threads: int = 1, kept_bytes: int = KEPT_BYTES) -> None:
        self._network = network
        self._net: Lpips | None = None
        self._kept = _Kept(kept_bytes)
        self._pool: Executor | None = ThreadPoolExecutor(threads, "perceptual") if threads > 1 else None
        self._threads = threads

    def kind(self) -> str | None:
        """Other weights give other distances; None where the weights are not known."""
        sha256 = self._network.sha256()
        return None if sha256 is None else f"{OBSERVER_ID}-{self._network.name}-{sha256[:16]}"

    def missing(self) -> str | None:
        """Why the network cannot be used, with what would mend it; None where its files are here."""
        try:
            self._network.files()
        except UserError as error:
            return error.reason
        return None

    def load(self) -> str | None:
        """Make the network ready. Returns why that is not possible, with what would mend it, or None."""
        if self._net is None:
            try:
                self._net = self._network.load(self._network.files())
            except UserError as error:
                return error.reason
        return None

    def start(self, truth: Truth | None = None) -> PerceptualSession:
        """Begin a video once the network is loaded. Raises ValueError before, and without a ground truth."""
        if self._net is None or truth is None:
            raise ValueError("distances take a loaded network and a ground truth")
        comparer = _Comparer(self._net, self._network.short_side, HandTracks.of(truth.seen), self._kept)
        return PerceptualSession(comparer, truth.images, self._pool, self._threads)

    def working(self) -> AbstractContextManager[None]:
        """:func:`one_thread`: torch has been imported where a session is at work, and is not needed otherwise."""
        return one_thread()

    def close(self) -> None:
        """Free what is held; the observer is not used again."""
        self._net, self._kept = None, _Kept(0)
        if self._pool:
            self._pool.shutdown()


@contextmanager
def one_thread() -> Iterator[None]:
    """torch computes with one thread inside, and with as many as before afterwards.

    Workers share the cores by processes, and with more threads sums are rounded in another order.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ---------------------------------------------------------------------------------------------------------------------
# one video


class _Pair(NamedTuple):
    """A generated frame and its ground truth, of one size; uint8 ``[H, W, 3]``."""

    row: int
    image: UInt8
    truth: UInt8
    #: of the ground truth's frame
    due: int
    #: of the hands, in a frame of ``size`` (width, height)
    boxes: Sequence[Box]
    size: tuple[int, int]


class _Comparer:
    """A network at work on one video; holds nothing of the video, so that blocks may be compared in any order."""

    def __init__(self, net: Lpips, short_side: int | None, truth: HandTracks, kept: _Kept) -> None:
        self.net, self.truth = net, truth
        self._short_side, self._kept = short_side, kept

    def reduced(self, image: UInt8) -> UInt8:
        """The frame as the network sees it."""
        factor = 1 if self._short_side is None else max(1, round(min(image.shape[:2]) / self._short_side))
        return image if factor == 1 else np.asarray(video.picture(image).reduce(factor))

    def __call__(self, block: Sequence[_Pair]) -> dict[int, dict[str, float]]:
        """row -> region -> distance. Raises Unscorable for frames that are too small for the network."""
        import torch

        with torch.inference_mode():
            ours = self.net.features(np.stack([pair.image for pair in block]))
            theirs = self._features(block)
            squares = [(a - torch.cat(list(b))).square_() for a, b in zip(ours, zip(*theirs, strict=True), strict=True)]
            maps = self.net.heads(squares)
            # To the bit what Lpips.distance gives for the same block.
            frames = torch.stack([each.mean((1, 2)) for each in maps]).sum(0).tolist()
            planes = [np.asarray(each.double().cpu().numpy(), np.float64) for each in maps]
        return {
            pair.row: {"frame": frames[i], **region_distances([p[i] for p in planes], pair.boxes, pair.size)}
            for i, pair in enumerate(block)
        }

    def _features(self, block: Sequence[_Pair]) -> list[list[Tensor]]:
        """Features of the ground truth's frames, of each by itself; kept ones are not computed again."""
        images = {pair.due: pair.truth for pair in block}
        keys = {due: (self.truth.sha256, due) for due in images}
        found = {due: kept for due, key in keys.items() if (kept := self._kept.get(key)) is not None}
        new = [due for due in images if due not in found]
        if new:
            together = self.net.features(np.stack([images[due] for due in new]))
            for place, due in enumerate(new):
                found[due] = [each[place : place + 1] for each in together]
                # All of a video or nothing: a part would be gone before the next model's first frame asks for it.
                if _bytes(found[due]) * len(self.truth.times) <= self._kept.limit:
                    self._kept.put(keys[due], found[due])
        return [found[pair.due] for pair in block]


class PerceptualSession:
    """One generated video under comparison. Push its frames in order; ground truth frames are drawn as they are due."""

    def __init__(self, compare: _Comparer, frames: Iterator[UInt8], pool: Executor | None, threads: int) -> None:
        self._compare, self._frames, self._pool, self._threads = compare, frames, pool, threads
        self._beside = Beside(compare.truth.times)
        self._index, self._image, self._reduced = -1, np.zeros((0, 0, 3), np.uint8), np.zeros((0, 0, 3), np.uint8)
        self._count = 0
        self._block: list[_Pair] = []
        self._pending: deque[Future[dict[int, dict[str, float]]]] = deque()
        self._rows: dict[int, dict[str, float]] = {}
        self._failed: Unscorable | None = None

    def push(self, image: UInt8, time: float) -> None:
        """Compare a frame, uint8 ``[H, W, 3]``, with the ground truth's frame nearest to ``time`` in seconds.

        Raises ValueError for frames that are not bytes.
        """
        row, self._count = self._count, self._count + 1
        due = self._beside.at(time)
        # Frames beyond the ground truth's end have no partner; they are left out when the videos are aligned.
        if due is None or self._failed:
            return
        while self._index < due:
            self._image = next(self._frames)
            self._index += 1
            self._reduced = np.zeros((0, 0, 3), np.uint8)
        if not self._reduced.size:
            self._reduced = self._compare.reduced(self._image)
        size = self._image.shape[1], self._image.shape[0]
        if image.shape != self._image.shape:
            image = video.resize(image, size, "stretch")
        boxes = hand_boxes(self._compare.truth, due, size)
        self._block.append(_Pair(row, self._compare.reduced(image), self._reduced, due, boxes, size))
        pixels = self._reduced.shape[0] * self._reduced.shape[1]
        if len(self._block) >= min(BLOCK_FRAMES, max(1, BLOCK_PIXELS // pixels)):
            self._look()

    def finish(self) -> Arrays:
        """Region -> LPIPS of every frame pushed, float64 ``[T]``; 0 for equal pixels, NaN where the region is empty.

        Raises Unscorable for frames that are too small for the network.
        """
        self._look()
        while self._pending:
            self._take(self._pending.popleft().result)
        if self._failed:
            raise self._failed
        values = {r: [self._rows.get(i, {}).get(r, np.nan) for i in range(self._count)] for r in REGIONS}
        return {r: np.array(v, np.float64) for r, v in values.items()}

    def _look(self) -> None:
        block, self._block = self._block, []
        if not block:
            return
        if self._pool is None:
            self._take(lambda: self._compare(block))
            return
        self._pending.append(self._pool.submit(self._compare, block))
        while len(self._pending) > self._threads:
            self._take(self._pending.popleft().result)

    def _take(self, result: Callable[[], dict[int, dict[str, float]]]) -> None:
        try:
            self._rows.update(result())
        except Unscorable as error:
            self._failed = error
