"""A base model of another kind than those of the package: clean references over the end of time, three-pass guidance.

It has no network to speak of: its velocity is linear in what it is given, so that a test can write its clips down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from ipa_bench import video
from ipa_bench.models import kinds
from ipa_bench.models.base import Base, Condition, Given, References, Rung
from ipa_bench.models.checkpoint import Checkpoint, Recipe
from ipa_bench.models.frames import frames_for
from ipa_bench.models.outline import Bytes, Lora, Outline, Shape, Trained
from ipa_bench.models.specs import BaseSpec
from ipa_bench.types import Case, UInt8


class ToySpec(BaseSpec):
    """As a suite would name it."""

    kind: Literal["toy"]


class ToyOutline(Outline):
    """One pixel to a latent, one frame to a latent frame; a pass costs a FLOP a token."""

    name, folder, text, references = "toy", None, 3, 0
    time = space = 1  # type: ignore[assignment]
    layers = (1, 1)  # type: ignore[assignment]

    def fitting(self, frames: int, size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
        return frames, size

    def tokens(self, shape: Shape) -> int:
        return shape.batch * shape.frames * shape.height * shape.width

    def flow(self, shape: Shape) -> tuple[int, int, int, int]:
        return 3, shape.frames, shape.height, shape.width

    def condition(self, shape: Shape) -> Mapping[str, tuple[int, ...]]:
        return {"person": (3, 1, shape.height, shape.width), "prompt": (self.text, 1)}

    def passes(self, guidance: float) -> int:
        return 3 if guidance > 1 else 1

    def forward_flops(self, shape: Shape, adapter: Lora | None = None) -> int:
        return self.tokens(shape)

    def update_flops(self, shape: Shape, trained: Any, **_: Any) -> int:
        return 3 * self.tokens(shape)

    def training_bytes(self, dtype: str, trained: Trained, *, average: bool = False) -> Bytes:
        return Bytes(4, 0, 0, 0, 0, 0)

    def built(self, dtype: str, device: object, *, decodes: bool = True) -> Base:
        return Toy()


class Toy(Base):
    """v = z − (the person's picture · words), the picture standing clean behind the clip while a pass runs."""

    references = References("back", noised=False)
    shown = ("person", "frames")
    posed = False

    def __init__(self) -> None:
        self.network = nn.Linear(1, 1)
        self.network.dtype = torch.float32  # type: ignore[assignment]

    @cached_property
    def outline(self) -> ToyOutline:
        return ToyOutline()

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"network": self.network}

    @property
    def transformer(self) -> Any:
        return self.network

    @transformer.setter
    def transformer(self, module: Any) -> None:
        self.network = module

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def given(self, case: Case, pose: Path | None) -> Given:
        frames, fps = frames_for(case, case.driving)
        person = torch.from_numpy(next(video.read_frames(case.reference or case.driving, size=case.size)).image / 255)
        condition = {"person": person.permute(2, 0, 1)[None, :, None].float(), "frames": torch.zeros(1, len(frames))}
        return Given(condition, len(frames), fps, (frames.shape[2], frames.shape[1]))

    def texts(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([[[float(len(text) > 0)]] * 3 for text in texts])

    def flow_shape(self, given: Condition) -> tuple[int, int, int, int]:
        height, width = given["person"].shape[-2:]
        return 3, given["frames"].shape[1], height, width

    def flow_input(self, latents: Tensor, given: Condition) -> Tensor:
        return latents

    def velocity(self, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        whole = torch.cat([z, condition["person"].expand(-1, -1, 1, -1, -1)], 2)  # clean, over the end of time
        shown = whole[:, :, -1:] * condition["prompt"].mean((1, 2)).reshape(-1, 1, 1, 1, 1)
        return (whole - shown)[:, :, :-1] / t.float().clamp(min=1e-3).reshape(-1, 1, 1, 1, 1)

    def ladder(
        self, condition: Condition, negative: Tensor | None, guidance: float, guidance_2: float | None = None
    ) -> tuple[Rung, ...]:
        if guidance <= 1 or negative is None:
            return (Rung(condition),)
        nobody = {**condition, "person": torch.zeros_like(condition["person"]), "prompt": negative}
        return Rung(nobody), Rung(self.condition(condition, negative), 1.0), Rung(condition, guidance)

    def scheduler(self, shift: float | None = None) -> Any:
        return FlowMatchEulerDiscreteScheduler()

    def latent_frames(self, frames: int) -> int:
        return frames

    def encode(self, frames: UInt8) -> Tensor:
        return torch.from_numpy(frames / 255).permute(3, 0, 1, 2)[None].float()

    def decode(self, latents: Tensor) -> UInt8:
        return np.asarray((latents[0].clamp(0, 1) * 255).round().permute(1, 2, 3, 0), np.uint8)

    def adapted(self, layers: str, blocks: str) -> str:
        return "nothing"

    def load_adapter(self, file: Path, name: str) -> None:
        raise NotImplementedError

    def save_adapter(self, folder: Path, adapters: Any) -> Path:
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        raise NotImplementedError


def _recipe(spec: ToySpec, checkpoint: Checkpoint) -> Recipe:
    return {"model": checkpoint.identity, "steps": spec.steps, "guidance": spec.guidance}


KIND = kinds.Kind(
    ToySpec,
    kinds.Generated(
        locate=lambda spec: Checkpoint(Path(spec.model), "sha256:toy"),
        recipe=_recipe,
        source=lambda spec, recipe: f"toy {spec.model}, {recipe['steps']} steps",
        load=lambda spec, checkpoint, device: Toy(),
        owns=lambda model: model.startswith("toy"),
        outline=lambda name, random_weights: ToyOutline(),
        outline_of=lambda name, folder: ToyOutline(),
        published=(),
        packages=("numpy",),
    ),
)
