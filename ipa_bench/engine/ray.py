"""The cores of a Ray cluster as workers, each replaced when it dies.

Ray actors hold one core and work on one item at a time. A worker that is lost, with its process or with its node, is
replaced where there is a core, and its item is worked on again; the result of an item is taken once. A clip must be
visible under the same path on every node: on a shared file system. Every node needs this package with the versions of
the one that starts the run, which is checked. ``IPA_BENCH_*`` variables of this process hold in every worker.

Ray's model of actors and their failures: Moritz et al., Ray: A Distributed Framework for Emerging AI Applications,
OSDI 2018, and https://docs.ray.io/en/latest/ray-core/fault-tolerance.html.
"""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import tempfile
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Generic, TypeVar

from ipa_bench import __version__
from ipa_bench.engine import processes as pool
from ipa_bench.errors import UserError

#: an item is given up when so many workers have died of it, a cluster when so many for each one wanted never began
MAX_DEATHS = 3
#: items taken and not yet yielded, for each worker: one that is slow to come does not stop the others at once
AHEAD = 4
#: seconds without a free core until somebody is told
PATIENCE = 60.0
#: packages that may change a number
PACKAGES = ("numpy", "av", "ai-edge-litert", "pillow", "scipy")
#: bytes of shared memory of a cluster that is started here; results are small and fetched one by one
OBJECT_STORE = 256 * 2**20

T = TypeVar("T")
R = TypeVar("R")


class RayEngine:
    """Workers on the cluster that this process can reach, or else on one that is started here and ended by ``close``.

    A cluster is looked for where this process has connected to one already, in ``RAY_ADDRESS`` (``HOST:PORT`` or
    ``auto``), and on this machine. ``jobs`` workers at most, 0 for one on each core of the cluster. Raises UserError
    where Ray is not installed or ``RAY_ADDRESS`` cannot be reached.
    """

    def __init__(self, jobs: int = 0) -> None:
        self._jobs = jobs
        self._ray = _import()
        self._folder: Path | None = None
        self._ours = not self._ray.is_initialized()
        #: workers that died and were replaced so far
        self.replaced = 0
        if self._ours:
            try:
                self._connect()
            except BaseException:
                self.close()
                raise

    def share(self, items: int) -> tuple[int, int]:
        """(workers, 1): a worker has one core, and one thread on it."""
        cores = int(self._ray.cluster_resources().get("CPU", 0))
        return max(1, min(self._jobs or cores, items)), 1

    def imap(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        workers: int,
        start: Callable[..., None] | None = None,
        arguments: tuple[Any, ...] = (),
    ) -> Iterator[R]:
        """:meth:`ipa_bench.engine.Engine.imap` on the cluster.

        Raises UserError naming the item where three workers have died of it, and where workers do not start or have
        other versions than this process.
        """
        crew = _Crew(self._ray, function, items, workers, start, arguments)
        try:
            yield from crew.results()
        finally:
            self.replaced += crew.died
            crew.dismiss()

    def close(self) -> None:
        """Disconnect, and end the cluster if it was started here. A connection that was there before stays."""
        if self._ours:
            self._ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _connect(self) -> None:
        address = os.environ.get("RAY_ADDRESS", "")
        if "://" in address:
            raise UserError(
                f"RAY_ADDRESS={address} is the address of a Ray Client server",
                "start the run on a node of the cluster, with RAY_ADDRESS=HOST:PORT or auto",
            )
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            if address != "local":
                self._ray.init(address="auto", **quiet)
                return
        except (ConnectionError, ValueError, RuntimeError) as error:
            if address:
                raise UserError(
                    f"no Ray cluster answers at RAY_ADDRESS={address}: {error}",
                    "start one with `ray start --head`, or unset RAY_ADDRESS to use this machine",
                ) from None
        # Sockets lie in this folder, and their paths must be short: the system's may not be.
        place = "/tmp" if os.path.isdir("/tmp") else None
        self._folder = Path(tempfile.mkdtemp(prefix="ipa-ray-", dir=place))
        self._ray.init(
            address="local",
            num_cpus=self._jobs or pool.cores(),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE,
            _temp_dir=str(self._folder),
            **quiet,
        )


def _import() -> Any:
    # Both are read when Ray is imported or started. Its messages, on standard output, would cut through the progress
    # bar; what matters of them is raised here.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    # Otherwise it warns that it will no longer hide accelerators from workers that ask for none.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise UserError("the ray engine needs Ray, which is not installed", "pip install 'ipa-bench[ray]'") from None


def _versions() -> dict[str, str]:
    found = {"ipa-bench": __version__}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


class _Worker:
    """What runs in a worker's process."""

    def begin(
        self,
        variables: dict[str, str],
        function: Callable[[Any], Any],
        start: Callable[..., None] | None,
        arguments: tuple[Any, ...],
    ) -> dict[str, str]:
        """Make ready, and return the versions here."""
        os.environ.update(variables)
        if start:
            start(*arguments)
        self._function = function
        return _versions()

    def work(self, item: Any) -> Any:
        return self._function(item)


