"""The world's cases as files: driving clips, the poses an estimator would give, reference images, a suite file."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ipa_bench import pose, video
from ipa_bench.embedded import estimator, world
from ipa_bench.embedded.gesture import TEST_MOTION, TEST_POSTURES
from ipa_bench.engine import processes as pool
from ipa_bench.errors import UserError
from ipa_bench.files import write_atomic
from ipa_bench.types import Split

#: H.264 quality of driving clips and pose maps
CRF = 12
#: sampler steps of the built-in suites' models
STEPS = 4
#: LoRAs of the tiny checkpoint: the base (``trainers.embedded.habits``), and what ``ipa-bench align`` made of it
LORAS = Path(__file__).parent / "suite" / "lora"


@dataclass(frozen=True)
class Part:
    """``identities`` people of a split, from ``first`` on."""

    split: Split
    identities: int
    first: int = 0


#: The suite that ``ipa-bench align`` begins with: people that the tiny model has not seen, in small numbers.
ALIGNMENT = (Part("train", 32, 500), Part("val", 6), Part("test", 24))


def write(
    folder: Path,
    split: Split,
    identities: int,
    takes: int,
    seeds: int,
    steps: int = STEPS,
    *,
    first: int = 0,
    sealed: bool = False,
) -> Path:
    """Render ``identities`` x ``takes`` cases, people from ``first`` on, into ``folder`` and write ``suite.toml``.

    Its models are the ground truth, re-encoded, and the tiny checkpoint as it was pretrained, with the base's habits,
    and aligned, sampled in ``steps`` with ``seeds`` seeds.

    Raises :class:`UserError` where the folder cannot be written.
    """
    made_by = f"ipa-bench embedded suite {folder.as_posix()} --split {split} --identities {identities} --takes {takes}"
    made_by += (f" --first {first}" if first else "") + (" --sealed" if sealed else "")
    models = [TRUTH, model("pretrained", steps, lora=False), model(BASE, steps), model("aligned", steps)]
    parts = [Part(split, identities, first)]
    return write_parts(folder, parts, takes, seeds, models, made_by, estimator.MILD, sealed=sealed)


def write_alignment(folder: Path, parts: Sequence[Part] = ALIGNMENT, steps: int = STEPS) -> Path:
    """A suite to align with: cases of every split, the base model, and the one that it was before it got bad habits.

    Raises as :func:`write`.
    """
    asked = {part.split: part.identities for part in parts}
    counts = " ".join(str(asked.get(part.split, 0)) for part in ALIGNMENT)
    made_by = f"ipa-bench embedded suite {folder.as_posix()} --align {counts}{first_of(parts)}"
    models = [TRUTH, model("pretrained", steps, lora=False), model(BASE, steps)]
    return write_parts(folder, parts, 1, 1, models, made_by, estimator.MILD)


def first_of(parts: Sequence[Part]) -> str:
    """How the command of a suite to align with asks for its test people; nothing where these are the first."""
    return "".join(f" --first {part.first}" for part in parts if part.split == "test" and part.first)


def write_parts(
    folder: Path,
    parts: Sequence[Part],
    takes: int,
    seeds: int,
    models: Sequence[str],
    made_by: str,
    failings: estimator.Failings,
    *,
    sealed: bool = False,
) -> Path:
    """Render the cases of ``parts`` and write ``suite.toml`` with ``models`` as TOML tables. Raises :class:`UserError`.

    The suite file is written last: one that is there is whole.
    """
    masked = any(part.split != "test" for part in parts)
    try:
        for kind in ("driving", "pose", "reference", *(("mask",) if masked else ())):
            (folder / kind).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}", "choose a writable folder") from None
    keys = [
        (folder, part.split, identity, take, failings)
        for part in parts
        for identity in range(part.first, part.first + part.identities)
        for take in range(takes)
    ]
    _place_loras(folder, models)
    head = HEAD.format(name=folder.absolute().name, made_by=made_by, seeds=list(range(seeds)))
    head += "sealed = true\n" if sealed else ""
    tables = []
    for index, table in enumerate(pool.imap(_write_case, keys, min(pool.cores(), len(keys))), 1):
        tables.append(table)
        print(f"\r{index}/{len(keys)} cases", end="\n" if index == len(keys) else "", file=sys.stderr, flush=True)
    suite = folder / "suite.toml"
    write_atomic(suite, "\n".join([head, *tables, *models]).encode())
    return suite


def _place_loras(folder: Path, models: Sequence[str]) -> None:
    """Copy the LoRAs that the models name beside the suite file: its paths stay inside its folder."""
    for lora in LORAS.glob("*.safetensors"):
        if any(f"lora/{lora.name}" in each for each in models) and folder.resolve() != LORAS.parent.resolve():
            place(lora, folder, lora.stem)


def place(lora: Path, folder: Path, name: str) -> None:
    """Copy a LoRA into a suite's folder. Raises :class:`UserError` where that cannot be."""
    try:
        (folder / "lora").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(lora, folder / "lora" / f"{name}.safetensors")
    except OSError as error:
        raise UserError(
            f"cannot copy {lora} to {folder}: {error.strerror}", "name a file, and a writable folder"
        ) from None


