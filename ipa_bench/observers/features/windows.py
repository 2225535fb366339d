"""Windows of a clip: which frames a network sees at once, taken from a stream so that few frames are in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np

from ipa_bench.errors import Unscorable
from ipa_bench.types import Float32

T = TypeVar("T")


class Window(NamedTuple):
    """Consecutive frames of one clip."""

    #: index of its first frame
    start: int
    #: float32 ``[3, length, h, w]``, C-contiguous, its own copy
    values: Float32


def starts(frames: int, length: int, stride: int, *, pad: bool = False) -> range:
    """First frames of all windows of a clip of ``frames`` frames; ``length`` and ``stride`` in frames, at least 1.

    Without ``pad`` a window lies wholly in the clip: a clip shorter than ``length`` has none. With ``pad`` one begins
    at every multiple of ``stride``, and the last ones may need repeated frames (:func:`stream`). Raises ``ValueError``
    for a length or stride below 1.
    """
    _check(length, stride)
    return range(0, frames if pad else frames - length + 1, stride)


def stream(
    frames: Iterable[T], prepare: Callable[[T], Float32], length: int, stride: int, *, pad: bool = False
) -> Iterator[Window]:
    """Windows of a stream, in order; at most ``length`` frames are held.

    ``prepare`` makes float32 ``[3, h, w]`` of a frame, once for each frame that is in a window, however many. With
    ``pad`` what is missing of a last window is filled with the last frame, as DisCo's FID-VID does. Raises
    ``ValueError`` for a length or stride below 1.
    """
    _check(length, stride)
    ring: deque[Float32] = deque(maxlen=length)
    count = 0
    for frame in frames:
        # with a stride longer than a window some frames are in none
        if count % stride < length:
            ring.append(prepare(frame))
        count += 1
        start = count - length
        if start >= 0 and start % stride == 0:
            yield Window(start, np.stack(ring, axis=1))
    if pad:
        for start in starts(count, length, stride, pad=True):
            if start + length > count:
                held = list(ring)[start - count :]
                yield Window(start, np.stack(held + [held[-1]] * (length - len(held)), axis=1))


def require(name: str, frames: int, length: int, least: int) -> None:
    """Raise :class:`Unscorable` where a clip of ``frames`` frames has no window of ``length``.

    ``name`` of the file and ``least``, the fewest frames that the network takes, go into the reason.
    """
    if frames >= length:
        return
    if frames < least:
        why = f"the network takes no fewer than {least}"
    else:
        why = f"the network itself takes {least} or more: shorter windows are another definition"
    raise Unscorable(f"{name}: has {frames} frames, a window needs {length} ({why})")


def _check(length: int, stride: int) -> None:
    if length < 1 or stride < 1:
        raise ValueError(f"length and stride must be at least 1, got {length} and {stride}")
