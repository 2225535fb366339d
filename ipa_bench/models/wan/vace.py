"""Any diffusers WanVACE checkpoint as a model: a reference image and a pose video in, a clip out.

The denoising loop is that of ``WanVACEPipeline.__call__`` for a batch of different cases; the pipeline takes one video
at a time. Each clip has noise of its own, drawn on the CPU from the case and the seed alone, so that the same two give
the same clip whatever the batch, its order or the process. On a CPU clips are denoised one by one, because a matrix
product of another height rounds differently: they are bit-identical for one number of torch threads (convolutions round
with it). In a batch on a GPU, or on another machine, they agree to rounding.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler, WanVACEPipeline
from safetensors.torch import save_file

from ipa_bench import video
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.files import file_sha256, replacing
from ipa_bench.models.checkpoint import Checkpoint, locate, lora_file, recipe_of
from ipa_bench.models.clips import ClipFolder
from ipa_bench.models.lora import load_lora
from ipa_bench.models.specs import WanVaceSpec
from ipa_bench.models.wan import conditioning, inputs
from ipa_bench.models.wan.conditioning import Pipe
from ipa_bench.models.wan.inputs import Given
from ipa_bench.types import Case, UInt8

#: H.264 quality that clips are stored at
CRF = 10
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
#: schedulers of flow models, and what they call the shift
_SHIFTS = {FlowMatchEulerDiscreteScheduler: "shift", UniPCMultistepScheduler: "flow_shift"}
#: control latents of this many cases are kept: the seeds of a case follow one another
_KEPT = 8


@dataclass(frozen=True)
class Sampled:
    """How much work one clip was."""

    #: latent frames (those of reference images among them), height and width
    latents: tuple[int, int, int]
    #: tokens of the prompt, padding included
    text: int
    #: duration of the clip
    seconds: float


@dataclass(frozen=True)
class Made:
    """What became of one job: a clip, or the reason why there is none."""

    case: Case
    seed: int
    path: Path | None
    reason: str | None = None
    #: what was sampled for it now; None where the clip was there already, or nothing came out
    sampled: Sampled | None = None


def load(spec: WanVaceSpec, checkpoint: Checkpoint, device: torch.device | str | None = None) -> Pipe:
    """The pipeline of a checkpoint with its LoRA, on ``device`` (CUDA where there is any), ready to sample.

    Safetensors only, and nothing is downloaded. Raises :class:`UserError` where something cannot be loaded.
    """
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    of_diffusers.disable_progress_bar()
    of_transformers.disable_progress_bar()  # type: ignore[no-untyped-call]
    dtype = DTYPES[spec.dtype]
    try:
        pipe: Pipe = WanVACEPipeline.from_pretrained(  # type: ignore[no-untyped-call]
            checkpoint.folder,
            dtype={"default": dtype, "vae": torch.float32},  # encoding in bf16 shows
            use_safetensors=True,
            local_files_only=True,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        why = str(error).strip().partition("\n")[0]
        raise UserError(
            f"model {spec.name}: {checkpoint.folder} cannot be loaded: {why}", "check that it is whole; download again"
        ) from error
    _add_lora(pipe, spec)
    if spec.vae_tiling:
        pipe.vae.enable_tiling()
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if spec.offload != "none" and place.type == "cpu":
        raise UserError(f"model {spec.name}: offload needs a GPU", 'offload = "none"')
    if spec.offload == "model":
        pipe.enable_model_cpu_offload(device=place)
    elif spec.offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=place)
    else:
        pipe.to(place)
    return pipe


def _add_lora(pipe: Any, spec: WanVaceSpec) -> None:
    path = lora_file(spec)
    if path is None:
        return
    try:
        load_lora(pipe, path, "lora")
    except UserError as error:
        raise UserError(f"model {spec.name}: {error.problem}", error.fix) from error
    if spec.dtype == "fp32":  # as fast as without a LoRA; half precision would round its small values away
        pipe.fuse_lora(components=["transformer"])
        pipe.unload_lora_weights()


def scheduler_of(pipe: Pipe, shift: float | None = None) -> Any:
    """A fresh scheduler like the pipeline's, with another flow shift where one is given.

    Raises :class:`UserError` for a scheduler that is none of Euler flow matching and UniPC, or has no shift.
    """
    kind: Any = type(pipe.scheduler)
    key = _SHIFTS.get(kind)
    if key is None:
        known = ", ".join(each.__name__ for each in _SHIFTS)
        raise UserError(f"{kind.__name__} is not supported", f"give the checkpoint one of {known}")
    config = pipe.scheduler.config
    if shift is not None and (config.use_dynamic_shifting or not config.get("use_flow_sigmas", True)):
        raise UserError(f"{kind.__name__} of this checkpoint takes no shift", "leave shift out")
    return kind.from_config(config, **({} if shift is None else {key: shift}))


def noise(case: Case, seed: int, shape: Sequence[int]) -> torch.Tensor:
    """Gaussian float32 noise of ``shape`` on the CPU, a function of the case's id and the seed."""
    digest = hashlib.sha256(f"{case.id}\0{seed}".encode()).digest()
    generator = torch.Generator("cpu").manual_seed(int.from_bytes(digest[:7]))
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)


