"""What a WanVACE model is given, from pixels: the one place where generation and training make it.

All functions take a loaded ``WanVACEPipeline`` and use its own methods, so that a model is trained on exactly what the
pipeline would show it. Frames are uint8 RGB; latents are normalised by the VAE's mean and standard deviation.
Nothing here keeps gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image

from ipa_bench.models.wan.outline import AT_ONCE, TEXT
from ipa_bench.types import UInt8

#: a loaded ``diffusers.WanVACEPipeline``; its parts are set at run time, so a type checker knows none of them
Pipe: TypeAlias = Any


def size_step(pipe: Pipe) -> int:
    """Width and height of what the model makes are multiples of this many pixels."""
    return int(pipe.vae_scale_factor_spatial * pipe.transformer.config.patch_size[1])


def grid(pipe: Pipe, frames: int, size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    """The smallest (frames, (width, height)) that the VAE and the patches allow and that holds what is asked for.

    Frames are a multiple of four plus one: ``AutoencoderKLWan`` encodes four at a time after the first, whatever its
    temporal factor, and drops the rest. Raises ``ValueError`` for less than 1.
    """
    if frames < 1 or min(size) < 1:
        raise ValueError(f"at least one frame of one pixel, got {frames} of {size[0]}x{size[1]}")
    step, time = size_step(pipe), math.lcm(AT_ONCE, int(pipe.vae_scale_factor_temporal))
    width, height = (-(-side // step) * step for side in size)
    return -(-(frames - 1) // time) * time + 1, (width, height)


def fill(frames: UInt8, count: int, size: tuple[int, int]) -> UInt8:
    """Frames uint8 ``[T, H, W, 3]`` grown to ``count`` and ``size`` (width, height) by repeating the last of each."""
    length, height, width = frames.shape[:3]
    grown = ((0, count - length), (0, size[1] - height), (0, size[0] - width), (0, 0))
    return np.pad(frames, grown, mode="edge")


@torch.no_grad()
def control_latents(pipe: Pipe, pose: UInt8, *references: UInt8) -> torch.Tensor:
    """The control latents that Wan-VACE is given for a pose video and the reference images of its people.

    ``pose`` uint8 ``[T, H, W, 3]`` on the :func:`grid`: all of it is to be painted anew (mask 1). ``references`` uint8
    ``[H', W', 3]`` of any sizes: fitted into H × W on white, each as one latent frame in front, in their order. So the
    authors' code has them (``vace/models/wan/wan_vace.py`` of ali-vilab/VACE at 48eb44f); ``WanVACEPipeline`` puts each
    before those that it has, so it is given them from the last to the first.
    Returns ``[1, vace_in_channels, T' + n_ref, h, w]`` in the transformer's dtype. Raises ``ValueError`` off the grid,
    and for more references than the clip has latent frames: the pipeline gives them a mask that is too short.
    """
    count, height, width = pose.shape[:3]
    most = (count - 1) // int(pipe.vae_scale_factor_temporal) + 1
    if len(references) > most:
        raise ValueError(f"{len(references)} references for a clip of {most} latent frames")
    if grid(pipe, count, (width, height)) != (count, (width, height)):
        raise ValueError(f"{count} frames of {width}x{height} are off the grid: {grid(pipe, count, (width, height))}")
    device = pipe._execution_device
    images = [Image.fromarray(frame) for frame in pose]
    pictures = [Image.fromarray(picture) for picture in reversed(references)] or None
    video, mask, people = pipe.preprocess_conditions(
        images, None, pictures, 1, height, width, count, torch.float32, device
    )
    with _blank_once(pipe.vae):
        latents = pipe.prepare_video_latents(video, mask, people, None, device)
    control = torch.cat([latents, pipe.prepare_masks(mask, people)], dim=1)
    return control.to(pipe.transformer.dtype)


@contextmanager
def _blank_once(vae: Any) -> Iterator[None]:
    """While entered, a blank video is encoded once for each size: it is the part that is kept, and none is kept."""
    whole = vae.encode
    known: dict[tuple[int, ...], Any] = vae.__dict__.setdefault("_blank", {})

    def encode(x: torch.Tensor, *args: Any, **options: Any) -> Any:
        if bool(x.any()):
            return whole(x, *args, **options)
        if tuple(x.shape) not in known:
            known.clear()  # a run has one size, or a few in turn
            known[tuple(x.shape)] = whole(x, *args, **options)
        return known[tuple(x.shape)]

    vae.encode = encode
    try:
        yield
    finally:
        del vae.encode


@torch.no_grad()
def encode_video(pipe: Pipe, frames: UInt8) -> torch.Tensor:
    """The float32 latents ``[1, z_dim, T', h, w]`` of a clip uint8 ``[T, H, W, 3]`` on the :func:`grid`.

    They are the mode of the VAE's distribution, not drawn from it: what ``WanVACEPipeline.prepare_video_latents`` makes
    of the masked part of a video.
    """
    from diffusers.pipelines.wan.pipeline_wan_vace import retrieve_latents

    height, width = frames.shape[1:3]
    pixels = pipe.video_processor.preprocess_video([Image.fromarray(frame) for frame in frames], height, width)
    pixels = pixels.to(device=pipe._execution_device, dtype=pipe.vae.dtype)
    latents = retrieve_latents(pipe.vae.encode(pixels), sample_mode="argmax").float()
    mean, scale = _statistics(pipe, latents)
    normalised: torch.Tensor = (latents - mean) * scale
    return normalised


def flow_input(control: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """What the flow is over: the latents of a clip with those of its reference images in front.

    ``control`` ``[B, vace_in_channels, T' + n_ref, h, w]`` of :func:`control_latents`; ``latents``
    ``[B, z_dim, T', h, w]`` of :func:`encode_video`. Returns ``[B, z_dim, T' + n_ref, h, w]`` in the dtype of
    ``latents``; n_ref is the difference of their lengths. The pipeline makes these frames too and drops them
    (``num_reference_images``), so a loss leaves them out or weights them as ordinary frames.
    """
    references = control.shape[2] - latents.shape[2]
    if references < 0:
        raise ValueError(f"control has {control.shape[2]} latent frames, the clip {latents.shape[2]}")
    return torch.cat([control[:, : latents.shape[1], :references].to(latents), latents], dim=2)


@torch.no_grad()
def decode_latents(pipe: Pipe, latents: torch.Tensor) -> UInt8:
    """The clip uint8 ``[T, H, W, 3]`` of latents ``[1, z_dim, T', h, w]`` without reference frames.

    Raises ``FloatingPointError`` where the latents or the pixels are not finite.
    """
    latents = latents.to(pipe.vae.dtype)
    mean, scale = _statistics(pipe, latents)
    pixels = pipe.vae.decode(latents / scale + mean, return_dict=False)[0].float()
    if not bool(torch.isfinite(pixels).all()):  # uint8 has no NaN: what is not a number would become black
        raise FloatingPointError("the model's output is not finite")
    video = pipe.video_processor.postprocess_video(pixels, output_type="np")[0]
    return np.asarray((video * 255).round(), np.uint8)


class Prompts:
    """Prompt embeddings of a pipeline, each text encoded once."""

    def __init__(self, pipe: Pipe, load: Callable[[], Any] | None = None) -> None:
        """``load`` gives the text encoder where the pipeline has none yet, on the device."""
        self._pipe, self._load = pipe, load
        #: embeddings ``[tokens, width]`` that were made; others may have, and find them there
        self.kept: MutableMapping[str, torch.Tensor] = {}
        #: of each text, padding included
        self.tokens = min(TEXT, int(pipe.tokenizer.model_max_length))

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        """Embeddings ``[B, tokens, text_dim]`` in the transformer's dtype; tokens are 512 or the tokenizer's limit."""
        # one by one: the same numbers whatever else is in the batch
        found = {text: self._one(text) for text in dict.fromkeys(texts)}
        return torch.cat([found[text] for text in texts])

    def _one(self, text: str) -> torch.Tensor:
        pipe = self._pipe
        kept = self.kept.get(text)
        if kept is not None:
            return kept[None].to(pipe._execution_device, pipe.transformer.dtype)
        if pipe.text_encoder is None and self._load is not None:
            pipe.text_encoder = self._load()
        found: torch.Tensor = pipe.encode_prompt(
            text, do_classifier_free_guidance=False, max_sequence_length=self.tokens
        )[0].to(pipe.transformer.dtype)
        self.kept[text] = found[0]
        return found


def _statistics(pipe: Pipe, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and 1 / standard deviation of the VAE's latents, each ``[1, z_dim, 1, 1, 1]``; so the pipeline rounds."""
    config = pipe.vae.config
    mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1).to(like) for v in (config.latents_mean, config.latents_std))
    return mean, 1.0 / std
