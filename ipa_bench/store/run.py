"""A run folder: a ``run.json`` header, append-only ``scores/*.jsonl`` shards, and ``details/*.npz``.

One line of a shard is one scored video. Every writing process has a shard of its own, so a crash can tear the last line
of one shard and nothing else; resuming is the set difference between the units wanted and the units on disk.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from ipa_bench.config.fields import checked
from ipa_bench.errors import UserError
from ipa_bench.files import sync_folder, write_atomic, writing
from ipa_bench.types import Bool, Float32, Float64, Score, Split

#: (case, seed, model): one video.
Unit = tuple[str, int, str]

SCHEMA_VERSION = 1
HEADER_NAME = "run.json"
ANOTHER = "use another folder or delete this one"


@dataclass(frozen=True)
class CaseEntry:
    """What a run remembers of a case. Paths are text: the clips may have moved since."""

    id: str
    identity: str
    split: Split
    driving: str
    ground_truth: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelEntry:
    """What a run remembers of a model."""

    name: str
    kind: str
    #: folder, checkpoint or damage that the videos come from
    source: str
    trained_on: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunHeader:
    """What was run. ``suite_hash``, ``seeds`` and ``metrics`` are the run's identity; cases and models may be added."""

    name: str
    suite_hash: str
    primary: str
    seeds: tuple[int, ...]
    #: metric ids with versions, in report order
    metrics: tuple[str, ...]
    cases: tuple[CaseEntry, ...]
    models: tuple[ModelEntry, ...]
    environment: dict[str, str] = field(default_factory=dict)
    tool_version: str = ""
    #: ISO 8601, UTC
    created: str = ""
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class UnitRecord:
    """One scored video: one line of a shard, written whole or not at all. Its scores are of this unit, one a metric."""

    case: str
    seed: int
    model: str
    #: where the video lies, and the sha256 of the file (of the pixels where it never was one); None where there is none
    video: str | None = None
    sha256: str | None = None
    #: wall time of generating, observing and scoring
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    scores: tuple[Score, ...] = ()

    def __post_init__(self) -> None:
        if any(score.unit != self.unit for score in self.scores):
            raise ValueError(f"a record holds the scores of its own unit {self.unit} only")
        if len({score.metric for score in self.scores}) != len(self.scores):
            raise ValueError(f"a record of {self.unit} holds one score per metric")

    @property
    def unit(self) -> Unit:
        """(case, seed, model)."""
        return (self.case, self.seed, self.model)


HEADERS = TypeAdapter(RunHeader)
RECORDS = TypeAdapter(UnitRecord)


@dataclass(frozen=True, eq=False)
class Details:
    """What a report draws of one video: landmarks of both sides, and per-frame values."""

    #: float64 ``[T]``, seconds from the first frame
    times: Float64
    fps: float
    #: (width, height) in pixels
    size: tuple[int, int]
    #: float32 ``[T, 2, 21, 2]``, in [0, 1] of width and height; slot 0 left hand, 1 right hand
    generated_landmarks: Float32
    #: bool ``[T, 2]``
    generated_found: Bool
    #: the driving video on the same time grid; None where it was not observed
    driving_landmarks: Float32 | None = None
    driving_found: Bool | None = None
    #: metric id -> float32 ``[T]``, NaN in frames without a value
    series: Mapping[str, Float32] = field(default_factory=dict)


