"""The head that sees fingers: from the landmark net's maps of a hand to how wrong it looks and how many fingers it has.

It is made by ``ipa-bench embedded fingers`` from photographs and footage whose hands were edited. Absolute values mean
little on footage that it has not seen (motion, side views and sleeves alarm it); differences to the driving hand at the
same moment are what it is for.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ipa_bench.weights.shipped import FINGERS_SHA256 as FINGERS_SHA256

FILE = "fingers.safetensors"
#: side and channels of the maps (`ipa_bench/observers/mediapipe/maps.py`)
GRID, CHANNELS = 14, 344
_WIDTH = 48


class FingerHead(nn.Module):
    """Three convolutions on standardised maps, mean and maximum over space, a line for each answer; 58 k values."""

    mean: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(CHANNELS))
        self.register_buffer("spread", torch.ones(CHANNELS))
        self.into = nn.Conv2d(CHANNELS, _WIDTH, 1)
        self.first = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.second = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.drop = nn.Dropout(0.3)
        self.answer = nn.Linear(2 * _WIDTH, 2)

    def forward(self, maps: Tensor) -> Tensor:
        """float32 ``[N, 14, 14, 344]`` -> ``[N, 2]``: the logit of "an edited hand", and how many fingers are seen."""
        x = ((maps - self.mean) / self.spread).clamp(-8, 8).permute(0, 3, 1, 2)
        x = torch.relu(self.into(x))
        x = torch.relu(self.first(self.drop(x)))
        x = torch.relu(self.second(x))
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
        answers: Tensor = self.answer(self.drop(pooled))
        return answers


def load_fingers(folder: Path | None = None) -> FingerHead:
    """The shipped head, in evaluation, without gradients.

    Raises UserError where its file cannot be read or is not the one of :data:`FINGERS_SHA256`.
    """
    from ipa_bench.nets.embedded import shipped

    return shipped(FingerHead(), FILE, FINGERS_SHA256, folder)
