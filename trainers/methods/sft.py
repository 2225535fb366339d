"""SFT: flow matching on good clips."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainers.methods.loss import Loss, sft_loss

if TYPE_CHECKING:
    from trainers.methods.objective import Step


def loss(step: Step) -> Loss:
    """The mean error of the clips."""
    return sft_loss(step.error(step.good))
