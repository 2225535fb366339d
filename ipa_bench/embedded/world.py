"""Clips of the built-in world: who, where and what they do follow from (split, identity, take) alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from ipa_bench.embedded import paint
from ipa_bench.embedded import people as look
from ipa_bench.embedded.people import Person, Scene
from ipa_bench.embedded.rig import SIZE, Rig, rig
from ipa_bench.errors import UserError
from ipa_bench.types import Bool, Float32, Split, UInt8

#: changes whenever a pixel or a joint may change
VERSION = 1
FPS = 12.0
FRAMES = 17
__all__ = ["FPS", "FRAMES", "SIZE", "VERSION", "Clip", "clip", "person_of", "prompt", "reference"]


@dataclass(frozen=True, eq=False)
class Clip:
    """A rendered clip and everything that is exactly known about it."""

    #: uint8 ``[T, 128, 128, 3]`` RGB
    frames: UInt8
    #: float32 ``[T, 2, 128, 128]`` in [0, 1]: how much of a pixel each hand covers; slot 0 is the person's left hand
    masks: Float32
    rig: Rig
    person: Person
    scene: Scene
    fps: float

    @property
    def joints(self) -> Float32:
        """Joints of the hands, float32 ``[T, 2, 21, 3]``: pixels, x right, y down, z toward the viewer."""
        return np.asarray(self.rig.hands, np.float32)

    @property
    def visible(self) -> Bool:
        """Whether a hand lies in the frame, bool ``[T, 2]``."""
        inside = (self.rig.hands[..., :2] >= 0) & (self.rig.hands[..., :2] < SIZE)
        return np.asarray(inside.all((-2, -1)))


#: what a case's ``world`` begins with, where it was rendered from a clip of this module
STAGE = "person/"


def scene_name(split: Split, identity: int, take: int) -> str:
    """As a case names the clip that it was rendered from."""
    return f"{STAGE}{split}/{identity}/{take}"


def scene_of(text: str) -> tuple[Split, int, int]:
    """(split, identity, take) of a case's ``world``. Raises :class:`UserError` for another text."""
    try:
        split, identity, take = text.removeprefix(STAGE).split("/")
        found: tuple[Split, int, int] = (split, int(identity), int(take))  # type: ignore[assignment]
        if scene_name(*found) != text or split not in get_args(Split) or min(found[1:]) < 0:
            raise ValueError
    except ValueError:
        raise UserError(f"{text!r} is no clip of the built-in world", f'write "{STAGE}test/0/0"') from None
    return found


def rig_of(split: Split, identity: int, take: int, frames: int = FRAMES, fps: float = FPS) -> Rig:
    """The joints of :func:`clip`, without its pictures."""
    rng = _generator(split, identity, 1, take)
    look.scene(rng)
    return rig(rng, person_of(split, identity), np.arange(frames) / fps, split == "test")


def _generator(split: Split, *key: int) -> np.random.Generator:
    return np.random.default_rng([VERSION, get_args(Split).index(split), *key])


def person_of(split: Split, identity: int) -> Person:
    """What an identity looks like. Splits share no identity."""
    return look.person(_generator(split, identity, 0))


def prompt(person: Person) -> str:
    """A caption of a person; nothing about the hands, which the pose map alone describes."""
    hair = "no hair" if person.hair_style == "bald" else f"{person.hair_style} hair"
    glasses = ", glasses" if person.glasses else ""
    return f"a person with {hair}{glasses}, {person.shirt} shirt"


def clip(
    split: Split,
    identity: int,
    take: int,
    frames: int = FRAMES,
    fps: float = FPS,
    moments: Sequence[int] | None = None,
) -> Clip:
    """Render one clip. Only clips of the test split show the postures and motions kept for it.

    ``moments``: only these frames are painted; the rig is that of the whole clip.
    """
    rng = _generator(split, identity, 1, take)
    scene, person = look.scene(rng), person_of(split, identity)
    pose = rig(rng, person, np.arange(frames) / fps, split == "test")
    return _render(person, scene, pose, fps, moments)


def reference(split: Split, identity: int, take: int) -> UInt8:
    """The reference image of a clip: the same person in the same place, the hands elsewhere. ``[128, 128, 3]``."""
    scene = look.scene(_generator(split, identity, 1, take))
    person = person_of(split, identity)
    pose = rig(_generator(split, identity, 2, take), person, np.zeros(1), False)
    image: UInt8 = _render(person, scene, pose, FPS).frames[0]
    return image


def _render(person: Person, scene: Scene, pose: Rig, fps: float, moments: Sequence[int] | None = None) -> Clip:
    background = paint.wall(scene)
    shown = range(len(pose.chest)) if moments is None else moments
    pictures = [paint.frame(pose, t, person, scene, background) for t in shown]
    frames, masks = zip(*pictures, strict=True)
    return Clip(np.stack(frames), np.stack(masks), pose, person, scene, fps)
