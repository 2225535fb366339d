"""Wan-VACE as a base model: control latents of a pose video and a reference image in front, noised with the clip.

A pass is that of ``WanVACEPipeline.__call__``, for a batch of different cases; the pipeline takes one video at a time.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ipa_bench import video
from ipa_bench.errors import Unscorable
from ipa_bench.files import LORA_FILE
from ipa_bench.models.base import FRONT, Base, Condition, Given
from ipa_bench.models.checkpoint import Checkpoint
from ipa_bench.models.frames import frames_for
from ipa_bench.models.lora import load_lora
from ipa_bench.models.specs import BaseSpec
from ipa_bench.models.wan import conditioning, flops
from ipa_bench.models.wan.conditioning import Pipe
from ipa_bench.models.wan.outline import WanVaceOutline
from ipa_bench.models.wan.pipeline import load, scheduler_of
from ipa_bench.types import Case, UInt8

#: the transformer's timestep at t = 1
TIMESTEPS = 1000.0


class WanVace(Base):
    """A loaded ``WanVACEPipeline``; parts that it lacks are missed only where they are needed."""

    references = FRONT
    shown = ("control",)

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe

    @classmethod
    def load(cls, spec: BaseSpec, checkpoint: Checkpoint, device: torch.device | str | None = None) -> WanVace:
        """See :func:`ipa_bench.models.wan.pipeline.load`."""
        return cls(load(spec, checkpoint, device))

    @cached_property
    def outline(self) -> WanVaceOutline:
        """What its configurations say."""
        vae, tokenizer = getattr(self.pipe, "vae", None), getattr(self.pipe, "tokenizer", None)
        text = self._prompts.tokens if tokenizer is not None else 0
        return WanVaceOutline("model", self.transformer.config, {} if vae is None else vae.config, text, None)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The transformer alone."""
        return {"transformer": self.transformer}

    @property
    def transformer(self) -> Any:
        """A ``WanVACETransformer3DModel``."""
        return self.pipe.transformer

    @transformer.setter
    def transformer(self, module: Any) -> None:
        self.pipe.transformer = module

    @property
    def aside(self) -> Sequence[nn.Module]:
        """VAE and text encoder."""
        return [part for part in (self.pipe.vae, self.pipe.text_encoder) if part is not None]

    @property
    def device(self) -> torch.device:
        """Where the pipeline computes, whatever of it is in host memory."""
        return torch.device(self.pipe._execution_device)

    def given(self, case: Case, pose: Path | None) -> Given:
        """``control`` ``[1, vace_in_channels, T, h, w]`` of a pose video and the pictures of its people, in order."""
        if pose is None:
            raise Unscorable("the case has no pose video")
        frames, fps = frames_for(case, pose)
        pictures = [path for _, path in case.references] or [case.reference or case.driving]
        references = [next(video.read_frames(path)).image for path in pictures]
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

    @cached_property
    def _prompts(self) -> conditioning.Prompts:
        return conditioning.Prompts(self.pipe)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings ``[B, tokens, text_dim]`` in the transformer's dtype."""
        return self._prompts.encode(texts)

    def flow_shape(self, given: Condition) -> tuple[int, int, int, int]:
        """That of the control latents, with the channels of the clip's."""
        frames, height, width = given["control"].shape[2:]
        return int(self.transformer.config.in_channels), frames, height, width

    def flow_input(self, latents: Tensor, given: Condition) -> Tensor:
        """With the reference's latents, which the control latents hold, in front."""
        return conditioning.flow_input(given["control"], latents)

    def velocity(self, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """One pass of the transformer at the timestep 1000 t."""
        transformer = self.transformer
        dtype = transformer.dtype
        with warnings.catch_warnings():
            # Norms keep fp32 weights under autocast; torch says each time that this takes its slower path.
            warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
            out: Tensor = transformer(
                hidden_states=z.to(dtype),
                timestep=(t * TIMESTEPS).float(),
                encoder_hidden_states=condition["prompt"].to(dtype),
                control_hidden_states=condition["control"].to(dtype),
                return_dict=False,
            )[0]
        return out

    def scheduler(self, shift: float | None = None) -> Any:
        """See :func:`ipa_bench.models.wan.pipeline.scheduler_of`."""
        return scheduler_of(self.pipe, shift)

    @property
    def time(self) -> int:
        """Video frames to a latent frame."""
        return int(self.pipe.vae_scale_factor_temporal)

    @property
    def space(self) -> int:
        """Pixels to a latent, each way."""
        return int(self.pipe.vae_scale_factor_spatial)

    def latent_frames(self, frames: int) -> int:
        """Of the smallest clip on the grid that holds ``frames``."""
        return (conditioning.grid(self.pipe, frames, (1, 1))[0] - 1) // self.time + 1

    def encode(self, frames: UInt8) -> Tensor:
        """See :func:`ipa_bench.models.wan.conditioning.encode_video`."""
        size = (frames.shape[2], frames.shape[1])
        filled = conditioning.fill(frames, *conditioning.grid(self.pipe, len(frames), size))
        return conditioning.encode_video(self.pipe, filled)

    def decode(self, latents: Tensor) -> UInt8:
        """See :func:`ipa_bench.models.wan.conditioning.decode_latents`."""
        return conditioning.decode_latents(self.pipe, latents)

    def adapted(self, layers: str, blocks: str) -> str:
        """See :func:`ipa_bench.models.wan.flops.adapted`."""
        return flops.adapted(layers, blocks)

    def load_adapter(self, file: Path, name: str) -> None:
        """See :func:`ipa_bench.models.lora.load_lora`."""
        load_lora(self.pipe, file, name)

    def save_adapter(
        self, folder: Path, adapters: Mapping[str, tuple[Mapping[str, Tensor], Mapping[str, Any]]]
    ) -> Path:
        """``pytorch_lora_weights.safetensors``, for ``WanVACEPipeline.load_lora_weights``."""
        from diffusers import WanVACEPipeline

        layers, settings = adapters["transformer"]
        WanVACEPipeline.save_lora_weights(
            str(folder), transformer_lora_layers=dict(layers), transformer_lora_adapter_metadata=dict(settings)
        )
        return folder / LORA_FILE

    def save(self, folder: Path) -> None:
        """A whole diffusers folder."""
        self.pipe.save_pretrained(folder, safe_serialization=True)
