"""Things that make a video for a case: a folder of finished videos, a damaged copy, a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ipa_bench.types import Case, Video


class Model(Protocol):
    """Anything that can be asked for a video of a case."""

    @property
    def name(self) -> str:
        """The name that the leaderboard shows; unique in a run."""
        ...

    def generate(self, case: Case, seed: int) -> Path | Video:
        """The video of ``case`` for ``seed``; the same for the same two arguments.

        A path to a video file on disk is preferred: it is streamed, not held in memory.
        Raises :class:`~ipa_bench.errors.Unscorable` with the reason when there is no such video.
        """
        ...
