"""The reader of the truth: a generated clip of the built-in world beside everybody who could stand in its places.

What it reads is arithmetic on pixels that are drawn, not looked at: no network. It knows the answer, so its metrics
only judge (:data:`ipa_bench.metrics.truth.SEALED`).
"""

from __future__ import annotations

import numpy as np

from ipa_bench.embedded.group.reader import READ, Reader, reader
from ipa_bench.embedded.group.setting import VERSION, key_of
from ipa_bench.errors import Unscorable
from ipa_bench.observers.base import Arrays, Beside, Observer, Truth
from ipa_bench.types import Float32, UInt8

#: changes whenever a value of the observation may change
OBSERVER_ID = f"truth@1-group{VERSION}"
NOT_RENDERED = "the case is no scene of several people of the built-in world"


class TruthObserver(Observer):
    """Reads clips of cases that name their scene."""

    id = OBSERVER_ID

    def start(self, truth: Truth | None = None) -> TruthSession:
        """Begin a video. Raises ValueError without a ground truth and its scene."""
        if truth is None or truth.world is None:
            raise ValueError("the truth is read beside a ground truth of the built-in world")
        return TruthSession(reader(key_of(truth.world)), truth)


class TruthSession:
    """One generated video: each of its frames is read as the ground truth's that is nearest in time."""

    def __init__(self, scene: Reader, truth: Truth) -> None:
        self._scene, self._beside = scene, Beside(truth.seen["times"])
        self._rows: list[tuple[Float32, Float32] | None] = []

    def push(self, image: UInt8, time: float) -> None:
        """Take the next frame: uint8 ``[H, W, 3]`` RGB, time in seconds; beyond the ground truth's end none is read."""
        due = self._beside.at(time)
        self._rows.append(self._scene.read(image, due) if due is not None and due < len(self._scene) else None)

    def finish(self) -> Arrays:
        """``error`` [T, K, 2, C] and ``pixels`` [T, K, 2], as :meth:`Reader.read` gives them; NaN and 0 where not read.

        Raises Unscorable where the ground truth is not as long as the scene.
        """
        if len(self._beside) != len(self._scene):
            raise Unscorable(f"the ground truth has {len(self._beside)} frames, its scene {len(self._scene)}")
        known = next((row for row in self._rows if row is not None), None)
        if known is None:
            raise Unscorable("no frame is beside the ground truth")
        none = np.full_like(known[0], np.nan), np.zeros_like(known[1])
        errors, pixels = zip(*(row or none for row in self._rows), strict=True)
        assert errors[0].shape[1] == len(READ)
        return {"error": np.stack(errors), "pixels": np.stack(pixels)}
