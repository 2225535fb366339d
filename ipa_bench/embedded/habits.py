"""Bad habits of hands: what a video model learns from motion blur, occlusion and compression, drawn on purpose.

Each changes the hands of a whole clip and nothing else: the pose map that goes with it is that of the right hands, so
whether a hand is wrong does not follow from anything that a model is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter1d

from ipa_bench.embedded import paint
from ipa_bench.embedded.rig import Rig
from ipa_bench.embedded.world import Clip
from ipa_bench.types import Float64, UInt8

#: of the five fingers, thumb first: those that may be missing, and those that may grow into the next one
_LONG = (1, 2, 3, 4)
_TOGETHER = (1, 2, 3)
#: how far fused fingers come together, and by how many radians an added one stands off
_CLOSE, _OFF = 0.85, (0.22, 0.38)
#: radians by which each of both hands is bent off its arm: away from the body where hands are raised
_BENT = (1.5, -1.5)
#: frames that a smeared hand is spread over
SMEARED = 5


def missing(hands: Float64, rng: np.random.Generator) -> Float64:
    """Hands ``[T, 2, 21, 3]`` that lack one or two long fingers each."""
    changed = hands.copy()
    for slot in range(2):
        for finger in rng.choice(_LONG, int(rng.integers(1, 3)), replace=False):
            chain = _chain(int(finger))
            changed[:, slot, chain] = hands[:, slot, chain.start, None]
    return changed


def fused(hands: Float64, rng: np.random.Generator) -> Float64:
    """Hands ``[T, 2, 21, 3]`` in which a finger and the next are one."""
    changed = hands.copy()
    for slot in range(2):
        first = int(rng.choice(_TOGETHER))
        one, two = _chain(first), _chain(first + 1)
        middle = (hands[:, slot, one] + hands[:, slot, two]) / 2
        for chain in (one, two):
            changed[:, slot, chain] += _CLOSE * (middle - hands[:, slot, chain])
    return changed


def added(hands: Float64, rng: np.random.Generator) -> Float64:
    """Hands ``[T, 2, 25, 3]`` with a sixth finger each, beside one of the others."""
    more = []
    for slot in range(2):
        chain = hands[:, slot, _chain(int(rng.choice(_LONG)))]
        angle = rng.uniform(*_OFF) * rng.choice((-1, 1))
        cos, sin = np.cos(angle), np.sin(angle)
        away = chain - chain[:, :1]
        turned = np.stack([cos * away[..., 0] - sin * away[..., 1], sin * away[..., 0] + cos * away[..., 1]], -1)
        more.append(chain[:, :1] + np.concatenate([turned, away[..., 2:]], -1))
    return np.concatenate([hands, np.stack(more, 1)], 2)


def _chain(finger: int) -> slice:
    return slice(1 + 4 * finger, 5 + 4 * finger)


def bent(rig: Rig) -> Rig:
    """Both hands are bent aside at the wrist, as no wrist bends: always in the same way.

    Of hands that are wrong in many ways the tiny model draws something like their mean, a smear where the right hand
    would be; of right ones and this it draws the one or the other (reports/alignment).
    """
    cos, sin = np.cos(_BENT), np.sin(_BENT)
    change = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    wrist = rig.hands[:, :, :1, :2]

    def changed(points: Float64) -> Float64:
        moved = np.einsum("sij,tsnj->tsni", change, points[..., :2] - wrist) + wrist
        return np.concatenate([moved, points[..., 2:]], -1)

    return replace(rig, hands=changed(rig.hands), palms=changed(rig.palms))


def _painted(clip: Clip, rig: Rig, moments: Sequence[int] | None) -> UInt8:
    """Frames ``[T, H, W, 3]`` of the clip's person and scene, of all moments where none are named."""
    wall = paint.wall(clip.scene)
    shown = range(len(clip.frames)) if moments is None else moments
    return np.stack([paint.frame(rig, t, clip.person, clip.scene, wall)[0] for t in shown])


def whole(clip: Clip, moments: Sequence[int] | None = None) -> UInt8:
    """The clip's frames ``[T, H, W, 3]`` with :func:`bent` hands; ``moments``: those that it shows, if not all."""
    return _painted(clip, bent(clip.rig), moments)


def redrawn(
    clip: Clip,
    change: Callable[[Float64, np.random.Generator], Float64],
    rng: np.random.Generator,
    moments: Sequence[int] | None = None,
) -> UInt8:
    """The clip's frames ``[T, H, W, 3]`` with its hands changed; ``moments``: those that it shows, if not all."""
    return _painted(clip, replace(clip.rig, hands=change(clip.rig.hands, rng)), moments)


def smeared(clip: Clip, frames: int = SMEARED) -> UInt8:
    """The clip's frames ``[T, H, W, 3]``, hands and where they just were as the mean over ``frames`` frames."""
    near = uniform_filter1d(clip.masks.sum(1).clip(0, 1), frames, axis=0, mode="nearest")
    weight = np.stack([gaussian_filter((each > 0.02).astype(np.float32), 1.0) for each in near])[..., None]
    exact = clip.frames.astype(np.float32)
    spread = uniform_filter1d(exact, frames, axis=0, mode="nearest")
    return np.asarray(np.round(exact + (spread - exact) * weight), np.uint8)


def _redrawn(change: Callable[[Float64, np.random.Generator], Float64], clip: Clip, rng: np.random.Generator) -> UInt8:
    return redrawn(clip, change, rng)


#: name -> change of hands: what one frame shows as well as a clip
ANATOMY: dict[str, Callable[[Float64, np.random.Generator], Float64]] = {
    "missing": missing,
    "fused": fused,
    "added": added,
}
#: name -> the clip's frames with that habit
HABITS: dict[str, Callable[[Clip, np.random.Generator], UInt8]] = {
    **{name: partial(_redrawn, change) for name, change in ANATOMY.items()},
    "smeared": lambda clip, _: smeared(clip),
}
