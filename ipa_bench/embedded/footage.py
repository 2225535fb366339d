"""Footage with hands out of focus: what a video model learns bad hands from.

Video models draw bad hands because much of what they are trained on shows bad hands. Exact renderings have none, and a
model trained on nothing else has no bad habit that its own good samples could correct. So the base that is aligned is
tuned on clips of which every second one shows its hands out of focus, from the first frame to the last: whether they
are does not follow from anything that the model is told.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from ipa_bench import video
from ipa_bench.embedded import world
from ipa_bench.embedded.cases import CRF, case_name
from ipa_bench.embedded.world import Clip
from ipa_bench.types import Float32, UInt8

#: chance that a clip's hands are out of focus, and the range of the blur's sigma in pixels of 128 (hands are 30 to 50)
SOFT = 0.5
SIGMAS = (2.0, 3.5)
#: reach and softness of what is blurred around a hand, in pixels
_REACH, _EDGE = 1.5, 1.0


def footage(identity: int) -> tuple[UInt8, float, bool]:
    """A person's clip of the train split: frames uint8 ``[T, H, W, 3]``, frames per second, whether it is soft."""
    clip = world.clip("train", identity, 0)
    rng = np.random.default_rng([17, identity])
    soft = bool(rng.random() < SOFT)
    return (out_of_focus(clip, rng.uniform(*SIGMAS)) if soft else clip.frames), clip.fps, soft


def out_of_focus(clip: Clip, sigma: float) -> UInt8:
    """The clip's frames uint8 ``[T, H, W, 3]`` with both hands blurred by a Gaussian of ``sigma`` pixels."""
    hands = clip.masks.sum(1).clip(0, 1)
    return np.stack([_blurred(frame, hand, sigma) for frame, hand in zip(clip.frames, hands, strict=True)])


def _blurred(frame: UInt8, hand: Float32, sigma: float) -> UInt8:
    near = (gaussian_filter(hand, _REACH) > 0.05).astype(np.float32)
    weight = gaussian_filter(near, _EDGE)[..., None]
    blurred = gaussian_filter(frame.astype(np.float32), (sigma, sigma, 0), mode="nearest")
    return np.round(frame + (blurred - frame) * weight).astype(np.uint8)


def write(identity: int, folder: Path) -> Path:
    """Store a person's footage as ``folder/<case>.mp4``, named after the case of :mod:`ipa_bench.embedded.cases`."""
    frames, fps, _ = footage(identity)
    file = folder / f"{case_name('train', identity, 0)}.mp4"
    video.encode(frames, file, fps, crf=CRF)
    return file
