"""DPO: the good against the bad clip of each pair, each against the reference's error on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipa_bench.config.fields import Number
from trainers.methods import options
from trainers.methods.loss import Loss, dpo_loss

if TYPE_CHECKING:
    from trainers.methods.objective import Step


class Options(options.Options):
    """What keeps the good clips likely."""

    #: weight of the good clips' own error, as SFT has it; none as published
    sft: Number = 0.0


def loss(step: Step) -> Loss:
    """How little the model prefers the good clips more than the reference does."""
    good, bad = step.pair
    references = step.reference(good), step.reference(bad)
    errors = step.error(good), step.error(bad)
    config = step.config
    return dpo_loss(*errors, *references, step.t, beta=config.beta, weight=config.time_weight, sft=step.options.sft)