HEAD = """\
# People that this project renders: see ipa_bench/embedded. Written by ipa-bench embedded suite.
# The model sees a pose map with a pose estimator's failings; metrics compare with the driving clip.
[suite]
name = "{name}"
made_by = "{made_by}"
seeds = {seeds}
"""

TRUTH = """\
[[model]]
name = "ground truth, re-encoded"
kind = "reencode"
crf = 18
"""

_TINY = """\
[[model]]
name = "{name}"
kind = "wan_vace"
model = "embedded"
{lora}dtype = "fp32"
steps = {steps}
"""
#: name of the one that has bad habits, which is aligned
BASE = "base"

#: what the candidates of the LoRA in the package were chosen by
_CHOSEN_BY = (
    "hand_quality@4",
    "hand_quality.shape@4",
    "hand_quality.sharpness@4",
    "hand_quality.motion@4",
    "hand_quality.alignment@4",
    "hand.psnr@1",
    "hand.anatomy_shift@1",
)


def model(name: str, steps: int, *, lora: bool = True) -> str:
    """A table of the suite file: the tiny checkpoint, alone or with the LoRA of its name, one of :data:`LORAS` say."""
    place = f'lora = "lora/{name}.safetensors"\n' if lora else ""
    chosen = f"trained_on = {list(_CHOSEN_BY)}\n".replace("'", '"') if name == "aligned" else ""
    return _TINY.format(name=name, lora=place, steps=steps) + chosen


#: the tiny checkpoint as it was pretrained
PRETRAINED = model("pretrained", STEPS, lora=False)


def case_name(split: Split, identity: int, take: int) -> str:
    """Id of a case, and the name of its files."""
    return f"{split}{identity:03d}__take{take}"


def _write_case(key: tuple[Path, Split, int, int, estimator.Failings]) -> str:
    """Files of one case, and its table in the suite file."""
    folder, split, identity, take, failings = key
    clip = world.clip(split, identity, take)
    name = case_name(split, identity, take)
    drawn = pose.draw(estimator.estimated_pose(clip, split, identity, take, failings))
    video.encode(clip.frames, folder / "driving" / f"{name}.mp4", clip.fps, crf=CRF)
    video.encode(drawn, folder / "pose" / f"{name}.mp4", clip.fps, crf=CRF)
    if split != "test":  # nobody trains on the test split
        hands = (clip.masks.sum(1).clip(0, 1) * 255).round().astype(np.uint8)
        video.encode(np.repeat(hands[..., None], 3, -1), folder / "mask" / f"{name}.mp4", clip.fps, crf=CRF)
    Image.fromarray(world.reference(split, identity, take)).save(folder / "reference" / f"{name}.png", optimize=True)
    tags = sorted({tag for motion in clip.rig.motions for tag in (motion.posture, motion.motion)})
    if {TEST_MOTION, *TEST_POSTURES} & set(tags):
        tags.append("unseen")
    lines = (
        "[[case]]",
        f'id = "{name}"',
        f'driving = "driving/{name}.mp4"',
        'ground_truth = "driving"',
        f'pose = "pose/{name}.mp4"',
        f'reference = "reference/{name}.png"',
        *([f'mask = "mask/{name}.mp4"'] if split != "test" else []),
        f'identity = "{split}{identity:03d}"',
        f'split = "{split}"',
        f'prompt = "{world.prompt(clip.person)}"',
        f'world = "{world.scene_name(split, identity, take)}"',
        f"frames = {world.FRAMES}",
        f"fps = {world.FPS:.1f}",
        f"size = [{world.SIZE}, {world.SIZE}]",
        f"tags = [{', '.join(f'{tag!r}' for tag in tags)}]".replace("'", '"'),
        "",
    )
    return "\n".join(lines)


def contact_sheet(split: Split, identities: int, columns: int = 6, first: int = 0) -> Iterator[np.ndarray]:
    """Rows of pictures, one for each identity from ``first`` on: reference, then pose map and frame at ``columns``
    moments."""
    for identity in range(first, first + identities):
        clip = world.clip(split, identity, 0)
        drawn = pose.draw(estimator.estimated_pose(clip, split, identity, 0))
        moments = np.linspace(0, len(clip.frames) - 1, columns).round().astype(int)
        parts = [world.reference(split, identity, 0)]
        parts += [picture for t in moments for picture in (drawn[t], clip.frames[t])]
        yield np.concatenate(parts, 1)


def write_contact_sheet(file: Path, split: Split, identities: int, first: int = 0) -> None:
    """:func:`contact_sheet` as a PNG, one row a person."""
    Image.fromarray(np.concatenate(list(contact_sheet(split, identities, first=first)))).save(file, optimize=True)


def people(counts: Sequence[int], parts: Sequence[Part] = ALIGNMENT, first: int = 0) -> list[Part]:
    """Parts of a suite to align with that have so many people of the train, val and test split; none of 0 people.

    Those of the test split count from ``first`` on: others than a study has looked at already.
    """
    asked = [replace(part, identities=n) for part, n in zip(parts, counts, strict=True) if n]
    return [replace(part, first=first) if part.split == "test" else part for part in asked]
