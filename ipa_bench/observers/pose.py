"""The pose of the person in a video: body joints in every frame, in OpenPose's order, and both hands.

Hands come from the hand observer, the body from the body observer, in one pass. The body's wrist and the hand's are two
estimates of one joint; both are kept, as in DWPose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ipa_bench.observers.body import OBSERVER_ID as OBSERVER_ID
from ipa_bench.observers.looker import Looker
from ipa_bench.observers.table import BODY, HANDS
from ipa_bench.pose import LIMBS, Pose, inside
from ipa_bench.types import Bool, HandTracks


def observe_pose(path: Path, looker: Looker, *, progress: Callable[[int], None] | None = None) -> Pose:
    """The pose in every frame of a video, from the cache where the same file was looked at before.

    Joints that the nets only guess count as not found: those outside the frame, and body joints at which no limb ends
    (in a portrait, wrists that hang in the air). ``progress(done)`` hears of frames that were looked at.
    Raises :class:`Unscorable` where the file does not decode.
    """
    seen = looker.look(path, (HANDS.name, BODY.name), progress=progress).observations
    tracks, body = HandTracks.of(seen[HANDS.name]), seen[BODY.name]
    hands_found = np.repeat(tracks.found[:, :, None], 21, axis=2)
    pose = inside(Pose(body["body"], body["found"], tracks.landmarks, hands_found, tracks.size))
    return replace(pose, body_found=joined(pose.body_found))


def joined(found: Bool) -> Bool:
    """The body joints among ``found``, bool ``[T, 18]``, at which a limb ends whose other end is found too."""
    kept = np.zeros_like(found)
    for a, b in LIMBS:
        both = found[:, a] & found[:, b]
        kept[:, a] |= both
        kept[:, b] |= both
    return kept
