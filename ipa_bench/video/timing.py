"""When frames are shown: the rate of a clip from its timestamps, and the frame that is on screen at a time.

Every reading of a clip at another rate (pose videos, control frames, masks, copies) goes through :func:`shown_at`.
Containers do not agree on what a rate is: MP4 divides by the time that the last frame is held, Matroska keeps whole
milliseconds, phones and screen recorders vary it. So the rate is read off the times between frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ipa_bench.types import Float64, UInt8
from ipa_bench.video.decode import Frame

Int64 = NDArray[np.int64]

#: seconds by which a container may round a timestamp (Matroska, WebM: whole milliseconds), and a little more
ROUNDING = 1.1e-3
#: rates that recordings have; one within the rounding of the timestamps is meant
_USUAL = tuple(float(rate) for n in range(1, 241) for rate in (Fraction(n), Fraction(n * 1000, 1001)))


def is_constant(times: Float64) -> bool:
    """Whether frames come at one rate: no time between two differs from the median by more than a tenth and rounding.

    ``times`` float64 ``[T]`` in seconds, ascending. True for fewer than three frames.
    """
    if len(times) < 3:
        return True
    steps = np.diff(times)
    middle = _middle(steps)
    return bool(np.abs(steps - middle).max() <= max(0.1 * middle, ROUNDING))


def rate_of(times: Float64, declared: float | None = None) -> float | None:
    """Frames per second of a clip, from when its frames are shown; None for fewer than two frames.

    ``times`` float64 ``[T]`` in seconds, ascending; ``declared`` is what the container says, taken where the timestamps
    agree with it. How long the last frame is held does not count, nor do pauses: of the mean rate and that of the
    median step the higher one.
    """
    if len(times) < 2:
        return None
    steps = np.diff(times)
    regular = steps[np.abs(steps - _middle(steps)) <= max(0.1 * _middle(steps), ROUNDING)]
    if is_constant(times):
        rate = (len(times) - 1) / float(times[-1] - times[0])
    else:
        rate = max((len(times) - 1) / float(times[-1] - times[0]), 1 / float(regular.mean()))
    # What rounding of the first and last timestamp does to the mean of this many steps.
    doubt = rate * rate * 2 * ROUNDING / max(len(regular), 1)
    if declared is not None and abs(declared - rate) <= max(doubt, 1e-6 * rate):
        return declared
    nearest = min(_USUAL, key=lambda usual: abs(usual - rate))
    return nearest if abs(nearest - rate) <= max(doubt if _whole_milliseconds(times) else 0.0, 1e-6 * rate) else rate


def shown_at(times: Float64, rate: float, wanted: Float64) -> Int64:
    """Which frame is on screen at each of the ``wanted`` seconds, int64 ``[N]``.

    ``times`` float64 ``[T]``, ascending, from 0; ``rate`` of the clip in frames per second. A frame that comes within
    half a frame period counts as there already, so that of a clip at a constant rate this is the nearest frame (the
    earlier of two that are as near); a frame that is held stays until the next one comes.
    """
    # rounded: of two that are as near, the earlier one, whatever the last digit says
    late = (np.asarray(wanted, np.float64) + 0.5 / rate).round(6)
    index = np.searchsorted(times.round(6), late, side="left") - 1
    return np.clip(index, 0, len(times) - 1).astype(np.int64)


def resampled(times: Float64, rate: float, fps: float, frames: int | None = None) -> Int64:
    """Which source frames a copy at ``fps`` shows, int64 ``[N]``; ``frames`` of them, or all that the clip lasts for.

    The clip lasts until one frame period after its last frame. Raises ``ValueError`` where it is shorter than
    ``frames``.
    """
    count = _count(float(times[-1] - times[0]), rate, fps)
    if frames is not None and frames > count:
        raise ValueError(f"has {count} frames at {fps:g} per second")
    return shown_at(times - times[0], rate, np.arange(min(count, frames or count)) / fps)


def _count(last: float, rate: float, fps: float) -> int:
    """Frames of a copy of a clip whose last frame comes at ``last`` seconds: each that shows one before it is there."""
    until = math.floor(round((last - 0.5 / rate) * fps, 6)) + 1
    return max(1, until, math.floor(round((last + 1 / rate) * fps, 6) + 0.5))


def resample(frames: Iterable[Frame], rate: float, fps: float) -> Iterator[UInt8]:
    """:func:`resampled` of frames that stream by: the pictures of a copy at ``fps``; one of them is held at a time.

    ``rate`` is the clip's, of :func:`rate_of` or :func:`ipa_bench.video.probe`.
    """
    shown: Frame | None = None
    made = 0
    for frame in frames:
        while shown is not None and round(made / fps + 0.5 / rate, 6) <= round(frame.time, 6):
            yield shown.image
            made += 1
        shown = frame
    if shown is not None:
        for _ in range(_count(shown.time, rate, fps) - made):
            yield shown.image


def _middle(steps: Float64) -> float:
    """The median; of an even number the lower one, so that it is one of them."""
    return float(np.sort(steps)[(len(steps) - 1) // 2])


def _whole_milliseconds(times: Float64) -> bool:
    return bool(np.abs(times * 1000 - np.round(times * 1000)).max() < 1e-6)
