"""NFT: learn from all scored candidates by the forward process alone (DiffusionNFT, arXiv 2509.16117).

Beside the policy and the reference stands an *old* policy, which begins as the policy and follows it now and then. The
two are mixed into two velocities, one for what the better samples show and one for what the worse ones do; no sampler
is differentiated and no likelihood is needed, so that candidates may come from any sampler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, Strict

from ipa_bench.config.fields import Number, Positive, Whole
from trainers.methods import options
from trainers.methods.advantage import optimality
from trainers.methods.loss import Loss, nft_loss

if TYPE_CHECKING:
    from trainers.methods.objective import Step


class Options(options.Options):
    """Settings of the paper's code where not said otherwise."""

    #: how far the two velocities lie from the old policy's (the paper's beta; 0.1 there for several rewards)
    mix: Positive = 1.0
    #: scores count up to so many standard deviations of their case
    clip: Positive = 5.0
    #: divide each side's error by its own size, as published
    adaptive: bool = True
    #: weight of the distance to the reference's velocity; above 0 it costs a pass (published: 1e-4)
    kl: Number = 0.0
    #: Updates between two steps of the old policy; 0: it stays where it began, as it does within a published round.
    #: Candidates that are not made anew want it rare: what is bad is pushed away from the old policy, step after step.
    old_every: Whole = 25
    #: At its n-th step it keeps ``min(old_rate · (n − old_from), old_most)`` of itself, nothing before ``old_from``.
    #: Published: these, or 0.0075 from step 75 on up to 0.999.
    old_rate: Number = 0.001
    old_most: Annotated[float, Strict(), Field(ge=0, le=1)] = 0.5
    old_from: Whole = 0

    @property
    def reference(self) -> bool:
        """With a KL term."""
        return self.kl > 0


def values(cases: Sequence[str], scores: Sequence[float], asked: Options) -> list[float | None]:
    """How good each candidate is in [0, 1]; a case whose scores are equal is left out: it prefers nothing."""
    return optimality(cases, scores, asked.clip)


def keep(update: int, asked: Options) -> float | None:
    """The share of itself that the old policy keeps after so many updates, from 1; None: it stays as it is."""
    if not asked.old_every or update % asked.old_every:
        return None
    return min(max(0.0, asked.old_rate * (update // asked.old_every - asked.old_from)), asked.old_most)


def loss(step: Step) -> Loss:
    """How far the policy is from what the better candidates ask for and the worse ones forbid."""
    asked: Options = step.options
    with step.policy.as_old():
        old = step.velocity(step.good)
    reference = None
    if asked.kl:
        with step.policy.reference():
            reference = step.velocity(step.good)
    return nft_loss(
        step.velocity(step.good), old, step.target(step.good), step.t, step.given, mix=asked.mix, clip=asked.clip,
        adaptive=asked.adaptive, weight=step.weights(step.good), reference=reference, kl=asked.kl,
    )  # fmt: skip
