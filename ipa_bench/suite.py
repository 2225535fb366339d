"""A suite file (TOML) becomes cases × models × seeds, or the line that is wrong.

Relative paths start at the suite file and stay inside its folder, so that a suite can be moved or handed on as one
folder; what lies elsewhere is named by an absolute path.
"""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, Strict

from ipa_bench.config.fields import Array, Count, Name, Size, Table, Text, Whole, plain_name
from ipa_bench.config.toml import Loc, Toml, read_toml
from ipa_bench.embedded.scenes import people_in
from ipa_bench.errors import UserError
from ipa_bench.files import sha256_of
from ipa_bench.models.specs import EMBEDDED, HUB_NAME, BaseSpec, FolderSpec, ModelSpec, WrittenSpec, base_spec
from ipa_bench.types import Case, Split
from ipa_bench.video import VIDEO_SUFFIXES

__all__ = [
    "Suite",
    "load_suite",
    "suite_from_folders",
]

#: In a file name, what stands before it is the identity: ``alice__wave.mp4``.
IDENTITY_MARK = "__"
#: the start of a command that suites of 0.1 name, and how it is said now
_MOVED = ("python -m ipa_bench.embedded ", "ipa-bench embedded suite ")


class _SuiteTable(Table):
    name: Name | None = None
    primary: Text | None = None
    seeds: Annotated[Array[Whole], Field(min_length=1)] = (0,)
    metrics: Array[Text] = ()
    #: the command that makes the clips, for suites that are too large to hand on
    made_by: Text = ""
    #: a test set that is only ever evaluated on, and whose uses are written down
    sealed: bool = False


class _About(Table):
    """What can be said of one case and of a folder of cases."""

    driving: Text
    ground_truth: Text | None = None
    split: Split = "test"
    prompt: Text = ""
    frames: Count | None = None
    fps: Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)] | None = None
    size: Size | None = None
    tags: Array[Text] = ()


class _CaseTable(_About):
    id: Name | None = None
    identity: Name | None = None
    reference: Text | None = None
    #: person -> reference image, of several people
    references: dict[Name, Text] = Field(default_factory=dict)
    #: person -> pose track
    poses: dict[Name, Text] = Field(default_factory=dict)
    #: scene of the built-in world
    world: Text | None = None
    pose: Text | None = None
    mask: Text | None = None
    background: Text | None = None
    character_mask: Text | None = None


class _CasesTable(_About):
    pass


class _File(Table):
    suite: _SuiteTable = _SuiteTable()
    case: tuple[_CaseTable, ...] = ()
    cases: _CasesTable | None = None
    model: tuple[WrittenSpec, ...] = ()


