"""Videos that any system has already made, matched to cases by file name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ipa_bench import video
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.models.frame_folder import clip_of, frames_of, is_frame_folder
from ipa_bench.types import Case
from ipa_bench.video import VIDEO_SUFFIXES

#: (case id, seed)
Wanted = tuple[str, int]

_SEEDED_FILE = re.compile(r"(?P<case>.+)[_-]seed(?P<seed>[0-9]+)")
#: of the hub's cache: a repository, and what a blob is called (git's sha1 or the file's sha256)
_REPOSITORY = re.compile(r"(models|datasets|spaces)--.+")
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_FILE_IN_CASE_FOLDER = re.compile(r"(?:seed[_-]?)?(?P<seed>[0-9]+)")


@dataclass(frozen=True)
class Missing:
    """A video that a folder should hold and does not, and why not in a few words."""

    case: str
    seed: int
    reason: str


@dataclass(frozen=True)
class FolderMatch:
    """Which file of a folder serves which case and seed."""

    found: Mapping[Wanted, Path]
    missing: tuple[Missing, ...]
    #: videos in the folder that serve no case and seed asked for
    extra: tuple[Path, ...]


class FolderModel:
    """A folder of finished videos as a model.

    A case ``wave`` with seed 3 is served by ``wave_seed3.mp4``, ``wave-seed3.mp4``, ``wave/3.mp4`` or
    ``wave/seed3.mp4``; a name without a seed, ``wave.mp4``, serves seed 0 only. Any video suffix will do. Names are
    compared with case, after Unicode normalisation (NFC: some systems store ``é`` as two characters).

    A folder of numbered pictures, ``wave_seed3/0001.png``, is a clip as ``wave_seed3.mp4`` is, where no video is there
    for the same case and seed. Its rate is ``fps``, else the case's, else that of the driving clip. The video that is
    made of it without loss goes into the folder ``made``.

    A file that is a link out of the folder is refused: what a run scored must be in the folder that its header names.
    The links of a snapshot that the Hugging Face hub downloaded lead into the blobs of the same repository beside it,
    whose names are the hashes of what they hold: those are followed.
    """

    def __init__(self, name: str, path: Path, *, made: Path | None = None, fps: float | None = None) -> None:
        self.name = name
        self.path = path
        self._made = made
        self._fps = fps
        if not path.is_dir():
            raise UserError(f"model {name}: {path} is not a folder", "give the folder that holds its videos")

    @cached_property
    def _files(self) -> dict[Wanted, list[Path]]:
        """Every reading of every clip's name: case and seed -> videos, or where there are none folders of frames."""
        videos: dict[Wanted, list[Path]] = {}
        folders: dict[Wanted, list[Path]] = {}
        for clip in self._clips():
            for wanted in _readings(clip.relative_to(self.path), is_folder=clip.is_dir()):
                (folders if clip.is_dir() else videos).setdefault(wanted, []).append(clip)
        return folders | videos

    def _clips(self) -> list[Path]:
        """Videos and folders of frames in the folder and in the folders right inside it, by name; no hidden ones."""
        try:
            top = _shown(self.path)
            inner = [entry for folder in top if folder.is_dir() for entry in _shown(folder)]
            found = [
                entry
                for entry in (*top, *inner)
                if (is_frame_folder(entry) if entry.is_dir() else entry.suffix.lower() in VIDEO_SUFFIXES)
            ]
        except OSError as error:
            raise UserError(
                f"model {self.name}: cannot list {error.filename}: {error.strerror}", "check that you may read it"
            ) from None
        return sorted(found)

    def generate(self, case: Case, seed: int) -> Path:
        """The file that holds the video of ``case`` for ``seed``.

        Raises :class:`Unscorable` when there is none, :class:`UserError` when there are several.
        """
        clip = self._pick(_normal(case.id), seed)
        if not clip.is_dir():
            return clip
        if self._made is None:
            raise ValueError(f"{clip} is a folder of frames, and no folder is given for its video")
        fps = self._fps or case.fps or video.probe(case.driving).fps
        return clip_of(clip, frames_of(clip), fps, self._made, f"{case.id}_seed{seed}")

    def match(self, cases: Sequence[Case], seeds: Iterable[int]) -> FolderMatch:
        """Match the files in the folder, as they are now, to every case and seed.

        Raises :class:`UserError` when two files serve one case and seed, or one file two of them.
        """
        self.__dict__.pop("_files", None)
        found: dict[Wanted, Path] = {}
        missing = []
        asked = tuple(dict.fromkeys(seeds))
        for case in cases:
            for seed in asked:
                try:
                    found[case.id, seed] = self._pick(_normal(case.id), seed)
                except Unscorable as error:
                    missing.append(Missing(case.id, seed, error.reason))
        users: dict[Path, Wanted] = {}
        for wanted, file in found.items():
            if file in users:
                (one, first), (two, second) = users[file], wanted
                raise UserError(
                    f"model {self.name}: {file.name} can be case {one} seed {first} or case {two} seed {second}",
                    f"put the videos of each case in a folder of its own: {one}/{first}{file.suffix}",
                )
            users[file] = wanted
        return FolderMatch(found, tuple(missing), tuple(file for file in self._clips() if file not in users))

    def _pick(self, case: str, seed: int) -> Path:
        files = self._files.get((case, seed), [])
        if len(files) > 1:
            names = " and ".join(file.relative_to(self.path).as_posix() for file in files)
            raise UserError(f"model {self.name}: {names} are both case {case} seed {seed}", "keep one of them")
        if not files:
            raise Unscorable(self._why_none(case, seed))
        file = files[0]
        self._check(file)
        for frame in frames_of(file) if file.is_dir() else ():
            self._check(frame)
        return file

    def _check(self, file: Path) -> None:
        """Raises :class:`Unscorable` for what is not there, or lies elsewhere."""
        shown = file.relative_to(self.path).as_posix()
        try:
            target = file.resolve(strict=True)
        except (OSError, RuntimeError):  # a link to nothing; a link to itself is a RuntimeError before Python 3.13
            raise Unscorable(f"{shown} is a link to nothing") from None
        home = self.path.resolve()
        if not target.is_relative_to(home) and not _is_blob_of(target, home):
            raise Unscorable(
                f"{shown} is a link out of the folder {self.path.name}: put the file itself there, or give the folder "
                "that holds it"
            )
        if not target.is_file() and not target.is_dir():
            raise Unscorable(f"{shown} is not a regular file")

    def _why_none(self, case: str, seed: int) -> str:
        seedless = [file for file in self._files.get((case, 0), []) if _normal(file.stem) == case]
        if seedless and seed != 0:
            return f"no video for seed {seed}: {seedless[0].name} names no seed and serves seed 0 only"
        others = sorted(s for (c, s) in self._files if c == case)
        if others:
            return f"no video for seed {seed}, only for {', '.join(map(str, others))}"
        return f"no video named {case} in {self.path.name}"


def _shown(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]


def _is_blob_of(target: Path, folder: Path) -> bool:
    """Whether a file is a blob of the repository of which ``folder`` is, or is in, a snapshot in the hub's cache.

    ``models--owner--name/snapshots/COMMIT/...`` beside ``models--owner--name/blobs/HASH``; both resolved.
    """
    snapshots = [parent for parent in folder.parents if parent.name == "snapshots"]
    caches = [each.parent / "blobs" for each in snapshots if _REPOSITORY.fullmatch(each.parent.name)]
    return target.parent in caches and _BLOB.fullmatch(target.name) is not None


def _readings(file: Path, *, is_folder: bool = False) -> list[Wanted]:
    """The (case, seed) that a path relative to the model's folder can stand for."""
    stem = _normal(file.name if is_folder else file.stem)
    if len(file.parts) == 2:
        inner = _FILE_IN_CASE_FOLDER.fullmatch(stem)
        return [(_normal(file.parts[0]), int(inner["seed"]))] if inner else []
    seeded = _SEEDED_FILE.fullmatch(stem)
    return [(stem, 0), *([(seeded["case"], int(seeded["seed"]))] if seeded else [])]


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)
