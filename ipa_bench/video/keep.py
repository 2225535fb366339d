"""Decoded frames that stay in memory while they fit. Use through :mod:`ipa_bench.video`.

A ground truth is looked at by itself and then beside every video that is compared with it: decoded once where it is
short, as it is for most; where it is long, as often as it is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped, unused-ignore]

from ipa_bench.video.decode import Frame
from ipa_bench.video.read import read_frames

#: frames of one clip are kept while they are fewer bytes than this, and than this share of the memory that is free
KEPT_BYTES, KEPT_SHARE = 512 * 2**20, 1 / 8


class Keeper:
    """The frames of the clip that was read last. What it gives does not depend on what it holds."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        """``limit`` in bytes of pixels."""
        self._limit = limit
        self._held: tuple[str, list[Frame]] = ("", [])

    def frames(self, path: Path, sha256: str, count: int | None = None) -> Iterator[Frame]:
        """:func:`ipa_bench.video.read_frames` of a file with this hash; nobody writes into the images.

        ``count`` is how many frames it has, where that is known: then they are kept as soon as the last one has been
        asked for, and not only once somebody asked for more. Raises as ``read_frames`` does.
        """
        key, kept = self._held
        if key == sha256:
            yield from kept
            return
        self._held = ("", [])
        taken: list[Frame] = []
        room = min(self._limit, int(psutil.virtual_memory().available * KEPT_SHARE))
        for frame in read_frames(path):
            room -= frame.image.nbytes
            if room < 0:
                taken = []
            else:
                taken.append(frame)
                if len(taken) == count:
                    self._held = (sha256, taken)
            yield frame
        if room >= 0:
            self._held = (sha256, taken)

    def forget(self) -> None:
        """Let go of what is held."""
        self._held = ("", [])
