"""What the shipped nets learn from: rendered people of the built-in world, what is true of them, and known damage.

They are people of the train split from :data:`FIRST` on, whom no generator of this project was trained on, and, to
measure, of val. The test split, and with it its postures and its motion, is never rendered here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.ndimage import gaussian_filter

from ipa_bench.embedded import gesture, paint, world
from ipa_bench.embedded import people as look
from ipa_bench.embedded.people import Person
from ipa_bench.embedded.world import FRAMES, SIZE, Clip
from ipa_bench.engine import processes as pool
from ipa_bench.files import write_atomic
from ipa_bench.types import Float32, UInt8

#: pretraining shows people 0 to 499 of the train split, alignment those from 500, the footage those from 2000
FIRST = {"train": 4000, "val": 0}
TAKES = 2
#: clips that a stop may cost
_KEEP = 20
#: radians that a finger may be turned by at most
TURN = 1.2
POSTURES = tuple(gesture.POSTURES)
MOTIONS = tuple(dict.fromkeys(gesture.MOTIONS))
#: attributes of a person that are told from a picture, and how many values each has
ATTRIBUTES = {"hair_style": 5, "shirt": 4, "glasses": 2, "cuff": 2, "skin": len(look.SKIN), "hair": len(look.HAIR)}

Learned = Literal["train", "val"]
Key = tuple[Learned, int, int]
Integers = np.ndarray[Any, np.dtype[np.int64]]
#: name -> shape of one item, type
Layout = Mapping[str, tuple[tuple[int, ...], type]]

_CLIPS: Layout = {
    "frames": ((FRAMES, SIZE, SIZE, 3), np.uint8),
    "posture": ((2,), np.int64),
    "motion": ((2,), np.int64),
    "palm": ((2,), np.int64),
    "flexion": ((FRAMES, 2, 5), np.float32),
    "joints": ((FRAMES, 2, 21, 2), np.float32),
}
_PORTRAITS: Layout = {
    "images": ((TAKES, SIZE, SIZE, 3), np.uint8),
    "flexion": ((TAKES, 2, 5), np.float32),
    "attributes": ((len(ATTRIBUTES),), np.int64),
    "colours": ((9,), np.float32),
}


@dataclass(frozen=True, eq=False)
class Clips:
    """Clips and their truth, arrays ``[n, ...]`` with the shapes of ``_CLIPS``, mapped from disk.

    ``posture``, ``motion`` and ``palm`` are indices for each hand slot; ``flexion`` is that of five fingers, in [0, 1];
    ``joints`` are pixels.
    """

    frames: UInt8
    posture: Integers
    motion: Integers
    palm: Integers
    flexion: Float32
    joints: Float32

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.frames)

    def some(self, count: int) -> Clips:
        """The first clips."""
        return Clips(**{name: getattr(self, name)[:count] for name in _CLIPS})


@dataclass(frozen=True, eq=False)
class Portraits:
    """Single pictures of people, two of each, arrays ``[n, ...]`` with the shapes of ``_PORTRAITS``.

    ``attributes`` are classes of :data:`ATTRIBUTES`; ``colours`` are skin, cloth and trim in [0, 1].
    """

    images: UInt8
    flexion: Float32
    attributes: Integers
    colours: Float32

    def __len__(self) -> int:
        """Number of people."""
        return len(self.images)

    def some(self, count: int) -> Portraits:
        """The first people."""
        return Portraits(**{name: getattr(self, name)[:count] for name in _PORTRAITS})


def clips(folder: Path, split: Learned, people: int, jobs: int, progress: pool.Progress) -> Clips:
    """``people`` x :data:`TAKES` clips, kept in ``folder``."""
    keys: list[Key] = [(split, FIRST[split] + i, take) for i in range(people) for take in range(TAKES)]
    return Clips(**_kept(folder, keys, _clip, _CLIPS, jobs, progress))


def portraits(folder: Path, split: Learned, people: int, jobs: int, progress: pool.Progress) -> Portraits:
    """Pictures of ``people``, kept in ``folder``."""
    keys: list[Key] = [(split, FIRST[split] + i, 0) for i in range(people)]
    return Portraits(**_kept(folder, keys, _portrait, _PORTRAITS, jobs, progress))


def _kept(
    folder: Path,
    keys: Sequence[Key],
    make: Callable[[Key], dict[str, Any]],
    layout: Layout,
    jobs: int,
    progress: pool.Progress,
) -> dict[str, Any]:
    """Arrays of what ``make`` renders. What was rendered in ``folder`` before is kept; the marker is written last."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"version": world.VERSION, "first": list(keys[0]), "count": len(keys), "arrays": sorted(layout)}
    marker = folder / "data.json"
    known = json.loads(marker.read_text()) if marker.exists() else {}
    done = known["done"] if known.get("about") == about else 0
    arrays = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "r+" if done else "w+", kind, (len(keys), *shape))
        for name, (shape, kind) in layout.items()
    }
    for index, values in enumerate(pool.imap(make, keys[done:], jobs), done):
        for name, array in arrays.items():
            array[index] = values[name]
        progress(f"render {keys[0][0]}", index + 1, len(keys))
        if (index + 1) % _KEEP == 0 or index + 1 == len(keys):
            for array in arrays.values():
                array.flush()
            write_atomic(marker, json.dumps({"about": about, "done": index + 1}).encode())
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in layout}


