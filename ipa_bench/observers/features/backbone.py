"""What a network must offer to have its features extracted, and the adapter that makes a torch module offer it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from ipa_bench.observers.features.policies import Scale
from ipa_bench.types import Float32

if TYPE_CHECKING:
    import torch

DType = Literal["fp32", "bf16"]


class Backbone(Protocol):
    """A network that turns windows into features."""

    @property
    def name(self) -> str:
        """Architecture and training set, for example ``i3d-k400``."""

    @property
    def variant(self) -> str:
        """What is changed in the network without changing its weights, for example ``avgpool177``; empty: nothing."""

    @property
    def sha256(self) -> str:
        """Of the weights: 64 hexadecimal digits."""

    @property
    def dtype(self) -> DType:
        """In which the network computes."""

    @property
    def size(self) -> int:
        """Height and width of its input in pixels."""

    @property
    def scale(self) -> Scale:
        """Range of its input: :data:`ipa_bench.observers.features.policies.SCALES`."""

    @property
    def min_frames(self) -> int:
        """Fewest frames that it takes."""

    @property
    def dimension(self) -> int:
        """Length d of a feature."""

    def features(self, batch: Float32) -> Float32:
        """float32 ``[N, 3, T, size, size]`` -> float32 ``[N, d]``; a row does not depend on the others but by
        rounding."""


@dataclass(frozen=True, eq=False)
class TorchBackbone:
    """A PyTorch module as a :class:`Backbone`; fields as there.

    ``net`` maps ``[N, 3, T, size, size]`` to ``[N, d]``. It is on ``device`` with its weights in ``dtype``; raises
    ``ValueError`` where it is not in ``eval`` mode. Its input is laid out channels-last, in which 3-D convolutions are
    faster.
    """

    net: torch.nn.Module
    name: str
    sha256: str
    size: int
    min_frames: int
    dimension: int
    scale: Scale = "symmetric"
    variant: str = ""
    dtype: DType = "fp32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.net.training:
            raise ValueError(f"{self.name} is in training mode: its features would depend on the batch")

    def features(self, batch: Float32) -> Float32:
        """float32 ``[N, 3, T, size, size]`` -> float32 ``[N, d]``."""
        import torch  # slow to import, and what is cached needs none

        kind = torch.bfloat16 if self.dtype == "bf16" else torch.float32
        with torch.inference_mode():
            tensor = torch.from_numpy(batch).to(self.device, kind, memory_format=torch.channels_last_3d)
            return np.asarray(self.net(tensor).float().cpu().numpy(), np.float32)
