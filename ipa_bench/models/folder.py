"""Videos that any system has already made, matched to cases by file name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ipa_bench.errors import Unscorable, UserError
from ipa_bench.types import Case
from ipa_bench.video import VIDEO_SUFFIXES

#: (case id, seed)
Wanted = tuple[str, int]

_SEEDED_FILE = re.compile(r"(?P<case>.+)[_-]seed(?P<seed>[0-9]+)")
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
    compared with case, after Unicode normalisation (NFC: some systems store ``é`` as two characters). A file that
    is a link out of the folder is refused: what a run scored must be in the folder that its header names.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        if not path.is_dir():
            raise UserError(f"model {name}: {path} is not a folder", "give the folder that holds its videos")

    @cached_property
    def _files(self) -> dict[Wanted, list[Path]]:
        """Every reading of every video file's name: case and seed -> files, sorted."""
        files: dict[Wanted, list[Path]] = {}
        for file in self._videos():
            for wanted in _readings(file.relative_to(self.path)):
                files.setdefault(wanted, []).append(file)
        return files

    def _videos(self) -> list[Path]:
        """Video files in the folder and in the folders right inside it, sorted by name; hidden ones left out."""
        try:
            top = [entry for entry in self.path.iterdir() if not entry.name.startswith(".")]
            inner = [file for entry in top if entry.is_dir() for file in entry.iterdir()]
        except OSError as error:
            raise UserError(
                f"model {self.name}: cannot list {error.filename}: {error.strerror}", "check that you may read it"
            ) from None
        candidates = [file for file in (*top, *inner) if not file.name.startswith(".") and not file.is_dir()]
        return sorted(file for file in candidates if file.suffix.lower() in VIDEO_SUFFIXES)

    def generate(self, case: Case, seed: int) -> Path:
        """The file that holds the video of ``case`` for ``seed``.

        Raises :class:`Unscorable` when there is none, :class:`UserError` when there are several.
        """
        return self._pick(_normal(case.id), seed)

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
        return FolderMatch(found, tuple(missing), tuple(file for file in self._videos() if file not in users))

    def _pick(self, case: str, seed: int) -> Path:
        files = self._files.get((case, seed), [])
        if len(files) > 1:
            names = " and ".join(file.relative_to(self.path).as_posix() for file in files)
            raise UserError(f"model {self.name}: {names} are both case {case} seed {seed}", "keep one of them")
        if not files:
            raise Unscorable(self._why_none(case, seed))
        file = files[0]
        shown = file.relative_to(self.path).as_posix()
        try:
            target = file.resolve(strict=True)
        except (OSError, RuntimeError):  # a link to nothing; a link to itself is a RuntimeError before Python 3.13
            raise Unscorable(f"{shown} is a link to nothing") from None
        if not target.is_relative_to(self.path.resolve()):
            raise Unscorable(f"{shown} is a link out of the folder {self.path.name}")
        if not target.is_file():
            raise Unscorable(f"{shown} is not a regular file")
        return file

    def _why_none(self, case: str, seed: int) -> str:
        seedless = [file for file in self._files.get((case, 0), []) if _normal(file.stem) == case]
        if seedless and seed != 0:
            return f"no video for seed {seed}: {seedless[0].name} names no seed and serves seed 0 only"
        others = sorted(s for (c, s) in self._files if c == case)
        if others:
            return f"no video for seed {seed}, only for {', '.join(map(str, others))}"
        return f"no video named {case} in {self.path.name}"


def _readings(file: Path) -> list[Wanted]:
    """The (case, seed) that a path relative to the model's folder can stand for."""
    stem = _normal(file.stem)
    if len(file.parts) == 2:
        inner = _FILE_IN_CASE_FOLDER.fullmatch(stem)
        return [(_normal(file.parts[0]), int(inner["seed"]))] if inner else []
    seeded = _SEEDED_FILE.fullmatch(stem)
    return [(stem, 0), *([(seeded["case"], int(seeded["seed"]))] if seeded else [])]


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)
