"""Wan-Animate as a base model: a picture, a pose video and the face of whoever drives, in segments of 77 frames.

A pass is that of ``WanAnimatePipeline.__call__``. The picture's latents and a mask stand beside the noised latents, as
channels, and its frame stands in front of the clip's: a latent frame of the flow, noised as the clip is and dropped in
the end. What it is trained toward is the picture's own latents. Beside the clip's own frames stands nothing in the mode
``animate``, and in the mode ``replace`` the clip that stays around somebody, with a mask of what of it stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ipa_bench.errors import Unscorable
from ipa_bench.models.base import FRONT, Condition, Given, Rung
from ipa_bench.models.checkpoint import REPLACE, Checkpoint
from ipa_bench.models.frames import frames_for
from ipa_bench.models.specs import AnimateSpec
from ipa_bench.models.wan import conditioning, face_crops
from ipa_bench.models.wan.animate_outline import MASK, SEGMENT, AnimateOutline
from ipa_bench.models.wan.base import WanBase
from ipa_bench.models.wan.face_crops import Find
from ipa_bench.models.wan.pipeline import load_lazily, pipeline
from ipa_bench.types import Case, UInt8


@dataclass(frozen=True, eq=False)
class _Shown:
    """What all segments of a clip are given from."""

    #: uint8 ``[T, H, W, 3]``, grown to whole segments
    pose: UInt8
    #: uint8 ``[1, 3, T, side, side]``
    face: Tensor
    #: uint8 as ``pose``: what stays around who is replaced, and white where they stand; None: nobody is
    around: tuple[UInt8, UInt8] | None
    #: the picture's latents with their mask, and what the image encoder sees in it
    first: Tensor
    image: Tensor
    #: frames of a segment, and of the clip
    at_once: int
    length: int
    fps: float
    size: tuple[int, int]


class Animate(WanBase):
    """A loaded ``WanAnimatePipeline``."""

    references = FRONT
    shown = ("beside", "pose", "image", "face")
    driven = True

    #: frames of a segment
    segment = SEGMENT
    #: finds faces in the driving clip; loaded when the first is looked for
    find: Find | None = None
    #: whether somebody in a clip is replaced: the pipeline's mode ``replace``
    replaces: bool = False

    @classmethod
    def load(cls, spec: AnimateSpec, checkpoint: Checkpoint, device: torch.device | str | None = None) -> Animate:
        """See :func:`ipa_bench.models.wan.pipeline.load_lazily`."""
        made = cls(*load_lazily(spec, checkpoint, device, pipeline("WanAnimatePipeline")))
        made.replaces = spec.mode == REPLACE
        return made

    @cached_property
    def outline(self) -> AnimateOutline:
        """What its configurations say."""
        encoder = getattr(self.pipe, "image_encoder", None)
        return AnimateOutline("model", *self.described(), seen={} if encoder is None else encoder.config.to_dict())

    @property
    def aside(self) -> Sequence[nn.Module]:
        """VAE, text encoder and image encoder."""
        return [*super().aside, *([] if self.pipe.image_encoder is None else [self.pipe.image_encoder])]

    def given(self, case: Case, pose: Path | None) -> Given:
        """Tensors of a batch of one: ``beside`` ``[4 + C, 1 + T', h, w]`` (masks and latents: of the picture in front,
        behind it of nothing, or of what stays around who is replaced), ``pose`` ``[C, T', h, w]``, ``image``
        ``[tokens, width]`` of the image encoder, and ``face`` uint8 ``[3, T, side, side]``; of a longer clip those of
        its first segment.
        """
        if pose is None:
            raise Unscorable("the case has no pose video")
        frames, fps = frames_for(case, pose)
        pictures = self.pictures(case)
        if len(pictures) > 1:
            raise Unscorable(f"the case has {len(pictures)} references, and the model animates one person")
        size, person = (frames.shape[2], frames.shape[1]), Image.fromarray(pictures[0])
        around = self._around(case, len(frames), fps, size) if self.replaces else None
        most, length = self.segment, len(frames)
        at_once, whole = conditioning.grid(self.pipe, min(length, most), size)

        def grown(clip: UInt8) -> UInt8:
            filled = conditioning.fill(clip, max(length, at_once), whole)
            if length <= most:
                return filled
            # as many segments as hold it, each after the first beginning with the last frame of the one before
            target = length + -(length - 1) % (most - 1)
            return np.stack(self.pipe.pad_video_frames(list(filled), target))

        filled = grown(frames)
        stays = None if around is None else (grown(around[0]), grown(around[1]))
        with torch.inference_mode():
            pixels = self.pipe.vae_image_processor.preprocess(
                person, height=whole[1], width=whole[0], resize_mode="fill"
            )
            first = self.pipe.prepare_reference_image_latents(pixels.to(self.device, torch.float32), device=self.device)
            image = self.pipe.encode_image(person, self.device)
        face = self._face(case, length, len(filled), fps)
        shown = _Shown(filled, face, stays, first, image, at_once, length, fps, size)
        return self._segment(shown, 0, None)

    def _segment(self, shown: _Shown, start: int, before: UInt8 | None) -> Given:
        """What the segment from frame ``start`` on is given; ``before``: the frames that were made so far."""
        count, (height, width) = shown.at_once, shown.pose.shape[1:3]
        last, place = None, slice(start, start + count)
        around: dict[str, Any] = {"task": "animate"}
        if shown.around is not None:
            stays, mask = ([Image.fromarray(frame) for frame in clip[place]] for clip in shown.around)
            pixels = self.pipe.video_processor.preprocess_video(stays, height, width)
            taken = self.pipe.video_processor_for_mask.preprocess_video(mask, height, width)
            around = {"task": REPLACE, "background_video": pixels.to(self.device), "mask_video": taken.to(self.device)}
        if before is not None:
            grown = conditioning.fill(before[-1:], 1, (width, height))
            last = torch.from_numpy(2.0 * (grown / np.float32(255)) - 1.0).permute(3, 0, 1, 2)[None].to(self.device)
        with torch.inference_mode():
            rest = self.pipe.prepare_prev_segment_cond_latents(
                last,
                segment_frame_length=count,
                start_frame=start,
                height=height,
                width=width,
                device=self.device,
                **around,
            )
            made = {
                "beside": torch.cat([shown.first, rest], 2),
                "pose": conditioning.encode_video(self.pipe, shown.pose[place]),
                "image": shown.image,
            }
        rounded = {name: tensor.to(self.dtype).cpu() for name, tensor in made.items()}
        rounded["face"] = shown.face[:, :, place].contiguous()
        after = start + count - 1
        later = partial(self._segment, shown, after) if after + 1 < len(shown.pose) else None
        return Given(rounded, shown.length, shown.fps, shown.size, min(count, shown.length), int(start > 0), later)

    def reads(self, case: Case) -> Sequence[Path | None]:
        """What stays around who is replaced, and where they stand."""
        return (case.background, case.character_mask) if self.replaces else ()

    def _around(self, case: Case, length: int, fps: float, size: tuple[int, int]) -> tuple[UInt8, UInt8]:
        """What stays around who is replaced and where they stand, uint8 ``[length, H, W, 3]``, brought to the pose's
        rate and size. Without a clip of what stays it is the driving clip, black where they stand, as the authors'
        preprocessing makes it. Raises :class:`Unscorable` where one is missing or too short.
        """
        if case.character_mask is None:
            raise Unscorable('the case has no character_mask, which says where mode = "replace" puts the person')
        asked = replace(case, frames=length, fps=fps, size=size)
        mask, _ = frames_for(asked, case.character_mask)
        stays, _ = frames_for(asked, case.background or case.driving)
        if case.background is None:
            stays = np.where(mask[..., :1] < 128, stays, np.uint8(0))
        return stays, mask

    def _face(self, case: Case, length: int, frames: int, fps: float) -> Tensor:
        """The driving face of each of ``frames`` frames, padded as the pose is beyond ``length``."""
        self.find = self.find or face_crops.detector()
        side = int(self.transformer.config.motion_encoder_size)
        found = face_crops.crops(case.driving, fps, length, side, self.find)
        if length > self.segment:
            found = np.stack(self.pipe.pad_video_frames(list(found), frames))
        filled = conditioning.fill(found, frames, (found.shape[2], found.shape[1]))
        return torch.from_numpy(filled).permute(3, 0, 1, 2)[None].contiguous()

    def flow_shape(self, given: Condition) -> tuple[int, int, int, int]:
        """The clip's, and a frame in front of it."""
        frames, height, width = given["beside"].shape[2:]
        return int(given["beside"].shape[1]) - MASK, frames, height, width

    def reference_frames(self, case: Case) -> int:
        """One."""
        return 1

    def flow_input(self, latents: Tensor, given: Condition) -> Tensor:
        """With the picture's latents in front."""
        return torch.cat([given["beside"][:, MASK:, :1].to(latents), latents], 2)

    def velocity(self, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """One pass, with what stands beside the latents as further channels."""
        whole = torch.cat([z, condition["beside"].to(z)], 1)
        face = 2.0 * (condition["face"].float() / 255.0) - 1.0
        return self.passed(
            self.transformer,
            whole,
            t,
            condition["prompt"],
            encoder_hidden_states_image=condition["image"],
            pose_hidden_states=condition["pose"],
            face_pixel_values=face,
        )

    def ladder(
        self, condition: Condition, negative: Tensor | None, guidance: float, guidance_2: float | None = None
    ) -> tuple[Rung, ...]:
        """Classifier-free guidance away from the negative words and a black face; the authors' default is none."""
        if guidance <= 1 or negative is None:
            return (Rung(condition),)
        faceless = {**self.condition(condition, negative), "face": torch.zeros_like(condition["face"])}
        return Rung(faceless), Rung(condition, guidance)
