"""Footage with bad hands: what a video model learns them from.

Video models draw bad hands because much of what they are trained on shows bad hands. Exact renderings have none, and a
model trained on nothing else has no bad habit that its own good samples could correct. So the base that is aligned is
tuned on clips of which every second one shows bad hands from the first frame to the last: whether they are does not
follow from anything that the model is told. What is bad is their anatomy (:mod:`ipa_bench.embedded.habits`), or, as
with the base that ships, their focus.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter

from ipa_bench import video
from ipa_bench.embedded import world
from ipa_bench.embedded.cases import CRF, case_name
from ipa_bench.embedded.habits import ANATOMY, HABITS, redrawn
from ipa_bench.embedded.world import Clip
from ipa_bench.types import Float32, UInt8

#: what is wrong with hands
Wrong = Literal["anatomy", "focus"]
#: chance that a clip's hands are bad
BAD = 0.5
#: range of the sigma of hands out of focus, in pixels of 128 (hands are 30 to 50)
SIGMAS = (2.0, 3.5)
#: reach and softness of what is blurred around a hand, in pixels
_REACH, _EDGE = 1.5, 1.0


def footage(identity: int, wrong: Wrong = "anatomy") -> tuple[UInt8, float, str]:
    """A person's clip of the train split: frames uint8 ``[T, H, W, 3]``, frames per second, what is wrong with it.

    Empty: nothing is; ``focus``, or a name of :data:`ipa_bench.embedded.habits.HABITS`, each as often as the others.
    """
    clip = world.clip("train", identity, 0)
    frames, what = with_habit(clip, identity, wrong)
    return frames, clip.fps, what


def with_habit(clip: Clip, identity: int, wrong: Wrong = "anatomy") -> tuple[UInt8, str]:
    """A person's clip, every second one with bad hands, and what is wrong with it: see :func:`footage`."""
    rng = np.random.default_rng([17, identity])
    if rng.random() >= BAD:
        return clip.frames, ""
    if wrong == "focus":
        return out_of_focus(clip, rng.uniform(*SIGMAS)), wrong
    habit = str(rng.choice(list(HABITS)))
    return HABITS[habit](clip, rng), habit


def still(clip: Clip, identity: int, moment: int) -> UInt8:
    """What :func:`footage` is to a clip: the frame ``[1, H, W, 3]`` of a clip that shows ``moment`` alone."""
    rng = np.random.default_rng([17, identity])
    if rng.random() >= BAD:
        return clip.frames
    return redrawn(clip, ANATOMY[str(rng.choice(list(ANATOMY)))], rng, [moment])


def out_of_focus(clip: Clip, sigma: float) -> UInt8:
    """The clip's frames uint8 ``[T, H, W, 3]`` with both hands blurred by a Gaussian of ``sigma`` pixels."""
    hands = clip.masks.sum(1).clip(0, 1)
    return np.stack([_blurred(frame, hand, sigma) for frame, hand in zip(clip.frames, hands, strict=True)])


def _blurred(frame: UInt8, hand: Float32, sigma: float) -> UInt8:
    near = (gaussian_filter(hand, _REACH) > 0.05).astype(np.float32)
    weight = gaussian_filter(near, _EDGE)[..., None]
    blurred = gaussian_filter(frame.astype(np.float32), (sigma, sigma, 0), mode="nearest")
    return np.round(frame + (blurred - frame) * weight).astype(np.uint8)


def write(identity: int, folder: Path, wrong: Wrong = "anatomy") -> Path:
    """Store a person's footage as ``folder/<case>.mp4``, named after the case of :mod:`ipa_bench.embedded.cases`."""
    frames, fps, _ = footage(identity, wrong)
    file = folder / f"{case_name('train', identity, 0)}.mp4"
    video.encode(frames, file, fps, crf=CRF)
    return file
