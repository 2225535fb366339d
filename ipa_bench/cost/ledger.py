"""What a run folder cost: one small file for each process and model, written as work goes on, added up when read.

    FOLDER/costs/*.json              what was measured
    FOLDER/costs/post_training.json  what the run's models had cost before it

A process that is killed leaves what it had saved: missing from the sum are the last ``EVERY`` seconds, or the piece of
work that was under way where that is longer. Sheets are kept as well as can be: no run fails for want of one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ipa_bench.cache import digest
from ipa_bench.cost.amount import Amount
from ipa_bench.cost.device import matmul_peak
from ipa_bench.cost.meter import Meter, Phase
from ipa_bench.cost.sheet import Cost, PhaseName
from ipa_bench.errors import UserError
from ipa_bench.files import LORA_FILE, write_atomic

FOLDER, POST_TRAINING = "costs", "post_training.json"
#: seconds between two times that a sheet is written while its phase goes on
EVERY = 20.0
#: a sheet of its own beside a LoRA: what it took to make it
BESIDE_LORA = "cost.json"


class Ledger:
    """The sheet of this process for one owner: the run itself (no name) or one of its models."""

    def __init__(self, folder: Path, owner: str = "") -> None:
        """Writes nothing before something was measured."""
        self.meter = Meter()
        self._owner, self._begin = owner, time.time()
        name = f"{time.time_ns()}-{os.getpid()}-{digest(owner)[:8]}.json"
        self._path = folder / FOLDER / name
        self._saved = time.monotonic()

    @contextmanager
    def phase(self, name: PhaseName, *, unit: str, dtype: str | None = None) -> Iterator[Phase]:
        """:meth:`Meter.phase`, saved when it ends, also where that is by an exception."""
        if dtype is not None:
            matmul_peak(dtype)  # now, while the device's memory is free
        try:
            with self.meter.phase(name, unit=unit, dtype=dtype) as phase:
                yield phase
        finally:
            self.save()

    def tick(self) -> None:
        """Save where the last time is long ago: call it whenever a piece of work is done."""
        if time.monotonic() - self._saved >= EVERY:
            self.save()

    def save(self) -> None:
        """Write the sheet so far; where that is not possible, the next time may do."""
        self._saved = time.monotonic()
        cost = self.meter.cost()
        if not cost.phases:
            return
        about = {"owner": self._owner, "begin": self._begin, "end": time.time(), "cost": cost.to_json()}
        with suppress(OSError, UserError):  # what the work itself has to write will say so
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._path, json.dumps(about, allow_nan=False).encode())


@dataclass(frozen=True)
class PostTraining:
    """What it took to make a model from its base, before the run that it is compared in."""

    #: over all devices, everything included: candidates, their scores, training
    device_hours: Amount
    #: largest number of bytes on a device, or in host memory where no GPU was used
    memory: Amount
    #: where the figures are from
    source: str
    #: the model that it was made from, where that is in the run too
    base: str | None = None

    @classmethod
    def measured(cls, cost: Cost, base: str | None) -> PostTraining:
        """From a sheet; what was spent on evaluating is not part of it."""
        phases = [phase for phase in cost.phases if phase.name != "evaluate"]
        hours = Amount(sum(phase.process_seconds for phase in phases) / 3600)
        on_device = [phase.device_allocated.value for phase in phases if phase.device_allocated.value is not None]
        known = on_device or [phase.host.value for phase in phases if phase.host.value is not None]
        memory = Amount(max(known)) if known else Amount(reason="not measured")
        devices = ", ".join(dict.fromkeys(device for phase in phases for device in phase.devices))
        return cls(hours, memory, f"{', '.join(phase.name for phase in phases)}: measured on {devices}", base)


@dataclass(frozen=True)
class Costs:
    """Everything that is known of the cost of a run folder."""

    #: owner -> sheet; the run's own under the empty name
    of: Mapping[str, Cost] = field(default_factory=dict)
    post_training: Mapping[str, PostTraining] = field(default_factory=dict)
    #: files that could not be read, each with its reason
    problems: tuple[str, ...] = ()

    @property
    def total(self) -> Cost | None:
        """All owners, one after the other; None where some of it cannot be read or does not add up."""
        return None if self.problems else added(self.of.values())


def added(costs: Iterable[Cost]) -> Cost | None:
    """Sheets one after the other; None where they count in other units."""
    total = Cost()
    try:
        for cost in costs:
            total = total.merge(cost)
    except ValueError:
        return None
    return total


def read(folder: Path) -> Costs:
    """What the run in ``folder`` cost so far.

    Parts whose times overlap count as side by side all along: their wall time is that of the longest, their memory adds
    up. Processes that ``accelerate launch`` starts do overlap so.
    """
    parts: list[tuple[str, float, float, Cost]] = []
    problems = []
    for path in sorted((folder / FOLDER).glob("*.json")):
        if path.name == POST_TRAINING:
            continue
        try:
            about = json.loads(path.read_bytes())
            parts.append(
                (str(about["owner"]), float(about["begin"]), float(about["end"]), Cost.from_json(about["cost"]))
            )
        except (OSError, ValueError, KeyError, TypeError, UserError) as error:
            problems.append(f"{path.name} is no cost sheet: {error}")
    of: dict[str, Cost] = {}
    for owner in dict.fromkeys(part[0] for part in parts):
        try:
            of[owner] = _in_time([part[1:] for part in parts if part[0] == owner])
        except ValueError as error:  # other units
            problems.append(str(error))
    return Costs(of, _read_post_training(folder, problems), tuple(problems))


def _in_time(parts: list[tuple[float, float, Cost]]) -> Cost:
    total, side, until = Cost(), Cost(), 0.0
    for begin, end, cost in sorted(parts, key=lambda part: part[0]):
        if begin >= until:
            total, side = total.merge(side), cost
        else:
            side = side.beside(cost)
        until = max(until, end)
    return total.merge(side)


def write_post_training(folder: Path, known: Mapping[str, PostTraining]) -> None:
    """Keep what models had cost before the run, in the place of what was kept.

    Raises :class:`UserError` for a full disk.
    """
    path = folder / FOLDER / POST_TRAINING
    if not known and not path.exists():
        return
    content = {name: asdict(entry) for name, entry in known.items()}
    _write_new(path, json.dumps(content, indent=1, allow_nan=False).encode())


def _read_post_training(folder: Path, problems: list[str]) -> dict[str, PostTraining]:
    path = folder / FOLDER / POST_TRAINING
    if not path.exists():
        return {}
    from pydantic import TypeAdapter

    try:
        return TypeAdapter(dict[str, PostTraining]).validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        problems.append(f"{path.name} cannot be read: {str(error).splitlines()[0]}")
        return {}


def write_beside_lora(lora: Path, cost: Cost | None) -> None:
    """Keep what a LoRA (a file, or a folder with one) took beside it; None removes what was kept.

    Raises :class:`UserError` for a full disk.
    """
    if cost is None:
        _sheet_of(lora).unlink(missing_ok=True)
    else:
        _write_new(_sheet_of(lora), json.dumps(cost.to_json(), allow_nan=False).encode())


def _write_new(path: Path, content: bytes) -> None:
    try:
        if path.is_file() and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}", "free some space, or give another folder") from None
    write_atomic(path, content)


def _sheet_of(lora: Path) -> Path:
    if lora.suffix != ".safetensors":
        return lora / BESIDE_LORA
    return lora.with_name(BESIDE_LORA if lora.name == LORA_FILE else f"{lora.stem}.{BESIDE_LORA}")


def beside_lora(lora: Path) -> Cost | None:
    """The sheet that :func:`write_beside_lora` left; None where there is none that can be read."""
    path = _sheet_of(lora)
    try:
        return Cost.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, UserError):
        return None
