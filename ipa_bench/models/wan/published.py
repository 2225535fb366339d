"""The published WanVACE architectures, as facts: what a user who has the weights will load.

Sources: Wan2.1's own configurations (width, heads, layers) and diffusers' ``scripts/convert_wan_to_diffusers.py`` and
class defaults (the rest). That they are right shows in the sizes of published files, which hold a header and a few
tensors of another precision beside the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Published:
    """One published model."""

    #: on the Hugging Face hub
    name: str
    #: arguments of ``WanVACETransformer3DModel``
    transformer: Mapping[str, Any]
    #: parameters of the transformer, VACE blocks included
    parameters: int
    #: bytes of a published file with this transformer, and how exactly they are known
    file_bytes: int
    file_within: int
    file: str
    #: where the second of two experts of this shape begins, as a share of the noise levels; None: there is one
    boundary: float | None = None
    #: bytes of a value in that file
    value_bytes: int = 2
    #: whether all but the matrices of blocks has four bytes a value there
    wide: bool = False


_COMMON: dict[str, Any] = {
    "patch_size": (1, 2, 2),
    "attention_head_dim": 128,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "vace_in_channels": 96,
}

_T2V = {key: value for key, value in _COMMON.items() if key != "vace_in_channels"}

VACE_1_3B = Published(
    "Wan-AI/Wan2.1-VACE-1.3B-diffusers",
    _COMMON | {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30, "vace_layers": list(range(0, 30, 2))},
    2_153_972_032,
    4_309_519_800,
    2_000_000,
    "Comfy-Org/Wan_2.1_ComfyUI_repackaged: wan2.1_vace_1.3B_fp16.safetensors",
)
VACE_14B = Published(
    "Wan-AI/Wan2.1-VACE-14B-diffusers",
    _COMMON | {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40, "vace_layers": list(range(0, 40, 5))},
    17_337_592_896,
    32_300 * 2**30 // 1000,  # listed as 32.3 GiB
    2**30 // 20,
    "Comfy-Org/Wan_2.1_ComfyUI_repackaged: wan2.1_vace_14B_fp16.safetensors",
)
#: two experts of the 14B's shape: alibaba-pai/Wan2.2-VACE-Fun-A14B, converted
VACE_FUN_14B = Published(
    "linoyts/Wan2.2-VACE-Fun-14B-diffusers",
    VACE_14B.transformer,
    VACE_14B.parameters,
    17_350_000_000,  # of each, listed as 17.35 GB, scales included
    15_000_000,
    "Comfy-Org/Wan_2.2_ComfyUI_Repackaged: wan2.2_fun_vace_high_noise_14B_fp8_scaled.safetensors",
    boundary=0.875,
    value_bytes=1,
)
#: named after what lies on the hub as a diffusers folder: the same but for the transformer's weights
PHANTOM_1_3B = Published(
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    _T2V | {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
    1_418_996_800,
    5_690_000_000,  # listed as about 5.69 GB
    20_000_000,
    "bytedance-research/Phantom: Phantom-Wan-1.3B.pth",
    value_bytes=4,
)
PHANTOM_14B = Published(
    "Wan-AI/Wan2.1-T2V-14B-Diffusers",
    _T2V | {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40},
    14_288_491_584,
    29_052_237_696,
    200_000,
    "Kijai/WanVideo_comfy: Phantom-Wan-14B_fp16.safetensors",
    wide=True,
)
ANIMATE_14B = Published(
    "Wan-AI/Wan2.2-Animate-14B-Diffusers",
    _T2V
    | {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40, "in_channels": 36, "latent_channels": 16}
    | {"image_dim": 1280, "added_kv_proj_dim": 5120, "motion_encoder_size": 512, "motion_encoder_dim": 512}
    | {"motion_style_dim": 512, "motion_dim": 20, "motion_encoder_channel_sizes": None}
    | {"face_encoder_hidden_dim": 1024, "face_encoder_num_heads": 4, "inject_face_latents_blocks": 5},
    17_274_816_884,
    34_500_000_000,  # listed as 34.5 GB
    100_000_000,
    "Comfy-Org/Wan_2.2_ComfyUI_Repackaged: wan2.2_animate_14B_bf16.safetensors",
)
MODELS = (VACE_1_3B, VACE_14B, VACE_FUN_14B)
PHANTOM = (PHANTOM_1_3B, PHANTOM_14B)

#: arguments of ``AutoencoderKLWan``, the same for both; means and deviations of its latents are the class's defaults
VAE: dict[str, Any] = {
    "base_dim": 96,
    "z_dim": 16,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_scales": [],
    "temperal_downsample": [False, True, True],
    "dropout": 0.0,
}
VAE_PARAMETERS = 126_892_531
#: of ``Wan2.1_VAE.pth``, float32
VAE_FILE_BYTES = 507_609_880
#: as the conversion script gives it to the scheduler
SHIFT = 3.0
