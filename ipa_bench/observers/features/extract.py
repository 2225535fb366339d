"""Videos to features: decoded once, resized once, passed through the network once, and kept.

A thread decodes, resizes and cuts windows while the network runs on batches that span videos. What is in memory does
not grow with the number of videos, but for their features. Features are kept by the content of the file, the decoder
and the definition as soon as a video is done: an interrupted call resumes, and a reference is computed once for however
many models.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Full, Queue
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ipa_bench import video
from ipa_bench.cache import Cache, digest
from ipa_bench.engine.processes import Progress
from ipa_bench.errors import Unscorable
from ipa_bench.observers.features.backbone import Backbone
from ipa_bench.observers.features.definition import FeatureDefinition, check_comparable
from ipa_bench.observers.features.policies import policy
from ipa_bench.observers.features.windows import require, starts, stream
from ipa_bench.types import Float32, UInt8

T = TypeVar("T")

#: kind of the cache's entries; changes when what is in one does
KIND = "features-1"


class Skipped(NamedTuple):
    """A video without features."""

    #: into the paths that were asked for
    asked: int
    path: Path
    reason: str


@dataclass(frozen=True, eq=False)
class Features:
    """Features of several videos, in the order in which they were asked for."""

    definition: FeatureDefinition
    paths: tuple[Path, ...]
    #: float32 ``[n, d]``: one row for each window or, with segments, for each video
    values: Float32
    #: int64 ``[n]``: index into ``paths`` of the video that a row belongs to
    owner: NDArray[np.int64]
    #: int64 ``[n]``: first frame of a row's window; 0 with segments
    start: NDArray[np.int64]
    skipped: tuple[Skipped, ...]
    #: videos that this call decoded, and windows that it passed through the network
    decoded: int
    passed: int


def extract(
    paths: Sequence[Path],
    definition: FeatureDefinition,
    backbone: Backbone,
    cache: Cache | None,
    batch: int = 4,
    progress: Progress | None = None,
) -> Features:
    """Features of the videos at ``paths`` by ``definition``.

    ``batch`` windows pass through the network at a time; it changes values by rounding alone. ``cache`` None keeps
    nothing. ``progress`` is called with ("features", videos done, videos). Files of the same bytes are decoded once.

    A video that is missing, damaged or too short, or whose features are not finite, is in ``skipped`` with the reason,
    and the rest goes on. Raises :class:`UserError` where ``backbone`` is not the one of ``definition`` or takes no
    windows of its length, and ``ValueError`` for a batch below 1 and for a network whose output has another shape than
    it says.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    _check_backbone(definition, backbone)
    work = _Work(definition, backbone, cache, batch)
    files, reasons = _files(paths)
    entries = list(dict.fromkeys(files.values()))
    for entry in entries:
        work.recall(entry)
    todo = [entry for entry in entries if entry.values is None]
    done = len(paths) - sum(entry.asked for entry in todo)
    report = progress or (lambda stage, done, total: None)
    report("features", done, len(paths))
    if todo:
        with closing(_in_background(lambda: work.read(todo), 2 * batch)) as events:
            for entry in work.consume(events):
                done += entry.asked
                report("features", done, len(paths))
    return _gather(paths, work, files, reasons)


def _check_backbone(definition: FeatureDefinition, backbone: Backbone) -> None:
    mine = FeatureDefinition.of(
        backbone,
        policy=definition.policy,
        length=definition.length,
        stride=definition.stride,
        aggregation=definition.aggregation,
        ddof=definition.ddof,
    )
    check_comparable(definition.id, mine.id)
    if definition != mine:  # an id holds 8 digits of the hash
        raise ValueError("two networks with different weights have the same id")


# ---------------------------------------------------------------------------------------------------------------------
# files


