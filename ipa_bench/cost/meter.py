"""The meter: it measures what each phase of a run costs, in time, memory, arithmetic and energy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ipa_bench.cost.amount import Amount, Usage, added
from ipa_bench.cost.device import DTYPES, INTERVAL, HostMemory, Span, device_name, matmul_peak
from ipa_bench.cost.sheet import COUNTS, NO_DTYPE, NOT_COUNTED, PHASES, Cost, PhaseCost, PhaseName


class Phase:
    """A phase that is under way: where finished work is counted."""

    def __init__(self, name: PhaseName, unit: str, dtype: str | None) -> None:
        self.name, self.unit, self.dtype = name, unit, dtype
        self.counts = dict.fromkeys(COUNTS, NOT_COUNTED)
        self.measured: Usage | None = None

    def add(
        self,
        items: float | None = None,
        *,
        tokens: float | None = None,
        video_seconds: float | None = None,
        flops: float | Amount | None = None,
    ) -> None:
        """Count finished work: of each kind, what this piece had of it. It is arithmetic only, and asks no device.

        ``flops`` may be an Amount with a reason, as ``count_flops`` gives it: then those of the phase are not known.
        Raises ``ValueError`` for a number that is negative or not finite.
        """
        for name, given in zip(COUNTS, (items, tokens, video_seconds, flops), strict=True):
            if given is not None:
                amount = given if isinstance(given, Amount) else Amount(given)
                before = self.counts[name]
                self.counts[name] = amount if before == NOT_COUNTED else added(before, amount)

    def sheet(self, unfinished: bool) -> Cost:
        """What this entry took up to its last measurement."""
        if self.measured is None:
            return Cost()
        seconds, device = self.measured.seconds, device_name()
        peak = NO_DTYPE if self.dtype is None else matmul_peak(self.dtype)
        cost = PhaseCost(
            self.name,
            self.unit,
            (device,),
            seconds,
            seconds,
            1,
            int(unfinished),
            **self.counts,
            possible=peak if peak.value is None else Amount(peak.value * seconds),
            device_allocated=self.measured.device_allocated,
            device_reserved=self.measured.device_reserved,
            host=self.measured.host,
            energy=self.measured.energy,
            cpu=self.measured.cpu,
            waited=self.measured.waited,
        )
        return Cost((cost,), {} if peak.value is None else {f"{self.dtype} on {device}": peak.value})


class Meter:
    """Measures the phases of a run in this process.

    Phases may be entered again and again, which adds up, and be nested: what the inner one takes is not counted in the
    outer one. One thread uses a meter. A phase must not be left open across a ``yield``: the time of whoever asked for
    the value would count. Between phases nothing is measured.
    """

    def __init__(self, before: Cost | None = None, *, interval: float = INTERVAL) -> None:
        """``before``: the sheet of the run's earlier parts. ``interval``: seconds between looks at host memory."""
        self._total = before or Cost()
        self._open: list[Phase] = []
        self._span: Span | None = None
        self.host = HostMemory(interval)

    @contextmanager
    def phase(
        self, name: PhaseName, *, items: float | None = None, unit: str = "item", dtype: str | None = None
    ) -> Iterator[Phase]:
        """Measure what happens inside, to its end or to the exception that ends it, which is passed on.

        ``items`` are counted when the phase ends well; :meth:`Phase.add` counts them one by one, so that an
        interruption leaves those that were finished. ``dtype`` (``fp32``, ``bf16``, ``fp16``) is what most of the
        arithmetic is in: its matmul peak is measured once, in a second or two outside the phase. Raises ``ValueError``
        for an unknown phase or dtype, and for another unit than the phase had before.
        """
        if name not in PHASES or (dtype is not None and dtype not in DTYPES):
            raise ValueError(f"unknown phase or dtype: {name!r}, {dtype!r}")
        units = {part.name: part.unit for part in self._total.phases} | {part.name: part.unit for part in self._open}
        if units.get(name, unit) != unit:
            raise ValueError(f"{name} is counted by the {units[name]}, not by the {unit}")
        phase = Phase(name, unit, dtype)
        self._pause()
        self._open.append(phase)
        well = False
        try:
            self._resume()
            yield phase
            if items is not None:
                phase.add(items)
            well = True
        finally:
            self._pause()
            self._open.remove(phase)
            self._total = self._total.merge(phase.sheet(not well))
            self._resume()

    def cost(self) -> Cost:
        """The sheet so far, that of earlier parts included. Phases under way count as not finished.

        A sheet that is stored now and then survives a process that is killed.
        """
        self._pause()
        total = self._total
        for phase in self._open:
            total = total.merge(phase.sheet(True))
        self._resume()
        return total

    def _pause(self) -> None:
        """End what is being measured and give it to the innermost phase."""
        if self._span is None:
            return
        taken, self._span = self._span.end(), None
        innermost = self._open[-1]
        innermost.measured = taken if innermost.measured is None else innermost.measured.then(taken)

    def _resume(self) -> None:
        """Measure for the innermost phase, where one is open."""
        if self._open:
            self.host.start()
            self._span = Span(self.host)
        else:
            self.host.stop()
