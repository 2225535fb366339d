"""Reward-weighted SFT: flow matching on all scored candidates, the better of a case weighing more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ipa_bench.config.fields import Positive
from trainers.methods import options
from trainers.methods.advantage import softmax_weights
from trainers.methods.loss import Loss, wsft_loss

if TYPE_CHECKING:
    from trainers.methods.objective import Step


class Options(options.Options):
    """How much better weighs how much more."""

    #: in standard deviations of a case's scores: one more of them weighs e times as much at 1
    temperature: Positive = 1.0


def values(cases: Sequence[str], scores: Sequence[float], asked: Options) -> list[float | None]:
    """The weight of each candidate."""
    return [*softmax_weights(cases, scores, asked.temperature)]


def loss(step: Step) -> Loss:
    """The weighted mean error of the candidates."""
    return wsft_loss(step.error(step.good), step.given)
