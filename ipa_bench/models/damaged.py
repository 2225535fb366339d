"""The driving clips themselves, damaged in a known way, as a model: what a good metric ranks where it belongs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ipa_bench import video
from ipa_bench.errors import Unscorable
from ipa_bench.models.damage import Strength, crf, damaged, find
from ipa_bench.types import Case, HandTracks


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
        self.folder.mkdir(parents=True, exist_ok=True)
        # Another process may be writing the same clip: it appears whole, and the last one stays.
        result = damaged(frames, tracks, fps, damage, self.strength)
        video.encode(result, path, fps, crf=crf(damage, self.strength))
        return path