class _Crew(Generic[T, R]):
    """The workers of one ``imap``, and which item is where."""

    def __init__(
        self,
        ray: Any,
        function: Callable[[T], R],
        items: Iterable[T],
        size: int,
        start: Callable[..., None] | None,
        arguments: tuple[Any, ...],
    ) -> None:
        self._ray = ray
        self._items = enumerate(items)
        self._size = max(size, 1)
        variables = {name: value for name, value in os.environ.items() if name.startswith("IPA_BENCH_")}
        self._orders = (variables, function, start, arguments)
        # A worker that Ray itself restarted would not have begun: what is lost is replaced here.
        self._hired = ray.remote(_Worker).options(
            num_cpus=1, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD"
        )
        self._versions = _versions()
        #: call -> worker
        self._starting: dict[Any, Any] = {}
        #: call -> (worker, index of its item)
        self._busy: dict[Any, tuple[Any, int]] = {}
        self._idle: list[Any] = []
        #: items without a result, by index, and those of them that no worker has
        self._open: dict[int, T] = {}
        self._waiting: deque[int] = deque()
        #: results that an earlier one keeps waiting
        self._done: dict[int, R | _Failed] = {}
        self._deaths: Counter[int] = Counter()
        self._false_starts = 0
        self.died = 0

    def results(self) -> Iterator[R]:
        """One result for each item, in order."""
        following = 0
        while True:
            self._take()
            if not self._open and not self._done:
                return
            self._hire()
            self._assign()
            if following in self._done:
                # What has come in meanwhile makes workers free, who should not wait for the reader of this result.
                while self._collect(0):
                    self._assign()
                result = self._done.pop(following)
                if isinstance(result, _Failed):
                    raise result.error
                yield result
                following += 1
            elif not self._collect(PATIENCE) and not self._busy and not self._idle:
                warnings.warn(
                    f"no core of the Ray cluster was free for {PATIENCE:g} s: still waiting for one",
                    RuntimeWarning,
                    stacklevel=2,
                )

    def dismiss(self) -> None:
        """End all workers."""
        if self._ray.is_initialized():  # or Ray would start a cluster to end them on
            for worker in [*self._idle, *self._starting.values(), *(worker for worker, _ in self._busy.values())]:
                self._end(worker)

    def _take(self) -> None:
        while len(self._open) + len(self._done) < AHEAD * self._size:
            taken = next(self._items, None)
            if taken is None:
                return
            index, item = taken
            self._open[index] = item
            self._waiting.append(index)

    def _hire(self) -> None:
        there = len(self._starting) + len(self._busy) + len(self._idle)
        for _ in range(min(self._size, len(self._open)) - there):
            worker = self._hired.remote()
            self._starting[worker.begin.remote(*self._orders)] = worker

    def _assign(self) -> None:
        while self._idle and self._waiting:
            worker, index = self._idle.pop(), self._waiting.popleft()
            self._busy[worker.work.remote(self._open[index])] = worker, index

    def _collect(self, seconds: float) -> bool:
        """Take in what one worker answers within ``seconds``. Whether one did."""
        calls = [*self._busy, *self._starting]
        ready, _ = self._ray.wait(calls, timeout=seconds) if calls else ([], [])
        for call in ready:
            if call in self._starting:
                self._begun(call)
            else:
                self._answered(call)
        return bool(ready)

    def _begun(self, call: Any) -> None:
        worker = self._starting.pop(call)
        try:
            versions = self._answer(call)
        except _LostError as lost:
            self._end(worker)
            self._false_starts += 1
            if self._false_starts >= MAX_DEATHS * self._size:
                raise UserError(
                    f"workers of the Ray cluster do not start: {lost}",
                    "install the same version of ipa-bench, and what it needs, on every node",
                ) from None
            return
        except BaseException:
            self._end(worker)
            raise
        self._idle.append(worker)
        for name, ours in self._versions.items():
            if versions.get(name) != ours:
                raise UserError(
                    f"a node of the Ray cluster has {name} {versions.get(name, 'not installed')}, this process {ours}",
                    "install the same versions on every node: numbers may differ between them",
                )

    def _answered(self, call: Any) -> None:
        worker, index = self._busy.pop(call)
        result: R | _Failed
        try:
            result = self._answer(call)
        except _LostError as lost:
            self._end(worker)  # if it lives, it must not go on with an item that another will have
            self.died += 1
            self._deaths[index] += 1
            if self._deaths[index] < MAX_DEATHS:
                self._waiting.appendleft(index)
                return
            problem = f"{MAX_DEATHS} workers died while they had {self._open[index]}: {lost}"
            result = _Failed(UserError(problem, "look at its files, and at the memory of the nodes; then run again"))
        except Exception as error:
            result = _Failed(error)
            self._idle.append(worker)
        else:
            self._idle.append(worker)
        del self._open[index]
        self._done[index] = result

    def _answer(self, call: Any) -> Any:
        """The answer of a worker; raises what it raised, and _LostError where none will come."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(call)
        except errors.RayTaskError as error:
            raise error.cause from error
        except errors.RayError as error:  # every other kind: the process, the node or the answer is gone
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise _LostError(reason[-1][:200]) from None

    def _end(self, worker: Any) -> None:
        with suppress(Exception):  # it may be gone already
            self._ray.kill(worker, no_restart=True)


@dataclass(frozen=True)
class _Failed:
    """Stands where a result would, and is raised in its turn: what comes before it is not lost."""

    error: Exception


class _LostError(Exception):
    """No answer will come."""
