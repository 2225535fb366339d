"""GRPO begins as a policy gradient, does nothing where nothing is preferred, and gets to where the reward is best."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainers import sde
from trainers.methods import grpo, nft
from trainers.methods.loss import grpo_loss, nft_loss

SHAPE = (3, 2, 2, 1, 2)


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Means of an old policy, deviations, where the steps went, advantages."""
    old, std = random(seed, *SHAPE), random(seed + 1, 3).abs() * 0.1 + 0.02
    return old, std, old + std.view(-1, 1, 1, 1, 1) * random(seed + 2, *SHAPE), random(seed + 3, 3)


def slow(mean: Tensor, old: Tensor, after: Tensor, std: Tensor, advantage: Tensor, clip: float, guard: bool) -> float:
    """Element by element, as one would write it down."""
    total = 0.0
    for b in range(len(mean)):
        d = std[b].item()
        logs, squares = [], []
        for m, o, a in zip(
            mean[b].flatten().tolist(), old[b].flatten().tolist(), after[b].flatten().tolist(), strict=True
        ):
            logs.append((-((a - m) ** 2) + (a - o) ** 2) / (2 * d * d))
            squares.append((m - o) ** 2 / (2 * d * d))
        logarithm = sum(logs) / len(logs)
        if guard:
            logarithm = (logarithm + sum(squares) / len(squares)) * d
        r = math.exp(logarithm)
        total += max(-advantage[b].item() * r, -advantage[b].item() * min(max(r, 1 - clip), 1 + clip))
    return total / len(mean)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1e-3, 0.2]), st.booleans(), st.floats(0.0, 0.05))
def test_against_a_slow_twin(seed: int, clip: float, guard: bool, far: float) -> None:
    old, std, after, advantage = made(seed)
    mean = old + far * random(seed + 4, *SHAPE)
    loss, metrics = grpo_loss(mean, old, after, std, advantage, clip=clip, guard=guard)
    assert loss.item() == pytest.approx(slow(mean, old, after, std, advantage, clip, guard), rel=1e-9, abs=1e-12)
    assert metrics["moved"].item() == pytest.approx(sde.divergence(mean, old, std).mean().item())


@pytest.mark.parametrize("guard", [False, True])
def test_at_the_start_the_ratio_is_1_and_the_gradient_that_of_a_policy(guard: bool) -> None:
    old, std, after, advantage = made(0)
    mean = old.clone().requires_grad_()
    loss, metrics = grpo_loss(mean, old, after, std, advantage, clip=1e-3, guard=guard)
    assert metrics["ratio"].item() == 1
    assert (metrics["clipped"].item(), metrics["gap"].item(), metrics["win"].item()) == (0, 0, 0.5)
    loss.backward()
    plain = old.clone().requires_grad_()
    times = std if guard else torch.ones_like(std)
    (-advantage * times * sde.log_probability(after, plain, std)).mean().backward()
    torch.testing.assert_close(mean.grad, plain.grad)


def test_beyond_the_clip_only_what_leads_back_has_a_gradient() -> None:
    # a good step that became likelier than 1 + clip, a bad one less likely than 1 − clip, and both the other way round
    old, std, after, _ = made(3)
    old, std, after = old[:1].repeat(4, 1, 1, 1, 1), std[:1].repeat(4), after[:1].repeat(4, 1, 1, 1, 1)
    toward = torch.tensor([0.01, -0.01, -0.01, 0.01], dtype=torch.float64).view(-1, 1, 1, 1, 1) * (after - old)
    mean = (old + toward).requires_grad_()
    loss, metrics = grpo_loss(mean, old, after, std, torch.tensor([1.0, -1, 1, -1]), clip=1e-6)
    loss.backward()
    assert mean.grad is not None
    assert [bool(part.any()) for part in mean.grad] == [False, False, True, True]
    assert metrics["clipped"].item() == 0.5
    assert metrics["win"].item() == 0.5


def test_equal_rewards_have_no_advantage_and_no_gradient() -> None:
    cases, scores = ["a", "a", "b", "b", "b"], [0.4, 0.4, 1.0, 3.0, 200.0]
    found = grpo.values(cases, scores, grpo.Options(advantage=1.3))
    assert found[:2] == [None, None]
    assert found[4] == 1.3
    old, std, after, _ = made(1)
    mean = old.clone().requires_grad_()
    loss, _ = grpo_loss(mean, old, after, std, torch.zeros(3, dtype=torch.float64), clip=1e-3)
    loss.backward()
    assert mean.grad is not None
    assert not mean.grad.any()


def test_the_reference_holds_and_steps_can_weigh_differently() -> None:
    old, std, after, advantage = made(2)
    reference = old + 0.1
    mean = old.clone().requires_grad_()
    loss, metrics = grpo_loss(mean, old, after, std, 0 * advantage, clip=1e-3, reference=reference, kl=0.5)
    expected = 0.5 * (0.01 / (2 * std**2)).mean()
    assert loss.item() == pytest.approx(expected.item())
    assert metrics["kl"].item() == pytest.approx(2 * expected.item())
    loss.backward()
    assert mean.grad is not None
    assert bool((mean.grad < 0).all())  # a step of descent goes up, to the reference
    share = torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64)
    weighted, _ = grpo_loss(old, old, after, std, advantage, clip=1e-3, share=share)
    assert weighted.item() == pytest.approx(-(advantage * share).mean().item())


