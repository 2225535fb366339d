"""Training of the transformer: flow matching on latents, conditioned as ``WanVACEPipeline`` conditions it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers import flow
from trainers.embedded.latents import LatentData
from trainers.embedded.tiny import SHIFT, SPACE


def control(reference: Tensor, pose: Tensor, empty: Tensor) -> Tensor:
    """What VACE's layers see: ``[B, 2 z + 64, 1 + T', h, w]``.

    ``reference`` ``[B, z, 1, h, w]``, ``pose`` ``[B, z, T', h, w]``, ``empty`` ``[1, z, T', h, w]``. As
    ``WanVACEPipeline.prepare_video_latents`` and ``prepare_masks`` make it where everything is to be generated: first
    the kept pixels (none: grey), then those to be made anew (the pose map), then a mask of ones; the reference stands
    before them with zeros in place of the second part and of the mask.
    """
    batch, _, frames, height, width = pose.shape
    first = torch.cat([reference, torch.zeros_like(reference)], 1)
    rest = torch.cat([empty.expand(batch, -1, -1, -1, -1), pose], 1)
    mask = pose.new_ones(batch, SPACE**2, frames, height, width)
    mask = torch.cat([torch.zeros_like(mask[:, :, :1]), mask], 2)
    return torch.cat([torch.cat([first, rest], 2), mask], 1)


def flow_loss(
    transformer: Any, data: LatentData, batch: int, drop_prompt: float, step: int, rng: np.random.Generator
) -> tuple[Tensor, dict[str, float]]:
    """Mean squared error of the velocity on a random batch, the reference's latent frame included; any ``step``."""
    index = np.sort(rng.integers(len(data), size=batch))
    reference, pose, clip = (
        torch.from_numpy(array[index].astype(np.float32)) for array in (data.references, data.poses, data.clips)
    )
    x = torch.cat([reference, clip], 2)
    noise = torch.from_numpy(rng.standard_normal(x.shape, np.float32))
    t = flow.shifted(torch.from_numpy(rng.random(batch).astype(np.float32)), SHIFT)
    prompt = data.prompts[index] * torch.from_numpy(rng.random(batch) >= drop_prompt)[:, None, None]
    with torch.autocast("cpu", torch.bfloat16), warnings.catch_warnings():
        # Norms keep fp32 weights under autocast; torch says each time that this takes its slower path.
        warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
        made = transformer(
            hidden_states=flow.noised(x, noise, t),
            timestep=t * flow.TIMESTEPS,
            encoder_hidden_states=prompt,
            control_hidden_states=control(reference, pose, data.empty),
            return_dict=False,
        )[0].float()
    error = (made - flow.velocity(x, noise)).square().mean((1, 2, 3, 4))
    return error.mean(), {"t": t.mean().item()}
