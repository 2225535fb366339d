"""The pixel observer: a generated video against its ground truth, frame by frame, while it streams by.

The generated frame is resized to the ground truth's size ("stretch"). Hand boxes come from the ground truth's hands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import Image

from ipa_bench import video
from ipa_bench.observers.base import Arrays, Beside, Observer, Truth
from ipa_bench.types import Float32, Float64, HandTracks, UInt8

#: changes whenever a value of the observation may change
OBSERVER_ID = "pixels@1"
MEASURES, REGIONS = ("mse", "l1", "ssim"), ("frame", "hand", "rest")
#: hand boxes grow by this share of their longer side on each side
MARGIN = 0.15
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
#: differences are summed by ROW at a time: 192 x 255² < 2^24, so that float32 has every sum of them exactly; STRIP of
#: them are held, which stay in a core's cache
ROW, STRIP = 192, 512
#: the sides of a ground truth's frames are kept while they are fewer bytes than this
KEPT_BYTES = 256 * 2**20
_x = np.arange(-5, 6)
GAUSS = (np.exp(-(_x**2) / (2 * 1.5**2)) / np.exp(-(_x**2) / (2 * 1.5**2)).sum()).astype(np.float32)


class Box(NamedTuple):
    """Pixels x0 to x1 - 1 and y0 to y1 - 1."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def area(self) -> int:
        return (self.x1 - self.x0) * (self.y1 - self.y0)

    def cut(self, other: Box) -> Box | None:
        """What both boxes share."""
        box = Box(max(self.x0, other.x0), max(self.y0, other.y0), min(self.x1, other.x1), min(self.y1, other.y1))
        return box if box.x1 > box.x0 and box.y1 > box.y0 else None


class PixelObserver(Observer):
    """Compares pixels; looks through no network. ``threads`` frames are compared at a time; the result is the same."""

    id = OBSERVER_ID

    def __init__(self, threads: int = 1) -> None:
        self._pool: Executor | None = ThreadPoolExecutor(threads, "pixels") if threads > 1 else None
        self._threads = threads
        self._sides = Sides()

    def start(self, truth: Truth | None = None) -> PixelSession:
        """Begin a video. Raises ValueError without a ground truth."""
        if truth is None:
            raise ValueError("pixels are compared with a ground truth")
        return PixelSession(HandTracks.of(truth.seen), truth.images, self._pool, self._threads, self._sides)

    def close(self) -> None:
        """End its threads; the observer is not used again."""
        if self._pool:
            self._pool.shutdown()


@dataclass(frozen=True, eq=False)
class Side:
    """What similarity asks of one picture alone, computed once: :func:`luma` and its local means."""

    luma: Float32

    @cached_property
    def mean(self) -> Float32:
        """``[h, w]``, as the next."""
        return _blurred(self.luma)

    @cached_property
    def square(self) -> Float32:
        """The local mean of the square."""
        return _blurred(self.luma * self.luma)


