"""The judge of hands in the built-in world: it is told where a hand must be, and says where its joints are.

It detects nothing and so misses nothing, and it shares no network with what selects or rewards. The joints that it is
told about place the crop and are what its answer is compared with; its metric only judges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ipa_bench.embedded import crop, world
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.observers.base import Arrays, Beside, Observer, Truth
from ipa_bench.types import Float64, UInt8
from ipa_bench.weights.shipped import JOINTS_SHA256

if TYPE_CHECKING:
    from ipa_bench.nets.hand_joints import HandJoints

#: changes whenever a value of the observation may change
OBSERVER_ID = f"judge@1-world{world.VERSION}"
NOT_RENDERED = "the case is no clip of one person of the built-in world"
#: slot whose hand is seen mirrored: the network knows right hands
_MIRRORED = 0


class JudgeObserver(Observer):
    """Judges clips of cases that name their scene. Loads its network, and torch, when first asked."""

    id = OBSERVER_ID

    def __init__(self) -> None:
        self._net: HandJoints | None = None

    def kind(self) -> str:
        """What the cache calls its observations: the network's weights are part of it."""
        return f"{OBSERVER_ID}-{JOINTS_SHA256[:12]}"

    def load(self) -> str | None:
        """Load the network. Returns why that is not possible, or None."""
        from ipa_bench.nets.hand_joints import load_joints

        try:
            self._net = self._net or load_joints()
        except UserError as error:
            return f"{error.problem}: {error.fix}"
        return None

    def start(self, truth: Truth | None = None) -> JudgeSession:
        """Begin a video. Raises ValueError without a ground truth and its scene, or before :meth:`load`."""
        if truth is None or truth.world is None:
            raise ValueError("hands are judged beside a ground truth of the built-in world")
        if self._net is None and (why := self.load()):
            raise ValueError(why)
        assert self._net is not None
        return JudgeSession(self._net, truth)


class JudgeSession:
    """One generated video: its frames are compared with the scene's joints at the ground truth's nearest frame."""

    def __init__(self, net: HandJoints, truth: Truth) -> None:
        self._net, self._beside = net, Beside(truth.seen["times"])
        clip = world.scene_of(truth.world or "")
        self._joints = np.asarray(world.rig_of(*clip).hands[..., :2], np.float64)
        #: (frame, slot), crop, and square of each hand to look at
        self._places: list[tuple[int, int]] = []
        self._crops: list[UInt8] = []
        self._due: list[int] = []

    def push(self, image: UInt8, time: float) -> None:
        """Take the next frame: uint8 ``[H, W, 3]`` RGB of any size, time in seconds."""
        due = self._beside.at(time)
        self._due.append(-1 if due is None else due)
        if due is None or due >= len(self._joints):
            return
        height, width = image.shape[:2]
        scale = np.array([width, height]) / world.SIZE
        from ipa_bench.nets.hand_joints import SIDE

        for slot in range(2):
            square = crop.squares(self._joints[due, slot]) * (*scale, scale.mean())
            cut = crop.crop(image, square, SIDE, slot == _MIRRORED)
            self._crops.append(cut.round().astype(np.uint8))
            self._places.append((len(self._due) - 1, slot))

    def finish(self) -> Arrays:
        """``error`` float32 ``[T, 2]``: mean distance of a hand's joints from where they are, in hand sizes.

        A hand's size is the longer side of its joints' box, median over the scene. NaN where a frame has no partner.
        Raises Unscorable where the ground truth is not as long as the scene.
        """
        if len(self._beside) != len(self._joints):
            raise Unscorable(f"the ground truth has {len(self._beside)} frames, its scene {len(self._joints)}")
        errors = np.full((len(self._due), 2), np.nan, np.float32)
        if not self._crops:
            return {"error": errors}
        sizes = np.median(np.ptp(self._joints, axis=2).max(-1), axis=0)
        for (row, slot), found in zip(self._places, self._seen(), strict=True):
            exact = self._joints[self._due[row], slot]
            square = crop.squares(exact)
            placed = crop.outside(found, square, slot == _MIRRORED)
            errors[row, slot] = np.linalg.norm(placed - exact, axis=-1).mean() / sizes[slot]
        return {"error": errors}

    def _seen(self) -> Float64:
        """Joints of every crop, ``[n, 21, 2]`` in shares of its side."""
        import torch

        crops = torch.from_numpy(np.stack(self._crops)).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.inference_mode():
            return np.concatenate([self._net(part).double().numpy() for part in torch.split(crops, 32)])
