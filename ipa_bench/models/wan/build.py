"""The parts of a Wan model on a device: read from a folder, or with random weights made right there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, TypeVar

import diffusers
import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler
from torch import nn

from ipa_bench.models.checkpoint import FIRST, SECOND
from ipa_bench.models.wan.base import WanBase
from ipa_bench.models.wan.convolution import quicken
from ipa_bench.models.wan.outline import WanVaceOutline
from ipa_bench.models.wan.pipeline import DTYPES
from ipa_bench.models.wan.published import SHIFT

B = TypeVar("B", bound=WanBase)
#: deviation of random weights: that of the usual initialisation at the width of Wan
_DEVIATION = 0.02


def transformer(outline: WanVaceOutline, dtype: str, device: torch.device, seed: int = 0, network: str = FIRST) -> Any:
    """A transformer of the outline's class in ``dtype`` (``bf16``, ``fp32``; norms stay fp32, as diffusers keeps them).

    Random weights are made on the device, tensor by tensor: no second copy is held anywhere, so that 14B parameters
    need no more than their own place.
    """
    kind: Any = getattr(diffusers, outline.classes[0])
    if outline.folder is not None:
        loaded: Any = kind.from_pretrained(
            outline.folder / network,
            torch_dtype=DTYPES[dtype],
            use_safetensors=True,
            local_files_only=True,
        )
        return loaded.to(device)
    with torch.device("meta"):
        config = outline.second if network == SECOND and outline.second is not None else outline.transformer
        made: Any = kind.from_config(dict(config))
    _materialise(made, DTYPES[dtype], device, seed)
    about = made.config
    made.rope = type(made.rope)(about.attention_head_dim, about.patch_size, about.rope_max_seq_len).to(device)
    if hasattr(made, "motion_encoder"):
        _blur(made.motion_encoder, about, device)
    if any(buffer.is_meta for buffer in made.buffers()):
        raise RuntimeError("a buffer of the transformer has no values")
    return made.eval()


def _blur(encoder: Any, config: Any, device: torch.device) -> None:
    """Kernels of Wan-Animate's motion encoder: no parameters, and worked out where it is made."""
    real = type(encoder)(
        size=config.motion_encoder_size, style_dim=config.motion_style_dim, motion_dim=config.motion_dim,
        out_dim=config.motion_encoder_dim, channels=config.motion_encoder_channel_sizes,
    )  # fmt: skip
    for name, buffer in real.named_buffers():
        owner, _, leaf = name.rpartition(".")
        setattr(encoder.get_submodule(owner), leaf, buffer.to(device))


def _materialise(model: Any, dtype: torch.dtype, device: torch.device, seed: int) -> None:
    """Give every parameter on the meta device a place and values."""
    generator = torch.Generator(device).manual_seed(seed)
    kept = set(model._keep_in_fp32_modules)
    for name, parameter in list(model.named_parameters()):
        wide = torch.float32 if kept & set(name.split(".")) else dtype
        value = torch.empty(parameter.shape, dtype=wide, device=device)
        if parameter.ndim > 1:
            value.normal_(0, _DEVIATION, generator=generator)
        else:  # a norm's scale, or a bias
            value.fill_(1.0 if name.endswith("weight") else 0.0)
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, nn.Parameter(value, requires_grad=False))


def base(
    kind: type[B], outline: WanVaceOutline, dtype: str, device: torch.device, seed: int = 0, *, decodes: bool = True
) -> B:
    """The model, a ``kind``, that samples and, unless told otherwise, decodes.

    It has no text encoder: a prompt is encoded once, not once a clip.
    """
    one = transformer(outline, dtype, device, seed)
    two = None if outline.second is None else transformer(outline, dtype, device, seed + 1, SECOND)
    if not decodes:
        config = SimpleNamespace(boundary_ratio=outline.boundary)
        return kind(SimpleNamespace(transformer=one, transformer_2=two, config=config))
    torch.manual_seed(seed)
    if outline.folder is not None:
        vae: Any = AutoencoderKLWan.from_pretrained(
            outline.folder / "vae", torch_dtype=torch.float32, use_safetensors=True, local_files_only=True
        )
    else:
        vae = AutoencoderKLWan.from_config(dict(outline.vae))
    quicken(vae)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=SHIFT)
    parts = {"tokenizer": None, "text_encoder": None, "vae": vae.to(device).eval(), "scheduler": scheduler}
    experts = {} if two is None else {SECOND: two, "boundary_ratio": outline.boundary}
    return kind(getattr(diffusers, outline.classes[1])(**parts, transformer=one, **experts, **outline.absent))
