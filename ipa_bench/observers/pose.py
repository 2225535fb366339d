"""The pose of the person in a video: MediaPipe's body joints in every frame, in OpenPose's order, and both hands.

Hands come from the hand observer, the body from the pose landmark net on each frame by itself. The body's wrist and the
hand's are two estimates of one joint; both are kept, as in DWPose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from ipa_bench import video
from ipa_bench.cache import Cache
from ipa_bench.errors import Unscorable
from ipa_bench.observers.looker import Looker
from ipa_bench.observers.mediapipe.body import BodyNet, coco18
from ipa_bench.pose import LIMBS, Pose, inside
from ipa_bench.types import Bool, Float32

#: changes whenever a value of the observation may change
OBSERVER_ID = "pose@1"
_KIND = f"{OBSERVER_ID}-{video.DECODER}"


def observe_pose(
    path: Path,
    looker: Looker,
    *,
    cache: Cache | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Pose:
    """The pose in every frame of a video, from the cache where the same file was looked at before.

    Joints that the nets only guess count as not found: those outside the frame, and body joints at which no limb ends
    (in a portrait, wrists that hang in the air). ``progress(done, total)`` hears of frames whose body was looked for.
    Raises :class:`Unscorable` where the file does not decode.
    """
    tracks = looker.hands(path)
    cache = cache or Cache()
    arrays = cache.get(_KIND, tracks.sha256)
    if arrays is None:
        body, found = _bodies(path, len(tracks.times), progress)
        cache.put(_KIND, tracks.sha256, {"body": body, "found": found})
    else:
        body, found = arrays["body"], arrays["found"]
    hands_found = np.repeat(tracks.found[:, :, None], 21, axis=2)
    pose = inside(Pose(body, found, tracks.landmarks, hands_found, tracks.size))
    return replace(pose, body_found=joined(pose.body_found))


def joined(found: Bool) -> Bool:
    """The body joints among ``found``, bool ``[T, 18]``, at which a limb ends whose other end is found too."""
    kept = np.zeros_like(found)
    for a, b in LIMBS:
        both = found[:, a] & found[:, b]
        kept[:, a] |= both
        kept[:, b] |= both
    return kept


def _bodies(path: Path, count: int, progress: Callable[[int, int], None] | None) -> tuple[Float32, Bool]:
    """Joints float32 ``[T, 18, 2]`` and bool ``[T, 18]`` found, of ``count`` frames."""
    net = BodyNet()
    joints, found = np.zeros((count, 18, 2), np.float32), np.zeros((count, 18), bool)
    seen = 0
    for frame in video.read_frames(path):
        if seen == count:
            raise Unscorable(f"{path.name}: changed while it was looked at")
        joints[seen], found[seen] = coco18(net(Image.fromarray(np.ascontiguousarray(frame.image))))
        seen += 1
        if progress:
            progress(seen, count)
    if seen != count:
        raise Unscorable(f"{path.name}: changed while it was looked at")
    return joints, found
