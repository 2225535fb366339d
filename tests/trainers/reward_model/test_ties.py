"""Preferences with ties: chances against numbers worked out by hand, gradients against differences."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers.rewards.ties import log_chances, preference_loss


@given(st.floats(-8, 8), st.floats(0.01, 4))
def test_the_three_chances_sum_to_one_and_turn_with_the_sides(difference: float, log_k: float) -> None:
    k = torch.tensor(log_k, dtype=torch.float64)
    one, other = (log_chances(torch.tensor([d], dtype=torch.float64), k).exp()[0] for d in (difference, -difference))
    assert float(one.sum()) == pytest.approx(1, abs=1e-12)
    assert one.tolist() == pytest.approx(other.tolist()[::-1], abs=1e-12)


def test_equal_scores_with_k_five_tie_two_times_in_three() -> None:
    chances = log_chances(torch.zeros(1, dtype=torch.float64), torch.tensor(math.log(5), dtype=torch.float64)).exp()[0]
    assert chances.tolist() == pytest.approx([1 / 6, 2 / 3, 1 / 6])
    # a win is likelier than not from a difference of ln 5 on
    even = log_chances(torch.tensor([math.log(5)], dtype=torch.float64), torch.tensor(math.log(5), dtype=torch.float64))
    assert float(even.exp()[0, 0]) == pytest.approx(0.5)


def test_the_loss_is_the_mean_negative_log_likelihood_of_all_votes() -> None:
    difference, k = torch.tensor([1.0, -0.5], dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    shares = torch.tensor([[1.0, 0.0, 0.0], [0.25, 0.5, 0.25]], dtype=torch.float64)

    def s(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    first = -math.log(s(1.0 - 0.7))
    win, lose = s(-0.5 - 0.7), s(0.5 - 0.7)
    tie = (math.exp(1.4) - 1) * win * lose
    second = -(0.25 * math.log(win) + 0.5 * math.log(tie) + 0.25 * math.log(lose))
    loss, metrics = preference_loss(difference, shares, k)
    assert loss.item() == pytest.approx((first + second) / 2)
    assert metrics["accuracy"] == 1.0  # of the one that is no tie


def test_the_difference_of_what_is_tied_counts_squared() -> None:
    difference = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
    shares = torch.tensor([[1.0, 0.0, 0.0], [0.25, 0.5, 0.25], [0.0, 1.0, 0.0]], dtype=torch.float64)
    plain, _ = preference_loss(difference, shares, torch.tensor(0.7))
    even, _ = preference_loss(difference, shares, torch.tensor(0.7), even=0.3)
    assert (even - plain).item() == pytest.approx(0.3 * (0.5 * 0.25 + 4.0) / 3)


def test_without_ties_it_is_bradley_and_terrys_and_ties_count_for_nothing() -> None:
    difference = torch.tensor([0.4, 3.0], dtype=torch.float64)
    shares = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    loss, _ = preference_loss(difference, shares, torch.tensor(1.0), ties=False)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(0.4)))


def test_equal_scores_are_what_a_tie_asks_for() -> None:
    shares = torch.tensor([[0.0, 1.0, 0.0]])
    difference = torch.tensor([0.0], requires_grad=True)
    loss, _ = preference_loss(difference, shares, torch.tensor(1.0))
    (slope,) = torch.autograd.grad(loss, difference)
    assert slope.item() == pytest.approx(0, abs=1e-7)
    further, _ = preference_loss(torch.tensor([1.0]), shares, torch.tensor(1.0))
    assert further > loss
