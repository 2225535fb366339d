"""A setting becomes pictures, and who covers which pixel of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from ipa_bench import video
from ipa_bench.embedded import estimator, paint, relief
from ipa_bench.embedded.group.setting import Key, Lens, Setting, alone, generator
from ipa_bench.embedded.paint import PARTS
from ipa_bench.embedded.people import Person, Scene
from ipa_bench.pose import Pose
from ipa_bench.types import Float32, UInt8

HANDS = tuple(PARTS.index(part) for part in ("left hand", "right hand"))


@dataclass(frozen=True, eq=False)
class Shot:
    """A drawn clip of several people and everything that is exactly known about it."""

    #: uint8 ``[T, H, W, 3]`` RGB
    frames: UInt8
    #: uint8 ``[T, bodies, 5, H, W]``: how much of a pixel shows each body's :data:`~ipa_bench.embedded.paint.PARTS`,
    #: 255 all of it; before the lens
    cover: UInt8
    setting: Setting

    @property
    def masks(self) -> UInt8:
        """How much of a pixel shows each person, uint8 ``[T, K, H, W]``."""
        shown = self.cover[:, : self.setting.count].sum(2, dtype=np.uint16)
        return np.asarray(np.minimum(shown, 255), np.uint8)

    @property
    def hands(self) -> UInt8:
        """How much of a pixel shows any hand, uint8 ``[T, H, W]``."""
        return np.asarray(np.minimum(self.cover[:, :, HANDS].sum((1, 2), dtype=np.uint16), 255), np.uint8)


class Layers(paint.Canvas):
    """A canvas that knows whose what each pixel shows: ``cover`` float32 ``[bodies, 5, H, W]``."""

    def __init__(self, wall: Float32, scene: Scene, bodies: int) -> None:
        super().__init__(wall, scene)
        self.cover = np.zeros((bodies, len(PARTS), *wall.shape[:2]), np.float32)
        #: the body that is being drawn
        self.body = 0

    def _blend(self, rows: slice, columns: slice, colour: Float32, alpha: Float32) -> None:
        super()._blend(rows, columns, colour, alpha)
        self._own(rows, columns, alpha, PARTS.index(self.part))

    def paste(self, patch: relief.Patch, slot: int) -> None:
        """Put a hand over the picture, and make its pixels that hand's."""
        super().paste(patch, slot)
        height, width = patch.alpha.shape
        rows, columns = slice(patch.y, patch.y + height), slice(patch.x, patch.x + width)
        self._own(rows, columns, patch.alpha, HANDS[slot])

    def _own(self, rows: slice, columns: slice, alpha: Float32, part: int) -> None:
        here = self.cover[:, :, rows, columns]
        here *= 1 - alpha
        here[self.body, part] += alpha


def shot(setting: Setting) -> Shot:
    """Draw every frame, the bodies from the back to the front, through the lens."""
    walls = {scene: paint.wall(scene, setting.size[0]) for scene in dict.fromkeys(setting.scenes)}
    frames, covers = [], []
    for t in range(len(setting)):
        scene = setting.scenes[t]
        canvas = Layers(walls[scene], scene, len(setting.rigs))
        for body in setting.order:
            canvas.body = body
            paint.figure(canvas, setting.rigs[body], t, setting.looks[t][body], scene)
        frames.append(paint.finished(canvas))
        covers.append((canvas.cover * 255 + 0.5).astype(np.uint8))
    return Shot(_through(setting.lens, np.stack(frames), setting.fps), np.stack(covers), setting)


def _through(lens: Lens, frames: UInt8, fps: float) -> UInt8:
    """The frames as the lens gives them."""
    if lens.zoom != 1:
        frames = np.stack([_zoomed(frame, lens.zoom) for frame in frames])
    if lens.blur:
        from scipy.ndimage import gaussian_filter  # slow to import: the table of observers comes by here

        frames = gaussian_filter(frames, (0, lens.blur, lens.blur, 0), mode="nearest")
    if lens.crf is not None:
        frames = np.stack([f.image for f in video.read_bytes(video.encode_bytes(frames, fps, crf=lens.crf))])
    return frames


def _zoomed(frame: UInt8, zoom: float) -> UInt8:
    height, width = frame.shape[:2]
    inner = (width / 2 * (1 - 1 / zoom), height / 2 * (1 - 1 / zoom), width / 2 * (1 + 1 / zoom))
    box = (inner[0], inner[1], inner[2], height / 2 * (1 + 1 / zoom))
    image = Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC, box=box)
    return np.asarray(image)


def reference(key: Key, slot: int) -> UInt8:
    """The reference picture of one of the people: alone in the clip's scene, uint8 ``[H, W, 3]``."""
    frame: UInt8 = shot(alone(key, slot)).frames[0]
    return frame


def exact_poses(setting: Setting) -> tuple[Pose, ...]:
    """Each person's own joints; those that somebody in front hides are among them."""
    pairs = zip(setting.rigs, setting.people, strict=False)
    return tuple(estimator.joints_of(rig, person, setting.size) for rig, person in pairs)


def estimated_poses(setting: Setting, key: Key, failings: estimator.Failings = estimator.USUAL) -> tuple[Pose, ...]:
    """Each person's joints as a pose estimator with failings gives them; the same for the same arguments."""
    rng = generator(key, 3, key.take)
    exact = exact_poses(setting)
    return tuple(
        estimator.failing(rng, pose, setting.fps, person.palm, failings)
        for pose, person in zip(exact, setting.people, strict=True)
    )


def dressed(own: Person, other: Person) -> Person:
    """``other``'s looks on the arms and hands of ``own``, which the pose gives."""
    return replace(other, palm=own.palm, arm=own.arm)
