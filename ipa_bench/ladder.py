"""The ladder of damage on one clip: observe every damaged version, and say how much worse each metric finds it.

A clip is cut into windows of about a second; each window of a damaged version is measured against the original.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ipa_bench import video
from ipa_bench.cache import Cache, digest
from ipa_bench.damage import DAMAGES, HARMLESS, STRENGTHS, Strength, damaged
from ipa_bench.damage import find as find_damage
from ipa_bench.metrics.align import HandPair, pair_hands, period
from ipa_bench.metrics.base import Evidence, Metric
from ipa_bench.metrics.motion import STILL, mean_speed
from ipa_bench.observers.hands import HandObserver
from ipa_bench.observers.look import at
from ipa_bench.observers.pixels import PixelSession
from ipa_bench.types import Bool, Float64, HandTracks, PixelStats

#: changes whenever a damage or an observation of it may change
VERSION = "damaged@1"
WINDOW_SECONDS = 1.0
MIN_WINDOW_FRAMES = 12

Variant = tuple[str, Strength]
VARIANTS: tuple[Variant, ...] = tuple((d.name, s) for d in (*HARMLESS, *DAMAGES) for s in STRENGTHS)
#: the harmless change whose effect is a run's noise floor
FLOOR: Variant = ("reencode", "strong")
_HANDS = ("landmarks", "world", "presence", "box", "sharpness", "found")


@dataclass(frozen=True, eq=False)
class Losses:
    """How much worse each variant is than the original, in each window of one clip."""

    #: (metric id, variant) -> float64 ``[windows]``, positive where worse; NaN where either side has no value
    loss: Mapping[tuple[str, Variant], Float64]
    #: bool ``[windows]``: the hand hardly moves, so what is wrong with its timing cannot show
    still: Bool


def observe_variant(path: Path, variant: Variant, hands: HandTracks, cache: Cache) -> dict[str, Any]:
    """Observe a damaged version of a clip against the original; arrays, from the cache where it was done before.

    ``hands`` are those of the original. Raises Unscorable where the clip does not decode.
    """
    name, strength = variant
    damage = find_damage(name)
    key = digest(hands.sha256, hands.observer, name, strength, damage.level(strength))
    known = cache.get(VERSION, key)
    if known is not None:
        return known
    session = _observer().start()
    pixels = PixelSession(hands, (frame.image for frame in video.read_frames(path)))
    original = (frame.image for frame in video.read_frames(path))
    frames = damaged(original, hands, 1 / period(hands.times), damage, strength)
    for image, time in zip(frames, hands.times, strict=True):
        session.push(image, float(time))
        pixels.push(image, float(time))
    tracks, stats = session.finish(key), pixels.finish()
    arrays: dict[str, Any] = {field: getattr(tracks, field) for field in _HANDS}
    for kind in ("mse", "l1", "ssim"):
        arrays |= {f"{kind}.{region}": values for region, values in getattr(stats, kind).items()}
    cache.put(VERSION, key, arrays)
    return arrays


_observers: list[HandObserver] = []


def _observer() -> HandObserver:
    """One per process: loading the nets takes as long as observing a second of video."""
    if not _observers:
        _observers.append(HandObserver())
    return _observers[0]


def noise_floor(hands: HandTracks, arrays: Mapping[str, Any], metrics: Sequence[Metric]) -> dict[str, float | None]:
    """metric id -> |difference| between a variant and the original, over the whole clip; None where unknown."""
    pair = pair_hands(hands, hands)
    whole = slice(0, len(hands.times))
    tracks, stats = _unpacked(hands, arrays)
    before = _values(_evidence(hands, pair, _identical(hands), whole), metrics)
    after = _values(_evidence(tracks, pair_hands(tracks, hands), stats, whole), metrics)
    change = [abs(b - a) for b, a in zip(before, after, strict=True)]
    return {m.info.id: c if np.isfinite(c) else None for m, c in zip(metrics, change, strict=True)}


def _unpacked(hands: HandTracks, arrays: Mapping[str, Any]) -> tuple[HandTracks, PixelStats]:
    tracks = replace(hands, **{field: arrays[field] for field in _HANDS})
    regions = ("frame", "hand", "rest")
    mse, l1, ssim = ({r: arrays[f"{kind}.{r}"] for r in regions} for kind in ("mse", "l1", "ssim"))
    return tracks, PixelStats(mse, l1, ssim)


def losses(hands: HandTracks, observed: Mapping[Variant, Mapping[str, Any]], metrics: Sequence[Metric]) -> Losses:
    """Measure every variant of a clip, window by window, against the original measured against itself."""
    windows = _windows(hands)
    pair = pair_hands(hands, hands)
    original = [_values(_evidence(hands, pair, _identical(hands), window), metrics) for window in windows]
    loss: dict[tuple[str, Variant], Float64] = {}
    for variant, arrays in observed.items():
        tracks, stats = _unpacked(hands, arrays)
        matched = pair_hands(tracks, hands)
        rows = [_values(_evidence(tracks, matched, stats, window), metrics) for window in windows]
        for index, metric in enumerate(metrics):
            sign = 1.0 if metric.info.better == "higher" else -1.0
            values = [sign * (before[index] - after[index]) for before, after in zip(original, rows, strict=True)]
            loss[metric.info.id, variant] = np.array(values)
    still = [mean_speed(_cut_pair(pair, window)) < STILL for window in windows]
    return Losses(loss, np.array(still, bool))


def _windows(hands: HandTracks) -> list[slice]:
    """Windows of about a second in which the original shows a hand in at least half the frames."""
    length = max(round(WINDOW_SECONDS / period(hands.times)), MIN_WINDOW_FRAMES)
    starts = range(0, len(hands.times) - length + 1, length)
    windows = [slice(start, start + length) for start in starts]
    return [window for window in windows if hands.found[window].any(axis=1).mean() >= 0.5]


def _values(evidence: Evidence, metrics: Sequence[Metric]) -> list[float]:
    return [np.nan if (value := m.measure(evidence).value) is None else value for m in metrics]


def _evidence(tracks: HandTracks, pair: HandPair, stats: PixelStats, window: slice) -> Evidence:
    cut = _cut_pair(pair, window)
    part = {field: getattr(tracks, field)[window] for field in (*_HANDS, "times")}
    return Evidence(replace(tracks, **part), cut, cut, pixels=at(stats, np.arange(window.start, window.stop)))


def _cut_pair(pair: HandPair, window: slice) -> HandPair:
    """Some of the frames; the hand size stays that of the whole clip."""
    fields = [field for field in pair.__dataclass_fields__ if field not in ("size", "reference_size")]
    return replace(pair, **{field: getattr(pair, field)[window] for field in fields})


def _identical(hands: HandTracks) -> PixelStats:
    """What comparing a video with itself gives."""
    count = len(hands.times)
    shown = np.where(hands.found.any(axis=1), 0.0, np.nan)
    zeros = {"frame": np.zeros(count), "hand": shown, "rest": np.zeros(count)}
    return PixelStats(zeros, zeros, {region: values + 1.0 for region, values in zeros.items()})
