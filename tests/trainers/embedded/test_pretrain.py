"""Pretraining: conditioning as the pipeline's, configs checked, a run that reproduces and ends in a loadable folder."""

from __future__ import annotations

import json
import os
import signal
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ipa_bench.embedded import estimator, world
from ipa_bench.embedded.group import cases
from ipa_bench.embedded.group.setting import Key
from ipa_bench.errors import UserError
from ipa_bench.models.wan import conditioning
from tests.forked import Server
from tests.verbs import verb
from trainers.embedded import config, latents, pretrain, tiny
from trainers.embedded import transformer as flow_stage
from trainers.embedded import vae as vae_stage
from trainers.embedded.config import Phase

SMALL = """
seed = 5
[data]
identities = 2
takes = 1
[vae]
z_dim = 8
encoder_dim = 4
decoder_dim = 4
dim_mult = [2, 4, 4]
kl = 1e-4
hand_weight = 3.0
lr = 0.01
lr_rest = 1e-3
ema = 0.9
phases = [
    { steps = 3, batch = 2, frames = 1, crop = 32 },
    { steps = 2, batch = 1, frames = 5, crop = 32 },
]
[transformer]
heads = 2
head_dim = 16
layers = 2
vace_layers = [0]
ffn_dim = 32
lr = 0.01
lr_rest = 1e-3
ema = 0.9
patch = [1, 2]
gate_every = 4
gate_people = 1
stages = [
    { source = "stills", steps = 3, batch = 2, people = 2, every = 2, keep = 0.5 },
    { source = "clips", steps = 2, batch = 1, people = 2, frames = 3 },
]
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def trained(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    assert verb("embedded", "pretrain", small, "--out", out, "--jobs", 1, "--world-ahead") == 0
    return out


def log(out: Path, stage: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / f"{stage}.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_it_ends_in_a_folder_that_the_pipeline_opens(trained: Path) -> None:
    from diffusers import WanVACEPipeline

    pipe: Any = WanVACEPipeline.from_pretrained(trained / "checkpoint", dtype=torch.float32)  # type: ignore[no-untyped-call]
    assert (pipe.vae_scale_factor_spatial, pipe.vae_scale_factor_temporal) == (tiny.SPACE, tiny.TIME)
    pipe.set_progress_bar_config(disable=True)
    clip = world.clip("test", 0, 0)
    video = torch.from_numpy(clip.frames).permute(0, 3, 1, 2)[None].float() / 255
    out = pipe(
        prompt="a person", video=video, height=128, width=128, num_frames=17, num_inference_steps=1, guidance_scale=1.0
    ).frames[0]
    assert out.shape == (17, 128, 128, 3)
    assert not list((trained / "checkpoint").rglob("*.bin"))


def test_the_control_is_the_pipelines(trained: Path) -> None:
    from diffusers import WanVACEPipeline

    pipe: Any = WanVACEPipeline.from_pretrained(trained / "checkpoint", dtype=torch.float32)  # type: ignore[no-untyped-call]
    clip, reference = world.clip("test", 1, 0), world.reference("test", 1, 0)
    expected = conditioning.control_latents(pipe, clip.frames, reference)

    ours = flow_stage.control(
        latents.encoded(pipe.vae, latents.pixels(reference[None, None])),
        latents.encoded(pipe.vae, latents.pixels(clip.frames[None])),
        latents.encoded(pipe.vae, torch.zeros(1, 3, 17, 128, 128)),
    )
    assert ours.shape == expected.shape
    # training may encode in bf16
    torch.testing.assert_close(ours, expected, atol=0.2, rtol=0.05)


def test_two_people_are_conditioned_as_the_pipeline_does_and_learned(trained: Path, tmp_path: Path) -> None:
    from diffusers import WanVACEPipeline

    pipe: Any = WanVACEPipeline.from_pretrained(trained / "checkpoint", dtype=torch.float32)  # type: ignore[no-untyped-call]
    pipe.vae.requires_grad_(False)

    def prompts(texts: tuple[str, ...]) -> torch.Tensor:
        return pretrain.encode_prompts(pipe.tokenizer, pipe.text_encoder, texts)

    shards = latents.Shards(tmp_path, "pairs", 1, pipe.vae, prompts, half=False)
    data = shards[0]
    batch = flow_stage.batch_of([(data, 0, 0)], 9, shards.empty, torch.device("cpu"))
    made = cases.arrays(Key(2, "train", latents.FIRST), estimator.MILD)
    expected = conditioning.control_latents(pipe, made.poses, *made.references)
    assert batch.references == 2
    torch.testing.assert_close(batch.control, expected, atol=2e-2, rtol=1e-2)

    settings = config.PretrainConfig.model_validate(tomllib.loads(SMALL)).transformer
    turns = [{"source": kind, "batch": 1, "people": 1, "frames": 9, "keep": 0.4} for kind in ("clips", "pairs")]
    stage = config.Stage.model_validate({"steps": 4, "turns": turns})
    settings = settings.model_copy(update={"stages": (stage,), "reference_weight": 0.0})
    pools: Any = {"pairs": shards, "clips": None}
    rng = np.random.default_rng(0)
    loss, metrics = flow_stage.flow_loss(pipe.transformer, pools, settings, False, None, 1, rng)
    torch.autograd.backward(loss)
    assert pipe.transformer.proj_out.weight.grad.abs().sum() > 0
    assert metrics["frames"] == 9


def test_prompts_are_encoded_as_the_pipeline_does(trained: Path) -> None:
    from diffusers import WanVACEPipeline

    pipe: Any = WanVACEPipeline.from_pretrained(trained / "checkpoint", dtype=torch.float32)  # type: ignore[no-untyped-call]
    texts = ("a person with long hair, plain shirt", "someone")
    ours = pretrain.encode_prompts(pipe.tokenizer, pipe.text_encoder, texts)
    torch.testing.assert_close(ours, conditioning.Prompts(pipe).encode(texts), atol=1e-5, rtol=0)
    assert not torch.equal(ours[0], ours[1])


def test_killed_and_started_again_it_gives_the_same_losses(
    training_server: Server, trained: Path, small: Path, tmp_path: Path
) -> None:
    """In another process too, and whether the world is made ahead, as in ``trained``, or as it is needed."""
    out, said = tmp_path / "out", tmp_path / "said"
    command: list[object] = ["embedded", "pretrain", small, "--out", out, "--jobs", 1]
    process = training_server.start(command, tmp_path, os.environ, said)
    deadline = time.monotonic() + 120
    while not (out / "vae.jsonl").exists() and process.wait(0) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.signal(signal.SIGKILL)
    process.wait()
    done = training_server.run(command, tmp_path, os.environ, said)
    assert done.returncode == 0, done.stderr
    for stage in ("vae", "transformer"):
        assert log(out, stage) == log(trained, stage)


def test_reconstruction_loss_by_hand() -> None:
    true = torch.zeros(1, 3, 1, 2, 2)
    made = true.clone()
    made[..., 0, 0] = 0.4
    hands = torch.zeros(1, 1, 1, 2, 2)
    # pixel: 0.4 of 4 pixels; across and down: one of two pairs in each direction differs by 0.4
    loss, metrics = vae_stage.reconstruction_loss(made, true, hands, hand_weight=3.0)
    assert loss.item() == pytest.approx(0.1 + 0.5 * (0.2 + 0.2))
    assert metrics["psnr"] == pytest.approx(10 * np.log10(4 / (0.16 / 4)))
    hands[..., 0, 0] = 1
    weighted, _ = vae_stage.reconstruction_loss(made, true, hands, hand_weight=3.0)
    assert weighted.item() == pytest.approx(0.3 + 0.5 * (0.2 + 0.2))


def test_phases_follow_one_another() -> None:
    phases = [Phase(steps=3, batch=1, frames=1, crop=8), Phase(steps=2, batch=1, frames=5, crop=8)]
    assert [vae_stage.phase_of(phases, step).frames for step in (0, 2, 3, 4, 9)] == [1, 1, 5, 5, 5]


def test_shards_join_as_their_kind_is_trained_on() -> None:
    def stage(steps: int, every: int, *sources: str) -> config.Stage:
        turns = [{"source": source, "batch": 1} for source in sources]
        return config.Stage.model_validate({"steps": steps, "every": every, "turns": turns})

    stages = [stage(5, 2, "stills"), stage(4, 2, "clips"), stage(4, 3, "clips", "pairs")]
    steps = (0, 1, 2, 4, 5, 7, 9, 11, 12, 15)
    assert [flow_stage.reached(stages, "stills", step) for step in steps] == [1, 1, 2, 3, 3, 3, 3, 3, 3, 3]
    assert [flow_stage.reached(stages, "clips", step) for step in steps] == [1, 1, 1, 1, 1, 2, 3, 3, 4, 5]
    assert [flow_stage.reached(stages, "pairs", step) for step in steps] == [1, 1, 1, 1, 1, 1, 1, 1, 2, 3]


def test_a_wrong_key_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(SMALL.replace("hand_weight", "hand_wieght"))
    with pytest.raises(UserError, match="hand_wieght") as error:
        config.load(path)
    assert "hand_weight" in error.value.fix + error.value.problem
