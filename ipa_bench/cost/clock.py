"""Time as work takes it: wall time, processor time, and time in line for a core.

Wall time of work on a processor tells of the machine as much as of the work. Linux counts for each thread how long it
was ready to run and had no core: where that is much, other work ran (or more threads than cores), and wall time is not
to be compared. Processor time is, but for what shared caches cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ipa_bench.cost.amount import CROWDED, Amount

NOT_TOLD = Amount(reason="this system does not tell how long work waits for a core")
#: laps may be taken this many times as often as asked for, where others are in the way
PATIENCE = 3

_TASKS = Path("/proc/self/task")


@dataclass(frozen=True)
class Lap:
    """What one stretch of work took, in seconds."""

    seconds: float
    #: processor time of this process, all threads
    cpu: float
    #: of the thread that had to wait most
    waited: Amount

    @property
    def crowded(self) -> float:
        """Share of the wall time spent in line for a core; 0 where that is not known."""
        return (self.waited.value or 0.0) / self.seconds if self.seconds else 0.0


class Stopwatch:
    """Runs from its making."""

    def __init__(self) -> None:
        self._waits = _waits()
        self._cpu, self._begin = time.process_time(), time.perf_counter()

    def lap(self) -> Lap:
        """What was taken since it was made."""
        seconds, cpu = time.perf_counter() - self._begin, time.process_time() - self._cpu
        return Lap(seconds, cpu, self._waited())

    def _waited(self) -> Amount:
        now = _waits()
        if not now:
            return NOT_TOLD
        # A thread that has ended takes its count with it; the one that asks is there.
        return Amount(max(0, *(total - self._waits.get(thread, 0) for thread, total in now.items())) / 1e9)


def _waits() -> Mapping[str, int]:
    """Thread -> nanoseconds in line for a core since it was made; empty where the system does not tell."""
    found = {}
    try:
        for task in _TASKS.iterdir():
            try:
                found[task.name] = int((task / "schedstat").read_text().split()[1])
            except FileNotFoundError:  # it has ended meanwhile
                continue
    except (OSError, ValueError, IndexError):
        return {}
    return found


def quiet(take: Callable[[], Sequence[Lap]], count: int) -> tuple[Lap, ...]:
    """``count`` laps of work that is the same each time, those in which it was disturbed least, in order.

    ``take`` takes a few of them. Laps that stood in line for more than ``CROWDED`` of their time are taken again, up to
    about ``PATIENCE`` times as many in all: on a busy machine the rest is marked by its ``crowded``, not left out.
    """
    laps: list[Lap] = []
    while len(laps) < count or (len(_free(laps)) < count and len(laps) < PATIENCE * count):
        laps += take()
    free = _free(laps)
    if len(free) >= count:
        return tuple(laps[place] for place in free[:count])
    best = sorted(range(len(laps)), key=lambda place: (laps[place].crowded, place))
    return tuple(laps[place] for place in sorted(best[:count]))


def _free(laps: Sequence[Lap]) -> list[int]:
    """Places of the laps that were not disturbed."""
    return [place for place, lap in enumerate(laps) if lap.crowded <= CROWDED]


def crowded(laps: Sequence[Lap]) -> Amount:
    """Share of their wall time that laps stood in line for a core."""
    if not laps or any(lap.waited.value is None for lap in laps):
        return NOT_TOLD
    whole = sum(lap.seconds for lap in laps)
    return Amount(sum(lap.waited.value or 0.0 for lap in laps) / whole if whole else 0.0)
