"""The ladder of damage on one clip: observe every damaged version, and say how much worse each metric finds it.

A clip is cut into windows of about a second. Every version, the clean one too, is stored with the same codec and
measured against the original; a damaged version's loss is what it does worse than the clean one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ipa_bench import video
from ipa_bench.cache import Cache, digest
from ipa_bench.metrics.base import Evidence, Metric
from ipa_bench.metrics.motion import is_still
from ipa_bench.metrics.pairing import HandPair, pair_hands, period
from ipa_bench.models.controls import at_frames
from ipa_bench.models.damage import (
    DAMAGES,
    HARMLESS,
    STRENGTHS,
    UNSEEN,
    Damage,
    Strength,
    crf,
    file_of,
    in_order,
    shown_frames,
    stored,
)
from ipa_bench.models.damage import find as find_damage
from ipa_bench.observers import pixels
from ipa_bench.observers.hands import OBSERVER_ID, HandObserver
from ipa_bench.observers.pixels import PixelSession, Sides
from ipa_bench.types import Bool, Float64, HandTracks, Observation, UInt8

#: changes whenever a damage or an observation of it may change
VERSION = f"damaged@2-{OBSERVER_ID}-{pixels.OBSERVER_ID}-{video.DECODER}"
WINDOW_SECONDS = 1.0
MIN_WINDOW_FRAMES = 12

Variant = tuple[str, Strength]
#: what every other variant is compared with: nothing was done to it but storing it
CLEAN: Variant = ("clean", "mild")
VARIANTS: tuple[Variant, ...] = (CLEAN, *((d.name, s) for d in (*HARMLESS, *UNSEEN, *DAMAGES) for s in STRENGTHS))
#: what nobody sees, and what anybody does where it changes the hand's pixels: all of the first belong above all
#: of the second
BELOW_SIGHT: tuple[Variant, ...] = tuple((d.name, s) for d in (*HARMLESS, *UNSEEN) for s in STRENGTHS)
IN_SIGHT: tuple[Variant, ...] = (
    ("finger_added", "mild"), ("posture", "medium"), ("frame_blur", "mild"), ("slow", "medium"),
)  # fmt: skip
#: the damage in time that makes new pictures; others show those of the clean version at other times
AVERAGE = "frame_blur"
#: the change of pixels that a change in time must pass to be seen
LEAST_SEEN: Variant = ("jpeg", "strong")
#: the harmless change whose effect is a run's noise floor
FLOOR: Variant = ("reencode", "strong")


@dataclass(frozen=True, eq=False)
class Losses:
    """How much worse each variant is than the clean one, in each window of one clip."""

    #: (metric id, variant) -> float64 ``[windows]``, positive where worse; NaN where either side has no value
    loss: Mapping[tuple[str, Variant], Float64]
    #: bool ``[windows]``: the hand hardly moves, so what is wrong with its timing cannot show
    still: Bool
    #: the same as ``loss`` over the whole clip at once; of values that are known
    whole: Mapping[tuple[str, Variant], float] = field(default_factory=dict)
    #: those of ``IN_SIGHT`` that change the hand's pixels enough, on this clip, to be seen
    in_sight: tuple[Variant, ...] = IN_SIGHT


def observe_variant(path: Path, variant: Variant, hands: HandTracks, cache: Cache) -> dict[str, Any]:
    """Observe a damaged version of a clip against the original; arrays, from the cache where it was done before.

    ``hands`` are those of the original. Raises Unscorable where the clip does not decode.
    """
    name, strength = variant
    damage = find_damage(name)
    quality = crf(damage, strength)
    key = digest(hands.sha256, hands.observer, name, damage.level(strength), quality)
    known = cache.get(VERSION, key)
    if known is not None:
        return known
    session = PixelSession(hands, _original(path, hands), sides=_sides)
    if damage.kind == "temporal" and name != AVERAGE:
        arrays = _out_of_time(path, damage.level(strength), name, hands, cache, session)
    else:
        arrays = _observed(_stored(path, hands, damage, strength), hands, session)
    cache.put(VERSION, key, arrays)
    return arrays


def _stored(path: Path, hands: HandTracks, damage: Damage, strength: Strength) -> Iterator[UInt8]:
    return stored(_original(path, hands), hands, 1 / period(hands.times), damage, strength)


#: of this process: the clip whose versions are observed
_kept, _sides = video.Keeper(), Sides()


def _original(path: Path, hands: HandTracks) -> Iterator[UInt8]:
    """The clip's frames, which every version is made of and compared with."""
    return (frame.image for frame in _kept.frames(path, hands.sha256, len(hands.times)))


def _observed(frames: Iterable[UInt8], hands: HandTracks, comparison: PixelSession) -> dict[str, Any]:
    session = _observer().start()
    with video.pictures_shared():
        for image, time in zip(frames, hands.times, strict=True):
            session.push(image, float(time))
            comparison.push(image, float(time))
    seen = session.finish()
    return {**{name: seen[name] for name in HandTracks.ARRAYS}, **comparison.finish()}


def _out_of_time(
    path: Path, level: float, name: str, hands: HandTracks, cache: Cache, comparison: PixelSession
) -> dict[str, Any]:
    """The clean version's frames at other times: its hands have been looked at already, only their times change."""
    clean = observe_variant(path, CLEAN, hands, cache)
    fps = 1 / period(hands.times)
    order = shown_frames(name, level, len(hands.times), fps)
    stored_once = video.read_bytes(_clean_file(path, hands.sha256, fps))
    for image, time in zip(in_order((f.image for f in stored_once), order), hands.times, strict=True):
        comparison.push(image, float(time))
    tracks, _ = _unpacked(hands, clean)
    shown = at_frames(tracks, np.array(order, np.int64), fps)
    return {**{each: getattr(shown, each) for each in HandTracks.ARRAYS}, **comparison.finish()}


