"""Phantom as a base model: clean latents of reference images over the end of time, three passes of guidance.

diffusers has no class for it: the weights are those of a ``WanTransformer3DModel``, tuned, and everything else is that
of Wan2.1-T2V. At each step the last latent frames of what the transformer sees are those of the references, never
noised; what it says of them is dropped, so that the flow is over the clip alone. As ``phantom_wan/subject2video.py`` of
Phantom-video/Phantom at 7e2997d has it (arXiv 2502.11079).
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ipa_bench.models.base import Condition, Given, References, Rung
from ipa_bench.models.checkpoint import Checkpoint
from ipa_bench.models.frames import frames_for
from ipa_bench.models.outline import Shape
from ipa_bench.models.specs import BaseSpec
from ipa_bench.models.wan import conditioning
from ipa_bench.models.wan.base import WanBase
from ipa_bench.models.wan.phantom_outline import PhantomOutline
from ipa_bench.models.wan.pipeline import load_lazily, pipeline
from ipa_bench.types import Case, UInt8

#: how far a step goes toward the references, and beyond, toward the prompt (``guidance``): as published, beside 7.5
REFERENCES = 5.0


class Phantom(WanBase):
    """A loaded ``WanPipeline`` with Phantom's transformer. It takes no pose: a prompt and references drive it."""

    references = References("back", noised=False)
    shown = ("people", "frames")
    posed = False
    driven = True

    @classmethod
    def load(cls, spec: BaseSpec, checkpoint: Checkpoint, device: torch.device | str | None = None) -> Phantom:
        """See :func:`ipa_bench.models.wan.pipeline.load_lazily`."""
        return cls(*load_lazily(spec, checkpoint, device, pipeline("WanPipeline")))

    @cached_property
    def outline(self) -> PhantomOutline:
        """What its configurations say."""
        return PhantomOutline("model", *self.described())

    def given(self, case: Case, pose: Path | None) -> Given:
        """``people`` ``[1, C, n_ref, h, w]``, clean latents of each picture in order; ``frames`` is a length alone."""
        frames, fps = frames_for(case, case.driving)
        size = (frames.shape[2], frames.shape[1])
        _, whole = conditioning.grid(self.pipe, len(frames), size)
        with torch.inference_mode():
            seen = [
                conditioning.encode_video(self.pipe, fitted(picture, whole)[None]) for picture in self.pictures(case)
            ]
            people = torch.cat(seen, 2).to(self.dtype).cpu()
        count = self.latent_frames(len(frames))
        return Given({"people": people, "frames": torch.zeros(1, count)}, len(frames), fps, size)

    def flow_shape(self, given: Condition) -> tuple[int, int, int, int]:
        """That of the clip."""
        height, width = given["people"].shape[-2:]
        return int(self.transformer.config.in_channels), given["frames"].shape[1], height, width

    def flow_input(self, latents: Tensor, given: Condition) -> Tensor:
        """The clip's own."""
        return latents

    def velocity(self, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """One pass over the clip with the references behind it, of which the clip's part is kept."""
        whole = torch.cat([z, condition["people"].to(z)], 2)
        return self.passed(self.transformer, whole, t, condition["prompt"])[:, :, : z.shape[2]]

    def ladder(
        self, condition: Condition, negative: Tensor | None, guidance: float, guidance_2: float | None = None
    ) -> tuple[Rung, ...]:
        """v = v_n + ``guidance_2`` (v_i − v_n) + ``guidance`` (v_it − v_i): with nothing, with references, with both.

        ``guidance_2`` is 5 where it is not given; what stands for no reference is latents of 0. With ``guidance`` 1
        there is one pass, with both.
        """
        if guidance <= 1 or negative is None:
            return (Rung(condition),)
        wordless = self.condition(condition, negative)
        nothing = {**wordless, "people": torch.zeros_like(condition["people"])}
        return (
            Rung(nothing),
            Rung(wordless, REFERENCES if guidance_2 is None else guidance_2),
            Rung(condition, guidance),
        )

    def shape(self, z: Tensor, condition: Condition) -> Shape:
        """What a pass sees: the references too."""
        batch, _, frames, height, width = z.shape
        return Shape(frames + condition["people"].shape[2], height, width, condition["prompt"].shape[1], batch)


def fitted(picture: UInt8, size: tuple[int, int]) -> UInt8:
    """A picture uint8 ``[H', W', 3]`` inside ``size`` (width, height), in its middle, on white; sides round down."""
    width, height = size
    image = Image.fromarray(picture)
    if image.width / image.height > width / height:
        inner = (width, max(1, int(width / (image.width / image.height))))
    else:
        inner = (max(1, int(height * (image.width / image.height))), height)
    page = Image.new("RGB", size, (255, 255, 255))
    page.paste(image.resize(inner, Image.Resampling.LANCZOS), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return np.asarray(page)
