"""One cell, measured in a process of its own: what it held at its peak is then nobody else's.

    python -m trainers.cost_sheet.measure RESULT.json < CELL.json

Memory that runs out is a result, whoever notices it: torch, Python, C++ or the system, which ends the process.
"""

from __future__ import annotations

import gc
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ipa_bench.cost.amount import Amount, Usage
from ipa_bench.cost.clock import Lap, Stopwatch, crowded, quiet
from ipa_bench.cost.device import HostMemory, Span, device_name, matmul_peak
from ipa_bench.engine import processes
from ipa_bench.errors import UserError
from ipa_bench.files import write_atomic
from ipa_bench.models import hasten
from trainers.cost_sheet.plan import Cell
from trainers.cost_sheet.sheet import Result, cell_json, cell_of, result_json, result_of
from trainers.cost_sheet.subject import Subject, subject

PACKAGES = ("torch", "diffusers", "peft", "accelerate")
#: what torch and C++ say where an allocation on the host fails; on a GPU torch has a class for it
_NO_MEMORY = ("can't allocate memory", "not enough memory", "bad_alloc", "cannot allocate memory", "out of memory")
_KILLED = -9
GB = 10**9


def run_cell(cell: Cell, *, python: str = sys.executable) -> Result:
    """Measure a cell in a fresh process. Raises nothing for a cell that cannot be measured: that is its result."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        ended = subprocess.run(
            [python, *processes.safe(), "-m", "trainers.cost_sheet.measure", str(out)],
            input=cell_json(cell),
            capture_output=True,
        )
        if ended.returncode == 0 and out.exists():
            return result_of(out.read_bytes())
    said = ended.stderr.decode(errors="replace").strip()
    last = said.splitlines()[-1] if said else f"the process ended with status {ended.returncode}"
    if ended.returncode == _KILLED:
        reason = "the system ended the process (signal 9), as it does where host memory runs out"
        return Result(cell, "out of memory", reason)
    if is_memory(said):
        return Result(cell, "out of memory", last)
    return Result(cell, "failed", last)


def is_memory(text: str) -> bool:
    """Whether an error's text says that memory ran out."""
    return any(sign in text.lower() for sign in _NO_MEMORY)


@dataclass
class _Stage:
    """What is being done, for the reason of a failure."""

    name: str = "loading the model"


def measured(cell: Cell, about: Subject) -> Result:
    """Measure a cell in this process. Memory that runs out is a result; other errors are raised."""
    import torch

    stage = _Stage()
    known = Result(
        cell,
        "failed",
        "not measured",
        flops=about.flops(cell),
        useful=about.flops(replace(cell, checkpointing=False)),
        tokens=about.tokens(cell.clip, cell.batch),
    )
    try:
        _limit(cell.memory)
        with tempfile.TemporaryDirectory() as folder:
            found = (_training if cell.trains else _generating)(cell, about, known, Path(folder), stage)
        gc.collect()  # the peak's own matrices come after the model has gone
        return replace(found, peak=matmul_peak(cell.dtype))
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError | torch.OutOfMemoryError) or is_memory(str(error))):
            raise
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        return replace(known, state="out of memory", reason=f"while {stage.name}: {why}", **_where())


def _where() -> dict[str, Any]:
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {"device": device_name(), "versions": versions}


def _limit(memory: float | None) -> None:
    """Treat the device as one of so many GB: torch's allocator on a GPU, this process's data on a CPU."""
    import torch

    if memory is None:
        return
    wanted = int(memory * GB)
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, wanted / total))
    else:
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, wanted))


def _device() -> Any:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def _host() -> Iterator[HostMemory]:
    host = HostMemory()
    host.start()
    try:
        yield host
    finally:
        host.stop()


