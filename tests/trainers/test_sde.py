"""Steps with noise keep the flow's marginals where these are known, and their likelihoods are those of a Gaussian."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from torch import Tensor

from trainers import sde

#: of the data
MEAN, DEVIATION = 0.7, 0.5
KINDS: tuple[tuple[sde.Noise, float], ...] = (("wan", 1.0), ("flow", 0.7), ("constant", 0.3), ("constant", 0.0))


def at(s: float) -> tuple[float, float]:
    """Mean and variance of the flow's marginal: z = (1 − s) x + s ε."""
    return (1 - s) * MEAN, (1 - s) ** 2 * DEVIATION**2 + s**2


def velocity(z: Tensor, s: float) -> Tensor:
    """E[ε − x | z] of Gaussian data."""
    mean, variance = at(s)
    noise = s / variance * (z - mean)
    return noise - (MEAN + (1 - s) * DEVIATION**2 / variance * (z - mean))


def errors(kind: sde.Noise, scale: float, count: int) -> tuple[float, float]:
    """Largest error of mean and deviation at any level. A step is linear in z: its moments are followed exactly."""
    # the first steps of "flow" from 1 are never short: g² there is as large as the step is small
    sigmas = torch.linspace(0.9 if kind == "flow" else 1.0, 0, count + 1, dtype=torch.float64)
    noisy = sde.steps(count)
    mean, variance = at(sigmas[0].item())
    worst = [0.0, 0.0]
    for index in range(count):
        s, down = sigmas[index : index + 1], sigmas[index + 1 : index + 2]
        g = sde.diffusion(s, sigmas, kind, scale) if index in noisy else torch.zeros_like(s)
        ends = []
        for z in (0.0, 1.0):
            x = torch.tensor([[z]], dtype=torch.float64)
            went, std = sde.step(x, velocity(x, s.item()), s, down, g)
            ends.append(went.item())
        slope = ends[1] - ends[0]
        mean, variance = slope * mean + ends[0], slope**2 * variance + std.item() ** 2
        true = at(down.item())
        worst = [max(worst[0], abs(mean - true[0])), max(worst[1], abs(variance**0.5 - true[1] ** 0.5))]
    return worst[0], worst[1]


@pytest.mark.parametrize(("kind", "scale"), KINDS)
def test_marginals_are_those_of_the_ode_at_every_level(kind: sde.Noise, scale: float) -> None:
    coarse, fine = errors(kind, scale, 100), errors(kind, scale, 400)
    assert max(fine) < 0.012
    # and what is left is the length of steps: of first order
    assert fine[1] < 0.35 * coarse[1]


def test_noise_that_is_not_taken_back_would_not_do() -> None:
    # the same steps without the correction of the drift
    sigmas, variance = torch.linspace(1, 0, 401, dtype=torch.float64), 1.0
    for s, down in pairwise(sigmas):
        slope = 1 + (velocity(torch.ones(1), s.item()) - velocity(torch.zeros(1), s.item())).item() * (down - s).item()
        variance = slope**2 * variance + 0.3**2 * (s - down).item()
    assert variance**0.5 > DEVIATION + 0.05


def wan(count: int, shift: float) -> Tensor:
    """Levels of the scheduler that Wan ships: the first is not quite 1."""
    plain = torch.linspace(0.999, 0, count + 1, dtype=torch.float64)
    return shift * plain / (1 + (shift - 1) * plain)


@pytest.mark.parametrize(
    ("kind", "scale", "expected"),
    [
        ("wan", 1.0, {0: 0.115, 5: 0.123, 12: 0.131, 20: 0.108, 24: 0.037}),
        ("flow", 0.7, {5: 0.327, 12: 0.218, 20: 0.154, 24: 0.082}),
        ("constant", 0.3, {0: 0.035, 5: 0.041, 12: 0.052, 20: 0.076, 24: 0.100}),
    ],
)
def test_deviations_of_wan_as_others_worked_them_out(kind: sde.Noise, scale: float, expected: dict[int, float]) -> None:
    sigmas = wan(25, 3.0)
    g = sde.diffusion(sigmas[:-1], sigmas, kind, scale)
    std = g * (sigmas[:-1] - sigmas[1:]).sqrt()
    assert {step: round(std[step].item(), 3) for step in expected} == pytest.approx(expected, abs=1.1e-3)
    assert std.max() < 0.8  # a guard against exactly 1 would let 4.5 through in the first step of "flow"


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 1000), st.floats(0.02, 0.98), st.floats(0.05, 1.0), st.floats(0.1, 2.0))
def test_a_step_is_the_score_form_and_its_likelihood_numerical(seed: int, s: float, part: float, g: float) -> None:
    z, v = random(seed, 2, 3, 4), random(seed + 1, 2, 3, 4)
    levels = [torch.tensor([x, x], dtype=torch.float64) for x in (s, s * (1 - part), g)]
    mean, std = sde.step(z, v, *levels)
    score, dt = -(z + (1 - s) * v) / s, -s * part
    torch.testing.assert_close(mean, z + (v - g**2 / 2 * score) * dt)
    torch.testing.assert_close(std, torch.full((2,), g * math.sqrt(-dt), dtype=torch.float64))
    went, other = mean + std[:, None, None] * random(seed + 2, 2, 3, 4), mean + 0.01 * random(seed + 3, 2, 3, 4)

    def by_scipy(at: Tensor) -> Tensor:
        return torch.tensor(norm.logpdf(went.numpy(), at.numpy(), std.numpy()[:, None, None]).mean((1, 2)))

    torch.testing.assert_close(sde.log_probability(went, mean, std), by_scipy(mean))
    torch.testing.assert_close(
        sde.log_ratio(went, other, mean, std), by_scipy(other) - by_scipy(mean), atol=1e-9, rtol=0
    )
    assert not sde.log_ratio(went, mean, mean, std).any()
    kl = sde.divergence(other, mean, std)
    torch.testing.assert_close(kl, ((other - mean) ** 2).mean((1, 2)) / (2 * std**2))
    moved, _ = sde.step(z, v + 1e-4, *levels)
    factor = sde.time_factor(*levels)
    torch.testing.assert_close((moved - mean).abs().mean((1, 2)) / 1e-4 / std, factor, rtol=1e-6, atol=0)


def test_a_step_without_noise_is_the_odes_to_the_bit() -> None:
    z, v = random(0, 1, 2, 2).float(), random(1, 1, 2, 2).float()
    s, down, none = (torch.tensor([x], dtype=torch.float64) for x in (0.7, 0.45, 0.0))
    mean, std = sde.step(z, v, s, down, none)
    assert torch.equal(mean, z + (down - s).float() * v)
    assert std.item() == 0


def test_the_last_step_has_no_noise_and_windows_fit() -> None:
    assert list(sde.steps(6)) == [0, 1, 2, 3, 4]
    assert list(sde.steps(6, first=2)) == [2, 3, 4]
    assert list(sde.steps(6, 2, 3)) == [3, 4]
    for count, window, first in ((6, 3, 3), (1, 0, 0), (6, 0, 5), (6, 1, -1)):
        with pytest.raises(ValueError, match="do not fit"):
            sde.steps(count, window, first)


@pytest.mark.parametrize("wrong", [[0.9, 0.5, 0.1], [1.2, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0], [[1.0, 0.0]]])
def test_levels_that_are_none_are_an_error(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="fall from"):
        sde.levels(torch.tensor(wrong))
