"""Look at videos: decode once, observe and compare in the same pass, and remember the result by content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import tee
from pathlib import Path

import numpy as np

from ipa_bench import video
from ipa_bench.cache import Cache, digest
from ipa_bench.errors import Unscorable
from ipa_bench.files import file_sha256
from ipa_bench.observers import perceptual, pixels
from ipa_bench.observers.hands import HandObserver
from ipa_bench.observers.networks import NETWORKS, Network
from ipa_bench.observers.perceptual import PerceptualObserver, PerceptualSession
from ipa_bench.observers.pixels import PixelSession
from ipa_bench.types import Float64, HandTracks, PerceptualStats, PixelStats, UInt8, Video

#: the comparison that needs no network, beside the names of those that do
PIXELS = "pixels"
_REGIONS = ("frame", "hand", "rest")
#: the arrays of a HandTracks that were observed
HAND_ARRAYS = ("landmarks", "world", "presence", "box", "sharpness", "change", "found")


@dataclass(frozen=True, eq=False)
class Compared:
    """The hands of a video, and its comparison with a ground truth."""

    hands: HandTracks
    #: None where not asked for
    pixels: PixelStats | None = None
    #: network -> distances; those asked for that have none, with the reason
    perceptual: Mapping[str, PerceptualStats] = field(default_factory=dict)
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
        networks: Sequence[Network] = NETWORKS,
    ) -> None:
        self._cache = cache or Cache()
        self._observer = HandObserver(threads, backend)
        self._perceptual = PerceptualObserver(threads, networks)

    def close(self) -> None:
        """Free what the observers hold; the looker is not used again."""
        self._observer.close()
        self._perceptual.close()

    def hands(self, source: Path | Video) -> HandTracks:
        """The hands of a video. Raises Unscorable where it does not decode."""
        known = self._known(source)
        return known if known is not None else self._watch(source, [])

    def knows(self, source: Path, truth: Path | None = None) -> bool:
        """Whether looking at a file, and comparing it with another, would take nothing but the cache.

        A network whose weights are missing gives no distances, and so keeps nothing from being known.
        """
        try:
            one = self._known(source)
            other = one if truth is None else self._known(truth)
        except Unscorable:
            return False
        if one is None or other is None:
            return False
        if truth is None:
            return True
        key, networks = _pair_key(one, other), self._perceptual.networks
        return self._entry(PIXELS, key) is not None and all(
            self._entry(name, key) is not None or self._perceptual.missing(name) is not None for name in networks
        )

    def compare(
        self, source: Path | Video, truth: Path | Video, *, pixels: bool = True, networks: Sequence[str] = ()
    ) -> Compared:
        """The hands of a video and its comparison with the ground truth, in one pass for all that is new.

        ``pixels`` asks for :class:`PixelStats`, ``networks`` for the distances by these of
        :data:`ipa_bench.observers.networks.NETWORKS`. Raises Unscorable where one of the videos does not decode.
        """
        wanted, known = self.hands(truth), self._known(source)
        entries: dict[str, Mapping[str, Float64]] = {}
        reasons: dict[str, str] = {}
        new = []
        for name in (*([PIXELS] if pixels else []), *networks):
            entry = None if known is None else self._entry(name, _pair_key(known, wanted))
            if entry is not None:
                entries[name] = entry
            elif name != PIXELS and (reason := self._perceptual.load(name)):
                reasons[name] = reason
            else:
                new.append(name)
        if known is None or new:
            known = self._compare_new(source, known, truth, wanted, new, entries, reasons)
        distances = {name: perceptual.stats_of(entries[name]) for name in networks if name in entries}
        return Compared(known, stats_of(entries[PIXELS]) if pixels else None, distances, reasons)

    def _compare_new(
        self,
        source: Path | Video,
        known: HandTracks | None,
        truth: Path | Video,
        wanted: HandTracks,
        names: Sequence[str],
        entries: dict[str, Mapping[str, Float64]],
        reasons: dict[str, str],
    ) -> HandTracks:
        """Look at the hands where they are not ``known``, make the comparisons ``names``, and add what they give."""
        # torch has been imported where a network is among the names, and is not needed otherwise.
        with perceptual.one_thread() if set(names) - {PIXELS} else nullcontext():
            # The ground truth is decoded once: its readers keep step, so that few frames wait between them.
            shares = zip(names, tee(_images(truth), len(names)), strict=True)
            sessions = {name: self._start(name, wanted, images) for name, images in shares}
            if known is None:
                known = self._watch(source, [*sessions.values()])
            else:
                for image, time in _frames(source):
                    for session in sessions.values():
                        session.push(image, time)
            for name, session in sessions.items():
                try:
                    stats = session.finish()
                except Unscorable as error:  # too small for this network
                    reasons[name] = error.reason
                    continue
                entries[name] = arrays_of(stats) if isinstance(stats, PixelStats) else perceptual.arrays_of(stats)
                kind = self._comparison(name)
                if kind is not None:
                    self._cache.put(kind, _pair_key(known, wanted), entries[name])
        return known

    def _start(self, name: str, truth: HandTracks, images: Iterator[UInt8]) -> PixelSession | PerceptualSession:
        return PixelSession(truth, images) if name == PIXELS else self._perceptual.start(name, truth, images)

    def _entry(self, name: str, key: str) -> Mapping[str, Float64] | None:
        """A comparison in the cache."""
        kind = self._comparison(name)
        return None if kind is None else self._cache.get(kind, key)

    def _comparison(self, name: str) -> str | None:
        """What the cache calls a comparison, which depends on the decoder too; None where it cannot be known."""
        kind = pixels.OBSERVER_ID if name == PIXELS else self._perceptual.kind(name)
        return None if kind is None else f"{kind}-{video.DECODER}"

    def _watch(self, source: Path | Video, comparisons: Sequence[PixelSession | PerceptualSession]) -> HandTracks:
        """One pass over the frames for everything that wants to see them; the hands."""
        hands = self._observer.start()
        for image, time in _frames(source):
            hands.push(image, time)
            for comparison in comparisons:
                comparison.push(image, time)
        tracks = hands.finish(self._content(source))
        arrays = {name: getattr(tracks, name) for name in (*HAND_ARRAYS, "times")} | {"size": np.array(tracks.size)}
        self._cache.put(self._kind(source), tracks.sha256, arrays)
        return tracks

    def _known(self, source: Path | Video) -> HandTracks | None:
        """The cached hands of a video."""
        content = self._content(source)
        arrays = self._cache.get(self._kind(source), content)
        if arrays is None:
            return None
        width, height = (int(v) for v in arrays.pop("size"))
        return HandTracks(**arrays, size=(width, height), observer=self._observer.id, sha256=content)

    def _kind(self, source: Path | Video) -> str:
        """Another decoder may make other pixels of the same file, and the same pixels may be shown at another rate."""
        how = video.DECODER if isinstance(source, Path) else f"{source.fps:g}fps"
        return f"{self._observer.id}-{how}"

    def _content(self, source: Path | Video) -> str:
        """sha256 of what is looked at: the file's bytes, or the pixels."""
        if isinstance(source, Video):
            return source.sha256
        return file_sha256(source)


