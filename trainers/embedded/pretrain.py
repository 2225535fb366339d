"""Train the tiny Wan-VACE from scratch on the built-in world, and save it as an ordinary diffusers folder.

    ipa-bench embedded pretrain trainers/configs/tiny.toml --out runs/pretrain

Stages: render, vae, transformer, export. Each resumes where it stopped: give the same command again. Logs are
OUT/vae.jsonl and OUT/transformer.jsonl, one line a step, and OUT/transformer-watch.jsonl, errors on held-out people.
The checkpoint is OUT/checkpoint. The transformer's people are rendered and encoded as training reaches them, or
beforehand with --world-ahead.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor

from ipa_bench.engine import processes as pool
from ipa_bench.models.wan import blocks
from ipa_bench.nets.precision import half as half_precision
from trainers.embedded import config as configs
from trainers.embedded import fused, latents, tiny
from trainers.embedded import transformer as flow_stage
from trainers.embedded import vae as vae_stage
from trainers.embedded.config import PretrainConfig
from trainers.embedded.latents import Kind, Shards
from trainers.embedded.loop import Plan, Watch, train
from trainers.embedded.rendered import WorldData, rendered


def pretrain(
    file: Path, out: Path, stop_after: int | None = None, jobs: int | None = None, world_ahead: bool = False
) -> Path | None:
    """Run the stages of a configuration file, telling how far they are; see :func:`run`. Raises :class:`UserError`."""
    config = configs.load(file)
    out.mkdir(parents=True, exist_ok=True)
    jobs = jobs or pool.cores()
    torch.set_num_threads(jobs)
    with Bars() as bars:
        return run(config, out, stop_after, bars, jobs, world_ahead)


def run(
    config: PretrainConfig, out: Path, stop_after: int | None, bars: Bars, jobs: int = 1, world_ahead: bool = False
) -> Path | None:
    """All stages; the checkpoint's folder, or None where ``stop_after`` ended a stage early."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    half = half_precision(config.precision, device)
    torch.manual_seed(config.seed)
    vae = tiny.build_vae(config.vae).to(device)
    if not config.vae.start:
        data = rendered(out / "data", config.data.identities, config.data.takes, progress=bars.count)
        if not train_vae(config, vae, data, out, stop_after, bars, half):
            return None
        latents.measure(vae, data, half)
    vae.eval().requires_grad_(False)
    tokenizer, encoder = tiny.build_text(config.seed)
    make = partial(
        Shards, out / "world", vae=vae, prompts=partial(encode_prompts, tokenizer, encoder), half=half, jobs=jobs,
        progress=bars.count,
    )  # fmt: skip
    transformer, done = train_transformer(config, make, out, stop_after, bars, half, device, world_ahead)
    if not done:
        return None
    return export(out / "checkpoint", vae, transformer, tokenizer, encoder)


def train_vae(
    config: PretrainConfig, vae: Any, data: WorldData, out: Path, stop_after: int | None, bars: Bars, half: bool
) -> bool:
    """Train the autoencoder in place; whether its training is complete."""
    steps = sum(phase.steps for phase in config.vae.phases)
    plan = Plan("vae", config.seed, steps, config.vae.lr, config.vae.lr_rest, config.vae.ema)
    loss = partial(vae_stage.vae_loss, vae, data, config.vae, half)
    return train(plan, vae, loss, out, stop_after=stop_after, tell=bars.step)


def train_transformer(
    config: PretrainConfig,
    make: Callable[..., Shards],
    out: Path,
    stop_after: int | None,
    bars: Bars,
    half: bool,
    device: torch.device,
    world_ahead: bool,
) -> tuple[Any, bool]:
    """The transformer, and whether its training is complete. ``make(kind=, people=)`` gives the world's shards."""
    c = config.transformer
    torch.manual_seed(config.seed)
    transformer = tiny.build_transformer(c, config.vae.z_dim).to(device)
    kinds: dict[Kind, int] = {part.source: part.people for stage in c.stages for part in stage.turns}
    pools = {kind: make(kind=kind, people=people) for kind, people in kinds.items()}
    held_out = {kind: make(kind=kind, people=c.gate_people, split="val") for kind in kinds}
    if world_ahead:
        flow_stage.render_ahead(pools, c.stages)
    block = None
    if device.type == "cpu" and fused.fits(transformer):  # a GPU's own attention needs less memory
        block = blocks.compiled() if c.compile else blocks.block
    plan = Plan("transformer", config.seed, c.steps, c.lr, c.lr_rest, c.ema, half=half, plateau=c.plateau)
    loss = partial(flow_stage.flow_loss, transformer, pools, c, half, block)
    watch = Watch(c.gate_every, partial(flow_stage.gate, transformer, held_out, c.gate_people, half, block))
    done = train(plan, transformer, loss, out, stop_after=stop_after, watch=watch, tell=bars.step)
    return transformer.eval(), done


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
    pipe: Any = WanVACEPipeline(
        tokenizer=tokenizer, text_encoder=encoder, vae=vae, scheduler=tiny.build_scheduler(), transformer=transformer
    )
    pipe.to("cpu", torch.bfloat16)
    pipe.save_pretrained(part, safe_serialization=True)
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)
    return folder


class Bars:
    """Progress of the stages: bars on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, TextColumn("{task.fields[note]}"))
        self._tasks: dict[str, TaskID] = {}
        self._lines = not sys.stdout.isatty()

    def __enter__(self) -> Bars:
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