@dataclass(eq=False)
class _Entry:
    """One file by content, and what becomes of it."""

    path: Path
    sha256: str
    #: size and time of the file before its hash was taken
    state: tuple[int, int]
    #: how many of the paths have this content
    asked: int = 0
    #: of the clip, once it is read
    frames: int | None = None
    #: features of its windows so far
    rows: list[Float32] = field(default_factory=list)
    #: float32 [n, d] once done; no rows where the clip is too short
    values: Float32 | None = None
    #: why there are none, without the file's name
    reason: str = ""


class _Event(NamedTuple):
    """What the reader hands over: a window, or the end of a file with its number of frames or why it cannot be read."""

    entry: _Entry
    window: Float32 | None = None
    frames: int = 0
    reason: str = ""


def _files(paths: Sequence[Path]) -> tuple[dict[int, _Entry], dict[int, str]]:
    """Index of each path -> its file, one for all paths of the same content; or -> why it cannot be read."""
    files: dict[int, _Entry] = {}
    reasons: dict[int, str] = {}
    known: dict[str, _Entry] = {}
    for index, path in enumerate(paths):
        try:
            state, sha256 = _state(path), video.file_sha256(path)
        except Unscorable as error:
            reasons[index] = error.reason
            continue
        files[index] = known.setdefault(sha256, _Entry(path, sha256, state))
        files[index].asked += 1
    return files, reasons


def _state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise Unscorable(f"{path.name}: cannot be read: {error.strerror}") from error
    return found.st_size, found.st_mtime_ns


# ---------------------------------------------------------------------------------------------------------------------
# the work


class _Work:
    """One call: reads files in one thread, runs the network in another."""

    def __init__(self, definition: FeatureDefinition, backbone: Backbone, cache: Cache | None, batch: int) -> None:
        self.definition, self.backbone, self.cache, self.batch = definition, backbone, cache, batch
        self.decoded = self.passed = 0
        self._pending: list[tuple[_Entry, Float32]] = []

    def starts(self, frames: int) -> range:
        """First frames of the windows of a clip."""
        pad = self.definition.aggregation == "segments"
        return starts(frames, self.definition.length, self.definition.stride, pad=pad)

    def read(self, todo: Iterable[_Entry]) -> Generator[_Event, None, None]:
        """Decode, resize and cut; nothing here touches the network."""
        for entry in todo:
            try:
                yield from self._read(entry)
            except Unscorable as error:
                yield _Event(entry, reason=error.reason.removeprefix(f"{entry.path.name}: "))

    def _read(self, entry: _Entry) -> Iterator[_Event]:
        frames = 0

        def images() -> Iterator[UInt8]:
            nonlocal frames
            for frame in video.read_frames(entry.path):
                frames += 1
                yield frame.image

        resize, backbone, definition = policy(self.definition.policy), self.backbone, self.definition
        for window in stream(
            images(),
            lambda image: resize.frame(image, backbone.size, backbone.scale),
            definition.length,
            definition.stride,
            pad=definition.aggregation == "segments",
        ):
            yield _Event(entry, window.values)
        if _state(entry.path) != entry.state:  # features of other bytes must not be kept under this hash
            raise Unscorable(f"{entry.path.name}: changed while it was read")
        yield _Event(entry, frames=frames)

    def consume(self, events: Iterable[_Event]) -> Iterator[_Entry]:
        """Run the network on windows as they come; yield files as they are done."""
        ended: list[_Entry] = []
        for event in events:
            if event.window is not None:
                self._pending.append((event.entry, event.window))
                if len(self._pending) == self.batch:
                    self._pass()
            else:
                self.decoded += 1
                event.entry.frames, event.entry.reason = event.frames, event.reason
                ended.append(event.entry)
            done = [entry for entry in ended if self._finish(entry)]
            ended = [entry for entry in ended if entry not in done]
            yield from done
        self._pass()
        yield from (entry for entry in ended if self._finish(entry))

    def _pass(self) -> None:
        if not self._pending:
            return
        windows = np.stack([window for _, window in self._pending])
        found = self.backbone.features(windows)
        if found.shape != (len(windows), self.backbone.dimension):
            raise ValueError(f"{self.backbone.name}: features have shape {found.shape}, not that of its dimension")
        for (entry, _), row in zip(self._pending, found, strict=True):
            entry.rows.append(row)
        self.passed += len(windows)
        self._pending = []

    def _finish(self, entry: _Entry) -> bool:
        """Whether nothing is missing; then its features are made, and kept."""
        if entry.reason:
            entry.rows = []
            return True
        if entry.frames is None or len(entry.rows) < len(self.starts(entry.frames)):
            return False
        values = np.array(entry.rows, np.float32).reshape(len(entry.rows), self.backbone.dimension)
        entry.rows = []
        if not np.isfinite(values).all():
            entry.reason = "the network's features are not finite"
            return True
        if self.definition.aggregation == "segments":
            values = values.mean(axis=0, dtype=np.float64, keepdims=True).astype(np.float32)
        entry.values = values
        if self.cache:
            self.cache.put(KIND, self._key(entry), {"values": values, "frames": np.array(entry.frames)})
        return True

    def recall(self, entry: _Entry) -> None:
        """What the cache has of a file; an entry that is not whole is none."""
        kept = self.cache.get(KIND, self._key(entry)) if self.cache else None
        if kept is None or not {"values", "frames"} <= set(kept):
            return
        frames, values = int(kept["frames"]), kept["values"]
        rows = len(self.starts(frames))
        if self.definition.aggregation == "segments":
            rows = min(rows, 1)
        if values.shape == (rows, self.backbone.dimension) and values.dtype == np.float32:
            entry.frames, entry.values = frames, values

    def _key(self, entry: _Entry) -> str:
        return digest(entry.sha256, video.DECODER, self.definition.key, self.backbone.size, self.backbone.scale)