def _frames(source: Path | Video) -> Iterator[tuple[UInt8, float]]:
    if isinstance(source, Path):
        yield from video.read_frames(source)
    else:
        yield from ((frame, index / source.fps) for index, frame in enumerate(source.frames))


def _images(source: Path | Video) -> Iterator[UInt8]:
    return (image for image, _ in _frames(source))


def _pair_key(generated: HandTracks, truth: HandTracks) -> str:
    """Pixels, times and the boxes of the ground truth's hands decide a comparison."""
    times = [hashlib.sha256(np.ascontiguousarray(t.times).tobytes()).hexdigest() for t in (generated, truth)]
    return digest(generated.sha256, truth.sha256, truth.observer, times)


def arrays_of(stats: PixelStats) -> dict[str, Float64]:
    """A comparison as arrays by name, for the cache."""
    return {f"{kind}.{region}": getattr(stats, kind)[region] for kind in ("mse", "l1", "ssim") for region in _REGIONS}


def stats_of(entry: Mapping[str, Float64]) -> PixelStats:
    """The comparison that :func:`arrays_of` was given."""
    mse, l1, ssim = ({r: entry[f"{kind}.{r}"] for r in _REGIONS} for kind in ("mse", "l1", "ssim"))
    return PixelStats(mse, l1, ssim, pixels.OBSERVER_ID)


def at(stats: PixelStats, index: Float64) -> PixelStats:
    """The comparison of some of the frames."""
    return replace(
        stats,
        mse={r: v[index] for r, v in stats.mse.items()},
        l1={r: v[index] for r, v in stats.l1.items()},
        ssim={r: v[index] for r, v in stats.ssim.items()},
    )
