"""Training of the transformer: flow matching on latents, conditioned as ``WanVACEPipeline`` conditions it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ipa_bench.models.wan.blocks import Block
from trainers import flow
from trainers.embedded import fused
from trainers.embedded.config import Part, Stage, TransformerConfig
from trainers.embedded.latents import Kind, LatentData, Shards
from trainers.embedded.tiny import SHIFT, SPACE

#: noise levels that the gate is measured at
LEVELS = (0.3, 0.6, 0.9)


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples as the transformer takes them, ``B`` of them on one device."""

    #: K references and the clip, ``[B, z, K + T', h, w]``
    x: Tensor
    #: ``[B, 2 z + 64, K + T', h, w]``
    control: Tensor
    #: ``[B, TEXT_LENGTH, TEXT_DIM]``
    prompt: Tensor
    #: how much of an element hands cover, ``[B, 1, K + T', h, w]``, 0 on the references
    hands: Tensor
    #: K
    references: int


def control(reference: Tensor, pose: Tensor, empty: Tensor) -> Tensor:
    """What VACE's layers see: ``[B, 2 z + 64, K + T', h, w]``.

    ``reference`` ``[B, z, K, h, w]``, ``pose`` ``[B, z, T', h, w]``, ``empty`` ``[1, z, T', h, w]``. As
    ``WanVACEPipeline.prepare_video_latents`` and ``prepare_masks`` make it where everything is to be generated: first
    the kept pixels (none: grey), then those to be made anew (the pose map), then a mask of ones; the references stand
    before them with zeros in place of the second part and of the mask, in the order that
    :func:`ipa_bench.models.wan.conditioning.control_latents` keeps.
    """
    batch, _, frames, height, width = pose.shape
    first = torch.cat([reference, torch.zeros_like(reference)], 1)
    rest = torch.cat([empty.expand(batch, -1, -1, -1, -1), pose], 1)
    mask = pose.new_ones(batch, SPACE**2, frames, height, width)
    none = mask.new_zeros(batch, SPACE**2, reference.shape[2], height, width)
    mask = torch.cat([none, mask], 2)
    return torch.cat([torch.cat([first, rest], 2), mask], 1)


def stage_of(stages: Sequence[Stage], step: int) -> tuple[Stage, int]:
    """The stage that a step belongs to, and the number of the step in it; the last stage goes on for ever."""
    for stage in stages[:-1]:
        if step < stage.steps:
            return stage, step
        step -= stage.steps
    return stages[-1], step


def reached(stages: Sequence[Stage], kind: Kind, step: int) -> int:
    """Shards of a kind that ``step`` draws from: one, and one more every so many updates of that kind."""
    count = 1
    for number, stage in enumerate(stages):
        within = step if number == len(stages) - 1 else min(step, stage.steps)
        count += within // stage.every if stage.has(kind) else 0
        step -= within
    return count


def render_ahead(pools: Mapping[Kind, Shards], stages: Sequence[Stage]) -> None:
    """Make every shard that the stages will draw from."""
    last = sum(stage.steps for stage in stages) - 1
    for kind, shards in pools.items():
        for number in range(reached(stages, kind, last)):
            shards[number]


def drawn(shards: Shards, count: int, part: Part, rng: np.random.Generator) -> list[tuple[LatentData, int, int]]:
    """(data, person, first latent frame) of the samples of an update, from the first ``count`` shards."""
    number = rng.integers(count, size=part.batch)
    person = rng.integers(part.people, size=part.batch)
    longest = shards[0].clips.shape[2]
    first = rng.integers(longest - part.frames + 1, size=part.batch)
    chosen: Iterator[tuple[int, int, int]] = zip(number.tolist(), person.tolist(), first.tolist(), strict=True)
    return [(shards[n], p, f) for n, p, f in chosen]


def batch_of(samples: Sequence[tuple[LatentData, int, int]], frames: int, empty: Tensor, device: torch.device) -> Batch:
    """The samples with ``frames`` latent frames each on ``device``; ``empty`` ``[1, z, T', h, w]`` is cut alike."""

    def stacked(part: Callable[[LatentData, int, int], Any]) -> Tensor:
        return torch.from_numpy(np.stack([part(*sample) for sample in samples])).to(device).float()

    reference = stacked(lambda data, i, _: data.references[i])
    pose = stacked(lambda data, i, at: data.poses[i][:, at : at + frames])
    clip = stacked(lambda data, i, at: data.clips[i][:, at : at + frames])
    hands = stacked(lambda data, i, at: data.masks[i][None, at : at + frames])
    prompt = stacked(lambda data, i, _: data.prompts[i])
    return Batch(
        torch.cat([reference, clip], 2),
        control(reference, pose, empty[:, :, :frames].to(device)),
        prompt,
        torch.cat([torch.zeros_like(hands[:, :, :1].expand(-1, -1, reference.shape[2], -1, -1)), hands], 2),
        reference.shape[2],
    )


def error_of(transformer: Any, batch: Batch, noise: Tensor, t: Tensor, half: bool, run: Block | None = None) -> Tensor:
    """Squared error of the velocity at noise levels ``t`` ``[B]``: ``[B, z, 1 + T', h, w]`` in fp32.

    ``run`` computes a block (:mod:`trainers.embedded.fused`); None leaves all to the library.
    """
    target = flow.velocity(batch.x, noise)
    if run is not None:
        x = flow.noised(batch.x, noise, t)
        fast = fused.velocity(
            transformer, x, batch.control, t * flow.TIMESTEPS, batch.prompt, run=run, dtype=_dtype(half)
        )
        return (fast - target).square()
    with torch.autocast(batch.x.device.type, torch.bfloat16, enabled=half), warnings.catch_warnings():
        # Norms keep fp32 weights under autocast; torch says each time that this takes its slower path.
        warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
        made: Tensor = transformer(
            hidden_states=flow.noised(batch.x, noise, t),
            timestep=t * flow.TIMESTEPS,
            encoder_hidden_states=batch.prompt,
            control_hidden_states=batch.control,
            return_dict=False,
        )[0].float()
    return (made - target).square()


