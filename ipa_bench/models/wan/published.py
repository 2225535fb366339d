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
    #: bytes of a published file with this transformer at two bytes a value, and how exactly they are known
    file_bytes: int
    file_within: int
    file: str


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
MODELS = (VACE_1_3B, VACE_14B)

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