def _gather(paths: Sequence[Path], work: _Work, files: dict[int, _Entry], reasons: dict[int, str]) -> Features:
    values: list[Float32] = [np.empty((0, work.backbone.dimension), np.float32)]
    owner: list[int] = []
    start: list[int] = []
    skipped: list[Skipped] = []
    for index, path in enumerate(paths):
        try:
            if index in reasons:
                raise Unscorable(reasons[index])
            entry = files[index]
            if entry.values is None:
                raise Unscorable(f"{path.name}: {entry.reason}")
            frames = entry.frames or 0
            if work.definition.aggregation == "windows":
                require(path.name, frames, work.definition.length, work.backbone.min_frames)
        except Unscorable as error:
            skipped.append(Skipped(index, path, error.reason))
            continue
        values.append(entry.values)
        owner += [index] * len(entry.values)
        start += list(work.starts(frames))[: len(entry.values)]
    return Features(
        definition=work.definition,
        paths=tuple(paths),
        values=np.concatenate(values),
        owner=np.array(owner, np.int64),
        start=np.array(start, np.int64),
        skipped=tuple(skipped),
        decoded=work.decoded,
        passed=work.passed,
    )


# ---------------------------------------------------------------------------------------------------------------------
# the thread


class _Failed(NamedTuple):
    error: BaseException


class _End:
    """After the last item."""


def _in_background(make: Callable[[], Generator[T, None, None]], bound: int) -> Generator[T, None, None]:
    """The items of ``make()``, made by another thread that is at most ``bound`` ahead.

    An error there is raised here. The thread has ended when the generator is closed.
    """
    ready: Queue[T | _Failed | _End] = Queue(bound)
    stop = threading.Event()

    def put(item: T | _Failed | _End) -> None:
        while not stop.is_set():
            with suppress(Full):
                ready.put(item, timeout=0.1)
                return

    def work() -> None:
        try:
            with closing(make()) as items:
                for item in items:
                    put(item)
                    if stop.is_set():
                        return
            put(_End())
        except BaseException as error:
            put(_Failed(error))

    thread = threading.Thread(target=work, name="read features", daemon=True)
    try:
        thread.start()
        while not isinstance(item := ready.get(), _End):
            if isinstance(item, _Failed):
                raise item.error
            yield item
    finally:
        stop.set()
        if thread.ident:
            thread.join()
