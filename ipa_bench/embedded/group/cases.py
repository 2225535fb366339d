"""Cases of several people as files: clips, pose maps, a pose track and a reference for each, a suite file.

``arrays`` is the same in memory: what a model of several people is trained on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ipa_bench import video
from ipa_bench.embedded import cases, estimator, world
from ipa_bench.embedded.cases import CRF
from ipa_bench.embedded.group.setting import Key, identities, prompt, setting
from ipa_bench.embedded.group.shot import estimated_poses, reference, shot
from ipa_bench.engine import processes as pool
from ipa_bench.errors import UserError
from ipa_bench.files import write_atomic
from ipa_bench.pose import draw_group, write_track
from ipa_bench.types import Split, UInt8

#: folders of a suite; masks of hands where somebody may train on them
FOLDERS = ("driving", "pose", "track", "reference")


#: what models are ranked on: the world knows who is who, and face networks are unsure of drawn faces
PRIMARY = "truth.top1"
_FAULT = """\
[[model]]
name = "{name}"
kind = "fault"
fault = "{fault}"
strength = "{strength}"
"""
#: the bound from above, and known faults that readers of who is who have to rank below it
MODELS = (
    cases.TRUTH,
    _FAULT.format(name="exchanged", fault="swap", strength="medium"),
    _FAULT.format(name="other shirt", fault="leak", strength="strong"),
    _FAULT.format(name="blended", fault="blend", strength="medium"),
)


class Arrays(NamedTuple):
    """A clip of T frames and K people as a model is trained on it; uint8 RGB."""

    #: ``[T, H, W, 3]``
    frames: UInt8
    #: ``[T, H, W, 3]``, the pose map of all as an estimator with failings gives it
    poses: UInt8
    #: ``[K, H, W, 3]``, in the order of the slots
    references: UInt8
    #: ``[T, K, H, W]``, how much of a pixel shows each person, and ``[T, H, W]``, any hand; 255 all of it
    people: UInt8
    hands: UInt8
    prompt: str


def arrays(key: Key, failings: estimator.Failings = estimator.USUAL, frames: int = world.FRAMES) -> Arrays:
    """A clip of the world; the same for the same arguments."""
    described = setting(key, frames)
    drawn = shot(described)
    poses = draw_group(estimated_poses(described, key, failings))
    people = np.stack([reference(key, slot) for slot in range(key.people)])
    return Arrays(drawn.frames, poses, people, drawn.masks, drawn.hands, prompt(described.people))


def case_name(key: Key) -> str:
    """Id of a case, and the name of its files."""
    return f"group{key.people}_{key.split}{key.group:03d}__take{key.take}"


def write(
    folder: Path,
    people: int,
    split: Split,
    groups: int,
    takes: int = 1,
    seeds: int = 1,
    models: Sequence[str] | None = None,
) -> Path:
    """Render ``groups`` x ``takes`` cases of ``people`` each into ``folder``, and write ``suite.toml`` last.

    Its models are ``models`` as TOML tables; by default :data:`MODELS`: no checkpoint ships that animates several.
    Raises :class:`UserError` where the folder cannot be written.
    """
    try:
        for kind in (*FOLDERS, *(() if split == "test" else ("mask",))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}", "choose a writable folder") from None
    keys = [(folder, Key(people, split, group, take)) for group in range(groups) for take in range(takes)]
    made_by = f"ipa-bench embedded suite {folder.as_posix()} --people {people} --split {split} --identities {groups}"
    head = cases.HEAD.format(
        name=folder.absolute().name, made_by=f"{made_by} --takes {takes}", seeds=list(range(seeds))
    )
    tables = [f'{head}primary = "{PRIMARY}"\n']
    for index, table in enumerate(pool.imap(_write_case, keys, min(pool.cores(), len(keys))), 1):
        tables.append(table)
        print(f"\r{index}/{len(keys)} cases", end="\n" if index == len(keys) else "", file=sys.stderr, flush=True)
    write_atomic(folder / "suite.toml", "\n".join([*tables, *(MODELS if models is None else models)]).encode())
    return folder / "suite.toml"


def _write_case(work: tuple[Path, Key]) -> str:
    """Files of one case, and its table in the suite file."""
    folder, key = work
    described, name = setting(key), case_name(key)
    drawn, poses = shot(described), estimated_poses(described, key)
    video.encode(drawn.frames, folder / "driving" / f"{name}.mp4", described.fps, crf=CRF)
    video.encode(draw_group(poses), folder / "pose" / f"{name}.mp4", described.fps, crf=CRF)
    if key.split != "test":  # nobody trains on the test split
        hands = np.repeat(drawn.hands[..., None], 3, -1)
        video.encode(hands, folder / "mask" / f"{name}.mp4", described.fps, crf=CRF)
    names = [f"{key.split}{identity}" for identity in identities(key)]
    for slot, (person, pose) in enumerate(zip(names, poses, strict=True)):
        write_track(pose, described.fps, folder / "track" / f"{name}.{person}.npz")
        picture = Image.fromarray(reference(key, slot))
        picture.save(folder / "reference" / f"{name}.{person}.png", optimize=True)
    return _table(key, name, names, described.arrangement, prompt(described.people), described.size)


def _table(key: Key, name: str, people: Sequence[str], arrangement: str, words: str, size: tuple[int, int]) -> str:
    """The case in the suite file."""
    references = ", ".join(f'{person} = "reference/{name}.{person}.png"' for person in people)
    tracks = ", ".join(f'{person} = "track/{name}.{person}.npz"' for person in people)
    lines = (
        "[[case]]",
        f'id = "{name}"',
        f'driving = "driving/{name}.mp4"',
        'ground_truth = "driving"',
        f'pose = "pose/{name}.mp4"',
        f"references = {{ {references} }}",
        f"poses = {{ {tracks} }}",
        f'world = "{key}"',
        *([f'mask = "mask/{name}.mp4"'] if key.split != "test" else []),
        f'split = "{key.split}"',
        f'prompt = "{words}"',
        f"frames = {world.FRAMES}",
        f"fps = {world.FPS:.1f}",
        f"size = [{size[0]}, {size[1]}]",
        f'tags = ["{arrangement}"]',
        "",
    )
    return "\n".join(lines)


def contact_sheet(people: int, split: Split, groups: int, columns: int = 5) -> UInt8:
    """A row for each group: references, then pose map and frame at ``columns`` moments."""
    rows = []
    for group in range(groups):
        made = arrays(Key(people, split, group))
        moments = np.linspace(0, len(made.frames) - 1, columns).round().astype(int)
        pictures = [*made.references, *(each for t in moments for each in (made.poses[t], made.frames[t]))]
        rows.append(np.concatenate(pictures, 1))
    return np.concatenate(rows)
