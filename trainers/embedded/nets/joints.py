"""Training of the judge's network: joints of rendered hands, seen blurred, small, noisy and in other colours.

Crops are moved, turned and scaled about where the hand is, so that the place of the crop does not tell the joints.
People are of the train split from :data:`FIRST` on, whom nothing else of this project shows, and as many of val to
measure.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ipa_bench.embedded import world
from ipa_bench.embedded.crop import crop, into, squares
from ipa_bench.engine import processes as pool
from ipa_bench.nets.hand_joints import SIDE, HandJoints
from ipa_bench.types import Float32, UInt8
from trainers.embedded.nets.loop import Descent, Tell, descend
from trainers.embedded.nets.samples import Learned

FIRST = 1_000_000
#: crops are kept this many times larger than the judge takes them, about twice as wide as the hand
_WIDER, _KEPT = 1.5, 96
TRAINING = Descent(steps=1200, batch=48, rate=2e-3, decay=0.01)
#: of the crop: share of its side that it is moved by, radians, and the logarithm of its size
_MOVED, _TURNED, _SCALED = 0.12, 0.35, 0.18
#: weight of the maps' cross-entropy beside the joints' distance
_MAPS, _SPREAD = 0.05, 1.2


@dataclass(frozen=True, eq=False)
class Hands:
    """Wide crops uint8 ``[n, 96, 96, 3]``, all right hands, and joints ``[n, 21, 2]`` in shares of the crop."""

    images: UInt8
    joints: Float32

    def __len__(self) -> int:
        """Number of hands."""
        return len(self.images)


def rendered(key: tuple[Learned, int]) -> tuple[UInt8, Float32]:
    """Both hands of a person at a random moment: wide crops ``[2, 96, 96, 3]`` and joints ``[2, 21, 2]``."""
    split, identity = key
    moment = int(np.random.default_rng([identity, 11]).integers(world.FRAMES))
    clip = world.clip(split, FIRST + identity, 0, moments=[moment])
    images, joints = [], []
    for slot in range(2):
        exact = clip.joints[moment, slot, :, :2].astype(np.float64)
        square = squares(exact) * (1, 1, _WIDER)
        images.append(crop(clip.frames[0], square, _KEPT, slot == 0).round().astype(np.uint8))
        joints.append(into(exact, square, slot == 0))
    return np.stack(images), np.stack(joints).astype(np.float32)


def hands(file: Path, split: Learned, people: int, jobs: int = 1, progress: pool.Progress | None = None) -> Hands:
    """Hands of ``people``, kept in ``file`` (``.npz``)."""
    if file.exists():
        with np.load(file) as kept:
            if len(kept["images"]) == 2 * people:
                return Hands(kept["images"], kept["joints"])
    keys: list[tuple[Learned, int]] = [(split, i) for i in range(people)]
    images, joints = [], []
    for picture, placed in pool.imap(rendered, keys, jobs):
        images.append(picture)
        joints.append(placed)
        if progress is not None:
            progress(f"render {split}", len(images), people)
    made = Hands(np.concatenate(images), np.concatenate(joints))
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, images=made.images, joints=made.joints)
    return made


def drawn(data: Hands, index: Any, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Crops float32 ``[N, 3, 64, 64]`` in [-1, 1] and joints ``[N, 21, 2]``, moved, turned, damaged and coloured."""
    count = len(index)
    images = torch.from_numpy(np.stack([_damaged(data.images[i], rng) for i in index])).permute(0, 3, 1, 2)
    angle, size = rng.uniform(-_TURNED, _TURNED, count), np.exp(rng.uniform(-_SCALED, _SCALED, count)) / _WIDER
    shift = rng.uniform(-_MOVED, _MOVED, (count, 2)) * 2 / _WIDER
    cos, sin = np.cos(angle) * size, np.sin(angle) * size
    matrix = np.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], 1).reshape(count, 2, 3)
    grid = F.affine_grid(torch.from_numpy(matrix).float(), [count, 3, SIDE, SIDE], align_corners=False)
    seen = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    # grid_sample reads at M p + s for the output place p in [-1, 1]: joints go the other way.
    wide = data.joints[index].astype(np.float64) * 2 - 1 - shift[:, None]
    back = np.linalg.inv(matrix[:, :, :2])
    joints = (wide @ back.transpose(0, 2, 1) + 1) / 2
    return seen / 127.5 - 1, torch.from_numpy(joints).float()


