"""What a stretch of work took of the machine: wall time, memory of GPU and host, energy, and how fast it could be.

Torch is never imported here. A process that has not loaded it uses no GPU, and is measured without it.
What cannot be measured is an :class:`Amount` with a reason.
"""

from __future__ import annotations

import functools
import importlib
import platform
import resource
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped, unused-ignore]

from ipa_bench.cost.amount import NO_TORCH, UNUSED, Amount, Usage
from ipa_bench.cost.clock import Stopwatch
from ipa_bench.engine.processes import cores

#: seconds between two looks at the memory of this process and its descendants
INTERVAL = 0.2
#: a look is followed by a pause of at least this many times the processor time it took, a search for new descendants
#: (which reads a file of every process of the machine) by one of this many
_REST, _SEARCH_REST = 500, 1000
#: seconds that the looking thread outlives the last phase
_LINGER = 2.0
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
#: side of the largest matrices of :func:`matmul_peak`, and the longest that one product may take, in seconds
_LARGEST, _LONGEST = 8192, 0.1
#: seconds of products between two readings of the clock, and for all products of one size: the shortest of many short
#: stretches is one in which no other program got in the way
_STRETCH, _EACH = 0.005, 0.1


def short_name(dtype: object) -> str:
    """``bf16`` of ``torch.bfloat16``. Raises ``ValueError`` for a dtype that is not among :data:`DTYPES`."""
    for short, long in DTYPES.items():
        if str(dtype) == f"torch.{long}":
            return short
    raise ValueError(f"dtype is one of {', '.join(DTYPES.values())}, got {dtype}")


