"""What a case gives a WanVACE model: the frames of its pose video, and the control latents made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ipa_bench import video
from ipa_bench.errors import Unscorable
from ipa_bench.models.wan import conditioning
from ipa_bench.models.wan.conditioning import Pipe
from ipa_bench.types import Case, UInt8


@dataclass(frozen=True, eq=False)
class Given:
    """What the model is given for a case, whatever the seed."""

    #: ``[1, vace_in_channels, T' + n_ref, h, w]``, on the CPU
    control: torch.Tensor
    frames: int
    fps: float
    #: (width, height) of the clip, from the top left of what the model makes
    size: tuple[int, int]


def given(pipe: Pipe, case: Case, pose: Path | None) -> Given:
    """The control latents of a case. Raises Unscorable where its clips do not decode or are too short.

    A case without a reference image shows the first frame of its driving clip as the person to animate.
    """
    frames, fps = pose_frames(case, pose)
    reference = next(video.read_frames(case.reference or case.driving)).image
    size = (frames.shape[2], frames.shape[1])
    filled = conditioning.fill(frames, *conditioning.grid(pipe, len(frames), size))
    with torch.inference_mode():
        control = conditioning.control_latents(pipe, filled, reference).cpu()
    return Given(control, len(frames), fps, size)


def pose_frames(case: Case, path: Path | None) -> tuple[UInt8, float]:
    """The pose frames uint8 ``[T, H, W, 3]`` that a case asks for, and frames per second. Raises Unscorable."""
    if path is None:
        raise Unscorable("the case has no pose video")
    return frames_for(case, path)


def frames_for(case: Case, path: Path) -> tuple[UInt8, float]:
    """Frames uint8 ``[T, H, W, 3]`` of a clip, brought to the rate, number and size of the case, and their rate.

    Raises Unscorable where the clip does not decode or is too short.
    """
    source = video.probe(path).fps
    fps = case.fps or source
    step = source / fps if abs(source / fps - 1) > 0.01 else 1.0
    chosen: list[UInt8] = []
    for index, frame in enumerate(video.read_frames(path, size=case.size, policy="crop")):
        while round(len(chosen) * step) == index and len(chosen) != case.frames:
            chosen.append(frame.image)
        if len(chosen) == case.frames:
            break
    if case.frames and len(chosen) < case.frames:
        raise Unscorable(f"{path.name}: has {len(chosen)} frames at {fps:g} per second, not {case.frames}")
    return np.stack(chosen), fps
