"""IPA: good clips against the reference's error on them, without pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainers.methods import options
from trainers.methods.loss import Gate, Logit, Loss, ipa_loss

if TYPE_CHECKING:
    from trainers.methods.objective import Step


class Options(options.Options):
    """How the logit is measured and whether its gate closes; the first of each is what is published."""

    #: ``relative``: in units of the reference's error, so that ``loss.beta`` does not depend on the model's latents
    logit: Logit = "absolute"
    #: ``half``: the gradient does not fade as the model gets better than the reference
    gate: Gate = "closing"


def loss(step: Step) -> Loss:
    """How little better than the reference the model is on the clips."""
    reference = step.reference(step.good)
    error = step.error(step.good)
    config, asked = step.config, step.options
    return ipa_loss(
        error, reference, step.t, beta=config.beta, weight=config.time_weight, logit=asked.logit, gate=asked.gate
    )
