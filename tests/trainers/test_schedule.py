"""What both loops share, against the formulas written out: to the bit, or trained weights would change."""

import math

import pytest
import torch

from trainers.embedded import loop as embedded
from trainers.schedule import cosine, decay, follow, warm_up


def test_warm_up_and_cosine_by_hand():
    assert [warm_up(step, 4) for step in (0, 1, 3, 9)] == [0.25, 0.5, 1, 1]
    assert warm_up(0, 0) == 1
    assert [cosine(done) for done in (-1.0, 0.0, 1.0, 2.0)] == [1, 1, 0, 0]
    assert cosine(0.25) == pytest.approx(0.5 + 0.25 * math.sqrt(2))


def test_the_schedule_of_the_shipped_weights_is_as_published_with_them():
    for step in range(1000):
        warm = min(1.0, (step + 1) / 50)
        fall = max(0.0, (step / 1000 - 0.3) / (1 - 0.3))
        assert embedded.schedule(step / 1000, step) == warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fall)))


def test_an_average_follows_slowly_and_at_first_less_so():
    assert [decay(0.9, step) for step in (0, 1, 80, 1000)] == [0.1, 2 / 11, 0.9, 0.9]
    average = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(4.0)}
    weights = {"a": torch.tensor([3.0, 2.0], requires_grad=True), "b": torch.tensor(0.0)}
    follow(average, weights, 0.75)
    assert average["a"].tolist() == [1.5, 2.0]
    assert average["b"].item() == 3.0
    assert not average["a"].requires_grad
