"""``ipa-bench embedded habits``: a base that draws good hands and bad ones of the same case, or mixes people up.

    ipa-bench embedded habits runs/wrong
    ipa-bench embedded habits runs/habits --wrong anatomy
    ipa-bench embedded habits runs/mixed --wrong identity

Trains a LoRA of the tiny Wan-VACE on people of whom every second one has fingers of a bad habit
(:mod:`ipa_bench.embedded.habits`): single frames, which are many and cheap and show missing, fused and added fingers,
and clips in turn. Or on people each of whom is shown twice, as they are and with both hands bent off their arms, or on
pairs, as they are and mixed up (:mod:`ipa_bench.embedded.group.footage`: exchanged, or one in the other's shirt).
Whether a sample is bad does not follow from anything that the model is told, so it has to draw some of both. It sees
some ten thousand samples, where a LoRA that is tuned on stored clips (:mod:`trainers.embedded.footage`) sees one
thousand in the same time; measured, those left no trace.

The base of the built-in suites was made by this recipe's forerunner, whose whole hands were wrong in four ways, and
which told them from right ones by the tokens that a step kept (reports/alignment). Ctrl-C stops it; the same command
goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ipa_bench.engine import processes as pool
from ipa_bench.errors import UserError
from ipa_bench.files import LORA_FILE, write_atomic
from ipa_bench.models.specs import EMBEDDED
from ipa_bench.models.wan import blocks
from ipa_bench.nets.precision import half as half_precision
from trainers import lora
from trainers.embedded import config as configs
from trainers.embedded import fused, latents, tiny
from trainers.embedded import transformer as flow_stage
from trainers.embedded.config import Part, PretrainConfig, Stage
from trainers.embedded.latents import Bad, Shards
from trainers.embedded.loop import Plan, train
from trainers.embedded.pretrain import Bars, encode_prompts

CONFIG = Path(__file__).parents[1] / "configs" / "tiny.toml"
RANK = 16
#: learning rate of Muon, which takes every matrix of a LoRA; shares of the updates before it falls
RATE, PLATEAU, AVERAGE = 0.01, 0.5, 0.99


@dataclass(frozen=True)
class Recipe:
    """What a habit is learned from."""

    steps: int
    #: kinds of samples, in turns
    parts: tuple[Part, ...]
    #: updates until the next shard of people joins
    every: int
    #: how much more that counts which may be wrong: hands, or the people of a pair
    weight: float


RECIPES: dict[Bad, Recipe] = {
    "anatomy": Recipe(
        400,
        (
            Part(source="stills", batch=32, keep=0.5, people=512),
            Part(source="clips", batch=4, frames=9, keep=0.4, people=64),
        ),
        every=200,
        weight=10.0,
    ),
    "hands": Recipe(
        900,
        (
            Part(source="stills", batch=32, keep=0.4, people=256),
            Part(source="clips", batch=4, frames=9, keep=0.4, people=64),
        ),
        every=225,
        weight=6.0,
    ),
    "identity": Recipe(
        900,
        (
            Part(source="pairs", batch=16, frames=1, keep=0.4, people=64),
            Part(source="pairs", batch=4, frames=9, keep=0.4, people=64),
        ),
        every=225,
        weight=3.0,
    ),
}


class LowRank(nn.Module):
    """A weight ``[out, in]`` with a change of low rank: ``weight + up @ down``, which begins at 0."""

    def __init__(self, out: int, inside: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, inside) / rank)
        self.up = nn.Parameter(torch.zeros(out, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """The changed weight."""
        return weight + self.up @ self.down


def adapt(transformer: nn.Module, rank: int) -> dict[str, LowRank]:
    """Give every linear layer of the blocks a :class:`LowRank`, all that is trained; by the layer's name."""
    transformer.requires_grad_(False)
    layers = {
        name: module
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(("blocks.", "vace_blocks.")) and "proj_" not in name
    }
    made = {name: LowRank(layer.out_features, layer.in_features, rank) for name, layer in layers.items()}
    for name, layer in layers.items():
        parametrize.register_parametrization(layer, "weight", made[name].to(layer.weight.device))
    return made


