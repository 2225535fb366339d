"""What making a clip costs with the tiny model: a denoising step, decoding latents, and writing the video.

    pytest benchmarks/performance/test_sampling.py --benchmark-only

Shares of the whole clip are in ``extra_info``: absolute times belong to the machine.
"""

import time
from statistics import median

import numpy as np
import pytest
import torch

from ipa_bench import video
from ipa_bench.models.checkpoint import locate
from ipa_bench.models.specs import WanVaceSpec
from ipa_bench.models.wan import conditioning
from ipa_bench.models.wan.convolution import quicken
from ipa_bench.models.wan.pipeline import load, scheduler_of

STEPS = 6
ROUNDS = 5


@pytest.fixture(scope="module")
def pipe():
    spec = WanVaceSpec(name="tiny", kind="wan_vace", model="embedded", dtype="fp32")
    return load(spec, locate(spec), "cpu")


@pytest.fixture(scope="module")
def inputs(pipe):
    """Control, noise and prompt of a clip of the built-in world."""
    frames = np.random.default_rng(0).integers(0, 255, (17, 128, 128, 3), dtype=np.uint8)
    with torch.inference_mode():
        control = conditioning.control_latents(pipe, frames, frames[0])
        prompt = conditioning.Prompts(pipe).encode(["a person"])
    noise = torch.randn(1, pipe.transformer.config.in_channels, *control.shape[2:])
    return control, noise, prompt


def sample(pipe, inputs, steps):
    """Latents after so many steps."""
    control, noise, prompt = inputs
    return denoise(pipe, scheduler_of(pipe, None), noise, control, prompt, None, steps=steps, guidance=1.0)


def decode(pipe, latents, half):
    """Frames of latents; ``half``: in bf16, as candidates are decoded."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        return conditioning.decode_latents(pipe, latents[:, :, 1:])


def test_a_denoising_step(benchmark, pipe, inputs):
    """One pass of the transformer with everything around it."""
    latents = benchmark(lambda: sample(pipe, inputs, 1))
    assert torch.isfinite(latents).all()


def test_where_the_time_of_a_clip_goes(benchmark, pipe, inputs, tmp_path):
    """Denoising, decoding (fp32 and bf16) and encoding, in turn in the same run."""
    parts = {"denoise": [], "decode_fp32": [], "decode_bf16": [], "encode": []}

    def clip():
        begin = time.perf_counter()
        latents = sample(pipe, inputs, STEPS)
        parts["denoise"].append(time.perf_counter() - begin)
        for half, name in ((False, "decode_fp32"), (True, "decode_bf16")):
            begin = time.perf_counter()
            frames = decode(pipe, latents, half)
            parts[name].append(time.perf_counter() - begin)
        begin = time.perf_counter()
        video.encode(frames, tmp_path / "clip.mp4", 12.0)
        parts["encode"].append(time.perf_counter() - begin)

    benchmark.pedantic(clip, rounds=ROUNDS, warmup_rounds=1)
    seconds = {name: median(times[1:]) for name, times in parts.items()}
    whole = seconds["denoise"] + seconds["decode_fp32"] + seconds["encode"]
    benchmark.extra_info.update({f"{name}_share": value / whole for name, value in seconds.items()})
    assert video.probe(tmp_path / "clip.mp4").declared_frames == 17


def test_decoding_takes_the_fast_kernel(benchmark, pipe, inputs):
    """Of the library's own convolutions: about a half, in the same run."""
    _control, noise, _ = inputs
    latents = noise[:, :, 1:]
    taken = []
    for convolution in (True, False):
        if not convolution:
            for module in pipe.vae.modules():
                vars(module).pop("_conv_forward", None)
        begin = time.process_time()
        with torch.inference_mode():
            conditioning.decode_latents(pipe, latents)
        taken.append(time.process_time() - begin)
    quicken(pipe.vae)
    benchmark.extra_info["share of the library's processor time"] = round(taken[0] / taken[1], 3)
    with torch.inference_mode():
        benchmark(conditioning.decode_latents, pipe, latents)
    assert taken[0] < 0.8 * taken[1]
