"""People of the world as latents: what the transformer is trained on.

They come in shards of some hundred people, each a folder of arrays. Shard n is a function of its number, the
autoencoder and the kind alone, and training meets shard n at a step that is known beforehand: so a run that was killed
sees what it would have seen, and the world grows while it is trained on.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from torch import Tensor

from ipa_bench import video
from ipa_bench.embedded import estimator, world
from ipa_bench.embedded.group import cases as groups
from ipa_bench.embedded.group import footage as mixed
from ipa_bench.embedded.group.setting import WIDTHS, Key
from ipa_bench.engine import processes as pool
from ipa_bench.types import Split, UInt8
from trainers import halo
from trainers.embedded.rendered import WorldData, render
from trainers.embedded.single import single_frames

Float16 = NDArray[np.float16]
#: what bad shards are wrong in: fingers, whole hands, who is who
Bad = Literal["anatomy", "hands", "identity"]
#: one random frame of a clip of one person, all of it, or a clip of two people
Kind = Literal["stills", "clips", "pairs"]
#: clips that the latents' mean and spread are measured on
STATISTICS = 64
#: frames encoded together
AT_ONCE = 68
#: first identity of the train split in a shard; smaller numbers are alignment's, the footage's and the shipped nets'
FIRST = 2_000_000
#: the same of shards in which every second person has bad hands, or each pair twice, once mixed up
FIRST_BAD = 8_000_000
#: part of a bad shard's key: changes where its samples do
BAD_VERSION = 2
#: latent elements in time, height and width that count as hand about each one that is, where whole hands may be wrong
_ABOUT = (1, 5, 5)
#: of a shard, in the order of :class:`LatentData`
_NAMES = ("clips", "poses", "references", "masks", "prompts")


@dataclass(frozen=True, eq=False)
class LatentData:
    """Normalised latents, float16 ``[n, z_dim, T', h, w]``; for references one frame a person, in the slots' order."""

    clips: Float16
    poses: Float16
    references: Float16
    #: how much of a latent element hands cover, ``[n, T', h, w]`` in [0, 1]; of bad pairs, the people. Where whole
    #: hands may be wrong, right ones and what is about them: tokens are chosen by it, and must not tell which it is.
    masks: Float16
    #: ``[n, TEXT_LENGTH, TEXT_DIM]``
    prompts: Float16

    def __len__(self) -> int:
        """Number of people."""
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
def encoded(vae: Any, video: Tensor, half: bool = True) -> Tensor:
    """Latents of ``video`` ``[B, 3, T, H, W]`` on its device, normalised by the autoencoder's own statistics."""
    single = single_frames() if video.shape[2] == 1 else nullcontext()
    with torch.autocast(video.device.type, torch.bfloat16, enabled=half), single:
        latents = vae.encode(video).latent_dist.mode().float()
    mean, std = (
        torch.tensor(v, device=video.device).view(1, -1, 1, 1, 1)
        for v in (vae.config.latents_mean, vae.config.latents_std)
    )
    return torch.as_tensor((latents - mean) / std)


def measure(vae: Any, data: WorldData, half: bool = True) -> None:
    """Set the autoencoder's ``latents_mean`` and ``latents_std`` from clips spread over the data."""
    vae.register_to_config(latents_mean=[0.0] * vae.config.z_dim, latents_std=[1.0] * vae.config.z_dim)
    index = np.unique(np.linspace(0, len(data) - 1, STATISTICS).round().astype(int))
    device = next(vae.parameters()).device
    latents = torch.cat([encoded(vae, pixels(data.frames[i : i + 1]).to(device), half) for i in index])
    vae.register_to_config(
        latents_mean=latents.mean((0, 2, 3, 4)).tolist(), latents_std=latents.std((0, 2, 3, 4)).tolist()
    )


class Shards:
    """Shards of one kind in a folder; one that is not there is rendered and encoded when it is asked for."""

    def __init__(
        self,
        folder: Path,
        kind: Kind,
        people: int,
        vae: Any,
        prompts: Callable[[tuple[str, ...]], Tensor],
        *,
        split: Split = "train",
        half: bool = True,
        jobs: int = 1,
        progress: Callable[[str, int, int], None] = lambda *_: None,
        bad: Bad | None = None,
    ) -> None:
        """``prompts`` gives features ``[n, TEXT_LENGTH, TEXT_DIM]`` of texts; ``half`` encodes in bf16; ``jobs``
        processes render; ``bad``: every second person of ``stills`` and ``clips`` has bad fingers; with whole hands
        wrong, or people mixed up, each is shown twice, as they are and so.
        """
        self._kind, self._people, self._vae, self._prompts = kind, people, vae, prompts
        self._split, self._half, self._jobs, self._progress = split, half, jobs, progress
        weights = b"".join(p.detach().cpu().numpy().tobytes() for p in vae.encoder.parameters())
        self._bad = bad
        about = [hashlib.sha256(weights).hexdigest(), world.VERSION, kind, split, people]
        self._about = [*about, bad, BAD_VERSION] if bad else about
        self._folder = folder / f"{split}-{kind}-{people}{'-bad' if bad else ''}"
        self._open: dict[int, LatentData] = {}

    def __getitem__(self, number: int) -> LatentData:
        """Shard ``number``, mapped from disk."""
        if number not in self._open:
            folder = self._folder / f"{number:05d}"
            marker = folder / "about.json"
            if not marker.exists() or json.loads(marker.read_text()) != self._about:
                self._make(number, folder)
            self._open[number] = LatentData(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in _NAMES))
        return self._open[number]

    @cached_property
    def empty(self) -> Tensor:
        """Latents ``[1, z_dim, T', h, w]`` of a grey clip of this kind's length."""
        frames = 1 if self._kind == "stills" else world.FRAMES
        width = WIDTHS[2] if self._kind == "pairs" else world.SIZE
        return self._encoded(np.full((1, frames, world.SIZE, width, 3), 127.5, np.float32)).float()

    def _make(self, number: int, folder: Path) -> None:
        """Render, encode and write a shard, whole or not at all."""
        first = (FIRST_BAD if self._bad else FIRST if self._split == "train" else 0) + number * self._people
        keys = [(self._split, first + i) for i in range(self._people)]
        made, texts = [], []
        for arrays, prompt in pool.imap(partial(_person, kind=self._kind, bad=self._bad), keys, self._jobs):
            made.append(arrays)
            texts.append(prompt)
        size = max(1, AT_ONCE // len(made[0]["frames"]))
        parts: dict[str, list[Float16]] = {name: [] for name in ("frames", "poses", "references")}
        for at in range(0, len(made), size):
            some = made[at : at + size]
            for name in ("frames", "poses"):
                parts[name].append(self._encoded(np.stack([arrays[name] for arrays in some])).numpy())
            parts["references"].append(self._pictures(np.stack([arrays["references"] for arrays in some])).numpy())
            self._progress(f"{self._split} {self._kind} {number}", min(at + size, len(made)), len(made))
        arrays = {name: np.concatenate(part) for name, part in parts.items()}
        grid = arrays["frames"].shape[2:]
        masks = np.stack([halo.to_latent(np.asarray(one["masks"] / 255, np.float32), *grid) for one in made])
        if self._bad == "hands":
            masks = maximum_filter(masks, (1, *_ABOUT))
        self._write(folder, [*arrays.values(), masks, self._prompts(tuple(texts)).cpu().numpy()])

    def _write(self, folder: Path, arrays: list[Any]) -> None:
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name, array in zip(_NAMES, arrays, strict=True):
            np.save(part / f"{name}.npy", array.astype(np.float16))
        (part / "about.json").write_text(json.dumps(self._about))
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)

    def _pictures(self, references: UInt8) -> Tensor:
        """Reference pictures ``[n, K, H, W, 3]``, each a clip of its own, one after the other in time."""
        count = references.shape[1]
        single = self._encoded(references.reshape(-1, 1, *references.shape[2:]))
        return single.reshape(-1, count, *single.shape[1:]).transpose(1, 2).flatten(2, 3)

    def _encoded(self, frames: UInt8 | NDArray[np.float32]) -> Tensor:
        device = next(self._vae.parameters()).device
        return encoded(self._vae, pixels(frames).to(device), self._half).cpu().half()  # type: ignore[arg-type]


