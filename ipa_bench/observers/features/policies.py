"""Preprocessing by name: how frames become what a video network reads.

Resizing alone moves a Fréchet distance (Parmar et al., "On Aliased Resizing", CVPR 2022), and every published FVD does
it in its own way. A policy is therefore named after the implementation it follows, states where it departs from it, and
has a version that changes when its values do.

A policy fixes the geometry. The range of the values belongs to the network: see :data:`SCALES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ipa_bench import video
from ipa_bench.errors import UserError
from ipa_bench.types import Float32, UInt8

Scale = Literal["symmetric", "kinetics-mean", "bytes"]

#: mean red, green and blue of Kinetics on 0-255, as Hara's 3D ResNets and DisCo's FID-VID subtract them
KINETICS_MEAN = (114.7748, 107.7354, 99.4750)
#: what a network reads, of values v on 0-255
SCALES: Mapping[Scale, str] = {
    "symmetric": "v / 127.5 - 1: [-1, 1], what I3D reads",
    "kinetics-mean": "v minus the mean colour of Kinetics, not divided by a deviation: what 3D-ResNet-50 reads",
    "bytes": "v itself, on 0-255: for a network that takes off the mean colour of Kinetics itself",
}


@dataclass(frozen=True)
class Policy:
    """One way to resize a frame, and whose it is. Pure: frames do not depend on each other."""

    name: str
    #: changes whenever a value may change
    version: int
    #: whose preprocessing this is
    origin: str
    #: where ours departs from it; empty where it does not
    deviations: str
    #: (uint8 ``[H, W, 3]``, side) -> float32 ``[side, side, 3]`` on 0-255
    resize: Callable[[UInt8, int], Float32]
    #: whether every value stays between the smallest and the largest of the frame
    bounded: bool = True

    def frame(self, image: UInt8, size: int = 224, scale: Scale = "symmetric") -> Float32:
        """One frame, uint8 ``[H, W, 3]`` RGB, as float32 ``[3, size, size]``, C-contiguous, in the range of ``scale``.

        Raises ``ValueError`` for another shape, dtype or scale, and for a size below 1.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"expected uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        if scale not in SCALES:
            raise ValueError(f"scale must be one of {', '.join(SCALES)}, got {scale!r}")
        values = self.resize(image, size)
        if scale == "symmetric":
            values = values / np.float32(127.5) - np.float32(1)
        elif scale == "kinetics-mean":
            # In float64, as DisCo does: its means are float64, so the difference is rounded once.
            values = (values - np.array(KINETICS_MEAN)).astype(np.float32)
        return np.ascontiguousarray(values.transpose(2, 0, 1))

    def __call__(self, frames: UInt8, size: int = 224, scale: Scale = "symmetric") -> Float32:
        """A clip, uint8 ``[T, H, W, 3]`` RGB, as float32 ``[3, T, size, size]``, C-contiguous; see :meth:`frame`."""
        if frames.ndim != 4 or not len(frames):
            raise ValueError(f"expected uint8 [T, H, W, 3], got {frames.dtype} {list(frames.shape)}")
        return np.stack([self.frame(image, size, scale) for image in frames], axis=1)


def policy(name: str) -> Policy:
    """The policy of that name or alias. Raises :class:`UserError` for another name."""
    found = POLICIES.get(ALIASES.get(name, name))
    if found is None:
        names = ", ".join([*POLICIES, *ALIASES])
        raise UserError(f"there is no preprocessing policy called {name!r}", f"use one of {names}")
    return found


# ---------------------------------------------------------------------------------------------------------------------
# geometry


class _Taps(NamedTuple):
    """Two source pixels for each output pixel of an axis, and the second one's weight in [0, 1]."""

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    weight: Float32


def resize_tf(image: UInt8, size: int) -> Float32:
    """Straight to ``size`` x ``size``; float32 ``[size, size, 3]`` on 0-255. See ``POLICIES["tf"]``."""
    height, width = image.shape[:2]
    return _two_taps(image, _legacy_taps(height, size), _legacy_taps(width, size))


def resize_styleganv(image: UInt8, size: int) -> Float32:
    """Short side to ``size``, centre crop; float32 ``[size, size, 3]`` on 0-255. See ``POLICIES["styleganv"]``."""
    height, width = image.shape[:2]
    scale = size / min(height, width)
    # The published code's own rounding up: where the product is a hair above an integer, that is one pixel more.
    tall, wide = (size, math.ceil(width * scale)) if height < width else (math.ceil(height * scale), size)
    rows, columns = (_half_pixel_taps(*axis, size) for axis in ((height, tall), (width, wide)))
    return _two_taps(image, rows, columns)