@pytest.mark.parametrize("wrong", ["mean", "old", "after", "std", "advantage"])
def test_steps_that_do_not_fit_are_an_error(wrong: str) -> None:
    old, std, after, advantage = made(0)
    given = {"mean": old, "old": old, "after": after, "std": std, "advantage": advantage}
    given[wrong] = given[wrong][:2] if given[wrong].ndim == 1 else given[wrong][:, :1]
    with pytest.raises(ValueError, match=r"expected 1-d|do not fit"):
        grpo_loss(**given, clip=1e-3)
    with pytest.raises(ValueError, match="KL term"):
        grpo_loss(old, old, after, std, advantage, clip=1e-3, kl=0.1)


# A toy with a known optimum: a model of Gaussian data that knows all but their mean, and a reward that likes one place.
WIDTH, BEST, COUNT = 0.5, 1.5, 6
LEVELS = torch.tensor([1, 0.9, 0.75, 0.55, 0.3, 0.1, 0], dtype=torch.float64)


def velocity(z: Tensor, s: Tensor, mean: Tensor) -> Tensor:
    """The exact velocity of data N(mean, WIDTH²)."""
    variance = (1 - s) ** 2 * WIDTH**2 + s**2
    return (s - (1 - s) * WIDTH**2) / variance * (z - (1 - s) * mean) - mean


def sample(
    mean: Tensor, start: Tensor, noise: Callable[[int], Tensor | None]
) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
    """Samples from ``start`` ``[B, 1]``, and every step with noise: where it began, its mean, where it went."""
    z, steps = start, []
    for index in range(COUNT):
        s, down = (LEVELS[i].expand(len(z)) for i in (index, index + 1))
        mixed = noise(index)
        g = torch.zeros_like(s) if mixed is None else sde.diffusion(s, LEVELS, "flow", 0.7)
        went, std = sde.step(z, velocity(z, s[:, None], mean), s, down, g)
        after = went if mixed is None else went + std[:, None] * mixed
        if mixed is not None:
            steps.append((z, went, after, s, down, g))
        z = after
    return z, steps


def rewards(x: Tensor) -> tuple[list[str], list[float]]:
    """Of groups of 16, whose own level says nothing."""
    cases = [f"{i // 16}" for i in range(len(x))]
    return cases, [-((v - BEST) ** 2) + 100 * int(case) for v, case in zip(x.flatten().tolist(), cases, strict=True)]


@pytest.mark.parametrize("guard", [False, True])
def test_grpo_gets_to_the_best_place(guard: bool) -> None:
    asked = grpo.Options(guard=guard)
    mean = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([mean], lr=0.05)
    for turn in range(35):
        with torch.no_grad():
            start = random(1000 * turn, 64, 1)
            x, steps = sample(
                mean, start, lambda i, turn=turn: random(1000 * turn + i + 1, 64, 1) if i < COUNT - 1 else None
            )
        advantage = torch.tensor([a or 0.0 for a in grpo.values(*rewards(x), asked)], dtype=torch.float64)
        for _ in range(2):
            optimizer.zero_grad()
            total = torch.zeros((), dtype=torch.float64)
            for z, old, after, s, down, g in steps:
                went, std = sde.step(z, velocity(z, s[:, None], mean), s, down, g)
                share = (s - down).reciprocal() if guard else None
                total = total + grpo_loss(went, old, after, std, advantage, clip=0.2, guard=guard, share=share)[0]
            total.backward()
            optimizer.step()
    assert mean.item() == pytest.approx(BEST, abs=0.15)


def test_nft_gets_to_the_best_place() -> None:
    asked = nft.Options(mix=1.0)
    mean = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    old = mean.detach().clone()
    optimizer = torch.optim.Adam([mean], lr=0.05)
    for turn in range(35):
        with torch.no_grad():
            x, _ = sample(old, random(1000 * turn, 64, 1), lambda _: None)
        r = torch.tensor([0.5 if v is None else v for v in nft.values(*rewards(x), asked)], dtype=torch.float64)
        for inner in range(2):
            generator = torch.Generator().manual_seed(1000 * turn + inner)
            t = torch.rand(64, generator=generator, dtype=torch.float64)
            noise = torch.randn(64, 1, generator=generator, dtype=torch.float64)
            z = (1 - t[:, None]) * x + t[:, None] * noise
            shaped = [
                v.view(64, 1, 1, 1, 1) for v in (velocity(z, t[:, None], mean), velocity(z, t[:, None], old), noise - x)
            ]
            optimizer.zero_grad()
            nft_loss(*shaped, t, r)[0].backward()
            optimizer.step()
        old = mean.detach().clone()
    assert mean.item() == pytest.approx(BEST, abs=0.15)
