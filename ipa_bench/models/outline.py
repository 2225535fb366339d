"""A base model by its configuration alone: what it can make, and what that takes. No weights, and no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ipa_bench.models.base import Base

DTYPE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True)
class Lora:
    """Which layers have an adapter, in the words of the training configuration; a base knows which layers these are."""

    rank: int
    layers: Literal["qkv", "attention", "linear"] = "qkv"
    blocks: Literal["all", "main", "vace"] = "all"


#: whether activations are computed again in the backward pass: all, or all but what attention gave
Checkpointing = Literal["attention"] | bool
#: what is trained: every weight, an adapter, or nothing
Trained = Lora | Literal["full"] | None


@dataclass(frozen=True)
class Shape:
    """What one forward pass sees. Latent frames include those of reference images that are a part of the flow."""

    #: latent frames, height and width
    frames: int
    height: int
    width: int
    #: tokens of the prompt, padding included: 512 for Wan
    text: int
    batch: int = 1

    @classmethod
    def of_video(
        cls, frames: int, size: tuple[int, int], *, text: int = 512, references: int = 1, batch: int = 1,
        time: int = 4, space: int = 8,
    ) -> Shape:  # fmt: skip
        """The shape for clips of ``frames`` frames and ``size`` (width, height) with so many reference images.

        ``time`` and ``space`` are the VAE's factors, Wan's by default: the first frame has a latent frame of its own.
        Raises ``ValueError`` for a clip that they do not divide.
        """
        if frames < 1 or (frames - 1) % time or any(side % space for side in size):
            raise ValueError(f"{frames} frames of {size[0]}x{size[1]} are no multiples of {time} (plus 1) and {space}")
        return cls((frames - 1) // time + 1 + references, size[1] // space, size[0] // space, text, batch)

    def tokens(self, patch: Sequence[int]) -> int:
        """Video tokens of the whole batch with patches of (frames, height, width).

        Raises ``ValueError`` where patches do not divide the latents.
        """
        sides = (self.frames, self.height, self.width)
        if min(sides) < 1 or any(side % step for side, step in zip(sides, patch, strict=True)):
            raise ValueError(f"latents of {sides} cannot be cut into patches of {tuple(patch)}")
        return self.batch * prod(sides) // prod(patch)


@dataclass(frozen=True)
class Bytes:
    """Bytes that training holds whatever the clip. Activations are not among them: they are measured, not guessed."""

    #: the networks' own weights
    weights: int
    #: the LoRA, in fp32
    adapter: int
    gradients: int
    #: AdamW: two moments of every trained value, and a step count of every tensor
    optimizer: int
    #: the running average of trained weights
    average: int
    #: weights that training began with, in host memory: full fine-tuning's reference
    host: int

    @classmethod
    def of_adapter(cls, weights: int, values: int, tensors: int, *, average: bool = False) -> Bytes:
        """With an adapter of so many values in so many tensors beside frozen ``weights``."""
        return cls(weights, 4 * values, 4 * values, 8 * values + 4 * tensors, 4 * values if average else 0, 0)

    def __add__(self, other: Bytes) -> Bytes:
        """Those of both."""
        return Bytes(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def device(self) -> int:
        """All that lies on the device that trains."""
        return self.weights + self.adapter + self.gradients + self.optimizer + self.average


class Outline(ABC):
    """What is known of a base model without loading it."""

    name: str
    #: the folder of its weights; None: there are none, or they are not asked for
    folder: Path | None
    #: tokens of a prompt, padding included
    text: int
    #: latent frames of the reference image that are a part of the flow
    references: int = 1

    @property
    @abstractmethod
    def time(self) -> int:
        """Video frames to a latent frame; the first frame has one of its own."""

    @property
    @abstractmethod
    def space(self) -> int:
        """Pixels to a latent, each way."""

    @property
    @abstractmethod
    def layers(self) -> tuple[int, int]:
        """Number of transformer blocks that a pass goes through, and the width of their tokens."""

    @abstractmethod
    def fitting(self, frames: int, size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
        """The smallest (frames, (width, height)) that the model can make and that holds what is asked for."""

    def shape(self, frames: int, size: tuple[int, int], batch: int = 1) -> Shape:
        """What a forward pass sees of clips of ``frames`` and ``size`` (width, height) that :meth:`fitting` gave."""
        return Shape.of_video(
            frames, size, text=self.text, references=self.references, batch=batch, time=self.time, space=self.space
        )

    @abstractmethod
    def tokens(self, shape: Shape) -> int:
        """Tokens of a batch."""

    @abstractmethod
    def flow(self, shape: Shape) -> tuple[int, int, int, int]:
        """Channels, frames, height and width of what the flow is over."""

    @abstractmethod
    def condition(self, shape: Shape) -> Mapping[str, tuple[int, ...]]:
        """Name -> sides, without the batch, of each tensor that the model is given beside noised latents and time."""

    def kept(self, shape: Shape) -> Mapping[str, tuple[int, ...]]:
        """What of :meth:`condition` is kept of a clip: see :meth:`ipa_bench.models.base.Base.packed`."""
        return self.condition(shape)

    def passes(self, guidance: float) -> int:
        """Forward passes of a denoising step: two with ``guidance`` above 1, unless the base has a rule of its own."""
        return 2 if guidance > 1 else 1

    @abstractmethod
    def forward_flops(self, shape: Shape, adapter: Lora | None = None) -> int:
        """FLOPs of one forward pass, with an adapter that is not merged into the weights where one is given."""

    def sample_flops(self, shape: Shape, steps: int, guidance: float, adapter: Lora | None = None) -> int:
        """FLOPs of denoising. Text encoder and VAE are not in it."""
        return steps * self.passes(guidance) * self.forward_flops(shape, adapter)

    @abstractmethod
    def update_flops(
        self,
        shape: Shape,
        trained: Lora | Literal["full"],
        *,
        clips: int = 1,
        checkpointing: Checkpointing = False,
        reference: Lora | bool = False,
        old: bool = False,
    ) -> int:
        """FLOPs of one training step on ``shape.batch`` items of ``clips`` clips each: 2 where they are pairs.

        ``reference``: whether its error is computed, a forward pass for each clip, of the base model or with the
        frozen adapter that is given here. ``old``: whether an old policy, an adapter like the trained one, has a pass
        too.
        """

    @abstractmethod
    def training_bytes(self, dtype: str, trained: Trained, *, average: bool = False) -> Bytes:
        """Exact bytes of parameters and what belongs to them, with the frozen weights in ``dtype`` (fp32, bf16)."""

    @abstractmethod
    def built(self, dtype: str, device: object, *, decodes: bool = True) -> Base:
        """The model on a device, without a text encoder: its weights read, or random ones where there is no folder.

        ``decodes=False`` leaves out what only decoding needs.
        """