def _clip(key: Key) -> dict[str, Any]:
    clip = world.clip(*key)
    motions = clip.rig.motions
    return {
        "frames": clip.frames,
        "posture": [POSTURES.index(motion.posture) for motion in motions],
        "motion": [MOTIONS.index(motion.motion) for motion in motions],
        "palm": [int(motion.palm) for motion in motions],
        "flexion": np.stack([motion.flexion for motion in motions], 1),
        "joints": clip.joints[..., :2],
    }


def _portrait(key: Key) -> dict[str, Any]:
    split, identity, _ = key
    pictures = [world.clip(split, identity, take, frames=1) for take in range(TAKES)]
    person = pictures[0].person
    return {
        "images": np.concatenate([picture.frames for picture in pictures]),
        "flexion": [[motion.flexion[0] for motion in picture.rig.motions] for picture in pictures],
        "attributes": attributes(person),
        "colours": [*person.skin, *person.cloth, *person.trim],
    }


def attributes(person: Person) -> list[int]:
    """A class of each of :data:`ATTRIBUTES`; colours are the nearest of the palette, and −1 is hair that is not."""
    skin, hair = (
        int(np.square(np.array(palette) - colour).sum(1).argmin())
        for palette, colour in ((look.SKIN, person.skin), (look.HAIR, person.hair))
    )
    style = look.HAIR_STYLES.index(person.hair_style)
    hair = -1 if person.hair_style == "bald" else hair
    return [style, look.SHIRTS.index(person.shirt), int(person.glasses), int(person.cuff > 0.4), skin, hair]


# ---------------------------------------------------------------------------------------------------------------------
# damage of known strength


def wrong_hands(clip: Clip, t: int, share: float, seed: int) -> UInt8:
    """Frame ``t`` with every finger turned about its base, by ``share`` of an angle of its own of up to :data:`TURN`.

    0 gives the frame itself. Deterministic: ``seed`` draws the angles.
    """
    angles = np.random.default_rng([seed, 7]).uniform(0.5, 1.0, (2, 5)) * TURN
    angles *= np.where(np.random.default_rng([seed, 8]).random((2, 5)) < 0.5, -1, 1) * share
    hands = clip.rig.hands.copy()
    for slot in range(2):
        for finger, angle in enumerate(angles[slot]):
            chain = slice(1 + 4 * finger, 5 + 4 * finger)
            base = hands[t, slot, 1 + 4 * finger, :2].copy()
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            hands[t, slot, chain, :2] = (hands[t, slot, chain, :2] - base) @ turn.T + base
    return paint.frame(replace(clip.rig, hands=hands), t, clip.person, clip.scene, paint.wall(clip.scene))[0]


def wrong_person(clip: Clip, t: int, share: float, other: Person) -> UInt8:
    """Frame ``t`` with a person who is ``share`` of the way to ``other``; the body's pose stays.

    Colours and lengths are mixed; hair style, shirt and glasses are the other's for a share of 1, and sleeves stay.
    """
    mixed = {field.name: _mixed(clip.person, other, field.name, share) for field in fields(Person)}
    person = replace(clip.person, **mixed)
    return paint.frame(clip.rig, t, person, clip.scene, paint.wall(clip.scene))[0]


def _mixed(one: Person, other: Person, name: str, share: float) -> Any:
    a, b = getattr(one, name), getattr(other, name)
    if name == "cuff" or (not isinstance(a, float | tuple) and share < 1):
        return a
    if isinstance(a, tuple):
        return tuple(x + (y - x) * share for x, y in zip(a, b, strict=True))
    return a + (b - a) * share if isinstance(a, float) else b


def blurred(images: UInt8, sigma: float) -> UInt8:
    """Images uint8 ``[..., H, W, 3]`` under a Gaussian of ``sigma`` pixels."""
    widths = (*(0,) * (images.ndim - 3), sigma, sigma, 0)
    return np.round(gaussian_filter(images.astype(np.float32), widths, mode="nearest")).astype(np.uint8)


def noisy(images: UInt8, sigma: float, seed: int) -> UInt8:
    """Images uint8 with Gaussian noise of ``sigma`` grey levels; the same pattern for every ``sigma``."""
    noise = np.random.default_rng(seed).standard_normal(images.shape, np.float32)
    return np.round(images + sigma * noise).clip(0, 255).astype(np.uint8)


def shifted(images: UInt8, pixels: int) -> UInt8:
    """Images uint8 ``[..., H, W, 3]`` moved to the right; the left rim is repeated."""
    columns = np.maximum(np.arange(images.shape[-2]) - pixels, 0)
    return np.ascontiguousarray(images[..., columns, :])


def coarse(images: UInt8, factor: int) -> UInt8:
    """Images uint8 ``[..., H, W, 3]`` in blocks of ``factor`` pixels a side, of which each shows its mean."""
    *lead, height, width, channels = images.shape
    small = images.reshape(*lead, height // factor, factor, width // factor, factor, channels).mean((-2, -4))
    return np.repeat(np.repeat(np.round(small).astype(np.uint8), factor, -3), factor, -2)