@torch.inference_mode()
def denoise(
    pipe: Pipe,
    scheduler: Any,
    latents: torch.Tensor,
    control: torch.Tensor,
    prompt: torch.Tensor,
    negative: torch.Tensor | None,
    *,
    steps: int,
    guidance: float,
) -> torch.Tensor:
    """Latents float32 ``[B, z_dim, T', h, w]``, from noise of that shape; reference frames are still in front.

    ``control`` ``[B, vace_in_channels, T', h, w]``, ``prompt`` and ``negative`` ``[B, tokens, text_dim]``, all in the
    transformer's dtype. With ``guidance`` above 1 each step runs the model twice: that is no slower than one run of
    twice the batch, takes less memory, and rounds as the pipeline does.
    """
    transformer: Any = pipe.transformer
    device = pipe._execution_device
    scale = torch.ones(len(transformer.config.vace_layers), device=device, dtype=transformer.dtype)
    control, prompt = control.to(device), prompt.to(device)
    latents = latents.to(device)
    scheduler.set_timesteps(steps, device=device)
    for step in scheduler.timesteps:

        def velocity(text: torch.Tensor, context: str, step: torch.Tensor = step) -> torch.Tensor:
            with transformer.cache_context(context):
                out: torch.Tensor = transformer(
                    hidden_states=latents.to(transformer.dtype),  # noqa: B023 (called at once)
                    timestep=step.expand(len(latents)),  # noqa: B023
                    encoder_hidden_states=text,
                    control_hidden_states=control,
                    control_hidden_states_scale=scale,
                    return_dict=False,
                )[0]
            return out

        predicted = velocity(prompt, "cond")
        if guidance > 1 and negative is not None:
            without = velocity(negative.to(device), "uncond")
            predicted = without + guidance * (predicted - without)
        latents = scheduler.step(predicted, step, latents, return_dict=False)[0]
    return latents


