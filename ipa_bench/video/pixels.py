"""Single images: named resize policies, and the hash that names a clip. Use through :mod:`ipa_bench.video`."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import numpy as np
from PIL import Image

from ipa_bench.types import UInt8

ResizePolicy = Literal["stretch", "fit", "crop", "area"]

#: (a, b, c, d): the pixel at (x, y) is shown at (a·x + c·y, b·x + d·y), y down, up to scale and shift.
DisplayMatrix = tuple[int, int, int, int]


#: of the thread that reads a video: the last pictures made, each with the array that it was made of
_reading = threading.local()


@contextmanager
def pictures_shared() -> Iterator[None]:
    """Inside, in this thread, :func:`picture` of the same array is made once for all who ask in turn.

    For whoever reads a video for several others; nobody writes into the frames meanwhile.
    """
    before = getattr(_reading, "held", None)
    _reading.held = deque(maxlen=2)  # a generated frame and its ground truth
    try:
        yield
    finally:
        _reading.held = before


def picture(image: UInt8) -> Image.Image:
    """An image uint8 ``[H, W, 3]`` as Pillow has it: a copy with other strides, which takes as long as a small network.

    Not to be written into: see :func:`pictures_shared`.
    """
    held: deque[tuple[UInt8, Image.Image]] | None = getattr(_reading, "held", None)
    if held is None:
        return Image.fromarray(image)
    for array, made in held:
        if array is image:
            return made
    made = Image.fromarray(image)
    held.append((image, made))
    return made


def resize(image: UInt8, size: tuple[int, int], policy: ResizePolicy = "stretch") -> UInt8:
    """Resize one image to exactly ``size``.

    ``image`` uint8 ``[H, W, 3]``; ``size`` (width, height) in pixels, each at least 1. Returns uint8
    ``[height, width, 3]``, C-contiguous; ``image`` itself (not a copy) where it already has that size. Policies:

    - ``stretch``: triangle filter widened by the scale factor (antialiased bilinear); the aspect ratio changes.
    - ``area``: box filter, each output pixel is the mean of the input area under it; the aspect ratio changes.
      When enlarging this is nearest neighbour.
    - ``fit``: ``stretch`` to the largest size with the input's aspect ratio, centred on black.
    - ``crop``: ``stretch`` until ``size`` is just covered, then the centre. The region is cut exactly, at fractions
      of a pixel where need be.

    Raises ``ValueError`` for another shape, dtype, size or policy.
    """
    _check_image(image)
    width, height = size
    if width < 1 or height < 1:
        raise ValueError(f"size must be at least 1x1, got {width}x{height}")
    if policy not in get_args(ResizePolicy):
        raise ValueError(f"policy must be one of {', '.join(get_args(ResizePolicy))}, got {policy!r}")
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    if policy == "fit":
        return _letterbox(image, width, height)
    box = _centred_box(image, width, height) if policy == "crop" else None
    resample = Image.Resampling.BOX if policy == "area" else Image.Resampling.BILINEAR
    return np.array(Image.fromarray(image).resize((width, height), resample, box=box))


def _letterbox(image: UInt8, width: int, height: int) -> UInt8:
    source_height, source_width = image.shape[:2]
    scale = min(width / source_width, height / source_height)
    inner = (max(1, round(source_width * scale)), max(1, round(source_height * scale)))
    canvas = np.zeros((height, width, 3), np.uint8)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas[top : top + inner[1], left : left + inner[0]] = resize(image, inner)
    return canvas


def _centred_box(image: UInt8, width: int, height: int) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the largest centred region with the aspect ratio width : height."""
    source_height, source_width = image.shape[:2]
    scale = max(width / source_width, height / source_height)
    # min: rounding must not push the box outside the image, which Pillow refuses
    box_width, box_height = min(source_width, width / scale), min(source_height, height / scale)
    left, top = (source_width - box_width) / 2, (source_height - box_height) / 2
    return (left, top, left + box_width, top + box_height)


class PixelHasher:
    """sha256 of a clip's pixels and shape, fed in pieces.

    The digest is a function of the uint8 array ``[T, H, W, 3]`` alone: not of how it was cut into pieces, of the
    container or of the frame rate.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256(b"ipa-bench rgb24 1\n")
        self._shape: tuple[int, ...] | None = None
        self._frames = 0

    def update(self, image: UInt8) -> None:
        """Add one frame uint8 ``[H, W, 3]`` or several ``[T, H, W, 3]``. Raises ``ValueError`` for another shape,
        dtype, or a frame size that differs from the first one's."""
        if image.ndim == 4:
            for single in image:
                self.update(single)
            return
        _check_image(image)
        if self._shape is None:
            self._shape = image.shape
            self._hash.update(f"{image.shape[0]} {image.shape[1]}\n".encode())
        elif image.shape != self._shape:
            raise ValueError(f"frame {self._frames} has shape {image.shape}, the first one {self._shape}")
        self._hash.update(np.ascontiguousarray(image).data)
        self._frames += 1

    def hexdigest(self) -> str:
        """64 hexadecimal digits for what was added so far. Raises ``ValueError`` before the first frame."""
        if not self._frames:
            raise ValueError("no frames to hash")
        final = self._hash.copy()
        final.update(f"{self._frames}\n".encode())
        return final.hexdigest()


def pixel_sha256(frames: Iterable[UInt8]) -> str:
    """:class:`PixelHasher` over ``frames``, each uint8 ``[H, W, 3]``; an array ``[T, H, W, 3]`` is such an iterable."""
    hasher = PixelHasher()
    for image in frames:
        hasher.update(image)
    return hasher.hexdigest()


def swaps_axes(matrix: DisplayMatrix | None) -> bool:
    """Whether width and height change places; None is upright."""
    return matrix is not None and abs(matrix[1]) + abs(matrix[2]) > abs(matrix[0]) + abs(matrix[3])


def quarter_turns(matrix: DisplayMatrix | None) -> int:
    """Clockwise quarter turns, 0 to 3, to the nearest one."""
    return 0 if matrix is None else round(math.degrees(math.atan2(matrix[1], matrix[0])) / 90) % 4


def upright(image: UInt8, matrix: DisplayMatrix | None) -> UInt8:
    """Apply the matrix, rounded to the nearest of the eight turns and mirrorings. uint8 ``[H, W, 3]``, C-contiguous."""
    if matrix is None:
        return image
    a, b, c, d = matrix
    if swaps_axes(matrix):
        image, a, d = image.swapaxes(0, 1), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _check_image(image: UInt8) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"expected uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
