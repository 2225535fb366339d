"""What a reward model sees of a clip: some frames of it, the reference pictures, and where each person is driven to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ipa_bench import video
from ipa_bench.errors import Unscorable
from ipa_bench.pose import BODY_JOINTS, Pose, read_track
from ipa_bench.types import Float32, UInt8

#: of a person, as far as a pose tells: head and trunk
PARTS = ("head", "trunk")
#: the trunk's middle lies this many shoulder widths under the neck
_UNDER = 0.55
#: half a shoulder width is about the head's size, and the trunk's
_RADIUS = 0.5


@dataclass(frozen=True, eq=False)
class Seen:
    """One clip of K people, ``F`` of its frames."""

    #: uint8 ``[F, H, W, 3]``
    frames: UInt8
    #: uint8 ``[K, H, W, 3]``: each reference fitted into the frame, on black
    references: UInt8
    #: float32 ``[K, F, 2, 3]``: x, y and radius of each of :data:`PARTS` in shares of the frame's height; a radius of 0
    #: where the pose does not say
    places: Float32


def moments(count: int, frames: int) -> list[int]:
    """``frames`` numbers of frames spread evenly over a clip of ``count``, the first and the last among them."""
    return [round(at) for at in np.linspace(0, count - 1, frames)]


@dataclass(frozen=True, eq=False)
class Wanted:
    """Who should be seen in the clips of a case."""

    #: reference pictures as they are, uint8 ``[H, W, 3]`` each
    pictures: tuple[UInt8, ...]
    #: where each person is driven to; None of people without a pose track
    poses: tuple[Pose | None, ...]


def wanted(people: Mapping[str, Path], tracks: Mapping[str, Path]) -> Wanted:
    """Read the references and the pose tracks of people, by name. Raises Unscorable and UserError of their files."""
    pictures = tuple(next(iter(video.read_frames(path))).image for path in people.values())
    return Wanted(pictures, tuple(read_track(tracks[name])[0] if name in tracks else None for name in people))


def look(clip: Path, of: Wanted, *, frames: int, shrunk: Callable[[tuple[int, int]], tuple[int, int]]) -> Seen:
    """Read a clip; ``shrunk`` makes of its (width, height) those of the pictures here.

    Raises Unscorable for a clip that cannot be decoded.
    """
    every = [frame.image for frame in video.read_frames(clip)]
    if not every:
        raise Unscorable(f"{clip.name} has no frames")
    chosen = moments(len(every), frames)
    size = shrunk((every[0].shape[1], every[0].shape[0]))
    pictures = np.stack([video.resize(every[t], size, "area") for t in chosen])
    people = np.stack([fitted(picture, size) for picture in of.pictures])
    return Seen(pictures, people, places_of(of.poses, chosen, len(every)))


def places_of(poses: Sequence[Pose | None], chosen: Sequence[int], count: int) -> Float32:
    """``places`` of :class:`Seen`; of people without a pose all radii are 0. A track of another length is stretched."""
    found = np.zeros((len(poses), len(chosen), len(PARTS), 3), np.float32)
    for slot, pose in enumerate(poses):
        if pose is not None:
            scale = (len(pose) - 1) / max(count - 1, 1)
            found[slot] = _parts(pose, [round(t * scale) for t in chosen])
    return found


def _parts(pose: Pose, index: Sequence[int]) -> Float32:
    nose, neck, left, right = (BODY_JOINTS.index(name) for name in ("nose", "neck", "left_shoulder", "right_shoulder"))
    body, seen = pose.body[list(index)], pose.body_found[list(index)]
    wide = np.linalg.norm(body[:, left] - body[:, right], axis=-1)
    known = np.asarray(seen[:, [neck, left, right]].all(1), bool)
    radius = np.where(known, wide * _RADIUS, 0)
    head = np.where((known & seen[:, nose])[:, None], body[:, nose], 0)
    trunk = np.where(known[:, None], body[:, neck] + np.stack([wide * 0, wide * _UNDER], -1), 0)
    both = np.stack([head, trunk], 1) / pose.size[1]
    radii = np.stack([np.where(seen[:, nose], radius, 0), radius], 1) / pose.size[1]
    return np.concatenate([both, radii[..., None]], -1).astype(np.float32)


def fitted(image: UInt8, size: tuple[int, int]) -> UInt8:
    """A picture as large as it goes into (width, height); of the same shape, shrunk as frames are."""
    alike = image.shape[1] * size[1] == image.shape[0] * size[0]
    return video.resize(image, size, "area" if alike else "fit")
