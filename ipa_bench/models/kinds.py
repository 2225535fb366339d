"""The kinds of models that a suite can name: from a table of the suite to a model. The one place that tells them apart.

A new kind is its table in :mod:`ipa_bench.models.specs`, its file in this room, and one line of :data:`KINDS`. What is
slow to import is imported where it is used: reading a suite needs none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipa_bench.models import checkpoint
from ipa_bench.models.checkpoint import DRIVEN, MODE, REPLACE, Checkpoint, Recipe
from ipa_bench.models.specs import (
    AnimateSpec,
    BaseSpec,
    DamageSpec,
    FaultSpec,
    FolderSpec,
    ModelSpec,
    PhantomSpec,
    ReencodeSpec,
    WanVaceSpec,
)
from ipa_bench.models.wan import animate_outline as animate
from ipa_bench.models.wan import face_crops
from ipa_bench.models.wan import outline as wan_vace
from ipa_bench.models.wan import phantom_outline as phantom
from ipa_bench.types import Case, HandTracks

if TYPE_CHECKING:
    from ipa_bench.models.base import Base, Model
    from ipa_bench.models.folder import FolderMatch
    from ipa_bench.models.outline import Outline

#: observes the hands of a clip
Hands = Callable[[Path], HandTracks]
#: packages whose versions may change what diffusers makes
DIFFUSERS = ("torch", "diffusers", "transformers", "accelerate", "peft")


@dataclass(frozen=True)
class Found:
    """Clips that are there, or are made from those of the cases when they are asked for."""

    #: (table, folder for what is made, hands) -> model
    build: Callable[[Any, Path, Hands], Model]
    #: where the clips come from, in one line; another source is another model
    source: Callable[[Any], str]
    #: (table, cases, seeds) -> what a folder of finished clips has of what is asked for, and what it lacks
    match: Callable[[Any, Sequence[Case], Iterable[int]], FolderMatch] | None = None


@dataclass(frozen=True)
class Generated:
    """Clips that a base model makes, which can be trained too."""

    #: where the checkpoint lies; one of the hub is downloaded
    locate: Callable[[Any], Checkpoint]
    #: all that its clips depend on
    recipe: Callable[[Any, Checkpoint], Recipe]
    #: the same in one line
    source: Callable[[Any, Recipe], str]
    #: onto a device, CUDA where there is any
    load: Callable[[Any, Checkpoint, Any], Base]
    #: whether a checkpoint, by name or folder, is of this kind, as far as that can be seen
    owns: Callable[[str], bool]
    #: name, random weights -> what is known without loading it
    outline: Callable[[str, bool], Outline]
    #: name, folder -> the same of a checkpoint that was located
    outline_of: Callable[[str, Path], Outline]
    #: short names of published checkpoints
    published: Sequence[str]
    packages: tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """What a suite calls ``kind``: its table, and how its clips are had."""

    spec: type[Any]
    clips: Found | Generated


def _folder(spec: FolderSpec, videos: Path, hands: Hands) -> Model:
    from ipa_bench.models.folder import FolderModel

    return FolderModel(spec.name, spec.path, made=videos, fps=spec.fps)


def _match(spec: FolderSpec, cases: Sequence[Case], seeds: Iterable[int]) -> FolderMatch:
    from ipa_bench.models.folder import FolderModel

    return FolderModel(spec.name, spec.path).match(cases, seeds)


def _folder_source(spec: FolderSpec) -> str:
    return f"{spec.path.absolute()}" + (f", frames at {spec.fps:g} fps" if spec.fps else "")


def _damaged(spec: DamageSpec, videos: Path, hands: Hands) -> Model:
    from ipa_bench.models.controls import DamageModel
    from ipa_bench.models.damage import find

    find(spec.damage)
    return DamageModel(spec.name, spec.damage, spec.strength, videos, hands)


def _faulty(spec: FaultSpec, videos: Path, hands: Hands) -> Model:
    from ipa_bench.embedded.group.faults import find
    from ipa_bench.models.controls import FaultModel

    find(spec.fault)
    return FaultModel(spec.name, spec.fault, spec.strength, videos)


def _reencoded(spec: ReencodeSpec, videos: Path, hands: Hands) -> Model:
    from ipa_bench.models.controls import ReencodeModel

    return ReencodeModel(spec.name, spec.crf, videos)


def _wan_vace(spec: WanVaceSpec, found: Checkpoint, device: Any) -> Base:
    from ipa_bench.models.wan.vace import WanVace

    return WanVace.load(spec, found, device)


def _phantom(spec: PhantomSpec, found: Checkpoint, device: Any) -> Base:
    from ipa_bench.models.wan.phantom import Phantom

    return Phantom.load(spec, found, device)


def _animate(spec: AnimateSpec, found: Checkpoint, device: Any) -> Base:
    from ipa_bench.models.wan.animate import Animate

    return Animate.load(spec, found, device)


def _driven(spec: BaseSpec, found: Checkpoint) -> Recipe:
    """The recipe of clips that depend on their driving clips even where there is a pose video."""
    return checkpoint.recipe_of(spec, found) | {DRIVEN: True}


def _animated(spec: AnimateSpec, found: Checkpoint) -> Recipe:
    """The same of clips that depend on faces too, and on what stays around somebody who is replaced."""
    mode: Recipe = {MODE: spec.mode} if spec.mode == REPLACE else {}  # what has been the only one is not named
    return _driven(spec, found) | {"faces": face_crops.VERSION} | mode


KINDS: dict[str, Kind] = {
    "folder": Kind(FolderSpec, Found(_folder, _folder_source, _match)),
    "damage": Kind(DamageSpec, Found(_damaged, lambda spec: f"{spec.damage}:{spec.strength}")),
    "fault": Kind(FaultSpec, Found(_faulty, lambda spec: f"{spec.fault}:{spec.strength}")),
    "reencode": Kind(ReencodeSpec, Found(_reencoded, lambda spec: f"ground truth at CRF {spec.crf}")),
    "wan_vace": Kind(
        WanVaceSpec,
        Generated(
            locate=checkpoint.locate,
            recipe=checkpoint.recipe_of,
            source=checkpoint.described,
            load=_wan_vace,
            owns=wan_vace.owns,
            outline=wan_vace.named,
            outline_of=wan_vace.of_folder,
            published=tuple(wan_vace.PUBLISHED),
            packages=DIFFUSERS,
        ),
    ),
    "phantom": Kind(
        PhantomSpec,
        Generated(
            locate=phantom.locate,
            recipe=_driven,
            source=checkpoint.described,
            load=_phantom,
            owns=phantom.owns,
            outline=phantom.named,
            outline_of=phantom.of_folder,
            published=tuple(phantom.PUBLISHED),
            packages=DIFFUSERS,
        ),
    ),
    "wan_animate": Kind(
        AnimateSpec,
        Generated(
            locate=animate.locate,
            recipe=_animated,
            source=checkpoint.described,
            load=_animate,
            owns=animate.owns,
            outline=animate.named,
            outline_of=animate.of_folder,
            published=tuple(animate.PUBLISHED),
            packages=DIFFUSERS,
        ),
    ),
}


def found(spec: ModelSpec) -> Found | None:
    """How the clips of a model are had that no base model makes, or None."""
    clips = KINDS[spec.kind].clips
    return clips if isinstance(clips, Found) else None


def base_kind(spec: BaseSpec) -> Generated:
    """How a base model is had. Raises ``TypeError`` for a kind that is none."""
    clips = KINDS[spec.kind].clips
    if not isinstance(clips, Generated):
        raise TypeError(f"{spec.kind} is no base model")
    return clips


def bases() -> dict[str, Generated]:
    """The kinds of base models, by name."""
    return {name: kind.clips for name, kind in KINDS.items() if isinstance(kind.clips, Generated)}


def base_of(model: str) -> str:
    """The kind of base model that a checkpoint is of, where only its name or folder is given.

    The first whose own it is; the first of the table for what no kind knows, which then says what is wrong with it.
    """
    known = bases()
    return next((name for name, kind in known.items() if kind.owns(model)), next(iter(known)))
