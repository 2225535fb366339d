"""What the landmark net sees of a hand on its way to the joints: its feature maps, joined on one grid.

The net says where 21 joints are whatever the hand looks like; a finger too many is in its maps and not in its answer.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from ipa_bench import weights
from ipa_bench.errors import UserError
from ipa_bench.observers.mediapipe.litert import Net, Roi, warp
from ipa_bench.observers.mediapipe.palm import landmark_roi
from ipa_bench.types import Float32

#: numbers of the tensors of hand_landmark_full that are taken, and what they are: side and channels
TENSORS = {120: (28, 40), 142: (14, 112), 157: (7, 192)}
#: side of the common grid, and channels on it
GRID = 14
CHANNELS = sum(channels for _, channels in TENSORS.values())


class MapNet:
    """The landmark net with its maps. One instance per thread: it keeps state between set and invoke."""

    def __init__(self) -> None:
        """Raises UserError where the weights cannot be had, or are of a net with other maps."""
        self._net = Net(weights.path("hand_landmark_full"), tuple(TENSORS))

    def __call__(self, image: Image.Image, landmarks: Float32) -> Float32:
        """The maps of the hand with these joints ``[21, 2]`` in px of an RGB image: float32 ``[14, 14, 344]``."""
        return self.of_region(image, landmark_roi(landmarks))

    def of_region(self, image: Image.Image, roi: Roi) -> Float32:
        """The maps of a region, float32 ``[14, 14, 344]``: the fine map averaged, the coarse one repeated."""
        maps = self._net(warp(image, roi, self._net.side, extend=True))[-len(TENSORS) :]
        shapes = [(1, side, side, channels) for side, channels in TENSORS.values()]
        if [each.shape for each in maps] != shapes:
            raise UserError("hand_landmark_full has other maps", "run `ipa-bench weights verify`")
        fine, middle, coarse = (each[0] for each in maps)
        halved = fine.reshape(GRID, 2, GRID, 2, -1).mean(axis=(1, 3))
        repeated = coarse.repeat(2, axis=0).repeat(2, axis=1)
        return np.concatenate([halved, middle, repeated], axis=-1)