class Sides:
    """The ground truth's side of every frame of one video, for the next video that is compared with it."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        """``limit`` in bytes: of a longer video nothing is kept."""
        self._limit = limit
        self._of: tuple[str, dict[int, Side]] = ("", {})

    def get(self, truth: HandTracks, index: int, image: UInt8) -> Side:
        """That of frame ``index`` of the ground truth, which is ``image``."""
        if self._of[0] != truth.sha256:
            self._of = (truth.sha256, {})
        held = self._of[1]
        if index in held:
            return held[index]
        side = Side(luma(image, video.picture(image)))
        if 3 * side.luma.nbytes * len(truth.times) <= self._limit:
            held[index] = side
        return side


#: region -> mse, l1, ssim
Row = dict[str, tuple[float, float, float]]


class PixelSession:
    """One generated video under comparison. Push its frames in order; ground truth frames are drawn as they are due.

    ``truth`` are the ground truth's hands (and times), ``frames`` its images in the same order. With a ``pool`` of
    ``threads`` that many frames are compared while the next ones come. ``sides`` keeps what is the ground truth's.
    """

    def __init__(
        self,
        truth: HandTracks,
        frames: Iterator[UInt8],
        pool: Executor | None = None,
        threads: int = 1,
        sides: Sides | None = None,
    ) -> None:
        self._truth, self._frames, self._beside = truth, frames, Beside(truth.times)
        self._index, self._image = -1, np.zeros((0, 0, 3), np.uint8)
        self._sides = sides or Sides(0)
        self._side: Side | None = None
        self._rows: list[Row] = []
        self._pool, self._threads = pool, threads
        self._pending: deque[Future[Row]] = deque()

    def push(self, image: UInt8, time: float) -> None:
        """Compare a frame, uint8 ``[H, W, 3]``, with the ground truth's frame nearest to ``time`` in seconds."""
        due = self._beside.at(time)
        # Frames beyond the ground truth's end have no partner; they are left out when the videos are aligned.
        if due is None:
            self._wait(0)
            self._rows.append({})
            return
        while self._index < due:
            self._image = next(self._frames)
            self._index += 1
            self._side = None
        if self._side is None:
            self._side = self._sides.get(self._truth, due, self._image)
        height, width = self._image.shape[:2]
        if image.shape != self._image.shape:
            image = video.resize(image, (width, height), "stretch")
        boxes = hand_boxes(self._truth, due, (width, height))
        due_pair = (image, self._image, boxes, self._side, video.picture(image))
        if self._pool is None:
            self._rows.append(compare(*due_pair))
        else:
            self._pending.append(self._pool.submit(compare, *due_pair))
            self._wait(self._threads)

    def _wait(self, most: int) -> None:
        """Until no more than ``most`` frames are under comparison."""
        while len(self._pending) > most:
            self._rows.append(self._pending.popleft().result())

    def finish(self) -> Arrays:
        """The comparison of every frame pushed: ``mse.hand`` and the like, float64 ``[T]``, of each measure and region.

        mse: mean squared error on the 0–255² scale; l1: mean absolute error on 0–255; ssim: structural similarity.
        frame: everything; hand: the ground truth's hand boxes; rest: everything else. NaN where the region is empty.
        """
        self._wait(0)
        values = np.array(
            [[row.get(region, (np.nan,) * 3) for region in REGIONS] for row in self._rows], np.float64
        ).reshape(-1, 3, 3)
        return {f"{m}.{r}": values[:, i, k] for k, m in enumerate(MEASURES) for i, r in enumerate(REGIONS)}


def hand_boxes(tracks: HandTracks, index: int, size: tuple[int, int]) -> list[Box]:
    """Hand boxes of one frame with their margin, cut to the image; boxes without pixels are left out."""
    width, height = size
    result = []
    for slot in np.flatnonzero(tracks.found[index]):
        x0, y0, x1, y1 = (float(v) for v in tracks.box[index, slot])
        pad = MARGIN * max(x1 - x0, y1 - y0)
        box = Box(
            max(int(x0 - pad), 0),
            max(int(y0 - pad), 0),
            min(int(np.ceil(x1 + pad)), width),
            min(int(np.ceil(y1 + pad)), height),
        )
        if box.x1 > box.x0 and box.y1 > box.y0:
            result.append(box)
    return result