class WanVaceModel:
    """A WanVACE checkpoint that writes clips into a folder and leaves those alone that are there.

    A case without a reference image shows the first frame of its driving clip as the person to animate. Frames, size
    and rate of a clip are what the case asks for, else the pose video's; the model makes the next larger clip that its
    VAE and patches allow, which is cut.
    """

    def __init__(
        self,
        spec: WanVaceSpec,
        folder: Path,
        *,
        pose_of: Callable[[Case], Path] | None = None,
        drawn_by: str = "",
        device: torch.device | str | None = None,
        pipe: Pipe | None = None,
    ) -> None:
        """``pose_of`` draws the pose video of a case that has none (``drawn_by``: how, with a version); ``pipe`` is a
        pipeline that :func:`load` gave for the same checkpoint, LoRA, dtype and memory options.

        Raises :class:`UserError` where the checkpoint is not there, or ``folder`` holds clips made otherwise.
        """
        self.spec, self.name = spec, spec.name
        checkpoint = locate(spec)
        self.clips = ClipFolder(folder, recipe_of(spec, checkpoint), drawn_by)
        self.clips.open()
        self._pose_of = pose_of
        self.pipe = pipe or load(spec, checkpoint, device)
        self._prompts = conditioning.Prompts(self.pipe)
        self._given: dict[Case, Given] = {}
        self.device = torch.device(self.pipe._execution_device)
        scheduler_of(self.pipe, spec.shift)  # a shift that cannot be is said before the work

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
            if batch and (len(batch) == most or batch[0][2].control.shape != given.control.shape):
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
            latents = self._sampled(batch)
            for index, (case, seed, given) in enumerate(batch):
                width, height = given.size
                try:
                    frames = self._decoded(latents[index : index + 1], given)
                except FloatingPointError as error:
                    yield self._failed(case, seed, str(error))
                    continue
                path = self.clips.clip(case, seed)
                video.encode(frames[: given.frames, :height, :width], path, given.fps, crf=CRF)
                about = self._keep(case, seed, latents[index], given) if self.spec.keep_latents else {}
                seconds = round((time.monotonic() - begin) / len(batch), 3)
                self.clips.finish(case, seed, seconds=seconds, made_with=self._environment(), **about)
                t, h, w = given.control.shape[2:]
                sampled = Sampled((t, h, w), self._prompts.tokens, given.frames / given.fps)
                yield Made(case, seed, path, sampled=sampled)
        except torch.cuda.OutOfMemoryError as error:
            raise UserError(
                f"model {self.name}: the GPU has too little memory for {len(batch)} clips of "
                f"{batch[0][2].frames} frames of {batch[0][2].size[0]}x{batch[0][2].size[1]}",
                'lower batch, or set vae_tiling = true, offload = "model" or smaller frames and size',
            ) from error

    def _sampled(self, batch: Sequence[tuple[Case, int, Given]]) -> torch.Tensor:
        control = torch.cat([given.control for _, _, given in batch])
        channels = self.pipe.transformer.config.in_channels
        start = torch.cat([noise(case, seed, (1, channels, *control.shape[2:])) for case, seed, _ in batch])
        with torch.inference_mode():
            prompt = self._prompts.encode([case.prompt for case, _, _ in batch])
            guided = self.spec.guidance > 1
            negative = self._prompts.encode([self.spec.negative_prompt] * len(batch)) if guided else None
        scheduler = scheduler_of(self.pipe, self.spec.shift)
        options = {"steps": self.spec.steps, "guidance": self.spec.guidance}
        return denoise(self.pipe, scheduler, start, control, prompt, negative, **options)  # type: ignore[arg-type]

    def _decoded(self, latents: torch.Tensor, given: Given) -> UInt8:
        """One clip alone: the VAE takes most memory, and rounds the same whatever the batch."""
        references = latents.shape[2] - self._latent_frames(given.frames)
        half = self.spec.decode_dtype == "bf16"
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            return conditioning.decode_latents(self.pipe, latents[:, :, references:])

    def _keep(self, case: Case, seed: int, latents: torch.Tensor, given: Given) -> dict[str, str]:
        """Store the latents ``[z_dim, T', h, w]`` of a clip in half precision, and give their hash."""
        path = self.clips.latents(case, seed)
        clip = latents[:, latents.shape[1] - self._latent_frames(given.frames) :]
        with replacing(path, alone=True) as part:
            save_file({"latents": clip.cpu().to(torch.float16).contiguous()}, part)
        return {"latents": f"sha256:{file_sha256(path)}"}

    def _latent_frames(self, frames: int) -> int:
        return (conditioning.grid(self.pipe, frames, (1, 1))[0] - 1) // int(self.pipe.vae_scale_factor_temporal) + 1

    def _given_for(self, case: Case) -> Given:
        """The control latents of a case, kept for its other seeds. Raises Unscorable where there are none."""
        if case not in self._given:
            pose = case.pose or (self._pose_of(case) if self._pose_of else None)
            found = inputs.given(self.pipe, case, pose)
            while len(self._given) >= _KEPT:
                self._given.pop(next(iter(self._given)))
            self._given[case] = found
        return self._given[case]

    def _environment(self) -> dict[str, str]:
        where = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        return {name: version(name) for name in ("torch", "diffusers", "transformers")} | {"device": where}
