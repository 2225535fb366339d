"""Where work on many clips is done: processes of this machine, or the cores of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from ipa_bench.engine import processes as pool
from ipa_bench.errors import UserError

T = TypeVar("T")
R = TypeVar("R")
#: engines by name
EngineName = Literal["processes", "ray"]


class Engine(Protocol):
    """Workers that a run hands its clips to. Results do not depend on the engine."""

    def share(self, items: int) -> tuple[int, int]:
        """(workers, threads in each) for ``items`` pieces of work, both at least 1."""
        ...

    def imap(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        workers: int,
        start: Callable[..., None] | None = None,
        arguments: tuple[Any, ...] = (),
    ) -> Iterator[R]:
        """``map(function, items)`` in order on at most ``workers`` workers, one result for each item.

        ``start(*arguments)`` runs once in every worker, before its first item. Items are taken as results are, a few
        ahead, so memory does not grow with their number. Raises what ``function`` and ``start`` raise, and UserError
        where workers cannot be had or kept.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds; it is not used again."""
        ...


@dataclass(frozen=True)
class Processes:
    """Processes of this machine. A killed worker ends the run, which then resumes."""

    #: processes at most; 0 for every core
    jobs: int = 0

    def share(self, items: int) -> tuple[int, int]:
        """As :func:`ipa_bench.engine.processes.share_cores`: with few items each process has several threads."""
        return pool.share_cores(self.jobs or pool.cores(), items)

    def imap(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        workers: int,
        start: Callable[..., None] | None = None,
        arguments: tuple[Any, ...] = (),
    ) -> Iterator[R]:
        """As :func:`ipa_bench.engine.processes.imap`."""
        return pool.imap(function, items, workers, start, arguments)

    def close(self) -> None:
        """Nothing is held between two calls of :meth:`imap`."""


@contextmanager
def opened(engine: Engine | EngineName, jobs: int = 0) -> Iterator[Engine]:
    """An engine by name with at most ``jobs`` workers (0: every core), closed at the end; one that is open stays so.

    Raises UserError for an unknown name, where Ray is not installed, and where its cluster cannot be reached.
    """
    if not isinstance(engine, str):
        yield engine
        return
    made = _made(engine, jobs)
    try:
        yield made
    finally:
        made.close()


def _made(name: str, jobs: int) -> Engine:
    if name == "processes":
        return Processes(jobs)
    if name == "ray":
        from ipa_bench.engine.ray import RayEngine

        return RayEngine(jobs)
    raise UserError(f"there is no engine {name}", "the engines are processes and ray")
