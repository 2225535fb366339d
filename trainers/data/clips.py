"""Which clips are trained on: a selection and a suite become clips, or the reason why they cannot be used."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ipa_bench import video
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.files import Read, file_sha256
from ipa_bench.metrics.seal import check_open
from ipa_bench.models.clips import read_note
from ipa_bench.select import read_candidates, read_pairs, read_selection
from ipa_bench.suite import Suite
from ipa_bench.types import Case
from trainers.config import DataConfig
from trainers.methods import MethodName, find
from trainers.ranks import Ranks

#: ending of the latents that lie beside a clip
_LATENTS = ".safetensors"


@dataclass(frozen=True)
class Clip:
    """A self-generated video of a case."""

    case: Case
    video: Path
    #: the latents that it was decoded from, where they were kept
    latents: Path | None
    #: sha256 of the video's bytes
    sha256: str


@dataclass(frozen=True)
class Data:
    """What is trained on."""

    good: tuple[Clip, ...]
    #: for DPO the bad clip of the same case for each good one, else empty
    bad: tuple[Clip, ...]
    #: metric ids that chose
    by: tuple[str, ...]
    #: clips that the good ones were chosen from, where that is known
    candidates: int | None = None
    #: of candidates: each good clip's score, higher is better, and what the method makes of it
    scores: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    #: where clips are made as training goes on: the cases that they are made of
    online: tuple[Case, ...] = ()

    @property
    def cases(self) -> tuple[Case, ...]:
        """The case of every clip, or those that clips are made of."""
        return self.online or tuple(clip.case for clip in self.all)

    @property
    def all(self) -> tuple[Clip, ...]:
        """Every clip once."""
        return tuple({clip.video: clip for clip in (*self.good, *self.bad)}.values())


def clips(config: DataConfig, suite: Suite, method: MethodName) -> Data:
    """The clips of a selection, checked before anything expensive: there, unchanged, whole, of the right size, and of
    no case that is kept for testing.

    Raises :class:`UserError` naming the first that is not and what to do, for an empty selection, and for one that a
    sealed metric chose.
    """
    found = _chosen(config, suite, method)
    check_open(found.by)
    return found


def share(config: DataConfig, suite: Suite, method: MethodName, ranks: Ranks, *, online: bool) -> None:
    """Have every file that is trained on read by one of the processes, so that all know its hash.

    ``online``: clips are made as training goes on, and the cases alone are read. What cannot be read is left to those
    who ask for it. Raises :class:`UserError` for a selection that cannot be read.
    """
    if ranks.count == 1:
        return
    cases = {case.id: case for case in suite.cases}
    if online:
        paths = [path for case in suite.cases if case.split == "train" for path in _files(case)]
    else:
        named = _named(config, method)
        videos = [file for _, file in named]
        paths = [*videos, *(file.with_suffix(_LATENTS) for file in videos)]
        paths += [path for id_ in dict.fromkeys(id_ for id_, _ in named) if id_ in cases for path in _files(cases[id_])]
    there = list(dict.fromkeys(path for path in paths if path is not None and path.is_file()))
    for path, read in zip(there, ranks.shared(there, Read.of), strict=True):
        if read is not None:
            read.taken_over(path)


def _named(config: DataConfig, method: MethodName) -> list[tuple[str, Path]]:
    """(case, clip) of a selection, unchecked."""
    path, takes = Path(config.selection or ""), find(method).takes
    if takes == "pairs":
        pairs = read_pairs(path)
        chosen = pairs.strict if config.pairs == "strict" else pairs.preferences
        return [(p.case, Path(file)) for p in chosen for file in (p.good, p.bad) if file]
    rows = read_candidates(path).rows if takes == "candidates" else read_selection(path).rows
    return [(row.case, Path(row.video)) for row in rows]


def made_of(suite: Suite, by: Sequence[str], count: int) -> Data:
    """The train cases of a suite, of which clips are made as training goes on. ``by``: what they are rewarded by.

    Raises :class:`UserError` where there are fewer than the ``count`` that a round takes, and for a sealed metric.
    """
    check_open(by)
    cases = tuple(case for case in suite.cases if case.split == "train")
    if len(cases) < count:
        raise UserError(
            f"a round takes {count} cases, and the suite has {len(cases)} of the train split",
            "lower rollouts.cases, or add cases: within a round no case comes twice",
        )
    return Data((), (), tuple(by), online=cases)


def _chosen(config: DataConfig, suite: Suite, method: MethodName) -> Data:
    path = Path(config.selection or "")
    cases = {case.id: case for case in suite.cases}
    if find(method).takes == "pairs":
        found = read_pairs(path)
        chosen = found.strict if config.pairs == "strict" else found.preferences
        if not chosen:
            raise UserError(
                f"{path} has no {'strict ' if config.pairs == 'strict' else ''}pair",
                'take pairs = "all", a smaller margin, or more candidates of each case',
            )
        good = [_clip(cases, path, p.case, Path(p.good), p.sha256[0]) for p in chosen]
        bad = [_clip(cases, path, p.case, Path(p.bad), p.sha256[1]) for p in chosen if p.bad]
        if len(bad) != len(good):
            raise UserError(f"{path} has pairs without a bad clip", "write it anew: ipa-bench select --pairs")
        return Data(tuple(good), tuple(bad), tuple(dict.fromkeys(m for p in chosen for m in p.by)))
    if find(method).takes == "candidates":
        every = read_candidates(path)
        rows = [_clip(cases, path, row.case, Path(row.video), row.sha256) for row in every.rows]
        lost = next(
            (row.latents for row, clip in zip(every.rows, rows, strict=True) if row.latents and not clip.latents), 0
        )
        if lost:
            raise UserError(f"{path}: {lost} is not there", "make it again, or select again")
        sign = 1.0 if every.better == "higher" else -1.0
        scores = tuple(sign * row.score for row in every.rows)
        return Data(tuple(rows), (), every.by, every.candidates, scores)
    selection = read_selection(path)
    if not selection.rows:
        raise UserError(f"{path} holds no clip", "select with a lower threshold")
    rows = [_clip(cases, path, row.case, Path(row.video), row.sha256) for row in selection.rows]
    return Data(tuple(rows), (), selection.by, selection.candidates)


def _clip(cases: Mapping[str, Case], source: Path, id_: str, file: Path, sha256: str | None) -> Clip:
    case = cases.get(id_)
    if case is None:
        raise UserError(f"{source}: case {id_} is not in the suite", "name the suite that the clips were made for")
    if case.split == "test":
        raise UserError(
            f"{source}: case {id_} is of the test split", "train on cases of the train split; testing needs the others"
        )
    if not file.is_file():
        raise UserError(f"{source}: {file} is not there", "make it again, or select again")
    digest = file_sha256(file)
    if sha256 is not None and digest != sha256:
        raise UserError(f"{file} is not the video that was selected", "score and select again")
    _check_shape(case, file)
    return Clip(case, file, _latents_of(file), digest)


def _check_shape(case: Case, file: Path) -> None:
    try:
        about = video.probe(file)
    except Unscorable as error:
        raise UserError(f"{file}: {error.reason}", "make it again, or select again") from None
    size = (about.width, about.height)
    if case.size is not None and size != case.size:
        raise UserError(
            f"{file} is {size[0]}x{size[1]}, its case {case.size[0]}x{case.size[1]}",
            "train on clips that the model made for these cases",
        )
    if case.frames is None or about.declared_frames is None:
        return
    lasts = about.declared_frames * (case.fps / about.fps if case.fps else 1.0)
    if round(lasts) < case.frames:
        raise UserError(
            f"{file} has {about.declared_frames} frames, its case asks for {case.frames}",
            "train on clips that the model made for these cases",
        )


def _latents_of(file: Path) -> Path | None:
    """The latents beside a clip, where the note of its making vouches for their bytes."""
    latents = file.with_suffix(_LATENTS)
    if not latents.is_file():
        return None
    note = read_note(file)
    if note.get("latents") != f"sha256:{file_sha256(latents)}":
        raise UserError(f"{latents} is damaged, or belongs to another clip", f"delete it, or make {file.name} again")
    return latents


def valued(data: Data, method: MethodName, options: Any) -> Data:
    """Candidates with what the method makes of their scores, without those that it leaves out; other data as they are.

    Raises :class:`UserError` where none is left.
    """
    make = find(method).values
    if make is None:
        return data
    found = make([clip.case.id for clip in data.good], data.scores, options)
    kept = [(c, s, v) for c, s, v in zip(data.good, data.scores, found, strict=True) if v is not None]
    if not kept:
        raise UserError(
            "no case prefers any of its candidates: their scores are equal",
            "make more candidates of each case, or score them by another metric",
        )
    good, scores, values = zip(*kept, strict=True)
    return replace(data, good=good, scores=scores, values=values)


def check_apart(data: Data, watched: Sequence[Case]) -> None:
    """Raise :class:`UserError` where somebody is both trained on and watched as held out."""
    trained = data.cases
    both = sorted({case.identity or case.id for case in trained} & {case.identity or case.id for case in watched})
    if both:
        of_val = any(case.split == "val" for case in trained)
        fix = "select from train cases alone" if of_val else 'give all cases of a person split = "train", or all "val"'
        raise UserError(
            f"{', '.join(both[:3])} would be trained on and watched as held out",
            f"{fix}, or name another suite under [watch]",
        )


def check_masks(config: DataConfig, cases: Iterable[Case]) -> None:
    """Raise :class:`UserError` where masks are taken from the cases and a case has none."""
    lacking = [case.id for case in cases if case.mask is None] if config.mask == "exact" else []
    if lacking:
        raise UserError(
            f'mask = "exact", and case {lacking[0]} has no mask video', 'give the case one, or say mask = "driving"'
        )


def check_places(cases: Iterable[Case]) -> None:
    """Raise :class:`UserError` where somebody is to be replaced and a case does not say where they stand."""
    lacking = [case.id for case in cases if case.character_mask is None]
    if lacking:
        why = f'model.mode = "replace", and case {lacking[0]} has no character_mask'
        raise UserError(why, "give the case a video that is white where the person to replace stands")


def _files(case: Case) -> list[Path | None]:
    """What the model may be shown of a case; None for what has always had a place and is not there."""
    people = (path for of_each in (case.references, case.poses) for _, path in of_each)
    around = filter(None, (case.background, case.character_mask))
    return [case.driving, case.pose, case.reference, case.mask, *people, *around]


def hashes(data: Data) -> str:
    """One line that changes with anything that the model is shown of the clips and their cases."""

    def of(file: Path | None) -> str | None:
        return None if file is None else file_sha256(file)

    def given(case: Case) -> list[object]:
        return [case.prompt, case.frames, case.fps, case.size, *map(of, _files(case))]

    def shown(clip: Clip) -> list[object]:
        asked, files = given(clip.case)[:4], given(clip.case)[4:]
        return [clip.sha256, *asked, of(clip.latents), *files]

    if data.online:  # seeds of their clips are of the case's id
        return json.dumps([[case.id, *given(case)] for case in data.online])
    parts: list[list[object]] = [[shown(clip) for clip in clips_] for clips_ in (data.good, data.bad)]
    return json.dumps([*parts, [*data.values]] if data.values else parts)
