"""Wan-VACE as a base model: control latents of a pose video and a reference image in front, noised with the clip.

Wan2.2-VACE-Fun has two transformers of one shape, experts: the second is for noise levels below a boundary. A pass is
that of ``WanVACEPipeline.__call__``, for a batch of different cases; the pipeline takes one video at a time.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ipa_bench.errors import Unscorable
from ipa_bench.models.base import FRONT, Condition, Given
from ipa_bench.models.checkpoint import Checkpoint
from ipa_bench.models.frames import frames_for
from ipa_bench.models.specs import BaseSpec
from ipa_bench.models.wan import conditioning
from ipa_bench.models.wan.base import TIMESTEPS, WanBase
from ipa_bench.models.wan.outline import WanVaceOutline
from ipa_bench.models.wan.pipeline import load_lazily
from ipa_bench.types import Case


class WanVace(WanBase):
    """A loaded ``WanVACEPipeline``."""

    references = FRONT
    shown = ("control",)

    @classmethod
    def load(cls, spec: BaseSpec, checkpoint: Checkpoint, device: torch.device | str | None = None) -> WanVace:
        """See :func:`ipa_bench.models.wan.pipeline.load_lazily`."""
        return cls(*load_lazily(spec, checkpoint, device))

    @cached_property
    def outline(self) -> WanVaceOutline:
        """What its configurations say."""
        if self.second is None:
            return WanVaceOutline("model", *self.described())
        return WanVaceOutline("model", *self.described(), self.second.config, self.pipe.config.boundary_ratio)

    def given(self, case: Case, pose: Path | None) -> Given:
        """``control`` ``[1, vace_in_channels, T, h, w]`` of a pose video and the pictures of its people, in order."""
        if pose is None:
            raise Unscorable("the case has no pose video")
        frames, fps = frames_for(case, pose)
        references = self.pictures(case)
        size = (frames.shape[2], frames.shape[1])
        filled = conditioning.fill(frames, *conditioning.grid(self.pipe, len(frames), size))
        most = self.latent_frames(len(frames))
        if len(references) > most:
            raise Unscorable(
                f"the case has {len(references)} references and its {len(frames)} frames are {most} latent ones: "
                "the model takes no more references than that"
            )
        with torch.inference_mode():
            control = conditioning.control_latents(self.pipe, filled, *references).cpu()
        return Given({"control": control}, len(frames), fps, size)

    def packed(self, given: Condition, case: Case) -> Condition:
        """Without the mask's channels, two thirds of it: 0 for references and 1 for all of the clip."""
        control = given["control"]
        kept = control[:, : 2 * int(self.transformer.config.in_channels)]
        return {**given, "control": kept} if torch.equal(self._masked(kept, case), control) else given

    def unpacked(self, kept: Condition, case: Case) -> Condition:
        """With the mask's channels."""
        whole = kept["control"].shape[1] == self.transformer.config.vace_in_channels
        return kept if whole else {**kept, "control": self._masked(kept["control"], case)}

    def _masked(self, control: Tensor, case: Case) -> Tensor:
        batch, channels, *sides = control.shape
        mask = control.new_ones(batch, int(self.transformer.config.vace_in_channels) - channels, *sides)
        mask[:, :, : self.reference_frames(case)] = 0
        return torch.cat([control, mask], 1)

    def flow_shape(self, given: Condition) -> tuple[int, int, int, int]:
        """That of the control latents, with the channels of the clip's."""
        frames, height, width = given["control"].shape[2:]
        return int(self.transformer.config.in_channels), frames, height, width

    def flow_input(self, latents: Tensor, given: Condition) -> Tensor:
        """With the reference's latents, which the control latents hold, in front."""
        return conditioning.flow_input(given["control"], latents)

    def late(self, t: Tensor) -> Tensor | None:
        """Whether the timestep 1000 t is below the boundary between the experts; None where there is one alone."""
        if self.second is None:
            return None
        found: Tensor = (t * TIMESTEPS).float() < self.pipe.config.boundary_ratio * TIMESTEPS
        return found

    def velocity(self, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """One pass of the transformer at the timestep 1000 t, of each expert for its part of a batch."""
        late = self.late(t)
        if late is None:
            return self._pass(self.transformer, z, t, condition)
        used = [not bool(late.all()), bool(late.any())]
        parts, order, beside = [], [], []
        everywhere = used if self.agree is None else self.agree(used)
        for mine, expert, own, somewhere in zip((~late, late), self.networks.values(), used, everywhere, strict=True):
            rows = mine.nonzero()[:, 0]
            if own and len(rows) == len(z):
                parts.append(self._pass(expert, z, t, condition))
            elif own:
                parts.append(self._pass(expert, z[rows], t[rows], {name: x[rows] for name, x in condition.items()}))
            elif somewhere:  # its weights are gathered by all or none, and so are its gradients: what comes is dropped
                one = {name: x[:1] for name, x in condition.items()}
                beside.append(self._pass(expert, z[:1], t[:1], one)[:0])
            order.append(rows)
        if len(parts) == 1:
            return torch.cat([*parts, *beside]) if beside else parts[0]
        return torch.cat(parts)[torch.cat(order).argsort()]

    def _pass(self, transformer: Any, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return self.passed(transformer, z, t, condition["prompt"], control_hidden_states=condition["control"])
