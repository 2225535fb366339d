"""What was measured, as data: results of cells, estimates of others, and the JSON file that both are kept in."""

from __future__ import annotations

import functools
import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from ipa_bench.config.fields import checked
from ipa_bench.cost import Amount
from ipa_bench.cost.amount import CROWDED
from ipa_bench.errors import UserError
from ipa_bench.files import write_atomic
from trainers.cost_sheet.plan import Cell

JSON_NAME = "cost.json"
#: grows when a reader of an older sheet would misread a newer one
SCHEMA_VERSION = 1
State = Literal["measured", "out of memory", "failed"]
NOT_REACHED = Amount(reason="the measurement did not get that far")


@dataclass(frozen=True)
class Spread:
    """Repeated times in seconds: the median and the ends."""

    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Result:
    """What became of a cell. Where it was not measured there is a reason, and no number stands for one."""

    cell: Cell
    state: State
    #: why it was not measured, and while what
    reason: str | None = None
    #: wall time of each repeated step, after the warm-up: of an update, or of a denoising step
    seconds: tuple[float, ...] = ()
    #: wall time of each repeated decoding of one clip
    decode: tuple[float, ...] = ()
    #: largest number of bytes while steps (and decoding) were repeated, as ``Usage`` has them
    device_allocated: Amount = NOT_REACHED
    device_reserved: Amount = NOT_REACHED
    host: Amount = NOT_REACHED
    #: joules of one step, and of decoding one clip
    energy: Amount = NOT_REACHED
    decode_energy: Amount = NOT_REACHED
    #: bytes of weights held: model, adapter, a reference's copy, the VAE where clips are decoded
    held: int | None = None
    #: by formula: arithmetic of one step, the same without what checkpointing repeats, and video tokens of its batch
    flops: int | None = None
    useful: int | None = None
    tokens: int | None = None
    #: FLOP/s of matrix products, measured in the same process
    peak: Amount = NOT_REACHED
    #: of every update from the first on
    losses: tuple[float, ...] = ()
    #: processor time of each of ``seconds`` and ``decode``, all threads; empty on a GPU
    cpu: tuple[float, ...] = ()
    decode_cpu: tuple[float, ...] = ()
    #: share of their wall time that they stood in line for a core
    crowded: Amount = NOT_REACHED
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.state == "measured") != (self.reason is None) or (self.state == "measured") != bool(self.seconds):
            raise ValueError(f"a cell is measured and has times, or is not and has a reason: {self}")

    @property
    def step(self) -> Spread | None:
        """Seconds of a step."""
        return spread(self.seconds)

    @property
    def clip_seconds(self) -> float | None:
        """Seconds to make one clip: all denoising steps at the median, shared by the batch, and its decoding."""
        if not (self.seconds and self.decode):
            return None
        whole = self.cell.steps * statistics.median(self.seconds) / self.cell.batch
        return whole + statistics.median(self.decode)

    @property
    def clip_cpu(self) -> float | None:
        """Processor-seconds to make one clip, by the same sum."""
        if not (self.cpu and self.decode_cpu):
            return None
        whole = self.cell.steps * statistics.median(self.cpu) / self.cell.batch
        return whole + statistics.median(self.decode_cpu)

    @property
    def busy(self) -> bool:
        """Whether other work was in the way, so that wall times are not to be compared."""
        return (self.crowded.value or 0.0) > CROWDED

    @property
    def clip_energy(self) -> Amount:
        """Joules to make one clip, by the same sum."""
        if self.energy.value is None or self.decode_energy.value is None:
            return self.energy if self.energy.value is None else self.decode_energy
        return Amount(self.cell.steps * self.energy.value / self.cell.batch + self.decode_energy.value)

    @property
    def utilisation(self) -> Amount:
        """Share of the matmul peak that a step reaches (MFU): what checkpointing repeats is no work of the model."""
        if self.peak.value is None or not self.seconds or self.useful is None:
            return self.peak if self.peak.value is None else NOT_REACHED
        return Amount(self.useful / statistics.median(self.seconds) / self.peak.value)

    @property
    def memory(self) -> Amount:
        """Peak bytes: of the GPU where one was used, else of the host."""
        return self.host if self.device_allocated.value is None else self.device_allocated


def spread(seconds: tuple[float, ...]) -> Spread | None:
    """Median and ends of repeated times; None where there are none."""
    if not seconds:
        return None
    return Spread(statistics.median(seconds), min(seconds), max(seconds), len(seconds))


@dataclass(frozen=True)
class Estimate:
    """What a cell that was not measured would take, worked out from those that were."""

    cell: Cell
    #: seconds of a step, and of a clip where clips are made; None with a reason
    seconds: Amount
    clip_seconds: Amount
    #: peak bytes
    memory: Amount
    #: (clip, batch) of the measurements that it rests on
    points: tuple[str, ...]
    #: largest relative error with which each of them is predicted from the others; a reason where there are too few
    error: Amount
    #: how many times more arithmetic it has than the largest of them; at most 1: it lies between them
    reach: float


@dataclass(frozen=True)
class Sheet:
    """Results by their cell's key, in the order in which they were measured."""

    results: Mapping[str, Result] = field(default_factory=dict)
    estimates: tuple[Estimate, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def done(self, cell: Cell) -> bool:
        """Whether a cell need not be measured again: what failed for another reason than memory is tried again."""
        found = self.results.get(cell.key)
        return found is not None and found.state != "failed"

    def adding(self, result: Result) -> Sheet:
        """The sheet with this result in the place of an earlier one."""
        rest = {key: value for key, value in self.results.items() if key != result.cell.key}
        return Sheet({**rest, result.cell.key: result}, self.estimates)


def save(sheet: Sheet, folder: Path) -> Path:
    """Write ``cost.json`` whole. Raises :class:`UserError` where the folder cannot be written."""
    path = folder / JSON_NAME
    write_atomic(path, (json.dumps(asdict(sheet), indent=1, allow_nan=False) + "\n").encode())
    return path


def load(folder: Path) -> Sheet:
    """The sheet of a folder; an empty one where there is none. Raises :class:`UserError` for another kind of file."""
    path = folder / JSON_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Sheet()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "give another --out") from None
    with checked(f"{path} is no cost sheet", "delete it, or give another --out", whole="the whole"):
        sheet = _reader().validate_json(content)
    if sheet.schema_version != SCHEMA_VERSION:
        raise UserError(
            f"{path} is of version {sheet.schema_version}, this is version {SCHEMA_VERSION}", "give another --out"
        )
    return sheet


@functools.cache
def _reader() -> TypeAdapter[Sheet]:
    return TypeAdapter(Sheet)


def result_json(result: Result) -> bytes:
    """One result as JSON."""
    return json.dumps(asdict(result), allow_nan=False).encode()


@functools.cache
def _results() -> TypeAdapter[Result]:
    return TypeAdapter(Result)


@functools.cache
def _cells() -> TypeAdapter[Cell]:
    return TypeAdapter(Cell)


def result_of(content: bytes) -> Result:
    """What :func:`result_json` gave."""
    return _results().validate_json(content)


def cell_of(content: bytes) -> Cell:
    """A cell of its JSON."""
    return _cells().validate_json(content)


def cell_json(cell: Cell) -> bytes:
    """A cell as JSON."""
    return json.dumps(asdict(cell), allow_nan=False).encode()
