"""The frames of a clip that a case asks for."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from ipa_bench import video
from ipa_bench.errors import Unscorable
from ipa_bench.types import Case, UInt8


def frames_for(case: Case, path: Path) -> tuple[UInt8, float]:
    """Frames uint8 ``[T, H, W, 3]`` of a clip, brought to the rate, number and size of the case, and their rate.

    Raises Unscorable where the clip does not decode or is too short.
    """
    pictures, fps = video.read_at(path, case.fps, size=case.size, policy="crop")
    chosen = list(islice(pictures, case.frames))
    if case.frames and len(chosen) < case.frames:
        raise Unscorable(f"{path.name}: has {len(chosen)} frames at {fps:g} per second, not {case.frames}")
    return np.stack(chosen), fps
