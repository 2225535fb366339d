"""What post-training minimises, on the per-sample flow errors of :func:`trainers.flow.flow_error`.

e is the trained model's error on a sample, e_ref the frozen reference's on the same noise and at the same t. Each loss
returns its scalar and a dictionary of metrics: detached 0-d tensors, means over the batch. A reference gets no
gradient.

    SFT   mean e
    IPA   −log σ(  β/2 · w(t) · (e_ref − e) )                                    arXiv 2605.07545
    DPO   −log σ( −β/2 · w(t) · [(e_w − e_w,ref) − (e_l − e_l,ref)] )            arXiv 2501.13918, 2311.12908

IPA is DPO without the rejected sample: its gradient is that of SFT times σ(−logit) · β/2 · w(t), a gate that closes as
the model becomes better than the reference on the sample.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

#: see :func:`time_weight`
TimeWeight = Literal["squared", "constant"]

Loss = tuple[Tensor, dict[str, Tensor]]


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


def ipa_loss(
    error: Tensor, reference: Tensor, t: Tensor, *, beta: float = 600.0, weight: TimeWeight = "squared"
) -> Loss:
    """Pair-free alignment to good samples: the mean of −log σ(β/2 · w(t) · (e_ref − e)) (Flow-IPA, arXiv 2605.07545).

    ``error`` and ``reference`` ``[B]``, at least 0, the errors of the model and of the frozen reference; ``t`` ``[B]``
    in [0, 1]; ``beta`` above 0, 600 as published for errors that are means. The loss is log 2 where the two agree.

    Metrics: ``error``, ``reference_error``; ``gap`` e_ref − e; ``win`` the share of samples with e below e_ref, a tie
    one half; ``gate`` σ(−logit), the share of the gradient that is still open, 0.5 at the start.
    Raises ValueError where the three are not 1-d and of one length.
    """
    _check(error=error, reference=reference, t=t)
    reference = reference.detach()
    gap = reference - error
    logit = beta / 2 * time_weight(t, weight) * gap
    metrics = {"error": error, "reference_error": reference, "gap": gap, "win": _wins(gap), "gate": (-logit).sigmoid()}
    return -logsigmoid(logit).mean(), _means(metrics)


def dpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    chosen_reference: Tensor,
    rejected_reference: Tensor,
    t: Tensor,
    *,
    beta: float,
    weight: TimeWeight,
) -> Loss:
    """Preference between two samples of one case: the mean of −log σ(β/2 · w(t) · [chosen gap − rejected gap]).

    Flow-DPO (arXiv 2501.13918) after Diffusion-DPO (arXiv 2311.12908). A gap is e_ref − e of one sample. All errors
    ``[B]``, at least 0; ``t`` ``[B]`` in [0, 1], and the noise, are shared by both samples of a pair; ``beta`` above 0.
    The loss is log 2 where the model is the reference.

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
    return -logsigmoid(logit).mean(), _means(metrics)


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