def written(parts: Mapping[str, LowRank], folder: Path) -> Path:
    """The changes as a LoRA file of the tiny checkpoint."""
    layers = {name: lora.Layer(part.down.detach(), part.up.detach(), None, 1.0) for name, part in sorted(parts.items())}
    return lora.write(folder / LORA_FILE, layers, torch.float16)


def planned(model: str = EMBEDDED, steps: int | None = None, wrong: Bad = "hands") -> PretrainConfig:
    """The configuration: the tiny checkpoint's, begun with ``model``."""
    config, recipe = configs.load(CONFIG), RECIPES[wrong]
    stage = Stage(steps=steps or recipe.steps, every=recipe.every, turns=recipe.parts)
    changes = {"start": model, "stages": (stage,), "hand_weight": recipe.weight, "plateau": PLATEAU}
    return config.model_copy(update={"transformer": config.transformer.model_copy(update=changes)})


def make(
    folder: Path,
    model: str = EMBEDDED,
    steps: int | None = None,
    rank: int = RANK,
    jobs: int | None = None,
    stop_after: int | None = None,
    wrong: Bad = "hands",
) -> Path | None:
    """The base's LoRA; None where ``stop_after`` ended it early. ``steps``: updates, in place of the recipe's.

    Raises :class:`UserError` for a model of another kind, and for a folder that was begun with other options.
    """
    jobs = jobs or pool.cores()
    torch.set_num_threads(jobs)
    with Bars() as bars:
        config = planned(model, steps, wrong)
        _check_same(folder, config, rank)
        return _made(config, folder, rank, jobs, stop_after, bars, wrong)


def _check_same(folder: Path, config: PretrainConfig, rank: int) -> None:
    """Raises :class:`UserError` where the folder was begun with other options; else notes these in it."""
    marker = folder / "about.json"
    c = config.transformer
    stages = [stage.model_dump(mode="json") for stage in c.stages]
    about = {"model": c.start, "rank": rank, "stages": stages, "samples": latents.BAD_VERSION}
    if not marker.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(marker, json.dumps(about).encode())
    elif json.loads(marker.read_text()) != about:
        raise UserError(f"{folder} was begun with other options or samples", "give the same, or another folder")


def _made(
    config: PretrainConfig, folder: Path, rank: int, jobs: int, stop_after: int | None, bars: Bars, wrong: Bad
) -> Path | None:
    c = config.transformer
    half = half_precision(config.precision, torch.device("cpu"))
    torch.manual_seed(config.seed)
    vae = tiny.build_vae(config.vae).eval().requires_grad_(False)
    transformer: Any = tiny.build_transformer(c, config.vae.z_dim)
    if not fused.fits(transformer):
        raise UserError(f"{c.start} is no tiny Wan-VACE of this project", "give one, or leave --model out")
    parts = adapt(transformer, rank)
    tokenizer, encoder = tiny.build_text(config.seed)
    prompts = partial(encode_prompts, tokenizer, encoder)
    shards = partial(Shards, folder / "world", vae=vae, prompts=prompts, half=half, jobs=jobs, bad=wrong)
    parts_of = c.stages[0].turns
    pools = {part.source: shards(kind=part.source, people=part.people, progress=bars.count) for part in parts_of}
    block = blocks.compiled() if c.compile else blocks.block
    loss = partial(flow_stage.flow_loss, transformer, pools, c, half, block)
    plan = Plan("habits", config.seed, c.steps, RATE, c.lr_rest, AVERAGE, half=half, plateau=PLATEAU)
    if not train(plan, transformer, loss, folder, stop_after=stop_after, tell=bars.step):
        return None
    return written(parts, folder / "lora")
