"""The ground truth, encoded anew, as a model: the upper bound of what any model of these clips can reach."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ipa_bench import video
from ipa_bench.errors import Unscorable
from ipa_bench.types import Case


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
        self.folder.mkdir(parents=True, exist_ok=True)
        # Another process may be writing the same clip: it appears whole, and the last one stays.
        frames = (frame.image for frame in islice(video.read_frames(source), case.frames))
        video.encode(frames, path, info.fps, crf=self.crf)
        return path
