"""Cases of several people as files: clips, pose maps, a pose track and a reference for each, a suite file.

``arrays`` is the same in memory: what a model of several people is trained on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ipa_bench import video
from ipa_bench.embedded import cases, estimator, world
from ipa_bench.embedded.cases import CRF, Part
from ipa_bench.embedded.group.setting import (
    ARRANGEMENTS,
    Arrangement,
    Key,
    Setting,
    arrangement_of,
    identities,
    prompt,
    setting,
)
from ipa_bench.embedded.group.shot import estimated_poses, reference, shot
from ipa_bench.engine import processes as pool
from ipa_bench.errors import UserError
from ipa_bench.files import write_atomic
from ipa_bench.pose import draw_group, write_track
from ipa_bench.types import Split, UInt8

#: Groups of a suite to align with: nobody else shows those of the train split.
ALIGNMENT = (Part("train", 32, 500), Part("val", 6), Part("test", 24))
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
#: people of a clip that the tiny checkpoint was trained on, besides one
TRAINED = 2


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


def arrays(
    key: Key,
    failings: estimator.Failings = estimator.USUAL,
    frames: int = world.FRAMES,
    wrong: Callable[[Setting], Setting] | None = None,
) -> Arrays:
    """A clip of the world; the same for the same arguments.

    ``wrong`` changes what is drawn; poses, references and prompt stay those of the right clip.
    """
    described = setting(key, frames)
    drawn = shot(described if wrong is None else wrong(described))
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
    first: int = 0,
    arrangements: Sequence[Arrangement] = ARRANGEMENTS,
) -> Path:
    """Render ``groups`` x ``takes`` cases of ``people`` each into ``folder``, and write ``suite.toml`` last.

    Groups count from ``first`` on; those who do something else than ``arrangements`` are left out.

    Its models are ``models`` as TOML tables; by default :data:`MODELS`, and for two people the tiny checkpoint, which
    was trained on pairs.
    Raises :class:`UserError` where the folder cannot be written.
    """
    keys = keys_of(people, Part(split, groups, first), arrangements, takes)
    made_by = f"ipa-bench embedded suite {folder.as_posix()} --people {people} --split {split} --identities {groups}"
    made_by += (f" --first {first}" if first else "") + _asked(arrangements)
    if models is None:
        models = [*MODELS, *([cases.PRETRAINED] if people == TRAINED else [])]
    return write_keys(folder, keys, seeds, models, f"{made_by} --takes {takes}")


def keys_of(people: int, part: Part, arrangements: Sequence[Arrangement] = ARRANGEMENTS, takes: int = 1) -> list[Key]:
    """``takes`` clips of each of the part's groups: the first, from ``part.first`` on, who do nothing else."""
    clips = ([Key(people, part.split, group, take) for take in range(takes)] for group in count(part.first))
    asked = (keys for keys in clips if all(arrangement_of(key) in arrangements for key in keys))
    return [key for keys in islice(asked, part.identities) for key in keys]


def _asked(arrangements: Sequence[Arrangement]) -> str:
    """How the command asks for them; nothing where it is all."""
    return "" if len(set(arrangements)) == len(ARRANGEMENTS) else f" --arrangement {','.join(arrangements)}"


def write_alignment(
    folder: Path,
    people: int,
    parts: Sequence[Part],
    lora: Path | None = None,
    arrangements: Sequence[Arrangement] = ARRANGEMENTS,
) -> Path:
    """A suite to align with: groups of ``people`` of every split, the base, and where it is a LoRA what it was before.

    ``lora``: the base, as ``ipa-bench embedded habits --wrong identity`` makes it; without it the base is the tiny
    checkpoint itself. Groups who do something else than ``arrangements`` are left out. Raises :class:`UserError` where
    something cannot be read or written.
    """
    asked = {part.split: part.identities for part in parts}
    counts = " ".join(str(asked.get(part.split, 0)) for part in ALIGNMENT)
    made_by = f"ipa-bench embedded suite {folder.as_posix()} --people {people} --align {counts}"
    made_by += cases.first_of(parts) + _asked(arrangements)
    keys = [key for part in parts for key in keys_of(people, part, arrangements)]
    models = [cases.TRUTH, cases.model(cases.BASE, cases.STEPS, lora=lora is not None)]
    if lora is not None:
        models.insert(1, cases.model("pretrained", cases.STEPS, lora=False))
        cases.place(lora, folder, cases.BASE)
    return write_keys(folder, keys, 1, models, made_by)


def write_keys(folder: Path, keys: Sequence[Key], seeds: int, models: Sequence[str], made_by: str) -> Path:
    """Render the clips of ``keys`` and write ``suite.toml`` last. Raises :class:`UserError`."""
    try:
        for kind in (*FOLDERS, *(() if all(key.split == "test" for key in keys) else ("mask",))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}", "choose a writable folder") from None
    head = cases.HEAD.format(name=folder.absolute().name, made_by=made_by, seeds=list(range(seeds)))
    tables = [f'{head}primary = "{PRIMARY}"\n']
    work = [(folder, key) for key in keys]
    for index, table in enumerate(pool.imap(_write_case, work, min(pool.cores(), len(work))), 1):
        tables.append(table)
        print(f"\r{index}/{len(keys)} cases", end="\n" if index == len(keys) else "", file=sys.stderr, flush=True)
    write_atomic(folder / "suite.toml", "\n".join([*tables, *models]).encode())
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


def write_contact_sheet(file: Path, keys: Sequence[Key], columns: int = 5) -> None:
    """A PNG with a row for each clip: references, then pose map and frame at ``columns`` moments."""
    rows = []
    for key in keys:
        made = arrays(key)
        moments = np.linspace(0, len(made.frames) - 1, columns).round().astype(int)
        pictures = [*made.references, *(each for t in moments for each in (made.poses[t], made.frames[t]))]
        rows.append(np.concatenate(pictures, 1))
    Image.fromarray(np.concatenate(rows)).save(file, optimize=True)
