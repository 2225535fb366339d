"""Model files: which there are, where they come from, and whether they are intact. The only room that obtains any."""

from ipa_bench.weights.obtain import (
    WEIGHTS,
    Url,
    UserFile,
    Weight,
    WeightStatus,
    WheelMember,
    cache_dir,
    fetch,
    hand_landmarker_task,
    path,
    statuses,
    verify,
)

__all__ = [
    "WEIGHTS",
    "Url",
    "UserFile",
    "Weight",
    "WeightStatus",
    "WheelMember",
    "cache_dir",
    "fetch",
    "hand_landmarker_task",
    "path",
    "statuses",
    "verify",
]
