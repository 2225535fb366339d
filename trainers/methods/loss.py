"""What post-training minimises, on the per-sample flow errors of :func:`trainers.flow.flow_error`.

e is the trained model's error on a sample, e_ref the frozen reference's on the same noise and at the same t. Each loss
returns its scalar and a dictionary of metrics: detached 0-d tensors, means over the batch. A reference gets no
gradient.

    SFT   mean e
    IPA   −log σ(  β/2 · w(t) · (e_ref − e) )                                    arXiv 2605.07545
    DPO   −log σ( −β/2 · w(t) · [(e_w − e_w,ref) − (e_l − e_l,ref)] )            arXiv 2501.13918, 2311.12908
    wSFT  mean w_i e_i                                                           of all scored samples
    NFT   see :func:`nft_loss`, on velocities                                    arXiv 2509.16117
    GRPO  see :func:`grpo_loss`, on steps of :mod:`trainers.sde`                 arXiv 2505.05470, 2510.14256

IPA is DPO without the rejected sample: its gradient is that of SFT times σ(−logit) · β/2 · w(t), a gate that closes as
the model becomes better than the reference on the sample.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from trainers import flow, sde

#: see :func:`time_weight`
TimeWeight = Literal["squared", "constant"]
#: how a gap is measured, and whether its gate closes: see :func:`ipa_loss`
Logit = Literal["absolute", "relative"]
Gate = Literal["closing", "half"]

Loss = tuple[Tensor, dict[str, Tensor]]
#: what is divided by is at least this
_TINY = 1e-12


def time_weight(t: Tensor, kind: TimeWeight) -> Tensor:
    """``w(t)`` of each noise level, the shape of ``t`` (in [0, 1], 1 is noise), in [0, 1].

    ``squared`` is (1 − t)², largest near the clean clip and 0 at noise: the derivative of the KL divergence along the
    flow (arXiv 2605.07545). ``constant`` is 1: public implementations of Flow-DPO leave the factor out.
    """
    return (1 - t).square() if kind == "squared" else torch.ones_like(t)


def sft_loss(error: Tensor) -> Loss:
    """Mean error of good samples: flow matching (arXiv 2210.02747).

    ``error`` ``[B]``, squared latent units, at least 0. Metrics: ``error``. Raises ValueError where it is not 1-d.
    """
    _check(error=error)
    loss = error.mean()
    return loss, {"error": loss.detach()}


def wsft_loss(error: Tensor, weight: Tensor) -> Loss:
    """Weighted mean error of scored samples: ``weight`` ``[B]`` at least 0, with mean 1 over the samples of a case.

    Metrics: ``error``, the plain mean. Raises ValueError where the two are not 1-d and of one length.
    """
    _check(error=error, weight=weight)
    return (weight * error).mean(), {"error": error.detach().mean()}


def ipa_loss(
    error: Tensor,
    reference: Tensor,
    t: Tensor,
    *,
    beta: float = 600.0,
    weight: TimeWeight = "squared",
    logit: Logit = "absolute",
    gate: Gate = "closing",
) -> Loss:
    """Pair-free alignment to good samples: the mean of −log σ(β/2 · w(t) · (e_ref − e)) (Flow-IPA, arXiv 2605.07545).

    ``error`` and ``reference`` ``[B]``, at least 0, the errors of the model and of the frozen reference; ``t`` ``[B]``
    in [0, 1]; ``beta`` above 0, 600 as published for errors that are means. The loss is log 2 where the two agree.

    ``logit`` ``relative`` divides the gap by the reference's error of the sample, which is a mean over latent elements:
    a beta that fits one model then fits another, whose errors are of another size. ``gate`` ``half`` keeps the gradient
    that the loss has at its start: a half everywhere, so that only w(t) and beta weigh samples (log 2 − logit / 2).

    Metrics: ``error``, ``reference_error``; ``gap`` e_ref − e; ``win`` the share of samples with e below e_ref, a tie
    one half; ``gate`` σ(−logit), the share of the gradient that is still open, 0.5 at the start.
    Raises ValueError where the three are not 1-d and of one length.
    """
    _check(error=error, reference=reference, t=t)
    reference = reference.detach()
    gap = reference - error
    measured = gap if logit == "absolute" else gap / reference.clamp_min(_TINY)
    z = beta / 2 * time_weight(t, weight) * measured
    opened = (-z).sigmoid() if gate == "closing" else torch.full_like(z, 0.5)
    metrics = {"error": error, "reference_error": reference, "gap": gap, "win": _wins(gap), "gate": opened}
    loss = -logsigmoid(z).mean() if gate == "closing" else (math.log(2) - z / 2).mean()
    return loss, _means(metrics)


def dpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    chosen_reference: Tensor,
    rejected_reference: Tensor,
    t: Tensor,
    *,
    beta: float,
    weight: TimeWeight,
    sft: float = 0.0,
) -> Loss:
    """Preference between two samples of one case: the mean of −log σ(β/2 · w(t) · [chosen gap − rejected gap]).

    Flow-DPO (arXiv 2501.13918) after Diffusion-DPO (arXiv 2311.12908). A gap is e_ref − e of one sample. All errors
    ``[B]``, at least 0; ``t`` ``[B]`` in [0, 1], and the noise, are shared by both samples of a pair; ``beta`` above 0.
    The loss is log 2 where the model is the reference. ``sft`` at least 0 adds so many times the mean error of the
    chosen samples, against likelihood displacement (as RPO does for language models, arXiv 2404.19733); at the start
    DPO's own factor before that error is β/4 · w(t).

    Metrics: ``chosen_error``, ``rejected_error``; ``chosen_gap``, ``rejected_gap``; ``gap``, their difference; ``win``
    the share of pairs with a positive difference (implicit accuracy), a tie one half; ``gate`` σ(−logit), the share of
    the gradient that is still open. A negative ``chosen_gap`` beside a positive ``gap`` is likelihood displacement: the
    model gets worse on the chosen sample, only less so than on the rejected one.
    Raises ValueError where the five are not 1-d and of one length.
    """
    _check(
        chosen=chosen,
        rejected=rejected,
        chosen_reference=chosen_reference,
        rejected_reference=rejected_reference,
        t=t,
    )
    chosen_gap = chosen_reference.detach() - chosen
    rejected_gap = rejected_reference.detach() - rejected
    gap = chosen_gap - rejected_gap
    logit = beta / 2 * time_weight(t, weight) * gap
    metrics = {
        "chosen_error": chosen,
        "rejected_error": rejected,
        "chosen_gap": chosen_gap,
        "rejected_gap": rejected_gap,
        "gap": gap,
        "win": _wins(gap),
        "gate": (-logit).sigmoid(),
    }
    loss = -logsigmoid(logit).mean()
    return loss + sft * chosen.mean() if sft else loss, _means(metrics)


def nft_loss(
    predicted: Tensor,
    old: Tensor,
    target: Tensor,
    t: Tensor,
    optimality: Tensor,
    *,
    mix: float = 1.0,
    clip: float = 5.0,
    adaptive: bool = True,
    weight: Tensor | None = None,
    reference: Tensor | None = None,
    kl: float = 0.0,
) -> Loss:
    """DiffusionNFT (arXiv 2509.16117), the mean over samples of

        clip / mix · [ r ‖x̂⁺ − x‖² / w⁺ + (1 − r) ‖x̂⁻ − x‖² / w⁻ ] + kl · ‖v − v_ref‖²,    x̂± = z_t − t v±
        v⁺ = mix · v + (1 − mix) · v_old,    v⁻ = (1 + mix) · v_old − mix · v,    w± = mean |x̂± − x| without gradient

    with norms that are means over latent elements. ``predicted``, ``old`` and ``target`` ``[B, C, T, h, w]``: the
    velocities of the policy and of the old one, and ε − x; ``t`` ``[B]`` in (0, 1]; ``optimality`` r ``[B]`` in [0, 1],
    1/2 for a sample that is neither good nor bad: it has no gradient where policy and old policy agree. ``weight`` as
    of :func:`trainers.flow.flow_error`. Without ``adaptive`` both w are 1. ``reference``: v_ref, wanted where ``kl`` is
    above 0. Old policy, target and reference get no gradient.

    With a = v_old − v_target and d = v − v_old, t and both w 1: the bracket over ``mix`` is
    ``‖a‖² / mix + 2 (2 r − 1) ⟨a, d⟩ + mix ‖d‖²``, a flow error weighted by the advantage and a pull to the old policy.

    Metrics: ``error``, ``old_error`` (flow errors); ``gap`` (2 r − 1)(old error − error), positive where a good sample
    is closer or a bad one farther than to the old policy; ``win`` its sign's share; ``moved`` ‖d‖²; ``kl`` where asked.
    Raises ValueError where shapes do not fit.
    """
    _check(t=t, optimality=optimality)
    if not predicted.shape == old.shape == target.shape or predicted.shape[:1] != t.shape:
        shapes = [tuple(value.shape) for value in (predicted, old, target, t)]
        raise ValueError(f"velocities and t do not fit together: {shapes}")
    if kl and reference is None:
        raise ValueError("a KL term needs the reference's velocity")
    old, target = old.detach(), target.detach()
    share = t.reshape(-1, *[1] * (predicted.ndim - 1))

    def off(velocity: Tensor) -> Tensor:
        x = share * velocity, share * target
        error = flow.flow_error(*x, weight)
        return error / (x[0] - x[1]).detach().abs().flatten(1).mean(1).clamp_min(1e-5) if adaptive else error

    plus, minus = off(mix * predicted + (1 - mix) * old), off((1 + mix) * old - mix * predicted)
    loss = (clip / mix * (optimality * plus + (1 - optimality) * minus)).mean()
    error, old_error = (flow.flow_error(v.detach(), target, weight) for v in (predicted, old))
    gap = (2 * optimality - 1) * (old_error - error)
    moved = (predicted.detach() - old).square().flatten(1).mean(1)
    metrics = {"error": error, "old_error": old_error, "gap": gap, "win": _wins(gap), "moved": moved}
    if reference is not None and kl:
        far = (predicted - reference.detach()).square().flatten(1).mean(1)
        loss, metrics = loss + kl * far.mean(), metrics | {"kl": far}
    return loss, _means(metrics)


def grpo_loss(
    mean: Tensor,
    old: Tensor,
    after: Tensor,
    std: Tensor,
    advantage: Tensor,
    *,
    clip: float,
    guard: bool = False,
    share: Tensor | None = None,
    reference: Tensor | None = None,
    kl: float = 0.0,
) -> Loss:
    """Group-relative policy optimisation of a sampler's steps (Flow-GRPO, arXiv 2505.05470), the mean over steps of

        share · max(−A r, −A · clip(r, 1 ± clip)) + kl · KL(step ‖ step of the reference),      r = p_θ(z') / p_old(z')

    with likelihoods that are means over elements (:mod:`trainers.sde`). ``mean``, ``old`` and ``reference``
    ``[B, C, T, h, w]``: where a step goes by the policy, by the policy that made the clip, and by the reference; all
    with the deviation ``std`` ``[B]``; ``after``: where it went. ``advantage`` ``[B]``: of the clip among those of its
    case. ``share`` ``[B]``: what each step counts; 1 where not given. Old policy and reference get no gradient.

    log r is −‖mean − old‖² / (2 std²) too small in the mean, so that good steps hardly meet the upper bound. ``guard``
    takes that out and measures what is left in units that are the same for all steps (GRPO-Guard, arXiv 2510.22319):
    log r = mean of (mean − old)(after − old) / std; the published code then divides by −dt, as a ``share``.

    Where policy and old policy are one, r is 1 and the gradient that of −A log p_θ. Metrics: ``ratio``; ``clipped`` the
    share of steps whose gradient is cut off; ``gap`` A (r − 1), ``win`` its sign's share; ``moved`` KL from the old
    policy; ``kl`` where asked. Raises ValueError where shapes do not fit.
    """
    _check(std=std, advantage=advantage, **({} if share is None else {"share": share}))
    if not mean.shape == old.shape == after.shape or mean.shape[:1] != std.shape:
        raise ValueError(f"steps do not fit together: {[tuple(value.shape) for value in (mean, old, after, std)]}")
    if kl and reference is None:
        raise ValueError("a KL term needs the reference's step")
    old, after, advantage = old.detach(), after.detach(), advantage.to(mean)
    logarithm, moved = sde.log_ratio(after, mean, old, std), sde.divergence(mean, old, std)
    if guard:
        logarithm = (logarithm + moved) * std.to(mean)
    ratio = logarithm.exp()
    plain, bounded = -advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip)
    steps = torch.maximum(plain, bounded)
    loss = (steps if share is None else share.to(mean) * steps).mean()
    gap = advantage * logarithm.expm1()
    cut = (bounded > plain) & (gap > 0)
    metrics = {"ratio": ratio, "clipped": cut.to(mean), "gap": gap, "win": _wins(gap)}
    metrics["moved"] = moved
    if reference is not None and kl:
        far = sde.divergence(mean, reference.detach(), std)
        loss, metrics = loss + kl * far.mean(), metrics | {"kl": far}
    return loss, _means(metrics)


def _wins(gap: Tensor) -> Tensor:
    """1 where ``gap`` is positive, 0 where negative, one half at 0."""
    return (gap.detach().sign() + 1) / 2


def _means(metrics: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().mean() for name, value in metrics.items()}


def _check(**values: Tensor) -> None:
    # [B] against [B, 1] would broadcast to all pairs and give a plausible loss
    shapes = {name: tuple(value.shape) for name, value in values.items()}
    if any(len(shape) != 1 for shape in shapes.values()) or len(set(shapes.values())) != 1:
        raise ValueError(f"expected 1-d tensors of one length, one value per sample, got {shapes}")
