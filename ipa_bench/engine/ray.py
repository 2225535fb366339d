"""The cores of a Ray cluster as workers, each replaced when it dies.

Ray actors hold one core and work on one item at a time. A worker that is lost, with its process or with its node, is
restarted by Ray where there is a core, and its item is worked on again; the result of an item is taken once. A clip
must be visible under the same path on every node: on a shared file system. Every node needs this package with the
versions of the one that starts the run, which is checked. ``IPA_BENCH_*`` variables of this process hold in every one.

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

#: an item is given up when so many workers died of it, a cluster when so many in a row, for each wanted, did not begin
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


@dataclass(frozen=True)
class _Orders:
    """What a worker has to know, also when it is restarted, perhaps on another node."""

    versions: dict[str, str]
    variables: dict[str, str]
    function: Callable[[Any], Any]
    start: Callable[..., None] | None
    arguments: tuple[Any, ...]


class _Worker:
    """What runs in a worker's process. Ray starts it again, with the same orders, where process or node is lost."""

    def __init__(self, orders: _Orders) -> None:
        self._orders = orders
        self._ready = False

    def begin(self) -> None:
        """Make ready, once in the life of the process. Raises UserError where versions differ, and what start does."""
        if self._ready:
            return
        here, orders = _versions(), self._orders
        for name, there in orders.versions.items():
            if here.get(name) != there:
                raise UserError(
                    f"a node of the Ray cluster has {name} {here.get(name, 'not installed')}, this process {there}",
                    "install the same versions on every node: numbers may differ between them",
                )
        os.environ.update(orders.variables)
        if orders.start:
            orders.start(*orders.arguments)
        self._ready = True

    def work(self, item: Any) -> Any:
        self.begin()
        return self._orders.function(item)


class _Crew(Generic[T, R]):
    """The workers of one ``imap``, which Ray restarts where they are lost, and which item is where."""

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
        self._orders = _Orders(_versions(), variables, function, start, arguments)
        self._hired = ray.remote(_Worker).options(
            num_cpus=1, max_restarts=-1, max_task_retries=MAX_DEATHS - 1, scheduling_strategy="SPREAD"
        )
        self._workers: list[Any] = []
        #: those of them that wait for an item; call of ``begin`` -> one that is to begin; call of ``work`` ->
        #: one that has an item, and the item's index
        self._free: list[Any] = []
        self._starting: dict[Any, Any] = {}
        self._working: dict[Any, tuple[Any, int]] = {}
        #: items without a result, by index; and those of them that no worker has
        self._open: dict[int, T] = {}
        self._waiting: deque[int] = deque()
        #: results that an earlier one keeps waiting
        self._done: dict[int, R | _Failed] = {}
        self._deaths: Counter[int] = Counter()
        self._false_starts = 0

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
            elif not self._collect(PATIENCE) and not self._working:
                warnings.warn(
                    f"no core of the Ray cluster was free for {PATIENCE:g} s: still waiting for one",
                    RuntimeWarning,
                    stacklevel=2,
                )

    def dismiss(self) -> None:
        """End all workers."""
        if self._ray.is_initialized():  # or Ray would start a cluster to end them on
            for worker in [*self._workers]:
                self._end(worker)

    def _take(self) -> None:
        while len(self._open) + len(self._done) < AHEAD * self._size:
            taken = next(self._items, None)
            if taken is None:
                return
            index, self._open[index] = taken
            self._waiting.append(index)

    def _hire(self) -> None:
        for _ in range(min(self._size, len(self._open)) - len(self._workers)):
            self._workers.append(self._hired.remote(self._orders))
            self._starting[self._workers[-1].begin.remote()] = self._workers[-1]

    def _assign(self) -> None:
        while self._waiting and self._free:
            worker, index = self._free.pop(), self._waiting.popleft()
            # Ray would try an item again on this worker alone, also where its node is gone, and takes a connection that
            # is refused for another death. So items are tried again here, on whoever is free.
            call = worker.work.options(max_task_retries=0).remote(self._open[index])
            self._working[call] = worker, index

    def _collect(self, seconds: float) -> bool:
        """Take in what one worker answers within ``seconds``, or sooner. Whether one did."""
        calls = [*self._starting, *self._working]
        ready, _ = self._ray.wait(calls, timeout=seconds) if calls else ((), ())
        for call in ready:
            if call in self._starting:
                self._begun(call, self._starting.pop(call))
            else:
                self._worked(call, *self._working.pop(call))
        return bool(ready)

    def _begun(self, call: Any, worker: Any) -> None:
        try:
            self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self._ray.exceptions.RayError as lost:
            self._end(worker)  # another is hired
            self._false_starts += 1
            if self._false_starts >= MAX_DEATHS * self._size:
                raise UserError(
                    f"workers of the Ray cluster do not start: {_last_line(lost)}",
                    "install the same version of ipa-bench, and what it needs, on every node",
                ) from None
        else:
            self._false_starts = 0
            self._free.append(worker)

    def _worked(self, call: Any, worker: Any, index: int) -> None:
        """Take in the result of an item, or why there is none; one whose worker was lost waits for another."""
        result: R | _Failed
        try:
            result = self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:
            result = _Failed(error.cause)
            self._free.append(worker)
        except self._ray.exceptions.RayError as lost:  # every other kind: the process, the node or the answer is gone
            self._restart(worker)
            self._deaths[index] += 1
            if self._deaths[index] < MAX_DEATHS:
                self._waiting.appendleft(index)
                return
            problem = f"{MAX_DEATHS} workers died while they had {self._open[index]}: {_last_line(lost)}"
            result = _Failed(UserError(problem, "look at its files, and at the memory of the nodes; then run again"))
        else:
            self._free.append(worker)
        del self._open[index]
        self._done[index] = result

    def _restart(self, worker: Any) -> None:
        """Let a lost worker begin again, wherever Ray restarts it, and give it nothing until it has."""
        with suppress(Exception):  # if it lives, it must not go on with an item that another will have
            self._ray.kill(worker, no_restart=False)
        self._starting[worker.begin.remote()] = worker

    def _end(self, worker: Any) -> None:
        self._workers.remove(worker)
        with suppress(Exception):  # it may be gone already
            self._ray.kill(worker, no_restart=True)


@dataclass(frozen=True)
class _Failed:
    """Stands where a result would, and is raised in its turn: what comes before it is not lost."""

    error: Exception


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1][:200]