@lru_cache(maxsize=1)
def _clean_file(path: Path, sha256: str, fps: float) -> bytes:
    """The clean version's file, which a process needs many times in turn; ``sha256`` is that of the clip."""
    original = (frame.image for frame in video.read_frames(path))
    return file_of(original, fps, quality(CLEAN))


def quality(variant: Variant) -> int:
    """The H.264 quality that a variant is stored at."""
    name, strength = variant
    return crf(find_damage(name), strength)


_observers: list[HandObserver] = []


def _observer() -> HandObserver:
    """One per process: loading the nets takes as long as observing a second of video."""
    if not _observers:
        _observers.append(HandObserver())
    return _observers[0]


def noise_floor(
    hands: HandTracks, observed: Mapping[Variant, Mapping[str, Any]], metrics: Sequence[Metric]
) -> dict[str, float | None]:
    """metric id -> |difference| between two harmless versions of a clip, over all of it; None where unknown.

    ``observed`` holds ``CLEAN`` and ``FLOOR``.
    """
    both = []
    for variant in (CLEAN, FLOOR):
        tracks, stats = _unpacked(hands, observed[variant])
        both.append(_values(_evidence(tracks, pair_hands(tracks, hands), stats, slice(0, len(hands.times))), metrics))
    change = [abs(one - other) for one, other in zip(*both, strict=True)]
    return {m.info.id: c if np.isfinite(c) else None for m, c in zip(metrics, change, strict=True)}


def _unpacked(hands: HandTracks, arrays: Mapping[str, Any]) -> tuple[HandTracks, Observation]:
    tracks = replace(hands, **{name: arrays[name] for name in HandTracks.ARRAYS})
    stats = {name: array for name, array in arrays.items() if name not in HandTracks.ARRAYS}
    return tracks, Observation(pixels.OBSERVER_ID, hands.sha256, stats)


def losses(hands: HandTracks, observed: Mapping[Variant, Mapping[str, Any]], metrics: Sequence[Metric]) -> Losses:
    """Measure every variant of a clip against the original, window by window, and compare it with the clean one."""
    windows = _windows(hands)
    parts = [*windows, slice(0, len(hands.times))]
    values: dict[Variant, Float64] = {}  # [windows and the whole clip, metrics]
    for variant, arrays in observed.items():
        tracks, stats = _unpacked(hands, arrays)
        pair = pair_hands(tracks, hands)
        rows = [_values(_evidence(tracks, pair, stats, part), metrics) for part in parts]
        values[variant] = np.array(rows, np.float64).reshape(len(parts), len(metrics))
    sign = np.array([1.0 if m.info.better == "higher" else -1.0 for m in metrics])
    loss = {variant: (values[CLEAN] - found) * sign for variant, found in values.items()}
    own = pair_hands(hands, hands)
    still = [is_still(_cut_pair(own, window)) for window in windows]
    named = {(m.info.id, v): found[:-1, i] for v, found in loss.items() for i, m in enumerate(metrics)}
    whole = {
        (m.info.id, v): float(found[-1, i])
        for v, found in loss.items()
        for i, m in enumerate(metrics)
        if np.isfinite(found[-1, i])
    }
    return Losses(named, np.array(still, bool), whole, _in_sight(observed))


def _in_sight(observed: Mapping[Variant, Mapping[str, Any]]) -> tuple[Variant, ...]:
    """Of a hand that hardly moves the mean of three frames is the same picture: it is not held against a metric that
    it does not see it. Told by what a tenth of the frames changes at least, of the hand's pixels."""
    if LEAST_SEEN not in observed:
        return IN_SIGHT

    def changed(variant: Variant) -> float:
        return float(np.nanquantile(observed[variant]["mse.hand"], 0.9))

    least = changed(LEAST_SEEN)
    return tuple(v for v in IN_SIGHT if find_damage(v[0]).kind != "temporal" or changed(v) > least)


def _windows(hands: HandTracks) -> list[slice]:
    """Windows of about a second in which the original shows a hand in at least half the frames."""
    length = min(max(round(WINDOW_SECONDS / period(hands.times)), MIN_WINDOW_FRAMES), len(hands.times))
    starts = range(0, len(hands.times) - length + 1, length)
    windows = [slice(start, start + length) for start in starts]
    return [window for window in windows if hands.found[window].any(axis=1).mean() >= 0.5]


def _values(evidence: Evidence, metrics: Sequence[Metric]) -> list[float]:
    return [np.nan if (value := m.measure(evidence).value) is None else value for m in metrics]


def _evidence(tracks: HandTracks, pair: HandPair, stats: Observation, window: slice) -> Evidence:
    cut, index = _cut_pair(pair, window), np.arange(window.start, window.stop)
    return Evidence({"hands": tracks.observation.at(index), "pixels": stats.at(index)}, cut, cut)


def _cut_pair(pair: HandPair, window: slice) -> HandPair:
    """Some of the frames; the hand size stays that of the whole clip."""
    names = [name for name in pair.__dataclass_fields__ if name not in ("size", "reference_size", "whole")]
    return replace(pair, **{name: getattr(pair, name)[window] for name in names}, whole=None)
