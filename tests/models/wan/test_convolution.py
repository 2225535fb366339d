"""The fast convolutions of the autoencoder are its own, for one clip and for several, and leave other types alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan

from ipa_bench.models.checkpoint import EMBEDDED_FOLDER
from ipa_bench.models.wan.convolution import quicken


@pytest.fixture(scope="module")
def vae() -> Any:
    return AutoencoderKLWan.from_pretrained(EMBEDDED_FOLDER, subfolder="vae", dtype=torch.float32).eval()


@pytest.mark.parametrize("count", [1, 2])
def test_it_gives_what_the_library_gives(vae: Any, count: int) -> None:
    fast = copy.deepcopy(vae)
    quicken(fast)
    torch.manual_seed(0)
    latents, clip = torch.randn(count, 32, 3, 8, 8), torch.rand(count, 3, 5, 64, 64) * 2 - 1
    with torch.inference_mode():
        assert torch.allclose(fast.decode(latents).sample, vae.decode(latents).sample, atol=1e-4)
        one, other = (each.encode(clip).latent_dist.mode() for each in (fast, vae))
        assert torch.allclose(one, other, atol=1e-4)


def test_it_takes_the_named_kernel_and_not_in_half_precision(vae: Any) -> None:
    fast = copy.deepcopy(vae)
    quicken(fast)
    latents = torch.randn(1, 32, 1, 4, 4)
    with torch.inference_mode(), torch.profiler.profile() as seen:
        fast.decode(latents)
    names = {event.key for event in seen.key_averages()}
    assert "aten::mkldnn_convolution" in names
    assert "aten::slow_conv3d_forward" not in names
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(fast.decode(latents).sample).all()


def test_gradients_pass(vae: Any) -> None:
    fast = copy.deepcopy(vae)
    quicken(fast)
    latents = torch.randn(1, 32, 1, 4, 4, requires_grad=True)
    fast.decode(latents).sample.square().mean().backward()
    ours = latents.grad
    latents.grad = None
    vae.decode(latents).sample.square().mean().backward()
    assert ours is not None
    assert latents.grad is not None
    assert torch.allclose(ours, latents.grad, atol=1e-5)
