"""``ipa-bench`` as processes that are forked from one that has imported what the verbs need.

That one is forked from the process that tests, before its first test: much is imported there already.

Each has its own arguments, streams, working folder, environment, signals and exit status; what it does not have is the
seconds that its imports take, and being taken apart module by module in the end. Its workers are forked too. What
depends on how a process starts (imports that wait, workers of a fork server) is tested with ``sys.executable``.
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import json
import multiprocessing.util
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Mapping, Sequence
from importlib import import_module
from io import BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

import jaxtyping

from ipa_bench.cost import device

#: what verbs import when they run; nothing of it starts a thread
SCORING = (
    "torch", "scipy.stats", "matplotlib.pyplot", "jinja2", "PIL.Image", "av", "ai_edge_litert.interpreter",
    "rich.progress", "rich.table", "ipa_bench.cli.app", "ipa_bench.harness.loop", "ipa_bench.harness.results",
    "ipa_bench.harness.workers", "ipa_bench.report.html", "ipa_bench.report.terminal", "ipa_bench.report.plots",
    "ipa_bench.report.media", "ipa_bench.select", "ipa_bench.validate.report", "ipa_bench.observers.perceptual",
)  # fmt: skip
#: and those that make clips or train
TRAINING = (
    *SCORING,
    "peft",
    "accelerate",
    "ipa_bench.models.wan.pipeline",
    "ipa_bench.models.wan.vace",
    "trainers.run",
    "tests.trainers.tiny_runs",
)


#: filters of warnings as Python begins with
PLAIN = [
    ("default", None, DeprecationWarning, "__main__", 0),
    *(("ignore", None, kind, None, 0) for kind in (
        DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning
    )),
]  # fmt: skip


class Started:
    """A process that runs."""

    def __init__(self, server: Server, pid: int, said: Path) -> None:
        self._server, self.pid, self._said = server, pid, said
        self._status: int | None = None

    @property
    def out(self) -> str:
        """What it has said so far."""
        return self._said.read_text(encoding="utf-8", errors="replace")

    @property
    def errors(self) -> str:
        """What it has said on standard error so far."""
        return self._said.with_suffix(".err").read_text(encoding="utf-8", errors="replace")

    def signal(self, number: int) -> None:
        """Send a signal."""
        if self._status is None:
            os.kill(self.pid, number)

    def wait(self, seconds: float = 300) -> int | None:
        """The exit status, minus the signal that ended it; None where it still runs after so many seconds."""
        if self._status is None:
            self._status = self._server.ask({"wait": self.pid, "seconds": seconds})
        return self._status

    def kill_after(self, seconds: float) -> int | None:
        """The exit status of a process that is killed unless it ends within ``seconds``."""
        if self.wait(seconds) is None:
            self.signal(signal.SIGKILL)
        return self.wait()


class Server:
    """The process that forks."""

    def __init__(self, *, training: bool = False) -> None:
        there, mine = os.pipe()
        here, theirs = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the threads of pytest-xdist hold nothing it needs
            self._pid = os.fork()
        if not self._pid:
            _serve(there, theirs, TRAINING if training else SCORING)
        os.close(there)
        os.close(theirs)
        self._orders, self._answers = os.fdopen(mine, "w"), os.fdopen(here)

    def start(
        self,
        arguments: Sequence[object],
        folder: Path,
        variables: Mapping[str, str],
        said: Path,
        *,
        call: str = "ipa_bench.cli:main",
    ) -> Started:
        """Begin ``ipa-bench`` with these arguments, or a ``call`` that gives an exit status, MODULE:FUNCTION.

        What it says goes to ``said`` and, of errors, to ``.err`` of it.
        """
        argv = ["ipa-bench", *map(str, arguments)]
        files = [str(said), str(said.with_suffix(".err"))]
        order = {"argv": argv, "folder": str(folder), "environ": dict(variables), "said": files, "call": call}
        for file in files:
            Path(file).write_bytes(b"")
        return Started(self, self.ask({"start": order}), said)

    def run(
        self, arguments: Sequence[object], folder: Path, variables: Mapping[str, str], said: Path, **call: str
    ) -> subprocess.CompletedProcess[str]:
        """The same, once it has ended."""
        process = self.start(arguments, folder, variables, said, **call)
        status = process.kill_after(900)
        assert status is not None
        return subprocess.CompletedProcess([*map(str, arguments)], status, process.out, process.errors)

    def ask(self, request: object) -> Any:
        """One line there, one line back."""
        self._orders.write(json.dumps(request) + "\n")
        self._orders.flush()
        return json.loads(self._answers.readline())

    def close(self) -> None:
        """End it."""
        self._orders.close()
        self._answers.close()
        os.waitpid(self._pid, 0)


def _wait(pid: int, seconds: float) -> int | None:
    deadline = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.002)


def _become(order: Mapping[str, object]) -> None:
    """What ``python -m ipa_bench`` would have found, in the process that was forked for it."""
    os.chdir(str(order["folder"]))
    os.environ.clear()
    os.environ.update(order["environ"])  # type: ignore[call-overload]
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, file in zip((1, 2), order["said"], strict=True):  # type: ignore[call-overload]
        os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), number)
    encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
    sys.stdin = TextIOWrapper(FileIO(0))  # type: ignore[arg-type]
    sys.stdout = TextIOWrapper(BufferedWriter(FileIO(1, "w")), encoding)
    sys.stderr = TextIOWrapper(BufferedWriter(FileIO(2, "w")), encoding, "backslashreplace", line_buffering=True)
    sys.argv = [*order["argv"]]  # type: ignore[misc]
    # A shell starts background jobs with Ctrl-C ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _fork_workers() -> None:
    from ipa_bench.engine import processes

    processes.prepare = lambda module: None
    processes._context = lambda module: multiprocessing.get_context("fork")


def _run(call: str) -> NoReturn:
    module, _, function = call.partition(":")
    status: object = 0
    try:
        status = getattr(import_module(module), function)() or 0
    except SystemExit as ended:
        status = ended.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]  # as Python does: waits for threads, then for pools
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(int(str(status)))


def _forget() -> None:
    """Nothing of the process that tests is left to do here; its warnings are no errors, and no shapes are checked."""
    jaxtyping.config.update("jaxtyping_disable", True)
    faulthandler.disable()
    atexit._clear()
    atexit.register(multiprocessing.util._exit_function)
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
    warnings.filters[:] = PLAIN  # type: ignore[index]
    # its pipes to others: who reads them waits for the end of everybody who holds them
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)


def _serve(orders: int, answers: int, modules: Sequence[str]) -> NoReturn:
    try:
        _forget()
        kept = sorted({orders, answers})
        for low, high in zip([2, *kept], [*kept, os.sysconf("SC_OPEN_MAX")], strict=True):
            os.closerange(low + 1, high)
        for name in modules:
            import_module(name)
        if modules is TRAINING:
            device.matmul_peak("fp32")  # once, and not half a second in each process that trains
        _fork_workers()
        gc.freeze()
        with os.fdopen(orders) as lines, os.fdopen(answers, "w") as said:
            for line in lines:
                request = json.loads(line)
                if "wait" in request:
                    answer = _wait(request["wait"], request["seconds"])
                elif not (answer := os.fork()):
                    os.close(orders)
                    os.close(answers)
                    _become(request["start"])
                    _run(request["start"]["call"])
                said.write(json.dumps(answer) + "\n")
                said.flush()
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(0)
