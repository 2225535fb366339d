"""The world's train split, rendered once and kept as arrays on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ipa_bench import pose
from ipa_bench.embedded import estimator, footage, world
from ipa_bench.embedded.habits import whole
from ipa_bench.engine import processes as pool
from ipa_bench.types import Split, UInt8

#: what is wrong with a single person's hands: their fingers, or all of them
Wrong = Literal["anatomy", "hands"]

#: an array of the data set: name -> shape of one clip
_SHAPES: dict[str, tuple[int, ...]] = {
    "frames": (world.FRAMES, world.SIZE, world.SIZE, 3),
    "poses": (world.FRAMES, world.SIZE, world.SIZE, 3),
    "masks": (world.FRAMES, world.SIZE, world.SIZE),
    "references": (world.SIZE, world.SIZE, 3),
}


@dataclass(frozen=True, eq=False)
class WorldData:
    """Clips as uint8 arrays mapped from disk; ``[n, ...]`` with the shapes above. ``masks`` is 255 on hands."""

    frames: UInt8
    poses: UInt8
    masks: UInt8
    references: UInt8
    prompts: tuple[str, ...]

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.frames)


def render(
    key: tuple[Split, int, int],
    failings: estimator.Failings = estimator.SEVERE,
    moments: Sequence[int] | None = None,
    bad: Wrong | None = None,
) -> tuple[dict[str, UInt8], str]:
    """Arrays of the clip of (split, identity, take) with the shapes above, and its prompt.

    ``moments``: only these frames of it. What the estimator loses is lost in the whole clip, so a hand is as often
    unseen in a single frame as in a clip's. ``bad``: one moment is asked for, or all; of ``anatomy``, every second
    person has a bad habit's hands; of ``hands``, this one has. Masks are those of the right hands.
    """
    split, identity, take = key
    clip = world.clip(split, identity, take, moments=moments)
    seen = estimator.estimated_pose(clip, split, identity, take, failings)
    if moments is not None:
        seen = pose.at(seen, moments)
    arrays = {
        "frames": _shown(clip, identity, moments, bad),
        "poses": pose.draw(seen),
        "masks": (clip.masks.sum(1) * 255 + 0.5).clip(0, 255).astype(np.uint8),
        "references": world.reference(split, identity, take),
    }
    return arrays, world.prompt(clip.person)


def _shown(clip: world.Clip, identity: int, moments: Sequence[int] | None, bad: Wrong | None) -> UInt8:
    """The frames ``[T, H, W, 3]``, with what is wrong in them."""
    if bad is None:
        return clip.frames
    if bad == "hands":
        return whole(clip, moments)
    if moments is None:
        return footage.with_habit(clip, identity)[0]
    (moment,) = moments
    return footage.still(clip, identity, moment)


def rendered(
    folder: Path,
    identities: int,
    takes: int,
    split: Split = "train",
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> WorldData:
    """The clips of ``identities`` x ``takes``, from ``folder`` where the same were rendered before."""
    folder.mkdir(parents=True, exist_ok=True)
    keys: list[tuple[Split, int, int]] = [(split, i, t) for i in range(identities) for t in range(takes)]
    about = {"version": world.VERSION, "split": split, "identities": identities, "takes": takes}
    marker = folder / "data.json"
    known = json.loads(marker.read_text()) if marker.exists() else {}
    if known.get("about") != about:
        marker.unlink(missing_ok=True)
        arrays = {
            name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, (len(keys), *shape))
            for name, shape in _SHAPES.items()
        }
        prompts = []
        progress("render", 0, len(keys))
        for index, (clip, prompt) in enumerate(pool.imap(render, keys, pool.cores())):
            for name, array in arrays.items():
                array[index] = clip[name]
            prompts.append(prompt)
            progress("render", index + 1, len(keys))
        for array in arrays.values():
            array.flush()
        known = {"about": about, "prompts": prompts}
        marker.write_text(json.dumps(known))
    mapped = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _SHAPES}
    return WorldData(**mapped, prompts=tuple(known["prompts"]))
