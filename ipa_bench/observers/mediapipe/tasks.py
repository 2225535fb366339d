"""The official MediaPipe Tasks runtime as a second way to find hands (extra ``[mediapipe]``).

It exposes no hand presence: ``presence`` of these hands is the handedness score, a weaker number. It turns the landmark
net's region by 26.6 degrees (see :data:`ipa_bench.observers.mediapipe.palm.TASKS_TILT`), so its landmarks differ from
ours by about 1 to 4 % of the hand.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from ipa_bench import weights
from ipa_bench.errors import UserError
from ipa_bench.observers.mediapipe.palm import Hand


def runtime_id() -> str:
    """Observer id of this backend; changes with MediaPipe's version. Raises UserError where it is not installed."""
    return f"hands-mediapipe-{_mediapipe().__version__}@1"


def _mediapipe() -> Any:
    try:
        import mediapipe
    except (ImportError, OSError) as error:
        raise UserError(
            f"the official MediaPipe runtime does not start: {error}",
            "pip install 'ipa-bench[mediapipe]'; on a bare system also apt install libegl1 libgles2",
        ) from None
    return mediapipe


class TasksHands:
    """Finds up to two hands in an image. One instance per thread; close it."""

    def __init__(self) -> None:
        self._mediapipe = _mediapipe()
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.HandLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(weights.hand_landmarker_task())), num_hands=2
        )
        try:
            self._landmarker = vision.HandLandmarker.create_from_options(options)
        except OSError as error:  # a missing libEGL or libGLES shows here
            raise UserError(
                f"the official MediaPipe runtime does not start: {error}", "apt install libegl1 libgles2"
            ) from None

    def find(self, image: Image.Image) -> list[Hand]:
        """Hands of an RGB image, as the runtime gives them."""
        pixels = np.ascontiguousarray(np.asarray(image))  # other layouts are read as garbage without an error
        result = self._landmarker.detect(
            self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=pixels)
        )
        return [
            Hand(
                np.array([(p.x * image.width, p.y * image.height) for p in points], np.float32),
                np.array([(p.x, p.y, p.z) for p in world], np.float32),
                float(label[0].score),
            )
            for points, world, label in zip(
                result.hand_landmarks, result.hand_world_landmarks, result.handedness, strict=True
            )
        ]

    def close(self) -> None:
        """Free the runtime; left open, it prints an error when Python exits."""
        self._landmarker.close()
