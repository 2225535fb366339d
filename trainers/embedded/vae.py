"""Training of the autoencoder: single frames first, then short clips, then whole ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ipa_bench.embedded.world import FRAMES, SIZE
from ipa_bench.types import UInt8
from trainers.embedded.config import Phase, VaeConfig
from trainers.embedded.rendered import WorldData

#: share of the crops that show a pose map: the autoencoder encodes those too
POSES = 0.2
#: share of the other crops that are put around a hand
AT_HANDS = 0.6
#: weight of the error of neighbouring pixels' differences: keeps fingers apart
EDGES = 0.5


def phase_of(phases: Sequence[Phase], step: int) -> Phase:
    """The phase that a step belongs to; the last one for later steps."""
    for phase in phases:
        if step < phase.steps:
            return phase
        step -= phase.steps
    return phases[-1]


def crops(data: WorldData, phase: Phase, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A batch: pixels in [−1, 1] ``[B, 3, T, S, S]``, and where hands are in [0, 1] ``[B, 1, T, S, S]``."""
    pixels, masks = [], []
    for _ in range(phase.batch):
        clip, first = int(rng.integers(len(data))), int(rng.integers(FRAMES - phase.frames + 1))
        frames = slice(first, first + phase.frames)
        mask: UInt8 = data.masks[clip, frames]
        x, y = rng.integers(0, SIZE - phase.crop + 1, 2)
        if rng.random() < AT_HANDS and mask.any():
            at = np.argwhere(mask[len(mask) // 2] > 0)
            if len(at):
                middle = at[rng.integers(len(at))] - phase.crop // 2 + rng.integers(-10, 11, 2)
                y, x = np.clip(middle, 0, SIZE - phase.crop)
        where = (slice(y, y + phase.crop), slice(x, x + phase.crop))
        if rng.random() < POSES:
            pixels.append(data.poses[clip, frames][:, *where])
            masks.append(np.zeros_like(mask[:, *where]))
        else:
            pixels.append(data.frames[clip, frames][:, *where])
            masks.append(mask[:, *where])
    video = torch.from_numpy(np.stack(pixels)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    return video, torch.from_numpy(np.stack(masks))[:, None].float() / 255


def reconstruction_loss(
    made: Tensor, true: Tensor, hands: Tensor, hand_weight: float
) -> tuple[Tensor, dict[str, float]]:
    """Weighted absolute error of pixels and of neighbouring pixels' differences. Pixels in [−1, 1] ``[B, 3, T, H, W]``.

    ``hands`` in [0, 1] ``[B, 1, T, H, W]``: an error there counts ``hand_weight`` times.
    """
    error = made - true
    weight = 1 + (hand_weight - 1) * hands
    pixel = (error.abs() * weight).mean()
    across = (error[..., :, 1:] - error[..., :, :-1]).abs() * weight[..., :, 1:]
    down = (error[..., 1:, :] - error[..., :-1, :]).abs() * weight[..., 1:, :]
    psnr = 10 * torch.log10(4 / error.detach().square().mean())
    return pixel + EDGES * (across.mean() + down.mean()), {"psnr": psnr.item()}


def vae_loss(
    vae: Any, data: WorldData, config: VaeConfig, half: bool, step: int, rng: np.random.Generator
) -> tuple[Tensor, dict[str, float]]:
    """Loss of one step of the autoencoder: reconstruction, and a small pull of the posterior to a unit Gaussian."""
    device = next(vae.parameters()).device
    video, hands = (part.to(device) for part in crops(data, phase_of(config.phases, step), rng))
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        posterior = vae.encode(video).latent_dist
        mean, logvar = posterior.mean.float(), posterior.logvar.float().clamp(-20, 10)
        noise = torch.from_numpy(rng.standard_normal(mean.shape, np.float32)).to(device)
        made = vae.decode(mean + noise * torch.exp(0.5 * logvar), return_dict=False)[0].float()
    loss, metrics = reconstruction_loss(made, video, hands, config.hand_weight)
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return loss + config.kl * kl, metrics | {"kl": kl.item(), "frames": float(video.shape[2])}