class RunStore:
    """A run folder, opened to append (:meth:`open`) or to read (:meth:`load`)."""

    def __init__(self, folder: Path, header: RunHeader, *, writable: bool) -> None:
        self.folder = folder
        self.header = header
        self._writable = writable
        self._shard: tuple[int, int] | None = None  # (pid that opened it, file descriptor)
        self._torn: int | None = None

    @classmethod
    def open(cls, folder: Path, header: RunHeader) -> RunStore:
        """Make a run folder, or go on with the one that is there, and check that it can be written to.

        An existing run must have the same suite hash, seeds and metric ids, and the same source for models of the same
        name; cases and models that it lacks are added to its header (so a lifted limit or one more model resumes). Its
        first environment, tool version and date stay. Raises :class:`UserError` naming what differs, or what cannot
        be written.
        """
        with writing(folder):
            for sub in (folder / "scores", folder / "details"):
                sub.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=sub) as probe:
                    probe.write(b"\n")
        path = folder / HEADER_NAME
        if not path.exists():
            if any((folder / "scores").glob("*.jsonl")):
                raise UserError(f"{folder} has scores but no {HEADER_NAME}", ANOTHER)
            write_atomic(path, _header_text(header))
            return cls(folder, header, writable=True)
        found = _read_header(path)
        _check_same(folder, found, header)
        merged = _merge(found, header)
        if merged != found:
            write_atomic(path, _header_text(merged))
        return cls(folder, merged, writable=True)

    @classmethod
    def load(cls, folder: Path) -> RunStore:
        """Open an existing run to read. Raises :class:`UserError` when there is none or it cannot be read."""
        return cls(folder, _read_header(folder / HEADER_NAME), writable=False)

    def append(self, record: UnitRecord) -> None:
        """Write one line to this process's shard; on return it is on the disk.

        Raises :class:`UserError` when the disk is full or cannot be written; the shard then holds no part of it.
        """
        if not self._writable:
            raise RuntimeError("a loaded run is read-only: use RunStore.open")
        line = json.dumps(asdict(record), allow_nan=False, ensure_ascii=False).encode() + b"\n"
        with writing(self.folder):
            descriptor = self._descriptor()
            end = os.fstat(descriptor).st_size
            try:
                if os.write(descriptor, line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(descriptor, end)
                self.close()  # should half a line have stayed, the next one begins a new shard
                raise

    def close(self) -> None:
        """Close the shard. Appending again begins another one."""
        if self._shard is not None and self._shard[0] == os.getpid():
            os.close(self._shard[1])
        self._shard = None

    def _descriptor(self) -> int:
        """The shard of this process; a forked child does not write to its parent's."""
        if self._shard is None or self._shard[0] != os.getpid():
            # Names sort by time of creation, so that the newest shard wins where two hold the same unit.
            name = f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
            self._shard = (os.getpid(), os.open(self.folder / "scores" / name, flags, 0o644))
            sync_folder(self.folder / "scores")
        return self._shard[1]

    def records(self) -> dict[Unit, UnitRecord]:
        """Every record on disk, by unit, sorted. Of several records of a unit the last line of the newest shard stays.

        Lines that cannot be read (torn by a crash) are skipped and counted in :attr:`torn_lines`.
        """
        found: dict[Unit, UnitRecord] = {}
        torn = 0
        for shard in sorted((self.folder / "scores").glob("*.jsonl")):
            for line in shard.read_bytes().split(b"\n"):
                if not line.strip():
                    continue
                try:
                    record = RECORDS.validate_json(line)
                except ValidationError:
                    torn += 1
                    continue
                found[record.unit] = record
        self._torn = torn
        return dict(sorted(found.items()))

    @property
    def torn_lines(self) -> int:
        """Lines that the last :meth:`records` could not read."""
        if self._torn is None:
            self.records()
        return self._torn or 0

    def done(self, metrics: Iterable[str]) -> set[Unit]:
        """The units that have a score, or the reason why there is none, for every one of ``metrics``."""
        wanted = set(metrics)
        return {unit for unit, record in self.records().items() if wanted <= {s.metric for s in record.scores}}

    def scores(self) -> list[Score]:
        """Every score, sorted by case, seed, model, then the header's order of metrics."""
        place = {metric: index for index, metric in enumerate(self.header.metrics)}
        every = (score for record in self.records().values() for score in record.scores)
        return sorted(every, key=lambda s: (*s.unit, place.get(s.metric, len(place)), s.metric))

    def write_details(self, unit: Unit, details: Details) -> None:
        """Store what the report draws of a video, replacing what was there. :class:`UserError` on a full disk."""
        arrays: dict[str, Any] = {
            "unit": np.array(_unit_text(unit)),
            "times": details.times,
            "fps": np.float64(details.fps),
            "size": np.array(details.size, np.int64),
            "generated_landmarks": details.generated_landmarks,
            "generated_found": details.generated_found,
            "series_ids": np.array(list(details.series), np.str_),
            "series": np.array(list(details.series.values()), np.float32).reshape(-1, len(details.times)),
        }
        if details.driving_landmarks is not None and details.driving_found is not None:
            arrays |= {"driving_landmarks": details.driving_landmarks, "driving_found": details.driving_found}
        buffer = BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        write_atomic(self._details_path(unit), buffer.getvalue())

    def read_details(self, unit: Unit) -> Details | None:
        """What :meth:`write_details` stored; None when there is none or the file is damaged."""
        try:
            # np.load leaves a file that it opened itself open when it is damaged
            with self._details_path(unit).open("rb") as file, np.load(file, allow_pickle=False) as data:
                if str(data["unit"]) != _unit_text(unit):
                    return None
                width, height = data["size"].tolist()
                return Details(
                    times=data["times"],
                    fps=float(data["fps"]),
                    size=(width, height),
                    generated_landmarks=data["generated_landmarks"],
                    generated_found=data["generated_found"],
                    driving_landmarks=data.get("driving_landmarks"),
                    driving_found=data.get("driving_found"),
                    series=dict(zip(data["series_ids"].tolist(), data["series"], strict=True)),
                )
        except Exception:  # a damaged zip or npy raises a dozen kinds; without details the report draws less
            return None

    def _details_path(self, unit: Unit) -> Path:
        digest = hashlib.sha256(_unit_text(unit).encode()).hexdigest()
        return self.folder / "details" / f"{digest[:16]}.npz"


def _unit_text(unit: Unit) -> str:
    return json.dumps(list(unit))


def _header_text(header: RunHeader) -> bytes:
    return json.dumps(asdict(header), allow_nan=False, ensure_ascii=False, indent=2).encode() + b"\n"


def _read_header(path: Path) -> RunHeader:
    try:
        with checked(f"{path} is damaged", ANOTHER):
            header = HEADERS.validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path.parent} is not a run: it has no {path.name}", "give the folder of a run") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}", "check that you may read it") from None
    if header.schema_version != SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {header.schema_version}, this version of the tool reads {SCHEMA_VERSION}",
            "use the version of ipa-bench that wrote it, or another folder",
        )
    return header


