"""Look at videos: decode once, hash, observe and compare in the same pass, and remember the result by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ipa_bench import video
from ipa_bench.cache import Cache, digest
from ipa_bench.errors import Unscorable
from ipa_bench.observers import pixels
from ipa_bench.observers.hands import HandObserver
from ipa_bench.observers.pixels import PixelSession
from ipa_bench.types import Float64, HandTracks, PixelStats, UInt8, Video

_PIXELS = ("frame", "hand", "rest")


@dataclass(frozen=True, eq=False)
class _Entry:
    """What a file holds: hash of its pixels, time of each frame, size."""

    sha256: str
    times: Float64
    size: tuple[int, int]


class Looker:
    """Observations of videos, from the cache where the same content was looked at before.

    Results do not depend on ``threads``, on the cache, or on the order of calls.
    """

    def __init__(self, cache: Cache | None = None, threads: int = 1, backend: str = "litert") -> None:
        self._cache = cache or Cache()
        self._observer = HandObserver(threads, backend)
        self._entries: dict[tuple[str, int, int], _Entry] = {}

    def close(self) -> None:
        """Free what the observer holds; the looker is not used again."""
        self._observer.close()

    def hands(self, source: Path | Video) -> HandTracks:
        """The hands of a video. Raises Unscorable where it does not decode."""
        known = self._known(source)
        return known if known is not None else self._watch(source, None)[0]

    def both(self, source: Path | Video, truth: Path | Video) -> tuple[HandTracks, PixelStats]:
        """The hands of a video and its comparison with the ground truth, in one pass where both are new."""
        wanted = self.hands(truth)
        known = self._known(source)
        if known is None:
            hands, stats = self._watch(source, (truth, wanted))
            assert stats is not None
            return hands, stats
        key = _pair_key(known, wanted)
        entry = self._cache.get(pixels.OBSERVER_ID, key)
        if entry is not None:
            return known, _stats(entry)
        session = PixelSession(wanted, _images(truth))
        for image, time in _frames(source):
            session.push(image, time)
        stats = session.finish()
        self._cache.put(pixels.OBSERVER_ID, key, _arrays(stats))
        return known, stats

    def _watch(
        self, source: Path | Video, truth: tuple[Path | Video, HandTracks] | None
    ) -> tuple[HandTracks, PixelStats | None]:
        """One pass over the frames for everything that wants to see them."""
        hasher = video.PixelHasher()
        hands = self._observer.start()
        comparison = PixelSession(truth[1], _images(truth[0])) if truth else None
        for image, time in _frames(source):
            hasher.update(image)
            hands.push(image, time)
            if comparison:
                comparison.push(image, time)
        tracks = hands.finish(hasher.hexdigest())
        self._cache.put(tracks.observer, tracks.sha256, _hand_arrays(tracks))
        if isinstance(source, Path):
            self._remember(source, _Entry(tracks.sha256, tracks.times, tracks.size))
        stats = comparison.finish() if comparison else None
        if stats and truth:
            self._cache.put(pixels.OBSERVER_ID, _pair_key(tracks, truth[1]), _arrays(stats))
        return tracks, stats

    def _known(self, source: Path | Video) -> HandTracks | None:
        """The cached hands of a video, its times as they are in this file."""
        if isinstance(source, Path):
            entry = self._entry(source)
            if entry is None:
                return None
        else:
            count, height, width = source.frames.shape[:3]
            entry = _Entry(source.sha256, np.arange(count) / source.fps, (width, height))
        arrays = self._cache.get(self._observer.id, entry.sha256)
        if arrays is None or len(arrays["found"]) != len(entry.times):
            return None
        return HandTracks(**arrays, times=entry.times, size=entry.size, observer=self._observer.id, sha256=entry.sha256)

    def _entry(self, path: Path) -> _Entry | None:
        """What a file holds, by the hash of its bytes: a second run need not decode it."""
        key = self._file_key(path)
        if key not in self._entries:
            arrays = self._cache.get("files@1", digest(video.file_sha256(path)))
            if arrays is None:
                return None
            size = (int(arrays["size"][0]), int(arrays["size"][1]))
            self._entries[key] = _Entry(str(arrays["sha256"]), arrays["times"], size)
        return self._entries[key]

    def _remember(self, path: Path, entry: _Entry) -> None:
        self._entries[self._file_key(path)] = entry
        arrays = {"sha256": np.array(entry.sha256), "times": entry.times, "size": np.array(entry.size)}
        self._cache.put("files@1", digest(video.file_sha256(path)), arrays)

    @staticmethod
    def _file_key(path: Path) -> tuple[str, int, int]:
        try:
            stat = os.stat(path)
        except OSError as error:
            raise Unscorable(f"{path.name}: {error.strerror or error}") from None
        return (str(path.absolute()), stat.st_mtime_ns, stat.st_size)


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


def _hand_arrays(tracks: HandTracks) -> dict[str, object]:
    names = ("landmarks", "world", "presence", "box", "sharpness", "change", "found")
    return {name: getattr(tracks, name) for name in names}


def _arrays(stats: PixelStats) -> dict[str, object]:
    return {f"{kind}.{region}": getattr(stats, kind)[region] for kind in ("mse", "l1", "ssim") for region in _PIXELS}


def _stats(entry: dict[str, Float64]) -> PixelStats:
    mse, l1, ssim = ({r: entry[f"{kind}.{r}"] for r in _PIXELS} for kind in ("mse", "l1", "ssim"))
    return PixelStats(mse, l1, ssim, pixels.OBSERVER_ID)


def at(stats: PixelStats, index: Float64) -> PixelStats:
    """The comparison of some of the frames."""
    return replace(
        stats,
        mse={r: v[index] for r, v in stats.mse.items()},
        l1={r: v[index] for r, v in stats.l1.items()},
        ssim={r: v[index] for r, v in stats.ssim.items()},
    )
