"""DPO: the good against the bad clip of each pair, each against the reference's error on it."""

from __future__ import annotations

from trainers.methods.loss import Loss, dpo_loss
from trainers.methods.objective import Step


def loss(step: Step) -> Loss:
    """How little the model prefers the good clips more than the reference does."""
    good, bad = step.pair
    references = step.reference(good), step.reference(bad)
    errors = step.error(good), step.error(bad)
    return dpo_loss(*errors, *references, step.t, beta=step.config.beta, weight=step.config.time_weight)
