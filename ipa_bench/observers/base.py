"""What an observer is: sessions over frames that end in arrays, and what a looker asks beside them.

A new observer is a session (:class:`Session`), the :class:`Observer` that starts it, and one line of
:data:`ipa_bench.observers.table.OBSERVERS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ipa_bench.types import Float64, Observation, UInt8

#: values of an :class:`Observation` by name
Arrays = Mapping[str, NDArray[Any]]


class Session(Protocol):
    """One video under observation. Frames are pushed in order, then ``finish`` once."""

    def push(self, image: UInt8, time: float) -> None:
        """Take the next frame: uint8 ``[H, W, 3]`` RGB, C-contiguous; time in seconds from the first frame."""

    def finish(self) -> Arrays:
        """What was seen, as :class:`Observation` says it. Raises Unscorable where this observer can see nothing."""


@runtime_checkable
class Following(Session, Protocol):
    """A session that looks at what another one finds in the same video."""

    def follow(self, other: Observation | Session) -> None:
        """Take the other's findings, before the first frame: as they were kept, or from the session that makes them in
        this pass, which is finished first."""


class Beside:
    """Which frame of the ground truth a frame is beside: the nearest in time; none beyond the ground truth's end."""

    def __init__(self, times: NDArray[Any]) -> None:
        """``times`` ``[T]`` of the ground truth's frames, seconds from the first, at least one."""
        self._times: Float64 = np.asarray(times, np.float64)
        self._end = float(self._times[-1] + np.median(np.diff(self._times))) if len(self._times) > 1 else np.inf

    def __len__(self) -> int:
        """Frames of the ground truth."""
        return len(self._times)

    def at(self, time: float) -> int | None:
        """The frame's number; None where ``time`` in seconds lies beyond the end."""
        return None if time > self._end else int(np.argmin(np.abs(self._times - time)))


@dataclass(frozen=True, eq=False)
class Truth:
    """The ground truth that a video is compared with."""

    #: what the observer that the comparison is made beside saw in it
    seen: Observation
    #: its frames, uint8 ``[H, W, 3]``, to be drawn as they are due; none for observers that take its scene
    images: Iterator[UInt8]
    #: the scene of the built-in world that it was rendered from, for observers that take one
    world: str | None = None


class Observer(ABC):
    """Starts sessions; reusable for any number of videos. One that needs no weights says ``id`` and ``start`` alone."""

    #: with version; changes whenever a value of the observation may change
    id: str

    @abstractmethod
    def start(self, truth: Truth | None = None) -> Session:
        """Begin a video. An observer that compares is given the ground truth, another None."""

    def kind(self) -> str | None:
        """What the cache calls its observations, the decoder apart; None where they cannot be told from others."""
        return self.id

    def missing(self) -> str | None:
        """Why it cannot look, with what would mend it; None where everything is here. Loads nothing."""
        return None

    def load(self) -> str | None:
        """Make ready. Returns why that is not possible, with what would mend it, or None."""
        return None

    def working(self) -> AbstractContextManager[None]:
        """Entered while its sessions are at work."""
        return nullcontext()

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Free what it holds; it is not used again."""


@dataclass(frozen=True)
class ObserverInfo:
    """A line of the table."""

    #: what metrics call its observations
    name: str
    #: with version
    id: str
    #: the networks it looks through: what two observers share, a model may have learned to please in both
    family: tuple[str, ...]
    #: (threads, backend of the hand observer) -> the observer. Raises UserError for an unknown backend.
    make: Callable[[int, str], Observer]
    #: None: it looks at one video by itself. Else it compares a video with its ground truth, beside what the observer
    #: of this name saw in both: its times pair the frames, its boxes cut the regions.
    beside: str | None = None
    #: the observer of this name, which stands before it in the table, says where in the video it looks
    follows: str | None = None
    #: whether it looks only where a metric that a suite names needs it
    asked: bool = False
    #: whether it looks at the reference pictures of a case, not at videos
    pictures: bool = False
    #: what the scenes of the built-in world that it takes are called at their beginning; empty: it takes none
    stage: str = ""
    #: why it sees nothing where a case names no such scene
    staged: str = ""

    def takes(self, world: str | None) -> bool:
        """Whether it can look at clips of a case that names this scene."""
        return not self.stage or (world or "").startswith(self.stage)