def _damaged(image: UInt8, rng: np.random.Generator) -> Float32:
    """As a model might make it: blurred, coarse, noisy, in another light."""
    x = image.astype(np.float32)
    if rng.random() < 0.6:
        x = gaussian_filter(x, (s := rng.uniform(0, 2.5), s, 0))
    if rng.random() < 0.3:
        block = int(rng.integers(2, 4))
        x = x[::block, ::block].repeat(block, 0).repeat(block, 1)[: len(image), : len(image)]
    x = (x - 128) * rng.uniform(0.6, 1.2) + 128 + rng.uniform(-30, 30) + rng.normal(0, 12, 3).astype(np.float32)
    if rng.random() < 0.5:
        x = x + rng.normal(0, rng.uniform(2, 16), x.shape).astype(np.float32)
    return np.clip(x, 0, 255).astype(np.float32)


def losses(net: HandJoints, crops: Tensor, joints: Tensor) -> dict[str, Tensor]:
    """``joints``: mean distance in crop sides; ``maps``: cross-entropy against a Gaussian about each joint."""
    heat = net.heat(crops)
    places = (torch.arange(heat.shape[-1]) + 0.5) / heat.shape[-1]
    near = [torch.exp(-0.5 * ((joints[..., i, None] - places) * heat.shape[-1] / _SPREAD) ** 2) for i in (0, 1)]
    wanted = (near[1][..., :, None] * near[0][..., None, :]).flatten(2)
    wanted = wanted / wanted.sum(-1, keepdim=True).clamp_min(1e-6)
    entropy = -(wanted * heat.flatten(2).log_softmax(-1)).sum(-1).mean()
    distance = torch.linalg.vector_norm(net.expected(heat) - joints, dim=-1).mean()
    return {"joints": distance, "maps": _MAPS * entropy}


def train(data: Hands, how: Descent, file: Path, tell: Tell) -> HandJoints:
    """A trained network, in evaluation. ``file`` keeps the state: the same call goes on."""
    torch.manual_seed(how.seed)
    net = HandJoints().train()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def step(rng: np.random.Generator) -> dict[str, Tensor]:
        return losses(net, *drawn(data, rng.choice(len(data), how.batch, replace=len(data) < how.batch), rng))

    descend(net, step, how, file, f"joints {len(data)}", tell)
    return net.eval().requires_grad_(False)


@torch.no_grad()
def error(net: HandJoints, data: Hands) -> dict[str, float]:
    """Mean joint error in hand sizes (longer side of the joints' box), as it is, and of grey crops."""
    wide = data.joints.astype(np.float64)
    size = np.ptp(wide, axis=1).max(-1)
    cut = F.grid_sample(
        torch.from_numpy(data.images).permute(0, 3, 1, 2).float(),
        F.affine_grid(torch.eye(2, 3)[None].repeat(len(data), 1, 1) / _WIDER, [len(data), 3, SIDE, SIDE], False),
        align_corners=False,
    )
    found = {}
    for name, crops in (("rendered", cut / 127.5 - 1), ("grey", torch.zeros_like(cut))):
        placed = (torch.cat([net(part) for part in torch.split(crops, 64)]).numpy() * 2 - 1) / _WIDER
        distance = np.linalg.norm((placed + 1) / 2 - wide, axis=-1).mean(-1)
        found[name] = float((distance / size).mean())
    return found
