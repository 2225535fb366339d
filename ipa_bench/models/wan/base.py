"""What the bases of diffusers' Wan pipelines have in common: text, pixels, schedulers, adapters and files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ipa_bench import video
from ipa_bench.errors import UserError
from ipa_bench.files import LORA_FILE
from ipa_bench.models.base import Base
from ipa_bench.models.checkpoint import FIRST, SECOND, lora_parts, second_lora
from ipa_bench.models.lora import load_lora
from ipa_bench.models.wan import conditioning, flops
from ipa_bench.models.wan.conditioning import Pipe
from ipa_bench.models.wan.pipeline import scheduler_of
from ipa_bench.types import Case, UInt8

#: the transformer's timestep at t = 1
TIMESTEPS = 1000.0


class WanBase(Base):
    """A loaded pipeline of diffusers' Wan; parts that it lacks are missed only where they are needed."""

    def __init__(self, pipe: Pipe, text_encoder: Callable[[], Any] | None = None) -> None:
        """``text_encoder`` loads what the pipeline then may lack."""
        self.pipe, self.text_encoder = pipe, text_encoder

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The transformer, or both experts: that for high noise first."""
        return {FIRST: self.transformer} | ({} if self.second is None else {SECOND: self.second})

    @property
    def second(self) -> Any:
        """The expert for low noise, or None."""
        return getattr(self.pipe, SECOND, None)

    @property
    def transformer(self) -> Any:
        """The first of diffusers' transformers."""
        return self.pipe.transformer

    @transformer.setter
    def transformer(self, module: Any) -> None:
        self.pipe.transformer = module

    @property
    def aside(self) -> Sequence[nn.Module]:
        """VAE and text encoder."""
        parts = (self.pipe.vae, getattr(self.pipe, "text_encoder", None))
        return [part for part in parts if part is not None]

    @property
    def device(self) -> torch.device:
        """Where the pipeline computes, whatever of it is in host memory."""
        return torch.device(self.pipe._execution_device)

    def described(self) -> tuple[Mapping[str, Any], Mapping[str, Any], int, None]:
        """What its outline is made of: configurations of transformer and VAE, tokens of a prompt, and no folder."""
        vae, tokenizer = getattr(self.pipe, "vae", None), getattr(self.pipe, "tokenizer", None)
        text = self.prompts.tokens if tokenizer is not None else 0
        return self.transformer.config, {} if vae is None else vae.config, text, None

    def pictures(self, case: Case) -> list[UInt8]:
        """The pictures of a case's people, in order; without any, the first frame of its driving clip."""
        paths = [path for _, path in case.references] or [case.reference or case.driving]
        return [next(video.read_frames(path)).image for path in paths]

    @cached_property
    def prompts(self) -> conditioning.Prompts:
        """Encoded prompts; the text encoder is loaded for the first that has to be."""
        return conditioning.Prompts(self.pipe, self.text_encoder)

    def keep_texts(self, kept: MutableMapping[str, Tensor]) -> None:
        """Embeddings in ``kept`` are not made again."""
        self.prompts.kept = kept

    def leave_texts(self) -> None:
        """Without the text encoder, where it can be loaded again."""
        if self.text_encoder is not None:
            self.pipe.text_encoder = None

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings ``[B, tokens, text_dim]`` in the transformer's dtype."""
        return self.prompts.encode(texts)

    def passed(self, transformer: Any, z: Tensor, t: Tensor, words: Tensor, **given: Tensor) -> Tensor:
        """One pass of a transformer at the timestep 1000 t; ``given`` by its names, in its dtype."""
        dtype = transformer.dtype
        with warnings.catch_warnings():
            # Norms keep fp32 weights under autocast; torch says each time that this takes its slower path.
            warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
            # A control block gives a view of its state where weights are divided; diffusers adds to it out of place.
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
            out: Tensor = transformer(
                hidden_states=z.to(dtype),
                timestep=(t * TIMESTEPS).float(),
                encoder_hidden_states=words.to(dtype),
                return_dict=False,
                **{name: tensor.to(dtype) for name, tensor in given.items()},
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
        """See :func:`ipa_bench.models.wan.flops.adapted`. Raises :class:`UserError` for blocks that it lacks."""
        about = self.transformer.config
        if blocks == "vace" and not about.get("vace_layers"):
            raise UserError("adapter.blocks: this model has no control branch", 'blocks = "all"')
        return flops.adapted(layers, blocks, image=about.get("image_dim") is not None)

    def load_adapter(self, file: Path, name: str) -> None:
        """See :func:`ipa_bench.models.lora.load_lora`; that of the second expert lies beside it."""
        parts, beside = lora_parts(file), second_lora(file).name
        if self.second is None and SECOND in parts:
            raise UserError(f"beside {file} lies a LoRA for a second transformer", f"take {beside} away")
        if self.second is not None and SECOND not in parts:
            raise UserError(f"{file} is for one of the model's two transformers", f"put {beside} beside it")
        for network, part in parts.items():
            load_lora(self.pipe, part, name, network)

    def save_adapter(
        self, folder: Path, adapters: Mapping[str, tuple[Mapping[str, Tensor], Mapping[str, Any]]]
    ) -> Path:
        """``pytorch_lora_weights.safetensors``, for ``load_lora_weights`` of the pipeline.

        That of the second expert goes beside it and is loaded with ``load_into_transformer_2=True``.
        """
        first = folder / LORA_FILE
        for network, (layers, settings) in adapters.items():
            self.pipe.save_lora_weights(
                str(folder),
                transformer_lora_layers=dict(layers),
                weight_name=(first if network == FIRST else second_lora(first)).name,
                transformer_lora_adapter_metadata=dict(settings),
            )
        return first

    def save(self, folder: Path) -> None:
        """A whole diffusers folder."""
        if self.pipe.text_encoder is None and self.text_encoder is not None:
            self.pipe.text_encoder = self.text_encoder()
        self.pipe.save_pretrained(folder, safe_serialization=True)
