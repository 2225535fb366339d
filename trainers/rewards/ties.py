"""Preferences with ties: Rao and Kupper's extension (JASA 62, 1967) of Bradley and Terry's model, as in VideoAlign.

With scores r and d = r_A - r_B, and k >= 1:
P(A) = s(d - ln k), P(B) = s(-d - ln k), P(tie) = (k^2 - 1) s(d - ln k) s(-d - ln k), which sum to 1. With k = 1 there
are no ties and this is Bradley and Terry's model; with k = 5 scores must differ by ln 5 = 1.61 before a win is likelier
than not.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def log_chances(difference: Tensor, log_k: Tensor) -> Tensor:
    """Logarithms of the chances of (A, tie, B), ``[B, 3]``, of ``difference`` ``[B]`` = r_A - r_B and ``log_k`` >= 0.

    Where ``log_k`` is 0 a tie has the chance 0, and -inf stands for it.
    """
    first, second = F.logsigmoid(difference - log_k), F.logsigmoid(-difference - log_k)
    tie = torch.log(torch.expm1(2 * log_k)) + first + second
    return torch.stack([first, tie, second], -1)


def preference_loss(
    difference: Tensor, shares: Tensor, log_k: Tensor, *, ties: bool = True, even: float = 0.0
) -> tuple[Tensor, dict[str, float]]:
    """(mean negative log-likelihood, metrics) of votes.

    ``shares`` ``[B, 3]``: which share of a comparison's votes went to (A, tie, B); rows sum to 1. Without ``ties`` the
    tied share counts for nothing and ``log_k`` is not used. ``even`` is the weight of the squared difference of what is
    tied: within ``log_k`` a tie is likely whatever the difference, and a small one that is always the same way is a
    preference all the same. ``accuracy`` is over comparisons that are no tie, by the
    sign of the difference; unknown where there are none.
    """
    if ties:
        chances = log_chances(difference, log_k)
        loss = -(shares * chances.clamp(min=-30.0)).sum(-1).mean() + even * (shares[:, 1] * difference.square()).mean()
    else:
        won = shares[:, 0] + shares[:, 2]
        both = shares[:, 0] * F.logsigmoid(difference) + shares[:, 2] * F.logsigmoid(-difference)
        loss = -both.sum() / won.sum().clamp(min=1e-6)
    decided = shares[:, 0] != shares[:, 2]
    metrics = {"loss": float(loss.detach()), "margin": float(difference.detach().abs().mean())}
    if bool(decided.any()):
        right = (difference > 0) == (shares[:, 0] > shares[:, 2])
        metrics["accuracy"] = float(right[decided].float().mean())
    return loss, metrics