class HostMemory:
    """Peak host memory of this process and of everything that it started, by looking now and then.

    One look is this process's resident set, plus, of each descendant (the workers of a pool among them), the resident
    pages that no file backs: libraries and mapped models that processes share count once. Pages that forked workers
    still share with each other count in each. On systems that do not tell shared pages, descendants count whole.
    A thread looks every ``interval`` seconds, and every few seconds for processes that are new; less often where that
    is slow, so that both together take at most 0.3 % of a core. A peak of this process alone between two looks is seen
    where it is the highest of the process's life (the kernel keeps that mark); one of a descendant is not, nor is a
    descendant that lives for less than a search takes to come round.
    """

    def __init__(self, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._process = psutil.Process()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._active = False
        self._due = self._search_due = self._idle_since = 0.0
        self._most = self._mark = self._marks = 0
        self._descendants: list[psutil.Process] = []
        #: looks, the searches among them, and the processor time of all in seconds
        self.looks, self.searches, self.busy = 0, 0, 0.0

    def start(self) -> None:
        """Begin to look, where that has not begun."""
        with self._lock:
            if not self._active:
                self._due = max(self._due, time.monotonic() + self._interval)
            self._active = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="ipa-bench-memory", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Look no more. The thread waits a little for the next start, so that short phases start none each."""
        with self._lock:
            self._active, self._idle_since = False, time.monotonic()

    def mark(self) -> None:
        """Forget earlier peaks."""
        with self._lock:
            self._marks += 1
            self._most, self._mark = self._process.memory_info().rss, _high_water()

    def peak(self) -> int:
        """Largest number of bytes since :meth:`mark`."""
        if self._active and time.monotonic() >= self._due:
            self._look()
        with self._lock:
            high, own = _high_water(), int(self._process.memory_info().rss)
            return max(self._most, own, high if high > self._mark else 0)

    def _watch(self) -> None:
        while True:
            time.sleep(max(self._interval, self._due - time.monotonic()))
            with self._lock:
                look = self._active and time.monotonic() >= self._due
                if not self._active and time.monotonic() > self._idle_since + _LINGER:
                    self._thread = None
                    return
            if look:
                self._look()

    def _look(self) -> None:
        begin, marks = time.thread_time(), self._marks
        total = self._process.memory_info().rss
        if time.monotonic() >= self._search_due:
            with suppress(psutil.Error):
                self._descendants = self._process.children(recursive=True)
            self.searches += 1
            self._search_due = time.monotonic() + max(self._interval, _SEARCH_REST * (time.thread_time() - begin))
        searched = time.thread_time()
        for each in self._descendants:
            try:
                found = each.memory_info()
            except psutil.Error:  # it has ended meanwhile
                continue
            total += found.rss - getattr(found, "shared", 0)
        end = time.thread_time()
        with self._lock:
            if marks == self._marks:  # or what was seen was before the mark
                self._most = max(self._most, total)
            self.looks, self.busy = self.looks + 1, self.busy + end - begin
            self._due = time.monotonic() + max(self._interval, _REST * (end - searched))


def _high_water() -> int:
    """Largest resident set in the life of this process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


class Span:
    """Measures from its making to its end.

    CUDA's peak counters are reset at the beginning: whoever reads them during a span sees the span's own peak.
    """

    def __init__(self, host: HostMemory) -> None:
        self._host = host
        _synchronize()
        for index in _devices():
            _torch().cuda.reset_peak_memory_stats(index)
        self._energy = _energy_counters()
        host.mark()
        self._watch = Stopwatch()

    def end(self) -> Usage:
        """What was taken since. An error of the GPU is not raised here, but where its results are used."""
        _synchronize()
        lap = self._watch.lap()
        host = Amount(float(self._host.peak()))
        return Usage(lap.seconds, *_device_memory(), host, self._energy_since(), Amount(lap.cpu), lap.waited)

    def _energy_since(self) -> Amount:
        used = _devices(holding=True)
        if not used:
            return Amount(reason=UNUSED)
        nvml = _nvml()
        if isinstance(nvml, str):
            return Amount(reason=nvml)
        now, total = _energy_counters(), 0.0
        for index in used:
            name = _uuid(index)
            if name not in now or name not in self._energy:
                return Amount(reason=f"GPU {index} has no energy counter, or was not used from the beginning")
            total += now[name] - self._energy[name]
        # A counter that went back was reset with the driver.
        return Amount(total) if total >= 0 else Amount(reason="the energy counter was reset")


def _torch() -> Any:
    """Torch where this process has loaded it, or None."""
    return sys.modules.get("torch")


def _devices(holding: bool = False) -> list[int]:
    """Numbers of the GPUs that torch may use in this process, or that it holds memory on; none before its first use."""
    cuda = getattr(_torch(), "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return []
    return [index for index in range(cuda.device_count()) if not holding or cuda.max_memory_reserved(index) > 0]


def _synchronize() -> None:
    for index in _devices(holding=True):
        try:
            _torch().cuda.synchronize(index)
        except RuntimeError:
            return


def _device_memory() -> tuple[Amount, Amount]:
    """Bytes at the peak, allocated and reserved, over all GPUs of this process."""
    used = _devices(holding=True)
    if not used:
        return Amount(reason=UNUSED), Amount(reason=UNUSED)
    cuda = _torch().cuda
    allocated = sum(cuda.max_memory_allocated(index) for index in used)
    return Amount(allocated), Amount(sum(cuda.max_memory_reserved(index) for index in used))


@functools.cache
def _nvml() -> Any:
    """The NVML bindings, started once in a process; or the reason why there are none."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return "nvidia-ml-py is not installed"
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return f"NVML does not start: {error}"
    return nvml


def _energy_counters() -> Mapping[str, float]:
    """UUID -> joules since the driver was loaded: of the GPUs in use, of all before one is (which will be is open)."""
    nvml = _nvml()
    if isinstance(nvml, str):
        return {}
    wanted = {_uuid(index) for index in _devices(holding=True)}
    found, count = {}, 0
    with suppress(nvml.NVMLError):
        count = nvml.nvmlDeviceGetCount()
    for index in range(count):
        with suppress(nvml.NVMLError):  # too old for the counter, or not ours to see
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            name = nvml.nvmlDeviceGetUUID(handle)
            name = name.decode() if isinstance(name, bytes) else str(name)
            if not wanted or name in wanted:
                found[name] = nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
    return found


def _uuid(index: int) -> str:
    return f"GPU-{_torch().cuda.get_device_properties(index).uuid}"


def device_name() -> str:
    """The GPU that torch uses in this process, else the processor, in one line."""
    torch = _torch()
    if _devices():
        return str(torch.cuda.get_device_name())
    return f"cpu ({_processor()}), {cores()} cores"


@functools.cache
def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def matmul_peak(dtype: str) -> Amount:
    """The most FLOP/s at which this machine multiplies matrices, measured; 2 m n k for one product.

    ``dtype`` is ``fp32``, ``bf16`` or ``fp16``; on the current GPU where torch uses one, else on the processor with
    torch's number of threads. Takes a second or two, once in a process for each dtype, device and setting (threads, the
    precision of fp32 products). Raises ``ValueError`` for another dtype.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype is one of {', '.join(DTYPES)}, got {dtype!r}")
    torch = _torch()
    if torch is None:
        return Amount(reason=NO_TORCH)
    device = f"cuda:{torch.cuda.current_device()}" if _devices() else "cpu"
    return _matmul_peak(device, dtype, torch.get_num_threads(), torch.get_float32_matmul_precision())


@functools.cache
def _matmul_peak(device: str, dtype: str, threads: int, precision: str) -> Amount:
    torch = _torch()
    best, size = 0.0, 256
    try:
        with torch.no_grad(), torch.autocast(device.partition(":")[0], enabled=False):
            while size <= _LARGEST:
                seconds = _seconds_of_product(torch, device, getattr(torch, DTYPES[dtype]), size)
                best = max(best, 2 * size**3 / seconds)
                if 8 * seconds > _LONGEST:
                    break
                size *= 2
    except RuntimeError as error:
        if not best:  # memory may end before the largest size: then the smaller ones are the answer
            why = str(error).partition("\n")[0]
            return Amount(reason=f"{dtype} matrices cannot be multiplied on {device}: {why}")
    if device != "cpu":
        with suppress(RuntimeError):
            torch.cuda.empty_cache()  # or the matrices would stay in what the allocator holds
    return Amount(best)


def _seconds_of_product(torch: Any, device: str, dtype: Any, size: int) -> float:
    """Least time of one product of two square matrices, in seconds."""
    generator = torch.Generator(device).manual_seed(0)  # the caller's random numbers stay as they are
    a, b = (torch.randn(size, size, generator=generator, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)

    def run(count: int) -> float:
        _synchronize()
        begin = time.perf_counter()
        for _ in range(count):
            torch.mm(a, b, out=out)
        _synchronize()
        return time.perf_counter() - begin

    run(1)  # the first one loads kernels
    best = min(run(1) for _ in range(3))
    count = max(1, round(_STRETCH / best))
    end = time.perf_counter() + _EACH
    while time.perf_counter() < end:
        best = min(best, run(count) / count)
    return best