def compare(image: UInt8, truth: UInt8, boxes: list[Box], side: Side, shown: Image.Image | None = None) -> Row:
    """region -> (mse, l1, ssim) of two images ``[H, W, 3]``; a region without pixels is left out.

    ``side`` is that of ``truth``; ``shown`` as for :func:`luma`.
    """
    similarity = ssim_map(Side(luma(image, shown)), side)
    height, width = image.shape[:2]
    factor = _factor(min(height, width))
    # The hands are at most two boxes: adding and subtracting boxes is ten times faster than masking the frame.
    parts = [(box, 1) for box in boxes]
    if len(boxes) == 2 and (both := boxes[0].cut(boxes[1])):
        parts.append((both, -1))
    frame, small = _sums(image, truth), _mean_sum(similarity)
    hand, hand_small = np.zeros(3), np.zeros(2)
    for box, sign in parts:
        part = slice(box.y0, box.y1), slice(box.x0, box.x1)
        hand += sign * _sums(image[part], truth[part])
        rows, columns = slice(box.y0 // factor, -(-box.y1 // factor)), slice(box.x0 // factor, -(-box.x1 // factor))
        hand_small += sign * _mean_sum(similarity[rows, columns])
    result: Row = {}
    regions = (("frame", frame, small), ("hand", hand, hand_small), ("rest", frame - hand, small - hand_small))
    for region, (squared, absolute, pixels), (total, count) in regions:
        if pixels > 0 and count > 0:
            values = max(squared, 0.0) / pixels / 3, max(absolute, 0.0) / pixels / 3, total / count
            result[region] = (float(values[0]), float(values[1]), float(values[2]))
    return result


def _sums(image: UInt8, truth: UInt8) -> Float64:
    """(sum of squares, sum, number of pixels) of the absolute differences of two images ``[h, w, 3]``, exactly."""
    height, width, _ = image.shape
    lines = max(1, STRIP * ROW // (3 * width))
    high, low = (np.empty((lines, width, 3), np.uint8) for _ in range(2))
    rows = np.zeros(-(-high.size // ROW) * ROW, np.float32)
    squares = absolute = 0.0
    for top in range(0, height, lines):
        one, other = image[top : top + lines], truth[top : top + lines]
        difference = np.maximum(one, other, out=high[: len(one)])
        difference -= np.minimum(one, other, out=low[: len(one)])
        rows[: difference.size] = difference.reshape(-1)
        rows[difference.size :] = 0
        strip = rows.reshape(-1, ROW)
        squares += float(np.einsum("ij,ij->i", strip, strip).sum(dtype=np.float64))
        absolute += float(np.einsum("ij->i", strip).sum(dtype=np.float64))
    return np.array([squares, absolute, height * width])


def _mean_sum(plane: Float32) -> Float64:
    return np.array([plane.sum(dtype=np.float64), plane.size])


def luma(image: UInt8, shown: Image.Image | None = None) -> Float32:
    """Luma (BT.601, rounded) ``[h, w]`` on 0-255, box-reduced by round(short side / 256), at least 1.

    Wang et al. advise the reduction. Rows and columns that do not fill a box are dropped.
    ``shown`` is the same image as Pillow has it, where somebody has made one.
    """
    plane = np.asarray((shown or Image.fromarray(image)).convert("L"))
    factor = _factor(min(plane.shape))
    if factor == 1:
        return plane.astype(np.float32)
    height, width = (n - n % factor for n in plane.shape)
    # Whole numbers; two bytes hold the sum of a box of up to 16 x 16. Rows first: they lie side by side in memory.
    rows = _added([plane[i:height:factor] for i in range(factor)], np.uint16 if factor <= 16 else np.uint32)
    total = _added([rows[:, j:width:factor] for j in range(factor)], rows.dtype)
    return np.asarray(total / np.float64(factor**2), np.float32)


def _added(planes: Sequence[NDArray[Any]], dtype: DTypeLike) -> NDArray[Any]:
    total = planes[0].astype(dtype)
    for plane in planes[1:]:
        total += plane
    return total


def _factor(short: int) -> int:
    return max(1, round(short / 256))


def ssim_map(one: Side, other: Side) -> Float32:
    """SSIM of every pixel of two planes ``[h, w]`` on 0-255: 11 x 11 Gaussian window, sigma 1.5, reflected edges."""
    mx, my = one.mean, other.mean
    # Deviations from the local means keep float32 accurate where the variance is small.
    vx, vy = one.square - mx * mx, other.square - my * my
    vxy = _blurred(one.luma * other.luma) - mx * my
    top, bottom = (2 * mx * my + C1) * (2 * vxy + C2), (mx * mx + my * my + C1) * (vx + vy + C2)
    return np.asarray(top / bottom, np.float32)


def _blurred(plane: Float32) -> Float32:
    from scipy.ndimage import correlate1d  # slow to import, and only videos with a ground truth need it

    return np.asarray(correlate1d(correlate1d(plane, GAUSS, axis=0), GAUSS, axis=1), np.float32)