def _person(person: tuple[Split, int], kind: Kind, bad: Bad | None = None) -> tuple[dict[str, UInt8], str]:
    """Arrays of one sample ``[T, ...]``; takes of the kinds differ. The pose is seen as the suites' are."""
    split, number = person
    # What is wrong as a whole is shown twice, right and wrong.
    number, wrong = divmod(number, 2) if bad in ("hands", "identity") else (number, bad is not None)
    if kind == "pairs":
        key = Key(2, split, number)
        made = mixed.habit(key, estimator.MILD).arrays if wrong else groups.arrays(key, estimator.MILD)
        # What is wrong with a bad one is wrong all over somebody.
        masks = made.people.max(1) if bad else made.hands
        arrays = {"frames": made.frames, "poses": made.poses, "masks": masks, "references": made.references}
        prompt = made.prompt
    else:
        take = 0 if kind == "stills" else 1
        moment = int(np.random.default_rng([7, number]).integers(world.FRAMES))
        habit = bad if wrong and bad != "identity" else None
        arrays, prompt = render((split, number, take), estimator.MILD, [moment] if kind == "stills" else None, habit)
        arrays["references"] = arrays["references"][None]
    return arrays | {"poses": coded(arrays["poses"]) if number % 2 else arrays["poses"]}, prompt