def _check_same(folder: Path, found: RunHeader, wanted: RunHeader) -> None:
    """Raise :class:`UserError` naming everything that makes ``wanted`` another run than ``found``."""
    differs = []
    if found.suite_hash != wanted.suite_hash:
        differs.append(f"the suite (its cases or their clips: {found.suite_hash[:12]}, now {wanted.suite_hash[:12]})")
    if set(found.seeds) != set(wanted.seeds):
        differs.append(f"the seeds ({_listed(found.seeds)}, now {_listed(wanted.seeds)})")
    if set(found.metrics) != set(wanted.metrics):
        gone, new = set(found.metrics) - set(wanted.metrics), set(wanted.metrics) - set(found.metrics)
        changes = [*(f"−{metric}" for metric in sorted(gone)), *(f"+{metric}" for metric in sorted(new))]
        differs.append(f"the metrics ({_listed(changes)})")
    sources = {model.name: (model.kind, model.source) for model in found.models}
    for model in wanted.models:
        before = sources.get(model.name, (model.kind, model.source))
        if before != (model.kind, model.source):
            differs.append(f"model {model.name} ({' '.join(before)}, now {model.kind} {model.source})")
    if differs:
        raise UserError(f"{folder} holds another run; what differs: {'; '.join(differs)}", ANOTHER)


def _listed(items: Sequence[object]) -> str:
    return ", ".join(map(str, items)) or "none"


def _merge(found: RunHeader, wanted: RunHeader) -> RunHeader:
    """``found`` with the cases and models of ``wanted`` added, and its present name and primary metric."""
    cases = tuple({case.id: case for case in (*found.cases, *wanted.cases)}.values())
    models = tuple({model.name: model for model in (*found.models, *wanted.models)}.values())
    return replace(found, name=wanted.name, primary=wanted.primary, cases=cases, models=models)
