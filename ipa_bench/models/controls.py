"""Models that are no model: the clips of the cases themselves, damaged in a known way or only encoded anew.

The first rank where a good metric puts them; the second is the upper bound of what any model of these clips can reach.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from ipa_bench import video
from ipa_bench.embedded.group import faults
from ipa_bench.embedded.group.setting import key_of, setting
from ipa_bench.embedded.group.shot import shot
from ipa_bench.errors import Unscorable
from ipa_bench.models.damage import Strength, crf, damaged, find
from ipa_bench.types import Case, HandTracks, UInt8
from ipa_bench.video.timing import Int64, resampled

#: H.264 quality of rendered faults
FAULT_CRF = 18


@dataclass(frozen=True)
class DamageModel:
    """Writes a damaged copy of the ground truth (or the driving clip) into ``folder`` and gives its path.

    ``hands`` observes a clip: spatial damage must know where the hands are.
    """

    name: str
    damage: str
    strength: Strength
    folder: Path
    hands: Callable[[Path], HandTracks]

    def generate(self, case: Case, seed: int) -> Path:
        """The damaged clip, made once; every seed gives the same. Raises Unscorable where the clip does not decode."""
        path = self.folder / f"{case.id}.mp4"
        if path.exists():
            return path
        source = case.ground_truth or case.driving
        damage = find(self.damage)
        tracks = self.hands(source)
        if len(tracks.times) < 2:
            raise Unscorable(f"{source.name}: one frame is not a video to damage")
        frames, fps = video.read_at(source)
        shown = resampled(tracks.times, fps, fps)
        result = damaged(frames, at_frames(tracks, shown, fps), fps, damage, self.strength)
        return _written(result, path, fps, crf(damage, self.strength))


@dataclass(frozen=True)
class FaultModel:
    """Renders the case's scene of the built-in world with a fault into ``folder``; the poses stay those of the case."""

    name: str
    #: of :data:`ipa_bench.embedded.group.faults.FAULTS`; the name, which other processes can be sent
    fault: str
    strength: Strength
    folder: Path

    def generate(self, case: Case, seed: int) -> Path:
        """The clip; the seed says who and where. Raises Unscorable for a case that is no such scene."""
        path = self.folder / f"{case.id}_seed{seed}.mp4"
        if path.exists():
            return path
        if case.world is None:
            raise Unscorable("the case is no scene of several people of the built-in world")
        described = setting(key_of(case.world))
        drawn = shot(
            faults.faulty(described, faults.find(self.fault), self.strength, seed + zlib.crc32(case.world.encode()))
        )
        return _written(drawn.frames, path, described.fps, FAULT_CRF)


@dataclass(frozen=True)
class ReencodeModel:
    """Writes a copy of the ground truth (or the driving clip) at H.264 quality ``crf`` into ``folder``."""

    name: str
    crf: int
    folder: Path

    def generate(self, case: Case, seed: int) -> Path:
        """The copy, at the rate and of as many frames as the case asks for; every seed gives the same.

        Raises Unscorable where the clip does not decode.
        """
        path = self.folder / f"{case.id}.mp4"
        if path.exists():
            return path
        source = case.ground_truth or case.driving
        frames, fps = video.read_at(source, case.fps)
        return _written(islice(frames, case.frames), path, fps, self.crf)


def at_frames(tracks: HandTracks, shown: Int64, fps: float) -> HandTracks:
    """The hands of a copy that shows the frames ``shown`` int64 ``[N]``, not decreasing, ``fps`` a second.

    What the pixels change since the frame before adds up over frames that the copy leaves out, and is 0 for one that it
    repeats.
    """
    if np.array_equal(shown, np.arange(len(tracks.times))):
        return tracks
    total = np.cumsum(tracks.change, axis=0)[shown]
    kept = {
        name: getattr(tracks, name)[shown] for name in ("landmarks", "world", "presence", "box", "sharpness", "found")
    }
    change = np.diff(total, axis=0, prepend=total[:1]).astype(tracks.change.dtype)
    return replace(tracks, **kept, change=change, times=np.arange(len(shown)) / fps)


def _written(frames: Iterable[UInt8], path: Path, fps: float, quality: int) -> Path:
    """Encode frames into ``path``. Another process may do the same: it appears whole, and the last one stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    video.encode(frames, path, fps, crf=quality)
    return path
