"""IPA: good clips against the reference's error on them, without pairs."""

from __future__ import annotations

from trainers.methods.loss import Loss, ipa_loss
from trainers.methods.objective import Step


def loss(step: Step) -> Loss:
    """How little better than the reference the model is on the clips."""
    reference = step.reference(step.good)
    error = step.error(step.good)
    return ipa_loss(error, reference, step.t, beta=step.config.beta, weight=step.config.time_weight)
