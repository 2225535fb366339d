"""Arithmetic of what was measured: an amount that is not known stays so, with its reason, and is never counted as 0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ipa_bench.types import Finding

#: amounts of a process that has not touched a GPU, or torch, have these reasons; beside others they count as nothing
UNUSED = "no GPU was used"
NO_TORCH = "torch is not loaded, which the matmul peak is measured with"
_NOTHING = {UNUSED, NO_TORCH}
#: share of its wall time that work may stand in line for a core and still be timed
CROWDED = 0.1


@dataclass(frozen=True)
class Amount(Finding[float]):
    """A number that was measured, or the reason why there is none; not negative."""

    value: float | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.value is not None and self.value < 0:
            raise ValueError(f"an Amount is not negative: {self}")


NOT_MEASURED = Amount(reason="not measured")


def larger(one: Amount, other: Amount) -> Amount:
    """The larger of two peaks. A part that used no GPU has none; any other that is not known leaves the whole so."""
    return _both(one, other, max)


def added(one: Amount, other: Amount) -> Amount:
    """The sum of two amounts, by the same rule."""
    return _both(one, other, lambda a, b: a + b)


def _both(one: Amount, other: Amount, rule: Callable[[float, float], float]) -> Amount:
    if one.value is not None and other.value is not None:
        return Amount(rule(one.value, other.value))
    if one.reason in _NOTHING:
        return other
    return other if one.reason is None and other.reason not in _NOTHING else one


@dataclass(frozen=True)
class Usage:
    """What one stretch of work, or several after each other, took."""

    #: wall time; work that was given to the GPU is waited for
    seconds: float
    #: largest number of bytes in live tensors on the GPUs of this process, and held by torch's allocator
    device_allocated: Amount
    device_reserved: Amount
    #: largest number of bytes of host memory: see :class:`~ipa_bench.cost.device.HostMemory`
    host: Amount
    #: joules of the whole GPUs that this process holds memory on, idle power and other processes included
    energy: Amount
    #: processor time of this process, all threads, in seconds
    cpu: Amount = NOT_MEASURED
    #: seconds that the thread which had to wait most was ready to run and had no core
    waited: Amount = NOT_MEASURED

    def then(self, other: Usage) -> Usage:
        """Both stretches, one after the other: times and energies add up, peaks do not."""
        return Usage(
            self.seconds + other.seconds,
            larger(self.device_allocated, other.device_allocated),
            larger(self.device_reserved, other.device_reserved),
            larger(self.host, other.host),
            added(self.energy, other.energy),
            added(self.cpu, other.cpu),
            added(self.waited, other.waited),
        )