@dataclass(frozen=True)
class Suite:
    """Cases × models × seeds, ready to run. Every path exists and is absolute or relative to the working directory."""

    name: str
    cases: tuple[Case, ...]
    models: tuple[ModelSpec, ...]
    seeds: tuple[int, ...] = (0,)
    #: metric id, version optional; None: :func:`ipa_bench.harness.header.primary_of` finds one
    primary: str | None = None
    #: metric ids to score, version optional; empty means all that apply
    metrics: tuple[str, ...] = ()
    #: all cases, where ``cases`` are only the first few of them
    whole: tuple[Case, ...] = ()
    #: where the uses of a sealed test set are written down; None: it is not sealed
    sealed: Path | None = None

    def hash(self) -> str:
        """sha256 over the cases: what is asked for, and the bytes of the clips and images, not where they lie.

        Independent of the order of cases, of the folder, of :meth:`limit`; and of name, models, seeds and metrics, so
        that runs of different models on the same cases carry the same hash. Reads every file once.
        """
        described = sorted((_described(case) for case in self.whole or self.cases), key=lambda entry: str(entry["id"]))
        text = json.dumps({"suite": 1, "cases": described}, sort_keys=True, ensure_ascii=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def limit(self, n: int) -> Suite:
        """The first ``n`` cases, as a trial of the same suite: :meth:`hash` stays. ``n`` is at least 1."""
        if n < 1:
            raise UserError(f"a limit of {n} leaves no case", "give a limit of 1 or more")
        return replace(self, cases=self.cases[:n], whole=self.whole or self.cases)


def _described(case: Case) -> dict[str, object]:
    """A case as JSON, with the hash of each file in place of its path."""
    described: dict[str, object] = {
        "id": case.id,
        "driving": _file_hash(case.driving),
        "ground_truth": _file_hash(case.ground_truth),
        "reference": _file_hash(case.reference),
        "identity": case.identity,
        "split": case.split,
        "prompt": case.prompt,
        "frames": case.frames,
        "fps": None if case.fps is None else float(case.fps),
        "size": case.size,
        "tags": sorted(case.tags),
    }
    for name in Case.CLIPS:
        if (path := getattr(case, name)) is not None:  # only where there is one: suites without keep their hash
            described[name] = _file_hash(path)
    for name, files in (("references", case.references), ("poses", case.poses)):
        if files:
            described[name] = [[person, _file_hash(path)] for person, path in files]
    if case.world is not None:
        described["world"] = case.world
    return described


def _file_hash(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return sha256_of(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "check that it is there and may be read") from None


def load_suite(path: Path) -> Suite:
    """Read a suite file. Raises :class:`UserError` naming the file, the line and what is wrong there."""
    toml = read_toml(path, _File)
    file = toml.value
    cases: dict[str, tuple[Case, Loc]] = {}
    for case, loc in _cases(toml):
        if case.id in cases:
            toml.fail(loc, f'there are two cases with the id "{case.id}"', "give each case an id of its own")
        cases[case.id] = (case, loc)
    cases = {id_: (case, cases[id_][1]) for id_, case in _grouped(case for case, _ in cases.values()).items()}
    if not cases:
        toml.fail((), "there is no case", 'add [[case]] with driving = "clip.mp4", or [cases] with driving = "folder"')
    models: dict[str, ModelSpec] = {}
    for index, spec in enumerate(file.model):
        if spec.name in models:
            toml.fail(("model", index, "name"), f'there are two models named "{spec.name}"', "name them apart")
        models[spec.name] = _placed(toml, ("model", index), spec)
    if file.suite.sealed:
        for case, loc in cases.values():
            if case.split != "test":
                toml.fail(loc, f"{case.id} is of the {case.split} split in a sealed test set", 'say split = "test"')
    return Suite(
        name=file.suite.name or plain_name(path.stem),
        cases=tuple(case for case, _ in cases.values()),
        models=tuple(models.values()),
        seeds=file.suite.seeds,
        primary=file.suite.primary,
        metrics=file.suite.metrics,
        sealed=path.with_suffix(".uses.jsonl") if file.suite.sealed else None,
    )


def _placed(toml: Toml[_File], loc: Loc, spec: ModelSpec) -> ModelSpec:
    """The model with its paths as they are from here."""
    folders = {key: _there(toml, (*loc, key), str(getattr(spec, key)), folder=True) for key in spec.folders}
    return spec.model_copy(update=folders | _checkpoint(toml, loc, base_spec(spec)))


def _checkpoint(toml: Toml[_File], loc: Loc, spec: BaseSpec | None) -> dict[str, object]:
    """What changes in the table of a base model: where its LoRA and its checkpoint's folder are from here."""
    update: dict[str, object] = {}
    if spec is None:
        return update
    for key in ("lora", "lora_2", "weights", "weights_2"):
        path = getattr(spec, key)
        if path is not None:
            update[key] = _there(toml, (*loc, key), str(path), folder=(toml.path.parent / path).is_dir())
    if spec.model != EMBEDDED and ((toml.path.parent / spec.model).is_dir() or not HUB_NAME.fullmatch(spec.model)):
        folder = _there(toml, (*loc, "model"), spec.model, folder=True)
        update["model"] = str(folder)
        if spec.revision is not None:
            toml.fail((*loc, "revision"), f"{spec.model} is a folder and has no revisions", "leave revision out")
    return update


def _cases(toml: Toml[_File]) -> Iterator[tuple[Case, Loc]]:
    """The cases of a suite file, those of the folder last, each with where it stands."""
    for index, table in enumerate(toml.value.case):
        loc: Loc = ("case", index)
        clip = _clip(toml, (*loc, "driving"), table.driving)
        try:
            id_ = table.id or plain_name(clip.stem)
        except ValueError as error:
            toml.fail((*loc, "driving"), f"the file name cannot be the id: {error}", "add id = ...")
        truth = clip if table.ground_truth == "driving" else None
        if table.ground_truth and truth is None:
            truth = _clip(toml, (*loc, "ground_truth"), table.ground_truth)
        image = table.reference and _there(toml, (*loc, "reference"), table.reference)
        people = _of_people(toml, loc, "references", table.references)
        if image and people:
            toml.fail((*loc, "reference"), "there are a reference and references", "name everybody in references")
        case = Case(id_, clip, truth, image or None, table.identity or _identity_in(id_))
        more: dict[str, Any] = {k: _clip(toml, (*loc, k), text) for k in Case.CLIPS if (text := getattr(table, k))}
        case = replace(case, **more)
        if people:
            poses = _of_people(toml, loc, "poses", table.poses)
            case = replace(case, references=people, identity=table.identity or "", poses=poses)
        for person in table.poses:
            if person not in table.references:
                toml.fail((*loc, "poses", person), f"{person} has a pose and no reference", "add it to references")
        if table.world is not None:
            case = replace(case, world=_world(toml, (*loc, "world"), table.world, len(people)))
        yield _with_about(case, table), loc
    if (folder := toml.value.cases) is not None:
        yield from _folder_cases(toml, folder)


def _of_people(toml: Toml[_File], loc: Loc, key: str, files: Mapping[str, str]) -> tuple[tuple[str, Path], ...]:
    """(person, file that is there) in the order of the suite file."""
    return tuple((name, _there(toml, (*loc, key, name), text)) for name, text in files.items())


def _world(toml: Toml[_File], loc: Loc, text: str, people: int) -> str:
    """The name of a scene of the built-in world that shows so many people."""
    try:
        shown = people_in(text)
    except UserError as error:
        toml.fail(loc, error.problem, error.fix)
    if shown != max(people, 1):
        toml.fail(loc, f"the scene shows {shown} people, and the case has {people} references", "name each of them")
    return text


def _grouped(cases: Iterable[Case]) -> dict[str, Case]:
    """The cases by id; those of several people that were given no identity have that of their group.

    Intervals are taken over identities, and clips that share a person are not independent: people who appear together
    in a case, or are joined so by other cases, are one group, which is called by all their names.
    """
    found = {case.id: case for case in cases}
    groups: list[set[str]] = []
    for case in found.values():
        people = {name for name, _ in case.references}
        joined = [group for group in groups if group & people]
        groups = [group for group in groups if not group & people]
        groups += [people.union(*joined)] if people else []
    for id_, case in found.items():
        if case.references and not case.identity:
            (group,) = (group for group in groups if case.references[0][0] in group)
            found[id_] = replace(case, identity="+".join(sorted(group)))
    return found


def _folder_cases(toml: Toml[_File], table: _CasesTable) -> Iterator[tuple[Case, Loc]]:
    """One case for each clip in a folder; a ground truth is the file of the same name in its folder."""
    loc: Loc = ("cases", "driving")
    truths: dict[str, Path] = {}
    if table.ground_truth and table.ground_truth != "driving":
        truths = {
            unicodedata.normalize("NFC", file.stem): file
            for file in _clips_there(toml, ("cases", "ground_truth"), table.ground_truth)
        }
    for clip in _clips_there(toml, loc, table.driving):
        case = _case_of(clip)
        truth = clip if table.ground_truth == "driving" else truths.get(case.id)
        if table.ground_truth and truth is None:
            where = f"{table.ground_truth} has no ground truth for {clip.name}"
            toml.fail(("cases", "ground_truth"), where, "add a file of the same name, or take the clip away")
        yield _with_about(replace(case, ground_truth=truth), table), loc


def _clips_there(toml: Toml[_File], loc: Loc, text: str) -> list[Path]:
    folder = _there(toml, loc, text, folder=True)
    try:
        return _clips(folder)
    except UserError as error:
        toml.fail(loc, error.problem, error.fix)


def _with_about(case: Case, about: _About) -> Case:
    return replace(
        case, split=about.split, prompt=about.prompt, frames=about.frames, fps=about.fps, size=about.size,
        tags=about.tags,
    )  # fmt: skip


def _clip(toml: Toml[_File], loc: Loc, text: str) -> Path:
    clip = _there(toml, loc, text)
    if clip.suffix.lower() not in VIDEO_SUFFIXES:
        toml.fail(loc, f"{text} is not a video file", f"known: {', '.join(sorted(VIDEO_SUFFIXES))}")
    return clip


def _there(toml: Toml[_File], loc: Loc, text: str, *, folder: bool = False) -> Path:
    """The path that ``text`` in a suite file means. It exists, and lies in the suite's folder unless it is absolute."""
    steps = Path(os.path.normpath(text)).parts
    if steps[:1] == ("..",):
        toml.fail(loc, f"{text} leads out of the folder of the suite", "move it inside, or write its absolute path")
    path = toml.path.parent / text  # an absolute one stays as it is
    if not (path.is_dir() if folder else path.is_file()):
        what = "a folder" if folder else "a file"
        state = f"is not {what}" if path.exists() else "is not there"
        fix = f"name {what}; a relative path starts at {toml.path.parent}"
        if made_by := toml.value.suite.made_by:
            fix = f"make the clips: {made_by.replace(*_MOVED)}"
        toml.fail(loc, f"{text} {state}", fix)
    return path


def suite_from_folders(
    driving: Path | Sequence[Path],
    models: Sequence[tuple[str, Path]],
    *,
    cross_identity: bool = False,
    primary: str | None = None,
) -> Suite:
    """The suite that ``ipa-bench run clips/ outA/ outB/`` means: one case for each driving clip, seed 0, split test.

    ``driving``: a folder of clips, one clip, or several of either. ``models``: (name, folder of videos). The driving
    clip is its own ground truth unless ``cross_identity`` says that another person is animated.
    Raises :class:`UserError` when a path is not there, no clip is found, or a name is used twice.
    """
    sources = [driving] if isinstance(driving, Path) else list(driving)
    clips = [clip for source in sources for clip in ([source] if source.is_file() else _clips(source))]
    if not clips:
        raise UserError("no driving clip given", "name a folder of clips, or a clip")
    cases: dict[str, Case] = {}
    for clip in clips:
        case = _case_of(clip)
        if case.id in cases:
            raise UserError(f"{cases[case.id].driving} and {clip} are both case {case.id}", "rename one of them")
        cases[case.id] = replace(case, ground_truth=None if cross_identity else clip)
    specs: dict[str, FolderSpec] = {}
    for name, folder in models:
        if name in specs:
            raise UserError(f"{specs[name].path} and {folder} are both model {name}", "name them apart: name=folder")
        if not folder.is_dir():
            raise UserError(f"model {name}: {folder} is not a folder", "give the folder that holds its videos")
        try:
            specs[name] = FolderSpec(name=plain_name(name), kind="folder", path=folder)
        except ValueError as error:
            raise UserError(f"{name!r} cannot name a model: {error}", "name it: name=folder") from None
    title = sources[0].resolve().stem if len(sources) == 1 else "clips"
    return Suite(name=title, cases=tuple(cases.values()), models=tuple(specs.values()), primary=primary)


def _case_of(clip: Path) -> Case:
    """A case named after its clip; the identity is what stands before ``__``, else the case itself."""
    try:
        id_ = plain_name(clip.stem)
    except ValueError as error:
        raise UserError(f"{clip} cannot name a case: {error}", "rename the file") from None
    return Case(id=id_, driving=clip, identity=_identity_in(id_))


def _identity_in(id_: str) -> str:
    before, mark, _ = id_.partition(IDENTITY_MARK)
    return before if mark and before else id_


def _clips(folder: Path) -> list[Path]:
    """The video files right inside a folder, sorted by name; hidden ones left out."""
    try:
        files = [file for file in folder.iterdir() if not file.name.startswith(".") and file.is_file()]
    except OSError as error:
        raise UserError(f"cannot list {folder}: {error.strerror}", "give a folder of clips, or a clip") from None
    clips = sorted(file for file in files if file.suffix.lower() in VIDEO_SUFFIXES)
    if not clips:
        raise UserError(f"{folder} has no video file", f"put clips there: {', '.join(sorted(VIDEO_SUFFIXES))}")
    return clips
