"""GRPO: make the sampler's steps toward the better clips of a case likelier (Flow-GRPO, as Identity-GRPO has it).

A clip is made with noise in some of its steps; each of them is Gaussian, so that a policy gradient can be taken of it.
The default settings are those of Identity-GRPO's released code (arXiv 2510.14256); the switches are of later work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ipa_bench.config.fields import Number, Positive, Whole
from trainers import sde
from trainers.methods import options
from trainers.methods.advantage import standardised
from trainers.methods.loss import Loss, grpo_loss

if TYPE_CHECKING:
    from trainers.methods.objective import Step


class Options(options.Options):
    """How clips are sampled, and how steps are weighed."""

    #: ratios count within 1 ± this; likelihoods are means over latent elements, so it is small
    clip: Positive = 1e-3
    #: advantages count up to so many standard deviations of their case
    advantage: Positive = 5.0
    #: weight of the divergence from the reference; above 0 it costs a pass
    kl: Number = 0.004
    #: see :func:`trainers.sde.diffusion`
    noise: sde.Noise = "wan"
    scale: Positive = 1.0
    #: steps that have noise and are trained, from ``first`` on; 0: all but the last. The others are the ODE's.
    window: Whole = 0
    first: Whole = 0
    #: The window begins at a step that is drawn for each case and round, from ``first`` on, and is the same for all
    #: clips of the case: with ``window = 1`` one shared step (Flash-GRPO), with 2 or 3 Flow-GRPO-Fast.
    drawn: bool = False
    #: all clips of a case begin with the same noise
    shared_noise: bool = False
    #: ratios as GRPO-Guard has them
    guard: bool = False
    #: divide each step's loss by how far its mean moves with the velocity, so that all steps weigh the same
    even: bool = False

    @property
    def reference(self) -> bool:
        """With a KL term."""
        return self.kl > 0


def values(cases: Sequence[str], scores: Sequence[float], asked: Options) -> list[float | None]:
    """The advantage of each clip; a case whose rewards are equal is left out: it prefers nothing."""
    limit = asked.advantage
    return [None if z is None else max(-limit, min(limit, z)) for z in standardised(cases, scores)]


def loss(step: Step) -> Loss:
    """How little likelier than when the clips were made the better steps are."""
    asked: Options = step.options
    taken = step.taken
    reference = None
    if asked.kl:
        with step.policy.reference():
            reference, _ = sde.step(taken.z, step.guided(), taken.s, taken.down, taken.g)
    mean, std = sde.step(taken.z, step.guided(), taken.s, taken.down, taken.g)
    share = (taken.s - taken.down).reciprocal() if asked.guard else None
    if asked.even:
        factor = sde.time_factor(taken.s, taken.down, taken.g).reciprocal()
        share = factor if share is None else share * factor
    return grpo_loss(
        mean, taken.mean, taken.after, std, step.given, clip=asked.clip, guard=asked.guard, share=share,
        reference=reference, kl=asked.kl,
    )  # fmt: skip
