"""The published architectures: sizes agree with the published files, and the 1.3B shape runs end to end."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers")

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanAnimateTransformer3DModel,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)

from ipa_bench import video
from ipa_bench.models.specs import WanVaceSpec
from ipa_bench.models.wan import published
from ipa_bench.models.wan.pipeline import scheduler_of
from ipa_bench.types import Case
from tests import tiny_wan
from tests.clips import smooth
from tests.tiny_wan import generator as WanVaceModel


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


CLASSES = [(model, WanVACETransformer3DModel) for model in published.MODELS] + [
    (model, WanTransformer3DModel) for model in published.PHANTOM
]
CLASSES.append((published.ANIMATE_14B, WanAnimateTransformer3DModel))


@pytest.mark.parametrize(("model", "kind"), CLASSES, ids=lambda m: getattr(m, "file", None))
def test_parameters_agree_with_the_published_file(model: published.Published, kind: Any) -> None:
    with torch.device("meta"):
        transformer = kind(**model.transformer)
    assert parameters(transformer) == model.parameters
    expected = 0
    for name, value in transformer.named_parameters():
        narrow = not model.wide or (name.startswith("blocks.") and value.ndim == 2)
        expected += value.numel() * (model.value_bytes if narrow else 4)
    assert abs(expected - model.file_bytes) < model.file_within
    assert 0 < (model.boundary or 0.5) < 1


def test_the_autoencoder_agrees_with_the_published_file() -> None:
    with torch.device("meta"):
        vae = AutoencoderKLWan(**published.VAE)
    assert parameters(vae) == published.VAE_PARAMETERS
    assert 0 < published.VAE_FILE_BYTES - 4 * published.VAE_PARAMETERS < 100_000  # a pickle's names
    assert 2 * published.VAE["z_dim"] + 8 * 8 == published.VACE_1_3B.transformer["vace_in_channels"]


@pytest.mark.parametrize("model", published.MODELS, ids=lambda m: m.name)
def test_a_pipeline_of_the_published_shape_gives_the_factors_that_sizes_depend_on(model: published.Published) -> None:
    from ipa_bench.models.wan.conditioning import grid

    with torch.device("meta"):
        vae, transformer = AutoencoderKLWan(**published.VAE), WanVACETransformer3DModel(**model.transformer)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=published.SHIFT)
    pipe = WanVACEPipeline(tiny_wan.tokenizer(), tiny_wan.text_encoder(), vae, scheduler, transformer)
    assert grid(pipe, 81, (832, 480)) == (81, (832, 480))
    assert grid(pipe, 80, (820, 470)) == (81, (832, 480))
    pipe.scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, num_train_timesteps=1000
    )
    assert scheduler_of(pipe, 5.0).config.flow_shift == 5.0
    assert scheduler_of(pipe).config.flow_shift == 3.0


@pytest.mark.slow
def test_the_1_3b_shape_runs_end_to_end_with_random_weights(tmp_path: Path) -> None:
    """Saved and loaded in bf16 as the hub's folder would be. Only the text encoder is small: one layer, 4096 wide."""
    begin = time.monotonic()
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)  # or the transformer alone would take 8.6 GB
    try:
        transformer = WanVACETransformer3DModel(**published.VACE_1_3B.transformer)
        text = tiny_wan.text_encoder(4096)
    finally:
        torch.set_default_dtype(torch.float32)
    vae = AutoencoderKLWan(**published.VAE)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=published.SHIFT)
    WanVACEPipeline(tiny_wan.tokenizer(), text, vae, scheduler, transformer).save_pretrained(tmp_path / "model")
    del transformer, text, vae
    built = time.monotonic()
    video.encode(smooth(5, 48, 64), tmp_path / "wave.mp4", 16, crf=0)
    case = Case("wave", tmp_path / "wave.mp4", pose=tmp_path / "wave.mp4", prompt="a woman waves")
    spec = WanVaceSpec(name="big", kind="wan_vace", model=str(tmp_path / "model"), steps=2, guidance=5.0, shift=3.0)
    model = WanVaceModel(spec, tmp_path / "clips")
    loaded = time.monotonic()
    path = model.generate(case, 0)
    made = video.load(path)
    assert made.frames.shape == (5, 48, 64, 3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = [round(t, 1) for t in (built - begin, loaded - built, time.monotonic() - loaded)]
    print(f"build, load, generate: {seconds} s; peak {peak:.1f} GiB")
