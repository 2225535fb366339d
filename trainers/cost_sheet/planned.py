"""What a run on clips that are there takes, by arithmetic alone: FLOPs of updates and looks, and the disk.

Nothing of it is measured. Bytes are those of tensors: a file has a header beside them, and text is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from ipa_bench.models.outline import DTYPE_BYTES, Outline, Shape
from trainers.config import TrainConfig, WatchConfig
from trainers.cost_sheet.rounds import PEAK, SHARE
from trainers.methods import MethodName, find
from trainers.spent import held, passes_of, trained

#: bytes of a value in files that are fp32 or fp16
_WHOLE, _HALF = 4, 2
#: pictures in a condition: a byte a value, whatever the model's dtype
_PICTURES = frozenset({"face"})


@dataclass(frozen=True)
class Work:
    """FLOPs of a run's transformer; VAE, text encoder and scores are not in it."""

    updates: int
    #: samples of held-out cases
    looks: int

    @property
    def flops(self) -> int:
        """All of it."""
        return self.updates + self.looks

    def hours(self, devices: int) -> float:
        """On so many H100, each at an assumed share of its peak: see :mod:`trainers.cost_sheet.rounds`."""
        return self.flops / (PEAK * SHARE * devices) / 3600


@dataclass(frozen=True)
class Disk:
    """Bytes that a run leaves on disk, and needs while it writes."""

    #: latents, masks and what is given beside them, in the cache
    encoded: int
    #: weights that are trained, their moments, average and old policy: twice while one is written over another
    state: int
    #: the LoRA, or the model's transformers
    result: int

    @property
    def most(self) -> int:
        """At the worst moment."""
        return self.encoded + 2 * self.state + self.result


def work(config: TrainConfig, method: MethodName, outline: Outline, shape: Shape, watched: int) -> Work:
    """Of all updates, and of the samples of ``watched`` held-out cases; every clip of ``shape``, a batch of one.

    Errors of the reference are counted as computed each time, though what repeats is remembered.
    """
    about, adapter = find(method), trained(config.adapter)
    options = config.options(method)
    once = outline.update_flops(
        shape,
        adapter,
        clips=passes_of(about, config, outline),
        checkpointing=config.train.gradient_checkpointing,
        reference=about.reference or (options is not None and options.reference),
        old=about.old,
    )
    watch, lora = config.watch, None if adapter == "full" else adapter
    samples = looks(watch, config.train.steps) * watched * len(watch.seeds)
    sampling = samples * outline.sample_flops(shape, watch.steps, watch.guidance, lora)
    return Work(config.train.steps * config.train.batch * once, sampling)


def looks(watch: WatchConfig, steps: int) -> int:
    """How often held-out cases are looked at: at both ends, and after every so many updates."""
    return len({0, steps, *(range(watch.every, steps, watch.every) if watch.every else ())})


def disk(
    config: TrainConfig, method: MethodName, outline: Outline, shape: Shape, clips: int, cases: int, start: Path | None
) -> Disk:
    """Of so many ``clips`` of ``shape`` of so many ``cases``; ``start``: the LoRA that training continues from."""
    each = DTYPE_BYTES[config.model.dtype]
    # Latents of references are given, and no part of the clip's.
    frames = shape.frames - outline.references
    channels, *_ = outline.flow(shape)
    of_clip = _WHOLE * (channels + 1) * frames * shape.height * shape.width  # and a mask like one channel
    of_case = sum((1 if name in _PICTURES else each) * prod(sides) for name, sides in _given(outline, shape))
    known = held(config, start, outline)
    old = known.adapter if find(method).old else 0
    state = known.adapter + known.average + known.optimizer + old
    result = known.adapter // _WHOLE * (_HALF if config.adapter.half else _WHOLE)
    if config.adapter.full:
        state, result = known.weights + known.average + known.optimizer + old, known.weights
    return Disk(clips * of_clip + cases * of_case, state, result)


def _given(outline: Outline, shape: Shape) -> Sequence[tuple[str, tuple[int, ...]]]:
    """What is kept of each case; prompts are few, whatever the cases."""
    return [(name, sides) for name, sides in outline.kept(shape).items() if name != "prompt"]
