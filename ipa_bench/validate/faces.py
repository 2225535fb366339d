"""Known faults of who is who on footage of two people: pixels of one laid over the other, by their faces' five points.

What is laid over moves with the faces frame by frame. Of most faults it is the face in an oval: what is around it stays
its owner's, so the paste itself costs likeness, whoever's face it is. ``swap_heads`` exchanges all that a face network
looks at, and so shows the exchange alone; ``leak`` gives one the colours of the other's clothes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ipa_bench.models.damage import STRENGTHS, Strength
from ipa_bench.nets.align import similarity
from ipa_bench.types import Float32, UInt8

#: frames that an exchange fades over
FADE = 6
#: distances of the eyes that the networks' square reaches from a face's middle, and a little more
AROUND = 2.0
#: where the clothes are, in face widths and heights from the face's box: aside, from, to
_CLOTHES = (0.6, 1.35, 3.0)


@dataclass(frozen=True)
class FaceFault:
    """One kind, and what its strengths mean."""

    name: str
    levels: tuple[float, float, float]
    meaning: str
    #: (frame of the window from 0 to 1, level) -> shares of the other's face on the first and on the second person
    shares: Callable[[float, float], tuple[float, float]]

    def level(self, strength: Strength) -> float:
        """The value that belongs to a strength."""
        return self.levels[STRENGTHS.index(strength)]


def _late(at: float, level: float) -> float:
    return float(at >= 1 - level)


def _faded(at: float, level: float, fade: float = 0.25) -> float:
    return float(np.clip((at - (1 - level)) / fade + 0.5, 0, 1))


_LATE = "share of each second, at its end"
#: ``at`` is the place in a window of a second
FAULTS: tuple[FaceFault, ...] = (
    FaceFault("swap", (0.25, 0.5, 1.0), f"faces exchanged: {_LATE}", lambda at, v: (_late(at, v), _late(at, v))),
    FaceFault("swap_heads", (0.25, 0.5, 1.0), f"heads exchanged with all around them: {_LATE}",
              lambda at, v: (_late(at, v), _late(at, v))),
    FaceFault("swap_fade", (0.25, 0.5, 0.75), f"exchanged with a cross-fade: {_LATE}",
              lambda at, v: (_faded(at, v), _faded(at, v))),
    FaceFault("blend", (0.3, 0.5, 0.7), "share of the other's face in one", lambda at, v: (0.0, v)),
    FaceFault("duplicate", (0.25, 0.5, 1.0), f"one's face on both: {_LATE}", lambda at, v: (0.0, _late(at, v))),
    FaceFault("drift", (0.3, 0.5, 0.7), "share of the other's face at the end of each second",
              lambda at, v: (0.0, v * at)),
    FaceFault("leak", (0.5, 0.75, 1.0), "one has the colours of the other's clothes", lambda at, v: (0.0, 0.0)),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Pair:
    """Where two people's faces are, in T frames; NaN where one is not seen."""

    #: [T, 2, 5, 2], px
    points: Float32
    #: [T, 2, 4]: left, top, width, height, px
    boxes: Float32


def faulty(frames: Sequence[UInt8], pair: Pair, fault: FaceFault, strength: Strength, window: int) -> list[UInt8]:
    """The frames with a fault, in windows of so many frames; frames in which one is not seen are left as they are."""
    level, made = fault.level(strength), []
    for index, frame in enumerate(frames):
        points, boxes = pair.points[index], pair.boxes[index]
        if not np.isfinite(points).all():
            made.append(frame)
            continue
        if fault.name == "leak":
            made.append(_leaked(frame, boxes[1], boxes[0], level))
            continue
        first, second = fault.shares((index % window) / max(window - 1, 1), level)
        around = AROUND if fault.name == "swap_heads" else None
        image = laid(frame, points[0], frame, points[1], first, around) if first else frame
        made.append(laid(image, points[1], frame, points[0], second, around) if second else image)
    return made


def laid(
    onto: UInt8, points: Float32, other: UInt8, other_points: Float32, share: float, around: float | None = None
) -> UInt8:
    """``other``'s face over the face of ``onto``, by a share from 0 to 1, in an oval with a soft edge.

    Pictures uint8 [H, W, 3]; points [5, 2] of each, px: eyes, nose, corners of the mouth. ``around``: a square that
    reaches so many distances of the eyes from their middle and the mouth's, in place of the oval.
    """
    matrix = similarity(points, other_points)  # Pillow asks where each pixel of the result comes from
    warped = Image.fromarray(other).transform(
        (onto.shape[1], onto.shape[0]), Image.Transform.AFFINE, tuple(matrix.ravel()), Image.Resampling.BILINEAR
    )
    (x, y), eyes = points.mean(0), float(np.linalg.norm(points[0] - points[1]))
    mask = Image.new("L", warped.size, 0)
    if around is None:
        ImageDraw.Draw(mask).ellipse((x - 1.15 * eyes, y - 1.35 * eyes, x + 1.15 * eyes, y + 1.45 * eyes), fill=255)
    else:
        reach = around * eyes
        ImageDraw.Draw(mask).rectangle((x - reach, y - reach, x + reach, y + reach), fill=255)
    soft = mask.filter(ImageFilter.GaussianBlur(0.12 * eyes)).point(lambda value: round(value * share))
    return np.asarray(Image.composite(warped, Image.fromarray(onto), soft))


def _leaked(frame: UInt8, box: Float32, other: Float32, share: float) -> UInt8:
    """Mean and spread of each colour of one's clothes brought to the other's (Reinhard et al. 2001, in RGB)."""
    rows, columns = _clothes(frame, box)
    theirs = frame[_clothes(frame, other)].reshape(-1, 3).astype(np.float32)
    part = frame[rows, columns].astype(np.float32)
    if not part.size or not theirs.size:
        return frame
    flat = part.reshape(-1, 3)
    scale = np.clip(theirs.std(0) / np.maximum(flat.std(0), 1), 0.3, 3)
    moved = (part - flat.mean(0)) * scale + theirs.mean(0)
    made = frame.copy()
    made[rows, columns] = np.clip(part + (moved - part) * share, 0, 255).astype(np.uint8)
    return made


def _clothes(frame: UInt8, box: Float32) -> tuple[slice, slice]:
    left, top, width, height = (float(v) for v in box)
    aside, first, last = _CLOTHES
    tall, wide = frame.shape[:2]
    rows = slice(*(int(np.clip(top + share * height, 0, tall)) for share in (first, last)))
    columns = slice(int(np.clip(left - aside * width, 0, wide)), int(np.clip(left + (1 + aside) * width, 0, wide)))
    return rows, columns
