"""Noise levels to train at, and the error of a sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers import flow
from trainers.methods.loss import time_weight


def draw(kind: flow.TSampling, shift: float, count: int = 400_000) -> torch.Tensor:
    return flow.sample_t(np.random.default_rng(0), count, kind, shift)


@pytest.mark.parametrize(("shift", "expected"), [(1.0, 0.333), (3.0, 0.176), (5.0, 0.124), (8.0, 0.087)])
def test_mean_squared_time_weight_of_uniform_levels(shift: float, expected: float) -> None:
    assert time_weight(draw("uniform", shift), "squared").mean().item() == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_logit_normal_levels_have_the_mean_of_the_integral(shift: float) -> None:
    nodes, mass = np.polynomial.hermite_e.hermegauss(80)
    level = flow.shifted(torch.from_numpy(1 / (1 + np.exp(-nodes))), shift)
    expected = float(mass / mass.sum() @ ((1 - level) ** 2).numpy())
    drawn = draw("logit_normal", shift)
    assert time_weight(drawn, "squared").mean().item() == pytest.approx(expected, abs=0.005)
    if shift == 1:
        assert drawn.mean().item() == pytest.approx(0.5, abs=0.005)
        assert drawn.logit().std().item() == pytest.approx(1, abs=0.01)


class _Ends:
    """A generator that draws the ends of [0, 1)."""

    def random(self, count: int) -> np.ndarray:
        return np.array([0.0, 1 - 2.0**-53])[:count]


@given(st.sampled_from(["uniform", "logit_normal", "stratified"]), st.floats(0.1, 20), st.integers(0, 2**32))
def test_levels_are_inside_and_repeatable(kind: flow.TSampling, shift: float, seed: int) -> None:
    first, second = (flow.sample_t(np.random.default_rng(seed), 16, kind, shift) for _ in range(2))
    assert first.shape == (16,)
    assert first.dtype == torch.float32
    assert ((first > 0) & (first < 1)).all()
    assert torch.equal(first, second)


def test_stratified_levels_have_one_in_each_part_in_random_order() -> None:
    drawn = flow.sample_t(np.random.default_rng(3), 8, "stratified").double().numpy()
    assert sorted((drawn * 8).astype(int)) == list(range(8))
    assert list((drawn * 8).astype(int)) != list(range(8))


@pytest.mark.parametrize("shift", [0.1, 1.0, 8.0])
def test_levels_never_reach_an_end(shift: float) -> None:
    levels = flow.sample_t(_Ends(), 2, "uniform", shift)  # type: ignore[arg-type]
    assert ((levels > 0) & (levels < 1)).all()


@pytest.mark.parametrize("shift", [0.0, -1.0, float("nan")])
def test_a_shift_is_positive(shift: float) -> None:
    with pytest.raises(ValueError, match="shift must be positive"):
        flow.sample_t(np.random.default_rng(0), 1, shift=shift)


def test_error_by_hand() -> None:
    predicted = torch.tensor([1.0, 2.0, 0.0, -1.0]).view(1, 1, 2, 1, 2)
    weight = torch.tensor([1.0, 1.0, 10.0, 1.0]).view(1, 1, 2, 1, 2)
    target = torch.full_like(predicted, 1.0)
    assert flow.flow_error(predicted, target).tolist() == [(0 + 1 + 1 + 4) / 4]
    # divided by the number of elements, not by the weights' sum
    assert flow.flow_error(predicted, target, weight).tolist() == [(0 + 1 + 10 + 4) / 4]


@given(st.integers(0, 2**32), st.floats(1, 20))
def test_error_is_per_sample_and_linear_in_the_weight(seed: int, strength: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    predicted, target = (torch.randn(3, 2, 3, 2, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    weight = torch.rand(3, 1, 3, 2, 2, generator=generator, dtype=torch.float64)
    plain = flow.flow_error(predicted, target)
    torch.testing.assert_close(plain, (predicted - target).square().mean((1, 2, 3, 4)))
    torch.testing.assert_close(flow.flow_error(predicted, target, torch.ones_like(weight)), plain)
    torch.testing.assert_close(
        flow.flow_error(predicted, target, 1 + strength * weight),
        plain + strength * flow.flow_error(predicted, target, weight),
    )
    # the loss of one sample does not move with another's
    target[0] += 1
    torch.testing.assert_close(flow.flow_error(predicted, target)[1:], plain[1:])


def test_half_precision_is_computed_in_single_precision() -> None:
    # 256 + 1 is 256 in bfloat16: a sum of squares there would stop growing
    predicted = torch.ones(1, 4, 5, 20, 20, dtype=torch.bfloat16)
    error = flow.flow_error(predicted, torch.zeros_like(predicted))
    assert error.dtype == torch.float32
    assert error.item() == 1.0


@pytest.mark.parametrize("shape", [(1, 1, 3, 4, 4), (2, 1, 2, 4, 4), (1, 3, 4, 4), (2, 2, 3, 4, 4)])
def test_a_weight_that_does_not_fit_is_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="does not spread"):
        flow.flow_error(torch.zeros(1, 3, 3, 4, 5), torch.zeros(1, 3, 3, 4, 5), torch.ones(shape))


def test_shapes_that_differ_are_an_error() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        flow.flow_error(torch.zeros(2, 3, 3, 4, 4), torch.zeros(1, 3, 3, 4, 4))
