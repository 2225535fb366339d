"""The loss of NFT against a slow twin, by hand, and by what must and must not move it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainers.methods.loss import nft_loss

seeds = st.integers(0, 2**32)
#: batch, channels, video latent frames, height, width
SHAPE = (2, 3, 2, 2, 3)


def values(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draws(seed: int, count: int, batch: int = 4) -> list[Tensor]:
    """``count`` vectors of positive errors and one of noise levels, float64 ``[batch]``."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(batch, generator=generator, dtype=torch.float64) for _ in range(count + 1)]


def fields(seed: int) -> list[Tensor]:
    """Velocities of policy, old policy, target and reference; t and r."""
    found = [values(seed + i, *SHAPE) for i in range(4)]
    t, r = draws(seed, 1, batch=2)
    return [*found, 0.05 + 0.9 * t, r]


@given(seeds, st.floats(0.05, 2))
def test_nft_is_a_weighted_flow_match_and_a_pull_to_the_old_policy(seed: int, mix: float) -> None:
    """The identity of the mixed velocities, in float64: t = 1, nothing divided by its own size."""
    policy, old, target, _, _, r = fields(seed)
    one = torch.ones(2, dtype=torch.float64)
    loss, _ = nft_loss(policy, old, target, one, r, mix=mix, clip=1.0, adaptive=False)
    a, d = old - target, policy - old

    def inner(x: Tensor, y: Tensor) -> Tensor:
        return (x * y).flatten(1).mean(1)

    wanted = (inner(a, a) / mix + 2 * (2 * r - 1) * inner(a, d) + mix * inner(d, d)).mean()
    scale = (inner(a, a) / mix + 2 * inner(a.abs(), d.abs()) + mix * inner(d, d)).mean().item()
    assert abs(loss.item() - wanted.item()) <= 4e-15 * max(1.0, scale)


def slow_nft(
    fields: list[list[float]], t: float, r: float, mix: float, clip: float, kl: float, weight: list[float]
) -> float:
    """One sample with Python's loops: the sides as the paper writes them, in x of the mixed velocities."""
    policy, old, target, reference = fields
    noise = [0.3 * i - 1 for i in range(len(target))]
    x = [e - v for e, v in zip(noise, target, strict=True)]
    z = [(1 - t) * a + t * b for a, b in zip(x, noise, strict=True)]
    total = 0.0
    for share, sign in ((r, 1), (1 - r, -1)):
        mixed = [
            mix * p + (1 - mix) * o if sign > 0 else (1 + mix) * o - mix * p for p, o in zip(policy, old, strict=True)
        ]
        off = [zi - t * v - xi for zi, v, xi in zip(z, mixed, x, strict=True)]
        size = max(sum(abs(value) for value in off) / len(off), 1e-5)
        total += share * sum(w * value**2 for w, value in zip(weight, off, strict=True)) / len(off) / size
    far = sum((p - q) ** 2 for p, q in zip(policy, reference, strict=True)) / len(policy)
    return clip / mix * total + kl * far


@settings(deadline=None)
@given(seeds, st.floats(0.05, 2), st.floats(0.5, 6), st.sampled_from([0.0, 0.1]))
def test_nft_against_a_slow_twin(seed: int, mix: float, clip: float, kl: float) -> None:
    *velocities, t, r = fields(seed)
    weight = 1 + values(seed + 9, 2, 1, *SHAPE[2:]).abs()
    spread = weight.expand(SHAPE)
    wanted = [
        slow_nft(
            [v[i].flatten().tolist() for v in velocities], t[i].item(), r[i].item(), mix, clip, kl,
            spread[i].flatten().tolist(),
        )
        for i in range(2)
    ]  # fmt: skip
    policy, old, target, reference = velocities
    loss, _ = nft_loss(policy, old, target, t, r, mix=mix, clip=clip, kl=kl, reference=reference, weight=weight)
    assert loss.item() == pytest.approx(sum(wanted) / 2, rel=1e-9)


def test_at_the_old_policy_only_what_a_case_prefers_has_a_gradient() -> None:
    policy, _, target, _, t, _ = fields(0)
    old = policy.clone()
    gradients = []
    for r in (0.0, 0.5, 1.0):
        policy.grad = None
        policy.requires_grad_()
        loss, metrics = nft_loss(policy, old, target, t, torch.full((2,), r, dtype=torch.float64), adaptive=False)
        loss.backward()
        assert policy.grad is not None
        gradients.append(policy.grad.clone())
        assert (metrics["moved"].item(), metrics["gap"].item(), metrics["win"].item()) == (0, 0, 0.5)
    assert gradients[1].abs().max() < 1e-15
    torch.testing.assert_close(gradients[0], -gradients[2])
    # that of the flow error, times clip, in x
    torch.testing.assert_close(
        gradients[2], 5 * 2 * (t**2).view(2, 1, 1, 1, 1) * (policy - target).detach() / policy.numel()
    )


def test_old_policy_target_and_reference_get_no_gradient() -> None:
    *velocities, t, r = (value.requires_grad_() for value in fields(1))
    policy, old, target, reference = velocities
    loss, metrics = nft_loss(policy, old, target, t, r.detach(), reference=reference, kl=0.5)
    loss.backward()
    assert policy.grad is not None
    assert all(value.grad is None for value in (old, target, reference))
    assert all(value.ndim == 0 and not value.requires_grad for value in metrics.values())
    assert set(metrics) == {"error", "old_error", "gap", "win", "moved", "kl"}


def test_a_good_sample_that_comes_closer_and_a_bad_one_that_goes_are_won() -> None:
    target = torch.zeros(SHAPE)
    old, policy = torch.ones(SHAPE), torch.ones(SHAPE)
    policy[0], policy[1] = 0.5, 2.0
    _, metrics = nft_loss(policy, old, target, torch.ones(2), torch.tensor([1.0, 0.25]))
    assert metrics["win"].item() == 1.0
    assert metrics["gap"].item() == pytest.approx((0.75 + 0.5 * 3) / 2)
    assert metrics["moved"].item() == pytest.approx((0.25 + 1) / 2)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"old": torch.zeros(2, 3)}, "do not fit together"),
        ({"t": torch.ones(3), "optimality": torch.ones(3)}, "do not fit together"),
        ({"optimality": torch.ones(2, 1)}, "one value per sample"),
        ({"kl": 0.1}, "needs the reference"),
    ],
)
def test_velocities_that_do_not_fit_are_an_error(changes: dict[str, Any], why: str) -> None:
    field = torch.zeros(SHAPE)
    given_ = {"predicted": field, "old": field, "target": field, "t": torch.ones(2), "optimality": torch.ones(2)}
    with pytest.raises(ValueError, match=why):
        nft_loss(**{**given_, **changes})