def resize_disco(image: UInt8, size: int) -> Float32:
    """Straight to ``size`` x ``size``; float32 ``[size, size, 3]``, may leave 0-255. See ``POLICIES``."""
    # Pillow resizes floats one channel at a time. Splitting bytes and then widening them is exact, and quick.
    channels = [channel.convert("F") for channel in Image.fromarray(image).split()]
    return np.stack([np.asarray(c.resize((size, size), Image.Resampling.BICUBIC), np.float32) for c in channels], -1)


def resize_clean(image: UInt8, size: int) -> Float32:
    """The largest centred square; float32 ``[size, size, 3]`` of integers on 0-255. See ``POLICIES["clean"]``."""
    return video.resize(image, (size, size), "crop").astype(np.float32)


@lru_cache(maxsize=32)
def _legacy_taps(length: int, size: int) -> _Taps:
    """TensorFlow 1, align_corners=False: output pixel i reads at i * length / size, in float32, without half pixels."""
    at = np.arange(size, dtype=np.float32) * (np.float32(length) / np.float32(size))
    low = np.floor(at).astype(np.intp)
    return _Taps(low, np.minimum(low + 1, length - 1), at - low.astype(np.float32))


@lru_cache(maxsize=32)
def _half_pixel_taps(length: int, resized: int, size: int) -> _Taps:
    """PyTorch's interpolate, align_corners=False, to ``resized`` pixels, of which the middle ``size`` are kept."""
    first = (resized - size) // 2
    centre = np.arange(first, first + size) + 0.5
    # A float32 scale, but one rounding for product and difference, as PyTorch's vectorised code has it: with two,
    # values would be up to 3e-5 away.
    at = np.maximum(centre * float(np.float32(length) / np.float32(resized)) - 0.5, 0).astype(np.float32)
    low = np.minimum(np.floor(at).astype(np.intp), length - 1)
    return _Taps(low, np.minimum(low + 1, length - 1), np.clip(at - low.astype(np.float32), 0, 1))


def _two_taps(image: UInt8, rows: _Taps, columns: _Taps) -> Float32:
    """Bilinear between the four pixels around each point, across and then down, in float32."""
    # Only the pixels that are read become floats: a whole frame has up to twenty times as many.
    pixels, width = np.ascontiguousarray(image).reshape(-1, 3), image.shape[1]

    def read(row: NDArray[np.intp], column: NDArray[np.intp]) -> Float32:
        index = (row[:, None] * width + column).ravel()
        return np.asarray(pixels.take(index, axis=0), np.float32).reshape(len(row), len(column), 3)

    def across(row: NDArray[np.intp]) -> Float32:
        left = read(row, columns.low)
        return np.asarray(left + (read(row, columns.high) - left) * columns.weight[:, None], np.float32)

    upper, lower = across(rows.low), across(rows.high)
    return np.asarray(upper + (lower - upper) * rows.weight[:, None, None], np.float32)


#: other names for a policy
ALIASES: Mapping[str, str] = {"disco": "disco-legacy"}

POLICIES: Mapping[str, Policy] = {
    made.name: made
    for made in (
        Policy(
            name="tf",
            version=1,
            origin="the FVD of Unterthiner et al. 2018 (google-research/frechet_video_distance): resize_bilinear of "
            "TensorFlow 1 with align_corners=False straight to 224x224, then 2x/255 - 1. The aspect ratio is lost, "
            "output pixel i reads at i * scale, so the image shifts by (scale - 1) / 2 pixels, and nothing is filtered "
            "before shrinking.",
            deviations="TensorFlow's arithmetic written out in NumPy; values agree to rounding.",
            resize=resize_tf,
        ),
        Policy(
            name="styleganv",
            version=1,
            origin="the styleganv method of JunyaoHu/common_metrics_on_video_quality: the short side to 224 by "
            "PyTorch's interpolate (bilinear, align_corners=False, not antialiased), the middle 224, (x - 0.5) * 2.",
            deviations="Only the kept pixels are interpolated, on 0-255 instead of 0-1; values agree to 1e-6. "
            "StyleGAN-V itself resizes inside its TorchScript file and crops in its data set.",
            resize=resize_styleganv,
        ),
        Policy(
            name="disco-legacy",
            version=1,
            origin="the TikTok protocol of DisCo (Wangt-CN/DisCo, tool/metrics): Pillow's bicubic, widened when "
            "shrinking, each channel as float, straight to 224x224 (FVD) or 112x112 (FID-VID). The aspect ratio is "
            "lost, and values that overshoot black or white are not clipped.",
            deviations="A video that cannot be decoded is skipped with a reason; DisCo puts a random other one in its "
            "place.",
            resize=resize_disco,
            bounded=False,
        ),
        Policy(
            name="clean",
            version=1,
            origin="this project, after Parmar et al. 2022 (clean-fid): shrinking is filtered. The largest centred "
            "square, triangle filter widened by the scale factor, rounded to 8 bits: ipa_bench.video.resize, 'crop'.",
            deviations="clean-fid filters bicubically in float and does not crop.",
            resize=resize_clean,
        ),
    )
}
