"""What a reward has to beat: rules without training that say how much people look like their references."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ipa_bench.types import Float32, UInt8
from trainers.reward_model.seen import Seen

#: of a colour histogram, each channel
_BINS = 6


def histogram(clips: Sequence[Seen]) -> list[float]:
    """Overlap of the colours about each person's head and trunk with their reference's, less the best other's; mean.

    Of a reference the whole picture is taken, of a frame what lies within 1.2 radii of where the pose puts a part; the
    whole frame where no pose says that.
    """
    return [_margin(clip) for clip in clips]


def _margin(clip: Seen) -> float:
    wanted = [_colours(picture, None) for picture in clip.references]
    margins = []
    for slot, places in enumerate(clip.places):
        for frame, parts in zip(clip.frames, places, strict=True):
            seen = _colours(frame, parts)
            overlap = [float(np.minimum(seen, each).sum()) for each in wanted]
            others = [value for other, value in enumerate(overlap) if other != slot]
            margins.append(overlap[slot] - (max(others) if others else 0.0))
    return float(np.mean(margins))


def _colours(image: UInt8, parts: Float32 | None) -> Float32:
    """Shares of coarse colours, ``[bins ** 3]``."""
    height, width = image.shape[:2]
    chosen = np.ones((height, width), bool)
    if parts is not None and (parts[:, 2] > 0).any():
        y, x = np.mgrid[:height, :width] / height
        inside = [np.hypot(x - cx, y - cy) < radius * 1.2 for cx, cy, radius in parts if radius > 0]
        chosen = np.logical_or.reduce(inside)
    levels = image[chosen].astype(int) * _BINS // 256
    place = (levels[:, 0] * _BINS + levels[:, 1]) * _BINS + levels[:, 2]
    counts = np.bincount(place, minlength=_BINS**3).astype(np.float32)
    return np.asarray(counts / max(counts.sum(), 1), np.float32)


BASELINES: dict[str, Callable[[Sequence[Seen]], list[float]]] = {"colours": histogram}
