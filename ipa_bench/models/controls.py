"""Models that are no model: the clips of the cases themselves, damaged in a known way or only encoded anew.

The first rank where a good metric puts them; the second is the upper bound of what any model of these clips can reach.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ipa_bench import video
from ipa_bench.errors import Unscorable
from ipa_bench.models.damage import Strength, crf, damaged, find
from ipa_bench.types import Case, HandTracks, UInt8


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
        steps = np.diff(tracks.times)
        if np.ptp(steps) > 0.1 * np.median(steps):
            raise Unscorable(f"{source.name}: its frame rate varies; a damaged copy at a constant one would drift")
        fps = 1 / float(np.median(steps))
        frames = (frame.image for frame in video.read_frames(source))
        result = damaged(frames, tracks, fps, damage, self.strength)
        return _written(result, path, fps, crf(damage, self.strength))


@dataclass(frozen=True)
class ReencodeModel:
    """Writes a copy of the ground truth (or the driving clip) at H.264 quality ``crf`` into ``folder``."""

    name: str
    crf: int
    folder: Path

    def generate(self, case: Case, seed: int) -> Path:
        """The copy, as many frames as the case asks for; every seed gives the same. Raises Unscorable where the clip
        does not decode or its frame rate varies."""
        path = self.folder / f"{case.id}.mp4"
        if path.exists():
            return path
        source = case.ground_truth or case.driving
        info = video.probe(source)
        if info.variable_rate:
            raise Unscorable(f"{source.name}: its frame rate varies; a copy at a constant one would drift")
        frames = (frame.image for frame in islice(video.read_frames(source), case.frames))
        return _written(frames, path, info.fps, self.crf)


def _written(frames: Iterable[UInt8], path: Path, fps: float, quality: int) -> Path:
    """Encode frames into ``path``. Another process may do the same: it appears whole, and the last one stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    video.encode(frames, path, fps, crf=quality)
    return path
