"""Comparisons out of a run: pairs of videos of one case, and what a voter must see, in a folder of their own."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ipa_bench import video
from ipa_bench.errors import UserError
from ipa_bench.files import write_atomic
from ipa_bench.store import RunStore, UnitRecord
from ipa_bench.types import Case
from trainers.preferences import votes
from trainers.preferences.votes import Comparison, Comparisons

NAME = "comparisons.json"


def gather(
    store: RunStore, every: Sequence[Case], folder: Path, per_case: int, seed: int = 0, split: str | None = None
) -> Path:
    """Write ``folder`` with clips, references, pose tracks and :data:`NAME`, and give its path.

    ``every`` case of the run's suite; ``per_case`` random pairs of each one's videos, of other models or other seeds;
    ``split``: of such cases alone.
    Raises :class:`UserError` where no case has two videos.
    """
    cases = {case.id: case for case in every if split in (None, case.split)}
    videos: dict[str, list[UnitRecord]] = defaultdict(list)
    for record in store.records().values():
        if record.case in cases and record.video and Path(record.video).exists():
            videos[record.case].append(record)
    made: list[Comparison] = []
    for name, records in videos.items():
        if cases[name].people:
            made += _of_case(cases[name], records, folder, per_case, seed, len(made))
    if not made:
        raise UserError("no case of the run has two videos and a reference", "generate with more seeds or models")
    path = folder / NAME
    votes.write(path, Comparisons(comparisons=tuple(made)))
    return path


def _of_case(
    case: Case, records: Sequence[UnitRecord], folder: Path, per_case: int, seed: int, first: int
) -> list[Comparison]:
    """Pairs of one case's videos; a video that is in several of them is copied once."""
    every = [(i, j) for i in range(len(records)) for j in range(i + 1, len(records))]
    rng = np.random.default_rng([seed, first, len(every)])
    chosen = [every[i] for i in rng.permutation(len(every))[:per_case]]
    stem = f"case{first:05d}"
    references = {person: f"references/{stem}.{n}.png" for n, (person, _) in enumerate(case.people)}
    poses = {person: f"poses/{stem}.{n}.npz" for n, (person, _) in enumerate(case.poses)}
    for target, (_, source) in zip(references.values(), case.people, strict=True):
        _picture(source, folder / target)
    for target, (_, source) in zip(poses.values(), case.poses, strict=True):
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / target, source.read_bytes())
    clips = {i: f"clips/{stem}.{i}{Path(str(records[i].video)).suffix}" for pair in chosen for i in pair}
    for i, target in clips.items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(records[i].video), folder / target)
    people = tuple(person for person, _ in case.people)
    return [
        Comparison(
            id=f"{case.id}/{records[i].model}.{records[i].seed}/{records[j].model}.{records[j].seed}",
            a=clips[i], b=clips[j], references=references, poses=poses, people=people,
        )
        for i, j in chosen
    ]  # fmt: skip


def _picture(source: Path, target: Path) -> None:
    """A reference as a PNG; of a clip its first frame."""
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(next(iter(video.read_frames(source))).image).save(target)
