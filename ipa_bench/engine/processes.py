"""Worker processes: one place that starts them, keeps them from outliving their parent, and gives results in order."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import forkserver
from multiprocessing.connection import wait
from typing import Any, TypeVar

from ipa_bench.errors import UserError

#: (stage, done, total)
Progress = Callable[[str, int, int], None]
T = TypeVar("T")
R = TypeVar("R")
#: seconds that a pool gets to end; its workers are idle or have been told to
_PATIENCE = 10.0
#: with it in its environment Python does as with -P
_SAFE = "PYTHONSAFEPATH"


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_cores(jobs: int, items: int) -> tuple[int, int]:
    """(processes, threads in each) that keep ``jobs`` cores busy with ``items`` pieces of work.

    With few items some processes end before others: then each has threads for all the cores that are left.
    """
    processes = max(1, min(jobs, items))
    return processes, min(jobs, max(2 * jobs // processes, 1)) if items < 4 * jobs else 1


def prepare(module: str) -> None:
    """Start the process that workers are forked from: it imports ``module`` while this one imports what it needs."""
    if "forkserver" in mp.get_all_start_methods():
        _context(module)


def imap(
    function: Callable[[T], R],
    items: Iterable[T],
    processes: int,
    start: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[R]:
    """``map(function, items)`` in order, on worker processes; in this process where there is one.

    ``start(*arguments)`` runs first in every worker. Few items are in flight at a time, so memory does not grow with
    their number. Workers leave Ctrl-C to the parent and end when it does, however it ends. Raises what ``function``
    raises, and UserError where a worker is killed.
    """
    if processes <= 1:
        if start:
            start(*arguments)
        yield from map(function, items)
        return
    pool = ProcessPoolExecutor(processes, _context(_module_of(function)), _begin, (start, arguments))
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(_call, function, item))
            if len(waiting) > 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed, perhaps for want of memory",
            "run the same command again, it goes on where it stopped; fewer --jobs need less memory",
        ) from None
    except BaseException:
        # Interrupted, closed early or failed: what is still being worked on is not waited for.
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        # The thread that serves the pool has to end before Python does: at exit, Python wakes it through a pipe that it
        # may be closing just then, and that ends in a traceback (CPython 3.11, _python_exit in concurrent.futures).
        served_by: Any = pool._executor_manager_thread
        pool.shutdown(wait=False, cancel_futures=True)
        if served_by is not None:
            served_by.join(_PATIENCE)


def _context(module: str) -> Any:
    # Workers are forked from a clean process that has imported what they need: quick to start, and no locks are
    # inherited. Once it runs, another module's name changes nothing; a worker imports that itself.
    if "forkserver" not in mp.get_all_start_methods():
        return mp.get_context("spawn")
    context = mp.get_context("forkserver")
    context.set_forkserver_preload([module] if module != "__main__" else [])
    # Python 3.11 does not tell that process where this one looks for modules: it imports what is to be loaded first
    # from the working directory, whatever lies there.
    before = os.environ.get(_SAFE)
    if safe():
        os.environ[_SAFE] = "1"
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop(_SAFE, None)
        if before is not None:
            os.environ[_SAFE] = before
    return context


def safe() -> Sequence[str]:
    """Options for another Python, so that it imports nothing from the working directory unless this one does, too."""
    here = os.path.realpath(os.curdir)
    return () if any(os.path.realpath(place) == here for place in sys.path) else ("-P",)


def _module_of(function: Callable[..., Any]) -> str:
    while isinstance(function, partial):
        function = function.func
    return function.__module__


def _begin(start: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        if start:
            start(*arguments)
    except Exception as error:  # a pool whose workers cannot start says no more than that; the first item says why
        _failed.append(error)


_failed: list[Exception] = []


def _call(function: Callable[[T], R], item: T) -> R:
    if _failed:
        raise _failed[0]
    return function(item)


def _follow_parent() -> None:
    """End with the parent: a killed parent cannot tell its workers."""
    parent = mp.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
