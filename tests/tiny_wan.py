"""A WanVACE pipeline with random weights that is small enough for tests: 4x space, 2x time, 30 k parameters."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

#: How far a clip may be from 255 times the pipeline's pixels: half a level is its own rounding to 8 bits, and some
#: processors' kernels add up in another order where memory lies otherwise, which turns the odd pixel to the other side.
ROUNDED = 0.51


def tokenizer() -> Any:
    """Bytes as tokens, and the two specials that the text encoder needs."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<pad>", "</s>", *alphabet])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="</s>", model_max_length=512)


def text_encoder(width: int = 16) -> Any:
    """One layer of UMT5."""
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(
        vocab_size=258, d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2, pad_token_id=0, eos_token_id=1
    )
    return UMT5EncoderModel(config)


#: of the transformers
SHAPE: dict[str, Any] = {
    "num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4, "out_channels": 4, "text_dim": 16,
    "freq_dim": 16, "ffn_dim": 64, "num_layers": 2, "rope_max_seq_len": 64,
}  # fmt: skip


def vae() -> Any:
    """Spatial factor 4, temporal factor 2, 4 channels."""
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(
        base_dim=8, z_dim=4, dim_mult=[1, 2, 4], num_res_blocks=1, attn_scales=[], temperal_downsample=[False, True],
        latents_mean=[0.1, -0.2, 0.0, 0.3], latents_std=[1.0, 0.5, 2.0, 1.5], scale_factor_temporal=2,
        scale_factor_spatial=4,
    )  # fmt: skip


def pipeline(seed: int = 0, experts: int = 1) -> Any:
    """A WanVACEPipeline whose output is noise and follows its inputs. Spatial factor 4 x patch 2, temporal factor 2.

    With two ``experts`` the second is for noise levels below 0.875.
    """
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, WanVACEPipeline, WanVACETransformer3DModel

    torch.manual_seed(seed)
    shape = {**SHAPE, "vace_layers": [0], "vace_in_channels": 2 * 4 + 4 * 4}
    made = vae()
    transformers = [WanVACETransformer3DModel(**shape) for _ in range(experts)]
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    boundary = {"boundary_ratio": 0.875} if experts == 2 else {}
    return WanVACEPipeline(tokenizer(), text_encoder(), made, scheduler, *transformers, **boundary)


def phantom(seed: int = 0) -> Any:
    """A WanPipeline as Phantom's, of the same sizes."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel

    torch.manual_seed(seed)
    made, transformer = vae(), WanTransformer3DModel(**SHAPE)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return WanPipeline(tokenizer(), text_encoder(), made, scheduler, transformer)


def animate(seed: int = 0) -> Any:
    """A WanAnimatePipeline: spatial factor 8, temporal factor 4, faces of 16 pixels, an image of 5 tokens."""
    import torch
    from diffusers import (
        AutoencoderKLWan,
        FlowMatchEulerDiscreteScheduler,
        WanAnimatePipeline,
        WanAnimateTransformer3DModel,
    )
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(seed)
    made = AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, attn_scales=[])
    transformer = WanAnimateTransformer3DModel(
        **{**SHAPE, "in_channels": 36, "out_channels": 16}, latent_channels=16, image_dim=8, added_kv_proj_dim=32,
        motion_encoder_channel_sizes={"4": 8, "8": 8, "16": 8}, motion_encoder_size=16, motion_style_dim=8,
        motion_dim=4, motion_encoder_dim=16, face_encoder_hidden_dim=16, face_encoder_num_heads=2,
        inject_face_latents_blocks=2,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8
    )
    sizes = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    return WanAnimatePipeline(
        tokenizer(), text_encoder(), made, FlowMatchEulerDiscreteScheduler(shift=5.0), CLIPImageProcessor(**sizes),
        CLIPVisionModel(vision), transformer,
    )  # fmt: skip


def base(seed: int = 0) -> Any:
    """The pipeline as trainers and generators see it."""
    from ipa_bench.models.wan.vace import WanVace

    return WanVace(pipeline(seed))


def generator(spec: Any, folder: Path, *, pipe: Any = None, **options: Any) -> Any:
    """A generator of clips, with the weights of a pipeline where one is given."""
    from ipa_bench.models.generator import Generator
    from ipa_bench.models.wan.vace import WanVace

    return Generator(spec, folder, base=None if pipe is None else WanVace(pipe), **options)


def denoise(
    pipe: Any, scheduler: Any, latents: Any, control: Any, prompt: Any, negative: Any, *, steps: int, guidance: float
) -> Any:
    """Latents of a pipeline's clips, sampled as generators do it."""
    from ipa_bench.models.generator import denoise
    from ipa_bench.models.wan.vace import WanVace

    made = WanVace(pipe)
    ladder = made.ladder({"control": control, "prompt": prompt}, negative, guidance)
    return denoise(made, scheduler, latents, ladder, steps)


def save(folder: Path, seed: int = 0, experts: int = 1) -> Path:
    """The pipeline as a diffusers folder."""
    return _copied(_saved(seed, experts), folder)


def save_lora(folder: Path, seed: int = 1) -> Path:
    """A LoRA of the pipeline's attention, with weights that change the output."""
    return _copied(_saved_lora(seed), folder)


def _copied(kept: Path, folder: Path) -> Path:
    import torch

    shutil.copytree(kept, folder, dirs_exist_ok=True)
    torch.manual_seed(0)  # whether it was made now or before
    return folder


def _kept() -> Path:
    """A folder as long as this process lives: most tests begin with the same pipeline."""
    folder = Path(tempfile.mkdtemp(prefix="tiny-wan-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def _saved(seed: int, experts: int) -> Path:
    folder = _kept()
    pipeline(seed, experts).save_pretrained(folder)
    return folder


@functools.cache
def _saved_lora(seed: int) -> Path:
    import torch
    from diffusers import WanVACEPipeline
    from peft import LoraConfig, get_peft_model_state_dict

    pipe, folder = pipeline(), _kept()
    pipe.transformer.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"]))
    torch.manual_seed(seed)
    state = {name: torch.randn_like(value) for name, value in get_peft_model_state_dict(pipe.transformer).items()}
    WanVACEPipeline.save_lora_weights(folder, transformer_lora_layers=state)
    return folder
