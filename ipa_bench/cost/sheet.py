"""The cost sheet: what each phase of a run took, and the rules by which sheets of its parts add up.

Every figure is measured or has a reason why it is not; nothing that was not measured is 0. A run that goes on after an
interruption adds to the sheet of its earlier parts, and processes that work side by side are added to one sheet.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from ipa_bench.cost.amount import NOT_MEASURED, Amount, added, larger
from ipa_bench.errors import UserError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

PhaseName = Literal["generate", "observe", "select", "encode", "train", "evaluate"]
PHASES: tuple[PhaseName, ...] = get_args(PhaseName)
SCHEMA_VERSION = 1
#: what is counted of finished work
COUNTS = ("items", "tokens", "video_seconds", "flops")
NOT_COUNTED = Amount(reason="not counted")
_IN_PART = Amount(reason="not known of every part")
NO_DTYPE = Amount(reason="no dtype was named, whose peak to compare with")


@dataclass(frozen=True)
class PhaseCost:
    """What one phase took, over all its entries."""

    name: PhaseName
    #: what an item is, in the singular
    unit: str
    #: what it ran on; several where parts of a run were made on different machines
    devices: tuple[str, ...]
    #: wall time of the phase itself: phases inside it have theirs, so that phases add up to the run
    seconds: float
    #: the same summed over processes side by side: GPU-seconds where each has a GPU of its own
    process_seconds: float
    #: times that the phase was entered, and those of them that ended by an error or an interruption, or not yet
    entries: int
    unfinished: int
    #: finished items; tokens of the model that were processed; seconds of video made or looked at; arithmetic
    items: Amount
    tokens: Amount
    video_seconds: Amount
    flops: Amount
    #: FLOPs that matrix products at the peak measured on this machine would have been in the same process-seconds
    possible: Amount
    #: peaks in bytes and energy in joules, as :class:`~ipa_bench.cost.amount.Usage` has them
    device_allocated: Amount
    device_reserved: Amount
    host: Amount
    energy: Amount
    #: over all processes, in seconds: processor time (what workers took is theirs), and time in line for a core
    cpu: Amount = NOT_MEASURED
    waited: Amount = NOT_MEASURED

    def __post_init__(self) -> None:
        if self.name not in PHASES:
            raise ValueError(f"a phase is one of {', '.join(PHASES)}, got {self.name!r}")
        if not (0 <= self.seconds <= self.process_seconds * (1 + 1e-9) and 0 <= self.unfinished <= self.entries):
            raise ValueError(f"times and entries of a phase do not fit together: {self}")

    @property
    def memory(self) -> Amount:
        """Peak bytes: of the GPUs where some were used, else of the host."""
        return self.host if self.device_allocated.value is None else self.device_allocated

    @property
    def crowded(self) -> Amount:
        """Share of the time spent in line for a core: where it is large, wall time is not to be compared."""
        return _ratio(self.waited, Amount(self.process_seconds))

    @property
    def items_per_second(self) -> Amount:
        """Items in a second of wall time."""
        return _ratio(self.items, Amount(self.seconds))

    @property
    def tokens_per_second(self) -> Amount:
        """Tokens in a second of wall time."""
        return _ratio(self.tokens, Amount(self.seconds))

    @property
    def video_per_second(self) -> Amount:
        """Seconds of video in a second of wall time."""
        return _ratio(self.video_seconds, Amount(self.seconds))

    @property
    def flops_per_second(self) -> Amount:
        """FLOP/s, over all processes."""
        return _ratio(self.flops, Amount(self.seconds))

    @property
    def peak_share(self) -> Amount:
        """Share of the matmul peak measured on the same machine: 1 where all time went into matrix products."""
        return _ratio(self.flops, self.possible)

    def then(self, other: PhaseCost) -> PhaseCost:
        """This part of the phase and a later one. Raises ``ValueError`` for another phase or another unit."""
        return self._with(other, self.seconds + other.seconds, larger)

    def beside(self, other: PhaseCost) -> PhaseCost:
        """This process's part and that of another at the same time, on a GPU of its own: memory adds up, time does not.

        Pages that the processes share count in each. Raises ``ValueError`` as :meth:`then` does.
        """
        return self._with(other, max(self.seconds, other.seconds), added)

    def _with(self, other: PhaseCost, seconds: float, of_peaks: Callable[[Amount, Amount], Amount]) -> PhaseCost:
        if (self.name, self.unit) != (other.name, other.unit):
            mine, theirs = (f"{part.name} by the {part.unit}" for part in (self, other))
            raise ValueError(f"{mine} and {theirs} do not add up")
        return PhaseCost(
            self.name,
            self.unit,
            tuple(dict.fromkeys((*self.devices, *other.devices))),
            seconds,
            self.process_seconds + other.process_seconds,
            self.entries + other.entries,
            self.unfinished + other.unfinished,
            **_counted_together(self, other),
            possible=_strict(self.possible, other.possible, NO_DTYPE),
            device_allocated=of_peaks(self.device_allocated, other.device_allocated),
            device_reserved=of_peaks(self.device_reserved, other.device_reserved),
            host=of_peaks(self.host, other.host),
            energy=added(self.energy, other.energy),
            cpu=added(self.cpu, other.cpu),
            waited=added(self.waited, other.waited),
        )


def _counted_together(one: PhaseCost, other: PhaseCost) -> dict[str, Amount]:
    """The counts of both parts. Where nothing at all was counted, nothing was finished: the other's counts stand."""
    counts = [{name: getattr(part, name) for name in COUNTS} for part in (one, other)]
    for found, rest in (counts, counts[::-1]):
        if set(found.values()) == {NOT_COUNTED}:
            return rest
    return {name: _strict(counts[0][name], counts[1][name], NOT_COUNTED) for name in COUNTS}


