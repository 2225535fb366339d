"""A base model that writes clips into a folder: batches of different cases, each clip kept at once, and resumed.

Each clip has noise of its own, drawn on the CPU from the case and the seed alone, so that the same two give the same
clip whatever the batch, its order or the process. On a CPU clips are denoised one by one, because a matrix product of
another height rounds differently: they are bit-identical for one number of torch threads (convolutions round with it).
In a batch on a GPU, or on another machine, they agree to rounding.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from ipa_bench import video
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.files import file_sha256, replacing
from ipa_bench.models import kinds
from ipa_bench.models.base import Base, Condition, Given, Rung
from ipa_bench.models.clips import ClipFolder
from ipa_bench.models.outline import Shape
from ipa_bench.models.shelf import Shelf
from ipa_bench.models.specs import BaseSpec
from ipa_bench.types import Case, UInt8

#: H.264 quality that clips are stored at
CRF = 10
#: schedulers count noise levels from 0 to this
_STEPS = 1000


@dataclass(frozen=True)
class Sampled:
    """How much work one clip was."""

    #: what each pass saw
    shape: Shape
    #: duration of the clip
    seconds: float
    #: how often all of it was done: once for each segment of a clip
    segments: int = 1


@dataclass(frozen=True)
class Made:
    """What became of one job: a clip, or the reason why there is none."""

    case: Case
    seed: int
    path: Path | None
    reason: str | None = None
    #: what was sampled for it now; None where the clip was there already, or nothing came out
    sampled: Sampled | None = None


#: (the base, what is to be made, noise of the flow's shape, the passes of a step) -> what the flow is over
Sampler = Callable[[Base, Sequence[tuple[Case, int]], torch.Tensor, Sequence[Rung]], torch.Tensor]


def noise(case: Case, seed: int, shape: Sequence[int], segment: int | str = 0) -> torch.Tensor:
    """Gaussian float32 noise of ``shape`` on the CPU, a function of the case's id, the seed and the segment, or
    of what else sets it apart."""
    later = f"\0{segment}" if segment else ""
    digest = hashlib.sha256(f"{case.id}\0{seed}{later}".encode()).digest()
    generator = torch.Generator("cpu").manual_seed(int.from_bytes(digest[:7]))
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)


@torch.inference_mode()
def denoise(base: Base, scheduler: Any, z: torch.Tensor, ladder: Sequence[Rung], steps: int) -> torch.Tensor:
    """What the flow of ``base`` is over, float32 ``[B, C, T, h, w]``, from noise of that shape.

    The ladder's tensors lie where the base computes. Reference frames that are a part of the flow are still in it.
    """
    z = z.to(base.device)
    scheduler.set_timesteps(steps, device=base.device)
    for step in scheduler.timesteps:
        t = (step.double() / _STEPS).expand(len(z))
        z = scheduler.step(base.guided(z, t, ladder), step, z, return_dict=False)[0]
    return z


class Generator:
    """A checkpoint of a base model that writes clips into a folder and leaves those alone that are there.

    A case without a reference image shows the first frame of its driving clip as the person to animate. Frames, size
    and rate of a clip are what the case asks for, else the pose video's; the model makes the next larger clip that its
    VAE and patches allow, which is cut.
    """

    def __init__(
        self,
        spec: BaseSpec,
        folder: Path,
        *,
        pose_of: Callable[[Case], Path] | None = None,
        drawn_by: str = "",
        device: torch.device | str | None = None,
        base: Base | None = None,
        sample: Sampler | None = None,
        shelf: Shelf | None = None,
        encoding: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """``pose_of`` draws the pose video of a case that has none (``drawn_by``: how, with a version); ``base`` is the
        loaded model of the same checkpoint, LoRA, dtype and memory options; ``sample`` another sampler than that of the
        checkpoint's scheduler; ``shelf`` what models :func:`~ipa_bench.models.shelf.like` this one were given;
        ``encoding`` a context in which a case is encoded that is not there.

        Raises :class:`UserError` where the checkpoint is not there, or ``folder`` holds clips made otherwise.
        """
        self.spec, self.name = spec, spec.name
        kind = kinds.base_kind(spec)
        checkpoint = kind.locate(spec)
        recipe = kind.recipe(spec, checkpoint)
        self._negative = str(recipe.get("negative_prompt", spec.negative_prompt or ""))
        self.clips = ClipFolder(folder, recipe, drawn_by)
        self.clips.open()
        self._pose_of, self._sample, self._encoding = pose_of, sample, encoding
        self.base = base or kind.load(spec, checkpoint, device)
        self._shelf = Shelf() if shelf is None else shelf
        self._last: tuple[Case, Given] | None = None
        self.device = self.base.device
        self.base.scheduler(spec.shift)  # a shift that cannot be is said before the work

    def generate(self, case: Case, seed: int) -> Path:
        """The clip, made where it is not there yet. Raises :class:`Unscorable` where it cannot be made."""
        (made,) = self.generate_many([(case, seed)])
        if made.path is None:
            raise Unscorable(made.reason or "")
        return made.path

    def generate_many(self, jobs: Iterable[tuple[Case, int]]) -> Iterator[Made]:
        """Make the clips of many jobs, a batch at a time where they have one shape; in any order, each kept at once.

        Jobs of one case are best neighbours. Raises :class:`UserError` where memory is too small.
        """
        batch: list[tuple[Case, int, Given]] = []
        # A CPU gains nothing from a batch and rounds otherwise in one.
        most = 1 if self.device.type == "cpu" else self.spec.batch
        for case, seed in jobs:
            try:
                done = self.clips.find(case, seed)
                given = None if done else self._given_for(case)
            except Unscorable as error:
                yield self._failed(case, seed, error.reason)
                continue
            if given is None:
                yield Made(case, seed, done)
                continue
            if batch and (len(batch) == most or _sides(batch[0][2].condition) != _sides(given.condition)):
                yield from self._make(batch)
                batch = []
            batch.append((case, seed, given))
        if batch:
            yield from self._make(batch)

    def _failed(self, case: Case, seed: int, reason: str) -> Made:
        self.clips.finish(case, seed, reason)
        return Made(case, seed, None, reason)

    def _make(self, batch: Sequence[tuple[Case, int, Given]]) -> Iterator[Made]:
        begin = time.monotonic()
        try:
            latents, shape = self._sampled(batch)
            for index, (case, seed, given) in enumerate(batch):
                width, height = given.size
                try:
                    frames, segments = self._continued(case, seed, given, latents[index : index + 1])
                except FloatingPointError as error:
                    yield self._failed(case, seed, str(error))
                    continue
                path = self.clips.clip(case, seed)
                video.encode(frames[: given.frames, :height, :width], path, given.fps, crf=CRF)
                about = (
                    self._keep(case, seed, latents[index], given) if self.spec.keep_latents and segments == 1 else {}
                )
                seconds = round((time.monotonic() - begin) / len(batch), 3)
                self.clips.finish(case, seed, seconds=seconds, made_with=self._environment(), **about)
                yield Made(case, seed, path, sampled=Sampled(shape, given.frames / given.fps, segments))
        except torch.cuda.OutOfMemoryError as error:
            raise UserError(
                f"model {self.name}: the GPU has too little memory for {len(batch)} clips of "
                f"{batch[0][2].frames} frames of {batch[0][2].size[0]}x{batch[0][2].size[1]}",
                'lower batch, or set vae_tiling = true, offload = "model" or smaller frames and size',
            ) from error

    def _continued(self, case: Case, seed: int, given: Given, latents: torch.Tensor) -> tuple[UInt8, int]:
        """All frames of a clip whose first segment has been sampled, and how many segments they are."""
        frames, segments = self._decoded(latents, given), 1
        while given.later is not None:
            given = given.later(frames)
            latents, _ = self._sampled([(case, seed, given)], segments)
            frames = np.concatenate([frames, self._decoded(latents, given)[given.repeated :]])
            segments += 1
        return frames, segments

    def _sampled(self, batch: Sequence[tuple[Case, int, Given]], segment: int = 0) -> tuple[torch.Tensor, Shape]:
        """Latents of a batch, and what a pass saw of one of its clips."""
        base, guided = self.base, self.spec.guidance > 1
        together = [given.condition for _, _, given in batch]
        given = {name: torch.cat([each[name] for each in together]).to(self.device) for name in together[0]}
        sides = base.flow_shape(given)
        start = torch.cat([noise(case, seed, (1, *sides), segment) for case, seed, _ in batch])
        with torch.inference_mode():
            words = base.texts([case.prompt for case, _, _ in batch]).to(self.device)
            negative = base.texts([self._negative] * len(batch)).to(self.device) if guided else None
            condition = base.condition(given, words)
            ladder = base.ladder(condition, negative, self.spec.guidance, self.spec.guidance_2)
        if self._sample is None:
            latents = denoise(base, base.scheduler(self.spec.shift), start, ladder, self.spec.steps)
        else:
            latents = self._sample(base, [(case, seed) for case, seed, _ in batch], start, ladder)
        return latents, base.shape(start[:1], condition)

    def _decoded(self, latents: torch.Tensor, given: Given) -> UInt8:
        """One clip alone: the VAE takes most memory, and rounds the same whatever the batch."""
        half = self.spec.decode_dtype == "bf16"
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            return self.base.decode(self._clip(latents, given))

    def _clip(self, latents: torch.Tensor, given: Given) -> torch.Tensor:
        """The latents of the clip alone, without those of reference images."""
        return self.base.references.clip(latents, self.base.latent_frames(given.at_once))

    def _keep(self, case: Case, seed: int, latents: torch.Tensor, given: Given) -> dict[str, str]:
        """Store the latents ``[z_dim, T', h, w]`` of a clip in half precision, and give their hash."""
        path = self.clips.latents(case, seed)
        clip = self._clip(latents[None], given)[0]
        with replacing(path, alone=True) as part:
            save_file({"latents": clip.cpu().to(torch.float16).contiguous()}, part)
        return {"latents": f"sha256:{file_sha256(path)}"}

    def _given_for(self, case: Case) -> Given:
        """What a case gives the model, kept for its other seeds. Raises Unscorable where that cannot be had."""
        found = self._last[1] if self._last and self._last[0] == case else self._shelf.get(case)
        if found is None:
            with self._encoding():
                found = self.base.given(case, self.base.pose_of(case, self._pose_of))
            self._shelf.put(case, found)
        if found.later is not None and self._sample is not None:
            raise Unscorable(f"its {found.frames} frames are more than the model makes at once and learns from")
        self._last = case, found
        return found

    def _environment(self) -> dict[str, str]:
        where = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        return {name: version(name) for name in ("torch", "diffusers", "transformers")} | {"device": where}


def _sides(condition: Condition) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in condition.items()}
