"""Small neural nets on LiteRT, and the one image warp that feeds them."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ipa_bench.types import Float32, Float64


@dataclass(frozen=True)
class Roi:
    """A square region of an image: centre and side in pixels (x right, y down), clockwise rotation in radians."""

    x: float
    y: float
    side: float
    rotation: float = 0.0

    def to_image(self, points: NDArray[np.floating]) -> Float32:
        """Map points ``[..., 2]`` from the unit square of this region to image pixels."""
        cos, sin = np.cos(self.rotation), np.sin(self.rotation)
        local = (points - 0.5) * self.side
        x = local[..., 0] * cos - local[..., 1] * sin + self.x
        y = local[..., 0] * sin + local[..., 1] * cos + self.y
        return np.stack([x, y], axis=-1).astype(np.float32)


class Net:
    """One ``.tflite`` model, single-threaded: parallelism is over frames and clips, which keeps results repeatable."""

    def __init__(self, path: Path, kept: Sequence[int] = ()) -> None:
        """``kept``: numbers of tensors inside the model that calls return too, behind its outputs."""
        from ai_edge_litert.interpreter import Interpreter

        with _quiet(), warnings.catch_warnings():
            if kept:  # it says that this is for debugging and takes memory: of one small net
                warnings.simplefilter("ignore", UserWarning)
            self._interpreter: Any = Interpreter(
                model_path=str(path), num_threads=1, experimental_preserve_all_tensors=bool(kept)
            )
            self._interpreter.allocate_tensors()
        details = self._interpreter.get_input_details()[0]
        self._input: int = details["index"]
        #: side of the square input in pixels
        self.side: int = int(details["shape"][1])
        self._outputs: list[int] = [d["index"] for d in self._interpreter.get_output_details()] + list(kept)

    def __call__(self, image: Float32) -> list[Float32]:
        """Run on one image, float32 ``[side, side, 3]`` in the model's range. Returns its outputs, batch axis kept."""
        self._interpreter.set_tensor(self._input, image[None])
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(i) for i in self._outputs]


_quieting = threading.Lock()


@contextmanager
def _quiet() -> Iterator[None]:
    """Close standard error for a moment: the runtime announces its delegate there and cannot be told not to."""
    with _quieting, open(os.devnull, "wb") as nowhere:
        try:
            kept = os.dup(2)
        except OSError:  # there is no standard error
            yield
            return
        try:
            os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def warp(image: Image.Image, roi: Roi, side: int, *, extend: bool = False) -> Float32:
    """Sample ``roi`` of an RGB image to ``[side, side, 3]`` float32 in [0, 1]; bilinear.

    Outside the image there is black, or with ``extend`` the nearest edge pixel. Sample positions are those of
    MediaPipe's image-to-tensor step (no half-pixel shift), so that the nets see what they see there.
    """
    if not (np.isfinite([roi.x, roi.y, roi.side]).all() and 1 <= roi.side <= 100 * max(image.size)):
        return np.zeros((side, side, 3), np.float32)  # a detector's nonsense box: nothing to see there
    if extend:
        image, roi = _extended(image, roi)
    step = roi.side / side
    a, b = step * np.cos(roi.rotation), -step * np.sin(roi.rotation)
    middle = side / 2 + 0.5  # Pillow evaluates at pixel centres, MediaPipe at corners
    coefficients = (a, b, roi.x + 0.5 - (a + b) * middle, -b, a, roi.y + 0.5 - (a - b) * middle)
    sampled = image.transform((side, side), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    return np.asarray(sampled, dtype=np.float32) * np.float32(1 / 255)


def _extended(image: Image.Image, roi: Roi) -> tuple[Image.Image, Roi]:
    """An image that covers all of ``roi``, its edge pixels repeated where the original ends, and the region in it."""
    reach = roi.side / 2 * (abs(np.cos(roi.rotation)) + abs(np.sin(roi.rotation))) + 2
    left, top = int(np.floor(roi.x - reach)), int(np.floor(roi.y - reach))
    right, bottom = int(np.ceil(roi.x + reach)), int(np.ceil(roi.y + reach))
    if left >= 0 and top >= 0 and right <= image.width and bottom <= image.height:
        return image, roi
    if (right - left) * (bottom - top) > 16 * image.width * image.height:
        return image, roi  # far larger than the image: black borders do, and memory stays bounded
    # Pillow crops beyond the image with black; then the outermost rows and columns are drawn out over it.
    part = image.crop((left, top, right, bottom))
    x0, x1 = max(-left, 0), min(image.width - left, part.width)
    y0, y1 = max(-top, 0), min(image.height - top, part.height)
    if x0 >= x1 or y0 >= y1:
        return image, roi  # not on the image at all
    for edge, onto in (
        ((x0, y0, x1, y0 + 1), (x0, 0, x1, y0)),
        ((x0, y1 - 1, x1, y1), (x0, y1, x1, part.height)),
        ((x0, 0, x0 + 1, part.height), (0, 0, x0, part.height)),
        ((x1 - 1, 0, x1, part.height), (x1, 0, part.width, part.height)),
    ):
        size = (onto[2] - onto[0], onto[3] - onto[1])
        if size[0] > 0 and size[1] > 0:
            part.paste(part.crop(edge).resize(size, Image.Resampling.NEAREST), onto)
    return part, Roi(roi.x - left, roi.y - top, roi.side, roi.rotation)


def ssd_anchors(side: int, strides: tuple[int, ...]) -> Float32:
    """Anchor centres ``[N, 2]`` in [0, 1] of MediaPipe's detectors: two a cell and stride, equal strides pooled."""
    centres: list[Float64] = []
    for stride in sorted(set(strides)):
        cells = -(-side // stride)
        grid = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(grid, grid, indexing="ij")
        centres.append(np.repeat(np.stack([x, y], -1).reshape(-1, 2), 2 * strides.count(stride), axis=0))
    return np.concatenate(centres).astype(np.float32)


def sigmoid(x: Float32) -> Float32:
    """Logistic function, safe for large |x|."""
    return np.asarray(1 / (1 + np.exp(-np.clip(x.astype(np.float64), -100, 100))), dtype=np.float32)