def _strict(one: Amount, other: Amount, nothing: Amount) -> Amount:
    """The sum; not known where one of the two is not, and ``nothing`` where both are that."""
    if one == other == nothing:
        return nothing
    return _IN_PART if {one, other} & {nothing, _IN_PART} else added(one, other)


def _ratio(part: Amount, whole: Amount) -> Amount:
    if part.value is None or whole.value is None:
        return part if part.value is None else whole
    return Amount(part.value / whole.value) if whole.value else Amount(reason="no time passed")


@dataclass(frozen=True)
class Cost:
    """A cost sheet: the phases of a run, in the order of the run's stages."""

    phases: tuple[PhaseCost, ...] = ()
    #: "dtype on device" -> FLOP/s of matrix products, measured in the same run
    peaks: Mapping[str, float] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def phase(self, name: PhaseName) -> PhaseCost | None:
        """The cost of a phase, None where it was not entered."""
        return next((phase for phase in self.phases if phase.name == name), None)

    @property
    def seconds(self) -> float:
        """Wall time of all phases."""
        return sum(phase.seconds for phase in self.phases)

    def merge(self, later: Cost) -> Cost:
        """This sheet with that of a later part of the run. Raises ``ValueError`` where units differ."""
        return self._with(later, PhaseCost.then)

    def beside(self, other: Cost) -> Cost:
        """This sheet with that of a process that worked at the same time on its share."""
        return self._with(other, PhaseCost.beside)

    def _with(self, other: Cost, rule: Callable[[PhaseCost, PhaseCost], PhaseCost]) -> Cost:
        phases = []
        for name in PHASES:
            found = [part for part in (self.phase(name), other.phase(name)) if part is not None]
            phases += found[:1] if len(found) < 2 else [rule(found[0], found[1])]
        return Cost(tuple(phases), {**self.peaks, **other.peaks})

    def to_json(self) -> dict[str, Any]:
        """The sheet as JSON values; rates are not stored, they follow."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: object) -> Cost:
        """What :meth:`to_json` gave, also after JSON. Raises :class:`UserError` for anything else."""
        from ipa_bench.config.fields import checked  # where nothing is read, nothing waits for it

        with checked("this is no cost sheet", "delete it to measure anew", whole="the whole"):
            cost = _reader().validate_python(content)
        if cost.schema_version != SCHEMA_VERSION:
            raise UserError(
                f"a cost sheet of version {cost.schema_version}, this is version {SCHEMA_VERSION}",
                "delete it to measure anew",
            )
        return cost


@functools.cache
def _reader() -> TypeAdapter[Cost]:
    from pydantic import TypeAdapter

    return TypeAdapter(Cost)