def _training(cell: Cell, about: Subject, known: Result, folder: Path, stage: _Stage) -> Result:
    from trainers.config import AdapterConfig
    from trainers.cost_sheet.recipes import Recipe, Training, Update

    adapter = AdapterConfig(rank=cell.rank, layers=cell.layers or "qkv")
    recipe = Recipe(cell.work, adapter, cell.batch, cell.dtype, cell.checkpointing, cell.optimizer)
    base = about.outline.built(cell.dtype, _device(), decodes=False)
    hasten.apply(base.networks.values(), cell.speed)
    stage.name = "preparing to train"
    training = Training(recipe, base, about.shape(cell.clip, cell.batch), folder)
    if cell.fp8:
        hasten.shrink(training.policy.networks)
    with _host() as host:
        stage.name = "training"
        first = training.take(cell.warmup)
        span = Span(host)
        updates: list[Update] = []

        def take() -> list[Lap]:
            updates.extend(found := training.take(cell.repeats))
            return [update.lap for update in found]

        laps = quiet(take, cell.repeats)
        took = span.end()
    found = replace(
        known,
        state="measured",
        reason=None,
        seconds=tuple(lap.seconds for lap in laps),
        cpu=_processor_times(laps),
        crowded=crowded(laps),
        energy=_each(took.energy, len(updates)),
        held=training.held,
        losses=tuple(float(update.metrics["loss"]) for update in (*first, *updates[: cell.repeats])),
        **_peaks(took),
        **_where(),
    )
    training.close()
    return found


def _generating(cell: Cell, about: Subject, known: Result, folder: Path, stage: _Stage) -> Result:
    import torch

    from ipa_bench.models.generator import denoise as sample
    from trainers.cost_sheet.recipes import bytes_of

    base = about.outline.built(cell.dtype, _device())
    hasten.apply(base.networks.values(), cell.speed)
    if cell.fp8:
        hasten.shrink(base.networks.values())
    shape = about.shape(cell.clip, cell.batch)
    torch.manual_seed(0)
    latents = torch.randn(cell.batch, *about.outline.flow(shape))
    sides = dict(about.outline.condition(shape))
    given = {name: torch.randn(cell.batch, *each).to(base.device, base.dtype) for name, each in sides.items()}
    negative = torch.randn(cell.batch, *sides["prompt"]).to(base.device, base.dtype)
    ladder = base.ladder(given, negative, cell.guidance)
    scheduler = base.scheduler()

    def denoise() -> None:
        sample(base, scheduler, latents, ladder, steps=1)

    def decode() -> None:
        with torch.inference_mode():
            frames = shape.frames - about.outline.references
            base.decode(base.references.clip(latents[:1], frames).to(base.device))

    with _host() as host:
        stage.name = "denoising"
        steps, stepped, step_energy = _repeated(denoise, cell, host)
        stage.name = "decoding"
        decoding, decoded, decode_energy = _repeated(decode, cell, host)
    both = steps.then(decoding)
    return replace(
        known,
        state="measured",
        reason=None,
        seconds=tuple(lap.seconds for lap in stepped),
        decode=tuple(lap.seconds for lap in decoded),
        cpu=_processor_times(stepped),
        decode_cpu=_processor_times(decoded),
        crowded=crowded((*stepped, *decoded)),
        energy=step_energy,
        decode_energy=decode_energy,
        held=bytes_of(*base.networks.values(), *base.aside),
        **_peaks(both),
        **_where(),
    )


def _repeated(work: Callable[[], None], cell: Cell, host: HostMemory) -> tuple[Usage, tuple[Lap, ...], Amount]:
    """Do the work for its warm-up and then as often as it counts, waiting for the device each time.

    Gives what all of it took, the laps that count, and the energy of one.
    """
    import torch

    taken = 0

    def timed() -> list[Lap]:
        nonlocal taken
        taken += 1
        watch = Stopwatch()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return [watch.lap()]

    for _ in range(cell.warmup):
        timed()
    taken, span = 0, Span(host)
    laps = quiet(timed, cell.repeats)
    usage = span.end()
    return usage, laps, _each(usage.energy, taken)


def _processor_times(laps: tuple[Lap, ...]) -> tuple[float, ...]:
    """None where a GPU does the work: there the processor waits."""
    return () if _device().type == "cuda" else tuple(lap.cpu for lap in laps)


def _each(amount: Amount, count: int) -> Amount:
    return amount if amount.value is None else Amount(amount.value / count)


def _peaks(took: Usage) -> dict[str, Any]:
    names = ("device_allocated", "device_reserved", "host")
    return {name: getattr(took, name) for name in names}


def main() -> None:
    """Measure the cell that comes in on standard input."""
    cell = cell_of(sys.stdin.buffer.read())
    try:
        result = measured(cell, subject(cell.model, random_weights=cell.random_weights))
    except UserError as error:
        result = Result(cell, "failed", str(error))
    write_atomic(Path(sys.argv[1]), result_json(result))


if __name__ == "__main__":
    main()
