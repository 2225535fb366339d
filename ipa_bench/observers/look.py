"""Look at videos: decode once, observe and compare in the same pass, and remember the result by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ipa_bench import video
from ipa_bench.cache import Cache, digest
from ipa_bench.errors import Unscorable
from ipa_bench.observers import pixels
from ipa_bench.observers.hands import HandObserver
from ipa_bench.observers.pixels import PixelSession
from ipa_bench.types import Float64, HandTracks, PixelStats, UInt8, Video

#: comparisons, which depend on the decoder too
_PIXELS_KIND = f"{pixels.OBSERVER_ID}-{video.DECODER}"
_REGIONS = ("frame", "hand", "rest")
#: the arrays of a HandTracks that were observed
HAND_ARRAYS = ("landmarks", "world", "presence", "box", "sharpness", "change", "found")


class Looker:
    """Observations of videos, from the cache where the same content was looked at before.

    Content is a file's bytes, or the pixels of a video in memory. Results do not depend on ``threads``, on the cache,
    or on the order of calls.
    """

    def __init__(self, cache: Cache | None = None, threads: int = 1, backend: str = "litert") -> None:
        self._cache = cache or Cache()
        self._observer = HandObserver(threads, backend)
        self._hashes: dict[tuple[str, int, int], str] = {}

    def close(self) -> None:
        """Free what the observer holds; the looker is not used again."""
        self._observer.close()

    def hands(self, source: Path | Video) -> HandTracks:
        """The hands of a video. Raises Unscorable where it does not decode."""
        known = self._known(source)
        return known if known is not None else self._watch(source, None)[0]

    def knows(self, source: Path, truth: Path | None = None) -> bool:
        """Whether looking at a file, and comparing it with another, would take nothing but the cache."""
        try:
            one = self._known(source)
            other = one if truth is None else self._known(truth)
        except Unscorable:
            return False
        if one is None or other is None:
            return False
        return truth is None or self._cache.get(_PIXELS_KIND, _pair_key(one, other)) is not None

    def both(self, source: Path | Video, truth: Path | Video) -> tuple[HandTracks, PixelStats]:
        """The hands of a video and its comparison with the ground truth, in one pass where both are new."""
        wanted = self.hands(truth)
        known = self._known(source)
        if known is None:
            hands, stats = self._watch(source, (truth, wanted))
            assert stats is not None
            return hands, stats
        key = _pair_key(known, wanted)
        entry = self._cache.get(_PIXELS_KIND, key)
        if entry is not None:
            return known, stats_of(entry)
        session = PixelSession(wanted, _images(truth))
        for image, time in _frames(source):
            session.push(image, time)
        stats = session.finish()
        self._cache.put(_PIXELS_KIND, key, arrays_of(stats))
        return known, stats

    def _watch(
        self, source: Path | Video, truth: tuple[Path | Video, HandTracks] | None
    ) -> tuple[HandTracks, PixelStats | None]:
        """One pass over the frames for everything that wants to see them."""
        hands = self._observer.start()
        comparison = PixelSession(truth[1], _images(truth[0])) if truth else None
        for image, time in _frames(source):
            hands.push(image, time)
            if comparison:
                comparison.push(image, time)
        tracks = hands.finish(self._content(source))
        arrays = {name: getattr(tracks, name) for name in (*HAND_ARRAYS, "times")} | {"size": np.array(tracks.size)}
        self._cache.put(self._kind(source), tracks.sha256, arrays)
        stats = comparison.finish() if comparison else None
        if stats and truth:
            self._cache.put(_PIXELS_KIND, _pair_key(tracks, truth[1]), arrays_of(stats))
        return tracks, stats

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
        try:
            stat = os.stat(source)
            key = (str(source.absolute()), stat.st_mtime_ns, stat.st_size)
            if key not in self._hashes:
                self._hashes[key] = video.file_sha256(source)
        except OSError as error:
            raise Unscorable(f"{source.name}: {error.strerror or error}") from None
        return self._hashes[key]


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
