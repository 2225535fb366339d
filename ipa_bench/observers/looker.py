"""Look at videos: decode once, let every observer that is due see the same pass, and remember the result by content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import tee
from pathlib import Path

import numpy as np

from ipa_bench import video
from ipa_bench.cache import Cache, digest
from ipa_bench.errors import Unscorable
from ipa_bench.files import file_sha256
from ipa_bench.observers.base import Following, ObserverInfo, Session, Truth
from ipa_bench.observers.table import HANDS, OBSERVERS
from ipa_bench.types import HandTracks, Observation, UInt8, Video


@dataclass(frozen=True, eq=False)
class Seen:
    """What observers saw of a video, by their names; of those that could see nothing the reason."""

    observations: Mapping[str, Observation] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)


class Looker:
    """Observations of videos, from the cache where the same content was looked at before.

    Content is a file's bytes, or the pixels of a video in memory. Results do not depend on ``threads``, on the cache,
    or on the order of calls.
    """

    def __init__(
        self,
        cache: Cache | None = None,
        threads: int = 1,
        backend: str = "litert",
        observers: Sequence[ObserverInfo] = OBSERVERS,
    ) -> None:
        """``backend`` of the hand observer. Raises UserError for an unknown one."""
        self._cache = cache or Cache()
        self._infos = {info.name: info for info in observers}
        self._observers = {info.name: info.make(threads, backend) for info in observers}
        self._truths = video.Keeper()

    def close(self) -> None:
        """Free what the observers hold; the looker is not used again."""
        self._truths.forget()
        for observer in self._observers.values():
            observer.close()

    def compares(self, name: str) -> bool:
        """Whether the observer of this name takes a ground truth."""
        return self._infos[name].beside is not None

    def unable(self, name: str) -> str | None:
        """Why the observer of this name cannot look at anything, such as a network's file that is another; or None."""
        return self._observers[name].load()

    def looks_at_pictures(self, name: str) -> bool:
        """Whether the observer of this name looks at reference pictures."""
        return self._infos[name].pictures

    def hands(self, source: Path | Video) -> HandTracks:
        """The hands of a video. Raises Unscorable where it does not decode."""
        return HandTracks.of(self.look(source, (HANDS.name,)).observations[HANDS.name])

    def knows(self, source: Path, truth: Path | None = None) -> bool:
        """Whether looking at a file, and comparing it with another, would take nothing but the cache.

        An observer whose weights are missing sees nothing, and so keeps nothing from being known; neither do those that
        look only where a metric asks for it.
        """
        due = [name for name, info in self._infos.items() if not info.asked]
        names = [name for name in due if truth is not None or not self.compares(name)]
        bases = self._bases(names)
        try:
            beside = {} if truth is None else self._remembered(truth, bases, {})
            if len(beside) < len(bases):
                return False
            known = self._remembered(source, names, beside)
        except Unscorable:
            return False
        return all(name in known or self._observers[name].missing() is not None for name in names)

    def look(
        self,
        source: Path | Video,
        names: Sequence[str],
        truth: Path | Video | None = None,
        world: str | None = None,
        *,
        progress: Callable[[int], None] | None = None,
        kept: bool = False,
    ) -> Seen:
        """What the observers of these names see, in one pass for all that is new; those they look beside, or after,
        come with it.

        Those that compare do so with the ground truth ``truth``, which is looked at first; ``world`` is the scene of
        the built-in world that it was rendered from; ``progress(done)`` hears of the frames of ``source`` that were
        looked at; ``kept`` frames stay in memory while they fit, for what is compared with this video next. Raises
        Unscorable where one of the videos does not decode, ValueError where a ground truth is needed and not given.
        """
        reasons = {name: info.staged for name in names if not (info := self._infos[name]).takes(world)}
        names = [name for name in names if name not in reasons]
        bases = self._bases(names)
        followed = {info.follows for name in names if (info := self._infos[name]).follows}
        wanted = [name for name in self._infos if name in {*names, *bases, *followed}]
        beside = Seen()
        if bases:
            if truth is None:
                raise ValueError(f"a ground truth is needed for {', '.join(names)}")
            beside = self.look(truth, bases, kept=True)
        seen = self._remembered(source, wanted, beside.observations, world)
        for name in wanted:
            if name not in seen:
                base = self._infos[name].beside or ""
                reason = beside.reasons.get(base) or self._observers[name].load()
                if reason is not None:
                    reasons[name] = reason
        due = [name for name in wanted if name not in seen and name not in reasons]
        if due:
            self._pass(source, due, truth, beside.observations, seen, reasons, world, progress, kept)
        return Seen(seen, reasons)

    def _pass(
        self,
        source: Path | Video,
        due: Sequence[str],
        truth: Path | Video | None,
        beside: Mapping[str, Observation],
        seen: dict[str, Observation],
        reasons: dict[str, str],
        world: str | None,
        progress: Callable[[int], None] | None,
        kept: bool,
    ) -> None:
        """One pass over the frames for all that is due, which is added to ``seen``, or to ``reasons``."""
        # Observers that are told the scene need no picture of it.
        pictured = [name for name in due if self.compares(name) and not self._infos[name].stage]
        # The ground truth is decoded once: its readers keep step, so that few frames wait between them.
        images = tee(self._images(truth, beside), len(pictured)) if truth is not None else ()
        readers = dict(zip(pictured, images, strict=True))
        with ExitStack() as working, video.pictures_shared():
            sessions: dict[str, Session] = {}
            for name in due:
                observer, base = self._observers[name], self._infos[name].beside
                working.enter_context(observer.working())
                sessions[name] = observer.start(
                    None if base is None else Truth(beside[base], readers.get(name, iter(())), world)
                )
            self._lead(sessions, seen)
            for done, (image, time) in enumerate(self._frames(source, kept), 1):
                for session in sessions.values():
                    session.push(image, time)
                if progress:
                    progress(done)
            for name, session in sessions.items():
                try:
                    arrays = session.finish()
                except Unscorable as error:  # too small for this network
                    reasons[name] = error.reason
                    continue
                key = self._key(name, source, seen, beside, world)
                if key is None:
                    reasons[name] = reasons[self._infos[name].beside or ""]
                    continue
                seen[name] = Observation(self._observers[name].id, key, arrays)
                kind = self._kind(name, source)
                if kind is not None:
                    self._cache.put(kind, key, arrays)

    def _lead(self, sessions: Mapping[str, Session], seen: Mapping[str, Observation]) -> None:
        """Give sessions that follow another what was seen before, or the session that sees it in this pass."""
        for name, session in sessions.items():
            leader = self._infos[name].follows
            if leader is not None:
                assert isinstance(session, Following)
                session.follow(seen[leader] if leader in seen else sessions[leader])

    def _bases(self, names: Sequence[str]) -> tuple[str, ...]:
        """The observers that these look beside."""
        return tuple(dict.fromkeys(base for name in names if (base := self._infos[name].beside) is not None))

    def _remembered(
        self,
        source: Path | Video,
        names: Sequence[str],
        beside: Mapping[str, Observation],
        world: str | None = None,
    ) -> dict[str, Observation]:
        """What the cache holds of a video; ``beside`` are the ground truth's observations."""
        seen: dict[str, Observation] = {}
        for name in names:
            kind, key = self._kind(name, source), self._key(name, source, seen, beside, world)
            arrays = None if kind is None or key is None else self._cache.get(kind, key)
            if key is not None and arrays is not None:
                seen[name] = Observation(self._observers[name].id, key, arrays)
        return seen

    def _kind(self, name: str, source: Path | Video) -> str | None:
        """What the cache calls an observation; None where it cannot be told from others.

        Another decoder may make other pixels of the same file, and the same pixels may be shown at another rate: of a
        comparison the key has the times.
        """
        kind = self._observers[name].kind()
        how = video.DECODER if self.compares(name) or isinstance(source, Path) else f"{source.fps:g}fps"
        return None if kind is None else f"{kind}-{how}"

    def _key(
        self,
        name: str,
        source: Path | Video,
        seen: Mapping[str, Observation],
        beside: Mapping[str, Observation],
        world: str | None,
    ) -> str | None:
        """What tells an observation from others of its kind; None for a comparison beside what has not been seen."""
        base = self._infos[name].beside
        if base is None:
            return self._content(source)
        if base not in seen or base not in beside:
            return None
        pair = _pair_key(seen[base], beside[base])
        return digest(pair, world) if self._infos[name].stage else pair

    def _frames(self, source: Path | Video, kept: bool, count: int | None = None) -> Iterator[tuple[UInt8, float]]:
        if isinstance(source, Video):
            yield from ((frame, index / source.fps) for index, frame in enumerate(source.frames))
        elif kept:
            yield from self._truths.frames(source, file_sha256(source), count)
        else:
            yield from video.read_frames(source)

    def _images(self, truth: Path | Video, beside: Mapping[str, Observation]) -> Iterator[UInt8]:
        """The ground truth's pictures, as long as the observation that they are paired by."""
        count = len(beside[HANDS.name]["times"]) if HANDS.name in beside else None
        return (image for image, _ in self._frames(truth, True, count))

    def _content(self, source: Path | Video) -> str:
        """sha256 of what is looked at: the file's bytes, or the pixels."""
        return source.sha256 if isinstance(source, Video) else file_sha256(source)


def _pair_key(generated: Observation, truth: Observation) -> str:
    """Pixels, times and the boxes of the ground truth's hands decide a comparison."""
    times = [hashlib.sha256(np.ascontiguousarray(seen["times"]).tobytes()).hexdigest() for seen in (generated, truth)]
    return digest(generated.sha256, truth.sha256, truth.observer, times)
