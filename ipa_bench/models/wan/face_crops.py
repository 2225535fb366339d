"""The face of whoever drives a clip, cut out of each frame: what Wan-Animate reads expressions from.

Faces are those of the face observers (YuNet). A cut is a square around the face's box, :data:`LARGER` times its longer
side, as the authors' preprocessing cuts by the points of a face. In a frame without a face it is where it was in the
nearest frame that has one; a clip that shows none gives black pictures, which is what the model is given for "no face"
where it is guided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ipa_bench import video, weights
from ipa_bench.errors import Unscorable
from ipa_bench.types import Float32, UInt8

if TYPE_CHECKING:
    from ipa_bench.observers.detector import Face

#: changes whenever a cut may change
VERSION = "faces@1"
#: side of a cut over the longer side of the face's box
LARGER = 1.3

#: finds the faces of a picture
Find = Callable[[UInt8], "Sequence[Face]"]


def detector() -> Find:
    """Finds faces by YuNet, whose small file is downloaded where it is not here. Raises UserError where that fails."""
    from ipa_bench.observers.detector import detector as made

    return made(weights.path("yunet")).faces


def crops(driving: Path, fps: float, frames: int, side: int, find: Find) -> UInt8:
    """The driving face uint8 ``[frames, side, side, 3]`` at ``fps``, the pose's; the last stands for what is missing.

    Of several faces it is the largest, then the one nearest to where that was. Raises :class:`Unscorable` where the
    driving clip does not decode.
    """
    pictures, _ = video.read_at(driving, fps)
    images = list(islice(pictures, frames))
    if not images:
        raise Unscorable(f"{driving.name}: has no frame")
    boxes = followed([find(image) for image in images])
    cut = [
        np.zeros((side, side, 3), np.uint8) if box is None else _cut(image, box, side)
        for image, box in zip(images, boxes, strict=True)
    ]
    return np.stack([*cut, *[cut[-1]] * (frames - len(cut))])


def followed(found: Sequence[Sequence[Face]]) -> list[Float32 | None]:
    """One box (left, top, width, height) for each frame; all None where no frame has a face."""
    seen: dict[int, Float32] = {}
    for index, faces in enumerate(found):
        if not faces:
            continue
        boxes = [np.asarray(face.box, np.float32) for face in faces]
        if seen:
            last = _centre(seen[max(seen)])
            seen[index] = min(boxes, key=lambda box: float(np.abs(_centre(box) - last).sum()))
        else:
            seen[index] = max(boxes, key=lambda box: float(box[2] * box[3]))
    if not seen:
        return [None] * len(found)
    return [seen[min(seen, key=lambda at: (abs(at - index), at))] for index in range(len(found))]


def _centre(box: Float32) -> Float32:
    return np.asarray(box[:2] + box[2:] / 2, np.float32)


def _cut(image: UInt8, box: Float32, side: int) -> UInt8:
    """A square of the picture, its edges repeated where it reaches beyond them, resized."""
    half = max(1, round(float(max(box[2:])) * LARGER / 2))
    x, y = (int(v) for v in np.round(_centre(box)))
    rows = np.clip(np.arange(y - half, y + half), 0, image.shape[0] - 1)
    columns = np.clip(np.arange(x - half, x + half), 0, image.shape[1] - 1)
    return video.resize(np.ascontiguousarray(image[rows][:, columns]), (side, side))
