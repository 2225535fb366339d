"""What rounds of clips take, by arithmetic alone: FLOPs of sampling and of learning, and the disk that steps need."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from ipa_bench.models.outline import Outline, Shape
from ipa_bench.types import Case
from trainers import sde
from trainers.config import TrainConfig
from trainers.methods import find
from trainers.spent import passes_of, trained

#: what hours are said of: dense bf16 products of one H100 SXM (its data sheet), and a share of them that training of
#: large transformers reaches; both are assumptions and no measurement
DEVICE, PEAK, SHARE = "H100", 989e12, 0.4


@dataclass(frozen=True)
class Priced:
    """Of one round; text encoder, VAE and the reward are not in it."""

    clips: int
    tokens: int
    #: times that each clip is learnt from: the sampler's steps, or noise levels
    shown: int
    sampling: int
    learning: int
    #: bytes of the steps that are kept
    kept: int

    @property
    def flops(self) -> int:
        """All of it."""
        return self.sampling + self.learning

    @property
    def hours(self) -> float:
        """On one :data:`DEVICE` at :data:`SHARE` of its peak."""
        return self.flops / (PEAK * SHARE) / 3600


def shape_of(case: Case, outline: Outline, fallback: tuple[int, tuple[int, int]]) -> Shape:
    """What a pass sees of a case's clip, with all of its references; ``fallback`` where the case says no size."""
    frames, size = outline.fitting(case.frames or fallback[0], case.size or fallback[1])
    shape = outline.shape(frames, size)
    more = (len(case.references) or 1) - 1
    return replace(shape, frames=shape.frames + more) if outline.references else shape


def price(config: TrainConfig, method: str, outline: Outline, shape: Shape) -> Priced:
    """A round of clips of ``shape``. Raises ValueError for a configuration without rounds."""
    asked, about = config.rollouts, find(method)
    if asked is None:
        raise ValueError("there are no rounds")
    options = config.options(method)
    steps = about.takes == "steps"
    shown = len(sde.steps(asked.steps, options.window, options.first)) if steps else asked.levels
    clips, adapter = asked.cases * asked.per_case, trained(config.adapter)
    lora = None if adapter == "full" else adapter
    once = outline.update_flops(
        shape,
        adapter,
        clips=passes_of(about, config, outline),
        checkpointing=config.train.gradient_checkpointing,
        reference=options is not None and options.reference,
        old=about.old,
    )
    return Priced(
        clips,
        outline.tokens(shape),
        shown,
        clips * outline.sample_flops(shape, asked.steps, asked.guidance, lora),
        clips * shown * once,
        # where each step began and where it went
        clips * shown * 2 * 4 * prod(outline.flow(shape)) if steps else 0,
    )
