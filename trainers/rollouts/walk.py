"""A sampler with noise in some of its steps, which keeps those steps: what GRPO learns from.

The noise of a step is a function of the case, the seed and the step, so that the place where a step began and where it
went without its noise are all that has to be kept of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ipa_bench.errors import UserError
from ipa_bench.files import replacing
from ipa_bench.models import generator
from ipa_bench.models.base import Base, Rung
from ipa_bench.types import Case
from trainers import sde
from trainers.methods.objective import Taken


def drawn(*of: object, below: int) -> int:
    """A number from 0 to ``below`` − 1 that is a function of ``of`` alone."""
    name = hashlib.sha256("\0".join(map(str, of)).encode()).digest()
    return int.from_bytes(name[:7]) % below


@dataclass(frozen=True, eq=False)
class Walk:
    """How clips of one round are sampled, and where their steps are kept."""

    folder: Path
    #: falling noise levels of the sampler, float64 ``[T + 1]``
    sigmas: Tensor
    #: keys of the method: noise, scale, window, first, drawn, shared_noise
    asked: Any
    #: of the run and of the round: what is drawn for a case depends on both
    seed: int
    number: int
    #: the seed whose first noise all clips of a case share, where they do
    first_seed: int
    #: of the sampler, as that of training
    autocast: Any

    @property
    def window(self) -> int:
        """Steps of each clip that have noise and are kept."""
        return len(self._fixed)

    @property
    def _fixed(self) -> range:
        return sde.steps(len(self.sigmas) - 1, self.asked.window, self.asked.first)

    def steps(self, case: Case) -> range:
        """The steps with noise of a case's clips: drawn for the case and the round where that is asked for."""
        fixed = self._fixed
        if not self.asked.drawn:
            return fixed
        by = drawn(self.seed, self.number, case.id, below=len(self.sigmas) - 1 - fixed.stop)
        return range(fixed.start + by, fixed.stop + by)

    def __call__(self, base: Base, jobs: Sequence[tuple[Case, int]], start: Tensor, ladder: Sequence[Rung]) -> Tensor:
        """A :data:`ipa_bench.models.generator.Sampler`. Writes the steps of each clip before it gives the clips."""
        if self.asked.shared_noise:
            sides = (1, *start.shape[1:])
            start = torch.cat([generator.noise(case, self.first_seed, sides) for case, _ in jobs])
        z = start.to(base.device)
        noisy = [self.steps(case) for case, _ in jobs]
        kept: list[list[tuple[Tensor, Tensor]]] = [[] for _ in jobs]
        with torch.inference_mode():
            for index in range(len(self.sigmas) - 1):
                s, down, g = self._levels([index] * len(jobs), [index in of for of in noisy], z.device)
                with self.autocast():
                    velocity = base.guided(z, s, ladder)
                mean, std = sde.step(z, velocity.float(), s, down, g)
                for place, of in enumerate(noisy):
                    if index in of:
                        kept[place].append((z[place].cpu(), mean[place].cpu()))
                noise = [_noise(*job, index, mean.shape[1:]) for job in jobs]
                z = mean + sde.spread(std, mean) * torch.stack(noise).to(mean)
        for (case, seed), walked in zip(jobs, kept, strict=True):
            began, went = zip(*walked, strict=True)
            content = {"z": torch.stack(began), "mean": torch.stack(went)}
            with replacing(self.file(case, seed), alone=True) as part:
                save_file(content, part)
        return z

    def file(self, case: Case, seed: int) -> Path:
        """Where the steps of a clip are kept."""
        return self.folder / f"{case.id}_seed{seed}.walk.safetensors"

    def taken(
        self, clips: Sequence[tuple[Case, int]], places: Sequence[int], device: torch.device, negative: Tensor | None,
        guidance: float,
    ) -> Taken:  # fmt: skip
        """One step of each clip, by its place in the window; where it went is computed as it was then, to the bit.

        Raises :class:`UserError` where a clip's steps are not there.
        """
        read = [self._read(case, seed, place) for (case, seed), place in zip(clips, places, strict=True)]
        z, mean = (torch.stack(parts).to(device) for parts in zip(*read, strict=True))
        index = [self.steps(case)[place] for (case, _), place in zip(clips, places, strict=True)]
        s, down, g = self._levels(index, [True] * len(index), device)
        noise = [_noise(case, seed, i, mean.shape[1:]) for (case, seed), i in zip(clips, index, strict=True)]
        std = g * (s - down).sqrt()
        after = mean + sde.spread(std, mean) * torch.stack(noise).to(mean)
        return Taken(z, mean, after, s, down, g, negative, guidance)

    def _read(self, case: Case, seed: int, place: int) -> tuple[Tensor, Tensor]:
        file = self.file(case, seed)
        try:
            with safe_open(file, "pt") as found:
                return found.get_slice("z")[place], found.get_slice("mean")[place]
        except Exception as error:  # not there, cut off, or of other steps
            raise UserError(
                f"{file} cannot be read ({error})", f"delete {self.folder.parent}: it is made anew"
            ) from None

    def _levels(
        self, index: Sequence[int], noisy: Sequence[bool], device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor]:
        s, down = (self.sigmas[[i + more for i in index]] for more in (0, 1))
        g = sde.diffusion(s, self.sigmas, self.asked.noise, self.asked.scale)
        g = torch.where(torch.tensor(noisy), g, torch.zeros_like(g))
        return s.to(device), down.to(device), g.to(device)


def _noise(case: Case, seed: int, step: int, shape: Sequence[int]) -> Tensor:
    """That of a sampler's step, apart from what the clip begins with."""
    return generator.noise(case, seed, shape, f"step\0{step}")
