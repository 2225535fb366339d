"""Train the tiny Wan-VACE from scratch on the built-in world, and save it as an ordinary diffusers folder.

    ipa-bench embedded pretrain trainers/configs/tiny.toml --out runs/pretrain

Stages: render, vae, latents, transformer, export. Each resumes where it stopped: give the same command again. Logs are
OUT/vae.jsonl and OUT/transformer.jsonl, one line a step; the checkpoint is OUT/checkpoint.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor

from trainers.embedded import config as configs
from trainers.embedded import latents, tiny
from trainers.embedded import transformer as flow_stage
from trainers.embedded import vae as vae_stage
from trainers.embedded.config import PretrainConfig
from trainers.embedded.loop import Plan, train
from trainers.embedded.rendered import WorldData, rendered


def pretrain(file: Path, out: Path, stop_after: int | None = None) -> Path | None:
    """Run the stages of a configuration file, telling how far they are; see :func:`run`. Raises :class:`UserError`."""
    config = configs.load(file)
    out.mkdir(parents=True, exist_ok=True)
    with _Bars() as bars:
        return run(config, out, stop_after, bars)


def run(config: PretrainConfig, out: Path, stop_after: int | None, bars: _Bars) -> Path | None:
    """All stages; the checkpoint's folder, or None where ``stop_after`` ended a stage early."""
    data = rendered(out / "data", config.data.identities, config.data.takes, progress=bars.count)
    vae, done = train_vae(config, data, out, stop_after, bars)
    if not done:
        return None
    latents.measure(vae, data)
    tokenizer, encoder = tiny.build_text(config.seed)
    prompts = encode_prompts(tokenizer, encoder, data.prompts)
    made = latents.latents(vae, prompts, data, out / "latents", bars.count)
    transformer, done = train_transformer(config, made, out, stop_after, bars)
    if not done:
        return None
    return export(out / "checkpoint", vae, transformer, tokenizer, encoder)


def train_vae(
    config: PretrainConfig, data: WorldData, out: Path, stop_after: int | None, bars: _Bars
) -> tuple[Any, bool]:
    """The autoencoder, and whether its training is complete."""
    torch.manual_seed(config.seed)
    vae = tiny.build_vae(config.vae)
    steps = sum(phase.steps for phase in config.vae.phases)
    plan = Plan("vae", config.seed, steps, config.vae.lr, config.vae.lr_rest, config.vae.ema)
    done = train(
        plan, vae, partial(vae_stage.vae_loss, vae, data, config.vae), out, stop_after=stop_after, tell=bars.step
    )
    return vae.eval().requires_grad_(False), done


def train_transformer(
    config: PretrainConfig, data: latents.LatentData, out: Path, stop_after: int | None, bars: _Bars
) -> tuple[Any, bool]:
    """The transformer, and whether its training is complete."""
    torch.manual_seed(config.seed)
    transformer = tiny.build_transformer(config.transformer, config.vae.z_dim)
    c = config.transformer
    plan = Plan("transformer", config.seed, c.steps, c.lr, c.lr_rest, c.ema, half=True)
    loss = partial(flow_stage.flow_loss, transformer, data, c.batch, c.drop_prompt)
    return transformer.eval(), train(plan, transformer, loss, out, stop_after=stop_after, tell=bars.step)


@torch.inference_mode()
def encode_prompts(tokenizer: Any, encoder: Any, prompts: tuple[str, ...]) -> Tensor:
    """Features of prompts ``[n, TEXT_LENGTH, TEXT_DIM]``, zeros after the end, as the pipeline's ``encode_prompt``."""
    tokens = tokenizer(
        list(prompts), padding="max_length", max_length=tiny.TEXT_LENGTH, truncation=True, return_tensors="pt"
    )
    features = encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
    return torch.as_tensor(features * tokens.attention_mask[..., None])


def export(folder: Path, vae: Any, transformer: Any, tokenizer: Any, encoder: Any) -> Path:
    """Save a folder that ``WanVACEPipeline.from_pretrained`` opens: bf16 safetensors."""
    from diffusers import WanVACEPipeline

    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    pipe: Any = WanVACEPipeline(  # type: ignore[no-untyped-call]
        tokenizer=tokenizer, text_encoder=encoder, vae=vae, scheduler=tiny.build_scheduler(), transformer=transformer
    )
    pipe.to(torch.bfloat16)
    pipe.save_pretrained(part, safe_serialization=True)
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)
    return folder


class _Bars:
    """Progress of the stages: bars on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, TextColumn("{task.fields[note]}"))
        self._tasks: dict[str, TaskID] = {}
        self._lines = not sys.stdout.isatty()

    def __enter__(self) -> _Bars:
        if not self._lines:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def count(self, stage: str, done: int, total: int) -> None:
        """Tell how far a stage is."""
        self.step(stage, done, total, {})

    def step(self, stage: str, done: int, total: int, metrics: Mapping[str, float]) -> None:
        """Tell how far a stage is, and its metrics."""
        note = " ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        if self._lines:
            if done % 100 == 0 or done == total:
                print(f"{stage} {done}/{total} {note}", flush=True)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total, note=note)
        self._progress.update(self._tasks[stage], completed=done, note=note)
