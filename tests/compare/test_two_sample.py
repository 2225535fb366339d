"""The classifier two-sample test: half where nothing differs, one where everything does, people kept apart."""

import numpy as np
import pytest

from ipa_bench.compare.two_sample import auc, classifier, told_apart

WHO = [f"p{i}" for i in range(12) for _ in range(20)]


def draw(seed: int, shift: float = 0.0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(len(WHO), 6))
    x[:, 0] += shift
    return x


def test_the_same_distribution_is_not_told_apart() -> None:
    """One draw of 12 people strays by 0.04, some by three times that: the mean of 40 has no such excuse."""
    means = []
    for seed in range(0, 80, 2):
        found = told_apart(draw(seed), draw(seed + 1), WHO, WHO)
        assert sorted(found) == sorted(set(WHO))
        means.append(np.mean(list(found.values())))
    assert np.mean(means) == pytest.approx(0.5, abs=0.03)


def test_a_shift_is_told_apart_as_well_as_theory_says() -> None:
    from scipy.stats import norm

    found = told_apart(draw(1), draw(2, shift=2.0), WHO, WHO)
    assert np.mean(list(found.values())) == pytest.approx(norm.cdf(2 / np.sqrt(2)), abs=0.04)


def test_what_tells_people_apart_does_not_tell_real_from_made() -> None:
    """Each person has features of their own, the same in both: a classifier that saw the person could remember them."""
    own = np.random.default_rng(0).normal(size=(12, 6)) * 10
    person = np.repeat(np.arange(12), 20)
    found = told_apart(draw(3) + own[person], draw(4) + own[person], WHO, WHO)
    assert abs(np.mean(list(found.values())) - 0.5) < 0.1


def test_the_weights_are_those_of_ridge_regression() -> None:
    real, made = np.array([[0.0], [2.0]]), np.array([[4.0], [6.0]])
    # features of mean 3 and deviation sqrt(5): x = (v - 3) / sqrt(5); cov(x, label) = 2 / sqrt(5), gram = 1 + 0.1
    assert classifier(real, made) == pytest.approx([2 / np.sqrt(5) / 1.1 / np.sqrt(5)])


def test_a_constant_feature_is_left_out_and_one_person_is_too_few() -> None:
    constant = np.ones((len(WHO), 6))
    assert set(told_apart(constant, constant, WHO, WHO).values()) == {0.5}
    with pytest.raises(ValueError, match="two people"):
        told_apart(draw(0)[:3], draw(1)[:3], ["a"] * 3, ["a"] * 3)


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order() -> None:
    assert auc(np.array([2.0, 3.0]), np.array([1.0, 2.0])) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert auc(np.array([]), np.array([1.0])) is None
