"""A run folder: a ``run.json`` header, append-only shards ``scores/*.jsonl`` and ``floor/*.jsonl``, ``details/*.npz``.

One line of a shard is one scored video, or the noise floor of one case. Every writing process has shards of its own, so
a crash can tear the last line of one shard and nothing else; resuming is the set difference between what is wanted and
what is on disk.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from ipa_bench.errors import UserError
from ipa_bench.files import located, read_checked, write_atomic, writing
from ipa_bench.metrics.former import FORMER
from ipa_bench.store.records import (
    SCHEMA_VERSION,
    Details,
    FloorRecord,
    PeopleDetails,
    RunHeader,
    Unit,
    UnitRecord,
)
from ipa_bench.store.shards import Shards
from ipa_bench.types import Score

HEADER_NAME = "run.json"
ANOTHER = "use another folder or delete this one"
#: where version 0.1 kept the noise floor: among the scores, as those of a model that no suite can name
_FLOOR_OF_0_1 = "re-encoded/floor"

HEADERS = TypeAdapter(RunHeader)
RECORDS = TypeAdapter(UnitRecord)
FLOORS = TypeAdapter(FloorRecord)


@dataclass(frozen=True)
class Contents:
    """What the shards of a run hold. Of several records of one thing the last line of the newest shard stays."""

    #: sorted
    records: dict[Unit, UnitRecord]
    #: case id -> its noise floor, sorted
    floors: dict[str, FloorRecord]
    #: lines that cannot be read, torn by a crash or damaged since; they are left out
    damaged: int
    #: videos that only other observers than the run's have looked at; they are left out
    seen_otherwise: int = 0

    def done(self, metrics: Iterable[str]) -> set[Unit]:
        """The videos that have a score, or the reason why there is none, for every one of ``metrics``."""
        wanted = set(metrics)
        return {unit for unit, record in self.records.items() if wanted <= {s.metric for s in record.scores}}

    def floors_done(self, metrics: Iterable[str]) -> set[str]:
        """The cases whose noise floor is known, or why it is not, for every one of ``metrics``."""
        wanted = set(metrics)
        return {case for case, record in self.floors.items() if wanted <= record.metrics}


class RunStore:
    """A run folder, opened to append (:meth:`open`) or to read (:meth:`load`)."""

    def __init__(self, folder: Path, header: RunHeader, *, writable: bool) -> None:
        self.folder = folder
        self.header = header
        self._writable = writable
        self._scores, self._floor = Shards(folder / "scores"), Shards(folder / "floor")

    @classmethod
    def open(cls, folder: Path, header: RunHeader) -> RunStore:
        """Make a run folder, or go on with the one that is there, and check that it can be written to.

        An existing run must have the same suite hash, seeds and metric ids, and the same source for models of the same
        name; cases and models that it lacks are added to its header (so a lifted limit or one more model resumes). Its
        first environment, tool version and date stay. Where an observer has another id since, what its records say
        counts no more, and everything is to be scored anew. Raises :class:`UserError` naming what differs, or what
        cannot be written.
        """
        with writing(folder):
            for sub in (folder / "scores", folder / "floor", folder / "details"):
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

    def append(self, record: UnitRecord | FloorRecord) -> None:
        """Write one line to this process's shard; on return it is on the disk.

        Raises :class:`UserError` when the disk is full or cannot be written; the shard then holds no part of it.
        """
        if not self._writable:
            raise RuntimeError("a loaded run is read-only: use RunStore.open")
        line = json.dumps(
            _told(replace(record, looked=self.header.looked)), allow_nan=False, ensure_ascii=False
        ).encode()
        (self._floor if isinstance(record, FloorRecord) else self._scores).append(line)

    def close(self) -> None:
        """Close the shards. Appending again begins others."""
        self._scores.close()
        self._floor.close()

    def read(self) -> Contents:
        """Everything in the shards, as it is on disk now; folders that version 0.1 wrote too."""
        records: dict[Unit, UnitRecord] = {}
        floors: dict[str, FloorRecord] = {}
        before: set[Unit] = set()
        damaged = 0
        for line in self._scores.lines():
            try:
                record = RECORDS.validate_json(line)
            except ValidationError:
                damaged += 1
                continue
            if record.looked != self.header.looked:
                before.add(record.unit)
            elif record.model == _FLOOR_OF_0_1:
                floors[record.case] = _floor_of(record)
            else:
                records[record.unit] = self._here(record)
        for line in self._floor.lines():
            try:
                floor = FLOORS.validate_json(line)
            except ValidationError:
                damaged += 1
                continue
            if floor.looked == self.header.looked:
                floors[floor.case] = floor
        gone = sum(1 for unit in before - records.keys() if unit[2] != _FLOOR_OF_0_1)
        return Contents(dict(sorted(records.items())), dict(sorted(floors.items())), damaged, gone)

    def _here(self, record: UnitRecord) -> UnitRecord:
        """The record with its video where it is now: what a run made moves with its folder."""
        if not record.video or Path(record.video).exists():
            return record
        return replace(record, video=str(located(record.video, self.folder)))

    def records(self) -> dict[Unit, UnitRecord]:
        """Every scored video on disk, by unit, sorted."""
        return self.read().records

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
        if details.people is not None:
            arrays |= {f"people_{name}": np.array(value) for name, value in vars(details.people).items()}
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
                    people=_people_in(data),
                )
        except Exception:  # a damaged zip or npy raises a dozen kinds; without details the report draws less
            return None

    def _details_path(self, unit: Unit) -> Path:
        digest = hashlib.sha256(_unit_text(unit).encode()).hexdigest()
        return self.folder / "details" / f"{digest[:16]}.npz"


def _floor_of(record: UnitRecord) -> FloorRecord:
    changes = {score.metric: score.value for score in record.scores if score.value is not None}
    reasons = {score.metric: score.reason for score in record.scores if score.reason is not None}
    return FloorRecord(record.case, changes, reasons)


def _people_in(data: Mapping[str, Any]) -> PeopleDetails | None:
    """Who is who, as :meth:`RunStore.write_details` stores it."""
    if "people_names" not in data:
        return None
    found = {each.name: data[f"people_{each.name}"] for each in fields(PeopleDetails)}
    for name in ("names", "pictures"):
        found[name] = tuple(str(text) for text in found[name])
    return PeopleDetails(**(found | {"network": str(found["network"]), "same": float(found["same"])}))


def _unit_text(unit: Unit) -> str:
    return json.dumps(list(unit))


def _header_text(header: RunHeader) -> bytes:
    return json.dumps(_told(header), allow_nan=False, ensure_ascii=False, indent=2).encode() + b"\n"


def _told(entry: RunHeader | UnitRecord | FloorRecord) -> dict[str, Any]:
    """As files have it: how runs are looked at is not said where it never changed, or is not known."""
    return {name: value for name, value in asdict(entry).items() if name not in ("looked", "observers") or value}


def _read_header(path: Path) -> RunHeader:
    with suppress(PermissionError):  # said when it is read
        if not path.exists():
            raise UserError(f"{path.parent} is not a run: it has no {path.name}", "give the folder of a run")
    header = read_checked(path, HEADERS, wrong="is damaged", fix=ANOTHER, absent="check that you may read it")
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
    if set(found.metrics) != set(wanted.metrics) and not _by_earlier_version(found, wanted):
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


def _by_earlier_version(found: RunHeader, wanted: RunHeader) -> bool:
    """Whether all that ``found`` has and ``wanted`` lacks are metrics that nothing computes any more.

    Such a run goes on with the present ones, and every video of it is scored anew: no record has them all.
    """
    gone = set(found.metrics) - set(wanted.metrics)
    return bool(gone) and gone <= {info.id for info in FORMER}


def _looked_otherwise(found: RunHeader, wanted: RunHeader) -> bool:
    """Whether an observer that ``wanted`` looks through had another id when ``found`` was scored."""
    before = found.observers or found.environment
    return any(before.get(name, id) != id for name, id in wanted.observers.items())


def _listed(items: Sequence[object]) -> str:
    return ", ".join(map(str, items)) or "none"


def _merge(found: RunHeader, wanted: RunHeader) -> RunHeader:
    """``found`` with the cases and models of ``wanted`` added, and its present name and primary metric.

    Where an earlier version made it, or other observers looked, everything is scored anew: with what is here now.
    """
    otherwise = _looked_otherwise(found, wanted)
    if otherwise or _by_earlier_version(found, wanted):
        found = replace(
            found,
            metrics=wanted.metrics,
            environment=wanted.environment,
            tool_version=wanted.tool_version,
            observers=wanted.observers,
            looked=found.looked + otherwise,
        )
    cases = tuple({case.id: case for case in (*found.cases, *wanted.cases)}.values())
    models = tuple({model.name: model for model in (*found.models, *wanted.models)}.values())
    return replace(found, name=wanted.name, primary=wanted.primary, cases=cases, models=models)