def flow_loss(
    transformer: Any, pools: Mapping[Kind, Shards], config: TransformerConfig, half: bool, run: Block | None,
    step: int, rng: np.random.Generator,
) -> tuple[Tensor, dict[str, float]]:  # fmt: skip
    """Weighted mean squared error of the velocity on the random batch of ``step``, and the plain one on hands."""
    device = next(transformer.parameters()).device
    stage, within = stage_of(config.stages, step)
    part = stage.turns[within % len(stage.turns)]
    shards = pools[part.source]
    samples = drawn(shards, reached(config.stages, part.source, step), part, rng)
    batch = batch_of(samples, part.frames, shards.empty, device)
    noise = torch.from_numpy(rng.standard_normal(batch.x.shape, np.float32)).to(device)
    t = flow.sample_t(rng, part.batch, config.t, SHIFT).to(device)
    shown = torch.from_numpy(rng.random(part.batch) >= config.drop_prompt).to(device)
    batch = replace(batch, prompt=batch.prompt * shown[:, None, None])
    weight = weights(batch, config.hand_weight, config.reference_weight)
    if part.keep < 1:
        patch = tuple(transformer.config.patch_size)
        keep = chosen(batch.hands, patch, part.keep, rng)
        x = flow.noised(batch.x, noise, t)
        made = fused.velocity(
            transformer, x, batch.control, t * flow.TIMESTEPS, batch.prompt, keep=keep, run=run, dtype=_dtype(half)
        )
        target, weight, hands = (
            fused.tokens(z, patch, keep) for z in (flow.velocity(batch.x, noise), weight, batch.hands)
        )
        error = (made - target).square().reshape(*weight.shape, -1).mean(-1)
        hand = float((error.detach() * hands).sum() / hands.sum().clamp(min=1e-6))
        return (error * weight).mean(), {"hand": hand, "frames": float(part.frames)}
    error = error_of(transformer, batch, noise, t, half, run)
    hand = on_hands(error.detach(), batch.hands)
    return (error * weight).mean(), {"hand": hand, "frames": float(part.frames)}


def _dtype(half: bool) -> torch.dtype:
    return torch.bfloat16 if half else torch.float32


#: how far chance goes against the share of a token that is hand, when tokens are chosen
_CHANCE = 1.2


def chosen(hands: Tensor, patch: tuple[int, ...], share: float, rng: np.random.Generator) -> Tensor:
    """Numbers of the tokens of a batch that a step computes, ``[B, K]``: ``share`` of each latent frame's.

    Of the references' frames by chance, of the others those about hands first, and some by chance. ``hands``
    ``[B, 1, K + T', h, w]`` in [0, 1].
    """
    frames = hands.shape[2]
    _, ph, pw = patch
    pooled = F.max_pool2d(hands[:, 0], (ph, pw)).flatten(2)
    count = pooled.shape[-1]
    score = pooled + torch.from_numpy(rng.random(pooled.shape, np.float32)).to(hands.device) * _CHANCE
    inside = score.topk(max(1, round(share * count)), dim=-1).indices
    first = torch.arange(frames, device=hands.device)[None, :, None] * count
    return (inside + first).flatten(1)


def weights(batch: Batch, hand_weight: float, reference_weight: float) -> Tensor:
    """How much the error of an element counts: 1 off hands, ``hand_weight`` on them; ``[B, 1, K + T', h, w]``."""
    weight = 1 + (hand_weight - 1) * batch.hands
    weight[:, :, : batch.references] = reference_weight
    return weight


def on_hands(error: Tensor, hands: Tensor) -> float:
    """Mean of an error ``[B, z, T, h, w]`` weighted by how much of an element is hand ``[B, 1, T, h, w]``."""
    return float((error.mean(1, keepdim=True) * hands).sum() / hands.sum().clamp(min=1e-6))


@torch.no_grad()
def gate(
    transformer: Any, held_out: Mapping[Kind, Shards], people: int, half: bool, run: Block | None = None
) -> dict[str, float]:
    """Flow errors on held-out people at :data:`LEVELS`, on hands and on the frame without the reference.

    Names are ``stills hand@0.6``; the noise is the same at every call.
    """
    device = next(transformer.parameters()).device
    found: dict[str, float] = {}
    for kind, shards in held_out.items():
        data = shards[0]
        frames, size = data.clips.shape[2], 32 if kind == "stills" else 4
        sums = np.zeros((len(LEVELS), 2))
        starts = range(0, people, size)
        for at in starts:
            part = range(at, min(at + size, people))
            batch = batch_of([(data, i, 0) for i in part], frames, shards.empty, device)
            rng = np.random.default_rng([5, at])
            noise = torch.from_numpy(rng.standard_normal(batch.x.shape, np.float32)).to(device)
            for row, level in enumerate(LEVELS):
                levels = torch.full((len(part),), level, device=device)
                error = error_of(transformer, batch, noise, levels, half, run)
                sums[row] += on_hands(error, batch.hands), float(error[:, :, batch.references :].mean())
        for level, (hand, frame) in zip(LEVELS, sums / len(starts), strict=True):
            found |= {f"{kind} hand@{level}": round(hand, 4), f"{kind} frame@{level}": round(frame, 4)}
    return found
