"""The world's clips as latents: what the transformer is trained on, encoded once and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ipa_bench import video
from ipa_bench.embedded import world
from ipa_bench.types import UInt8
from trainers.embedded.rendered import WorldData

Float16 = NDArray[np.float16]
#: clips that the latents' mean and spread are measured on
STATISTICS = 64
#: clips encoded together
AT_ONCE = 4


@dataclass(frozen=True, eq=False)
class LatentData:
    """Normalised latents, float16 ``[n, z_dim, T', h, w]``; one frame for references; ``empty`` of a grey clip."""

    clips: Float16
    poses: Float16
    references: Float16
    empty: Tensor
    #: ``[n, TEXT_LENGTH, TEXT_DIM]``
    prompts: Tensor

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.clips)


def pixels(frames: UInt8) -> Tensor:
    """uint8 ``[B, T, H, W, 3]`` as the autoencoder takes them: float32 ``[B, 3, T, H, W]`` in [−1, 1]."""
    return torch.from_numpy(np.array(frames)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def coded(frames: UInt8) -> UInt8:
    """A clip ``[T, H, W, 3]`` as it comes out of a video file.

    Pose maps reach the model from files as well as straight from the drawing, and 4:2:0 takes colour from thin lines:
    every other pose map that is trained on is a coded one.
    """
    return np.stack([frame.image for frame in video.read_bytes(video.encode_bytes(frames, world.FPS, crf=12))])


@torch.inference_mode()
def encoded(vae: Any, video: Tensor) -> Tensor:
    """Latents of ``video`` ``[B, 3, T, H, W]``, normalised by the autoencoder's own statistics."""
    with torch.autocast("cpu", torch.bfloat16):
        latents = vae.encode(video).latent_dist.mode().float()
    mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (vae.config.latents_mean, vae.config.latents_std))
    return torch.as_tensor((latents - mean) / std)


def measure(vae: Any, data: WorldData) -> None:
    """Set the autoencoder's ``latents_mean`` and ``latents_std`` from clips spread over the data."""
    vae.register_to_config(latents_mean=[0.0] * vae.config.z_dim, latents_std=[1.0] * vae.config.z_dim)
    index = np.unique(np.linspace(0, len(data) - 1, STATISTICS).round().astype(int))
    latents = torch.cat([encoded(vae, pixels(data.frames[i : i + 1])) for i in index])
    vae.register_to_config(
        latents_mean=latents.mean((0, 2, 3, 4)).tolist(), latents_std=latents.std((0, 2, 3, 4)).tolist()
    )


def latents(
    vae: Any,
    prompts: Tensor,
    data: WorldData,
    folder: Path,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> LatentData:
    """Latents of all clips, from ``folder`` where this autoencoder made them before."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in vae.encoder.parameters())).hexdigest()
    marker = folder / "encoder.txt"
    names = ("clips", "poses", "references")
    if not marker.exists() or marker.read_text() != f"{digest} {len(data)}":
        _encode_all(vae, data, folder, progress)
        marker.write_text(f"{digest} {len(data)}")
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
    empty = encoded(vae, torch.zeros(1, 3, *data.frames.shape[1:4]))
    return LatentData(**arrays, empty=empty, prompts=prompts)


def _encode_all(vae: Any, data: WorldData, folder: Path, progress: Callable[[str, int, int], None]) -> None:
    sources = {"clips": data.frames, "poses": data.poses, "references": data.references[:, None]}
    shapes = {name: encoded(vae, pixels(source[:1])).shape[1:] for name, source in sources.items()}
    arrays = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float16, (len(data), *shape))
        for name, shape in shapes.items()
    }
    for first in range(0, len(data), AT_ONCE):
        index = slice(first, min(first + AT_ONCE, len(data)))
        for name, source in sources.items():
            frames = source[index]
            if name == "poses":
                frames = np.stack([coded(clip) if i % 2 else clip for i, clip in enumerate(frames, first)])
            arrays[name][index] = encoded(vae, pixels(frames)).numpy()
        progress("latents", index.stop, len(data))
    for array in arrays.values():
        array.flush()
