"""Intervals over identities: the jackknife's arithmetic, what results say, and when they are not to be trusted."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy import stats

from ipa_bench.errors import UserError
from ipa_bench.metrics.sets.frechet import frechet_distance
from ipa_bench.metrics.sets.intervals import compare_sets, measure_sets
from ipa_bench.metrics.sets.kernel import kernel_distance
from ipa_bench.metrics.sets.pair import pair_sets
from ipa_bench.metrics.sets.spread import jackknife, shrinkage


def own(prefix, n, clips=1):
    """Labels of n rows, ``clips`` of each identity."""
    return [f"{prefix}{i // clips:04}" for i in range(n)]


def sets(n, d, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) + shift, rng.normal(size=(n, d))


def mean_of(values, of):
    """A statistic: the mean of one number per identity over the kept identities, of either set."""

    def statistic(kept):
        kept = kept[:, of]
        return (kept @ values / kept.sum(axis=1))[:, None]

    return statistic


def test_jackknife_of_a_mean_is_its_standard_error():
    x, y = sets(20, 3)
    pair = pair_sets(x, y, (own("a", 20), own("a", 20)))
    values = np.random.default_rng(1).normal(size=20)
    spread = jackknife(pair, mean_of(values, pair.x_of), np.random.default_rng(0))
    assert spread.variance[0] == pytest.approx(values.var(ddof=1) / 20, rel=1e-12)
    assert spread.freedom[0] == pytest.approx(19, rel=1e-12)
    assert spread.blocks == 20
    assert spread.half_width(0) == pytest.approx(stats.t.ppf(0.975, 19) * (values.var(ddof=1) / 20) ** 0.5, rel=1e-9)
    largest = ((values - values.mean()) ** 2).max() / ((values - values.mean()) ** 2).sum()
    assert spread.heaviest[0] == pytest.approx(largest, rel=1e-9)


def test_jackknife_of_two_independent_sets_is_welch():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 2)), rng.normal(size=(30, 2))
    pair = pair_sets(x, y)
    a, b = rng.normal(0, 3, 12), rng.normal(0, 1, 30)

    def gap(kept):
        return mean_of(a, pair.x_of)(kept) - mean_of(b, pair.y_of)(kept)

    spread = jackknife(pair, gap, rng)
    welch = stats.ttest_ind(a, b, equal_var=False)
    low, high = welch.confidence_interval()
    assert spread.freedom[0] == pytest.approx(welch.df, rel=1e-9)
    assert 2 * spread.half_width(0) == pytest.approx(high - low, rel=1e-9)


@pytest.mark.parametrize(("identities", "blocks"), [(96, 48), (100, 50), (130, 43)])
def test_many_identities_are_left_out_in_groups_of_one_size(identities, blocks):
    x, y = sets(identities, 2)
    pair = pair_sets(x, y, (own("a", identities), own("a", identities)))
    values = np.random.default_rng(1).normal(size=identities)
    found = [jackknife(pair, mean_of(values, pair.x_of), np.random.default_rng(s)) for s in range(100)]
    assert {spread.blocks for spread in found} == {blocks}
    # each is an estimate from other blocks; their mean is the standard error's square
    assert np.mean([s.variance[0] for s in found]) == pytest.approx(values.var(ddof=1) / identities, rel=0.06)


def product_of_pairs(values):
    """A statistic without a part of first order: the mean product of two identities' numbers."""

    def statistic(kept):
        total, count = kept @ values, kept.sum(axis=1)
        return ((total**2 - kept @ values**2) / (count * (count - 1)))[:, None]

    return statistic


@pytest.mark.parametrize("clips", [1, 4])
def test_the_excess_of_the_jackknife_is_known(clips):
    """Of products of two of n standard normal numbers, by hand: the variance is 2 / (n (n − 1)), the jackknife's mean
    4 / (n (n − 2)), about twice that. A mean has a part of first order only, where nothing is too much."""
    rng = np.random.default_rng(0)
    n, draws = 40, 60
    pair = pair_sets(*sets(clips * n, 2), (own("a", clips * n, clips), own("a", clips * n, clips)))
    first, second, jackknifed = np.zeros((3, draws))
    for draw in range(draws):
        values = rng.normal(size=n)
        mean, product = mean_of(values, np.arange(n)), product_of_pairs(values)
        first[draw] = shrinkage(pair, mean, jackknife(pair, mean, rng).variance, rng)[0]
        jackknifed[draw] = jackknife(pair, product, rng).variance[0]
        second[draw] = shrinkage(pair, product, jackknifed[draw : draw + 1], rng)[0]
    assert first.mean() > 0.9
    assert jackknifed.mean() == pytest.approx(4 / (n * (n - 2)), rel=0.3)
    # The factor is small where the jackknife is small, and near 1 where it is large: where the numbers happen to have
    # a mean, the statistic has a part of first order. So more than half of the variance stays, and never too little.
    assert second.mean() < 0.7
    assert 2 / (n * (n - 1)) < (second * jackknifed).mean() < 0.95 * jackknifed.mean()


def test_values_are_the_plain_distances():
    x, y = sets(20, 30, shift=0.5)
    found = measure_sets(x, y)
    assert found.frechet.value == pytest.approx(frechet_distance(x, y), rel=1e-12)
    assert found.kernel.value == pytest.approx(kernel_distance(x, y), rel=1e-12)
    assert found.frechet.bias == pytest.approx(found.frechet.value - found.corrected.value, rel=1e-12)
    assert (found.kernel.bias, found.corrected.bias) == (0.0, None)
    assert measure_sets(x, y, ddof=0).frechet.value == pytest.approx(frechet_distance(x, y, ddof=0), rel=1e-12)
    for one in (found.frechet, found.corrected, found.kernel):
        assert (one.n, one.m, one.identities) == (20, 20, 20)
        assert (one.low + one.high) / 2 == pytest.approx(one.value, rel=1e-9)
        assert one.low < one.value < one.high
    assert [one.target for one in (found.frechet, found.corrected, found.kernel)] == [
        "mean at these sizes", "infinite sets", "infinite sets",
    ]  # fmt: skip


def test_difference_is_the_difference_of_the_distances():
    a, reference = sets(20, 30, shift=0.5)
    b = sets(20, 30, seed=1)[0]
    found = compare_sets(a, b, reference)
    plain = frechet_distance(a, reference) - frechet_distance(b, reference)
    assert found.frechet.value == pytest.approx(plain, rel=1e-9)
    assert found.kernel.value == pytest.approx(kernel_distance(a, reference) - kernel_distance(b, reference), rel=1e-9)
    turned = compare_sets(b, a, reference)
    for one, other in zip(asdict(found).values(), asdict(turned).values(), strict=True):
        assert one["value"] == pytest.approx(-other["value"], rel=1e-9)
        assert one["low"] == pytest.approx(-other["high"], rel=1e-9)
    # 0.5 in each of 30 directions is not missed
    assert found.corrected.low > 0
    assert found.kernel.low > 0


def test_a_model_does_not_differ_from_itself():
    a, reference = sets(20, 30, shift=0.5)
    found = compare_sets(a, a, reference)
    for one in (found.frechet, found.corrected, found.kernel):
        assert (one.value, one.low, one.high, one.trust) == (0.0, 0.0, 0.0, None)


def test_pairing_narrows_the_difference():
    """Two models that make the same clips but for a little noise."""
    rng = np.random.default_rng(0)
    a, reference = sets(64, 8)
    b = a + 0.05 * rng.normal(size=a.shape)
    paired, each = compare_sets(a, b, reference), measure_sets(a, reference)
    for one, other in ((paired.frechet, each.frechet), (paired.corrected, each.corrected)):
        assert one.high - one.low < 0.4 * (other.high - other.low)


def test_copies_of_a_clip_are_no_evidence():
    x, y = sets(20, 10, shift=0.3)
    once = measure_sets(x, y, (own("x", 20), own("y", 20)))
    twice = measure_sets(np.repeat(x, 2, axis=0), np.repeat(y, 2, axis=0), (own("x", 40, 2), own("y", 40, 2)))
    assert twice.kernel.identities == 20
    assert twice.kernel.n == 40
    for field in ("value", "low", "high"):
        assert getattr(twice.kernel, field) == pytest.approx(getattr(once.kernel, field), rel=1e-9)
    assert twice.corrected.value == pytest.approx(once.corrected.value, rel=0.2)


def test_copies_that_are_taken_for_other_people_are_false_evidence():
    """Every clip twice, of one distribution: believed to be independent, the copies look like a distance above 0."""
    believed, told = [], []
    for seed in range(6):
        x, y = (np.repeat(z, 2, axis=0) for z in sets(16, 10, seed))
        believed.append(measure_sets(x, y).kernel)
        told.append(measure_sets(x, y, (own("x", 32, 2), own("y", 32, 2))).kernel)
    assert sum(one.low > 0 for one in believed) >= 5
    assert all(one.low < 0 < one.high for one in told)


def test_order_of_rows_does_not_matter_and_the_seed_draws_everything():
    x, y = sets(24, 10)
    groups = own("p", 24, 2), own("p", 24, 2)
    found = measure_sets(x, y, groups)
    i, j = np.random.default_rng(1).permutation(24), np.random.default_rng(2).permutation(24)
    shuffled = measure_sets(x[i], y[j], ([groups[0][k] for k in i], [groups[1][k] for k in j]))
    for one, other in zip(asdict(found).values(), asdict(shuffled).values(), strict=True):
        for field in ("value", "low", "high"):
            assert one[field] == pytest.approx(other[field], rel=1e-9)
    assert measure_sets(x, y, groups) == found
    assert measure_sets(x, y, groups, seed=1).corrected.value != found.corrected.value
    assert measure_sets(x, y, groups, seed=1).frechet.value == found.frechet.value


@pytest.mark.parametrize(("identities", "says"), [(3, "no interval: 3"), (7, "no interval: 7"), (8, "8 identities")])
def test_few_identities_are_not_trusted(identities, says):
    x, y = sets(2 * identities, 6)
    found = measure_sets(x, y, (own("x", 2 * identities, 2), own("y", 2 * identities, 2)))
    for one in (found.frechet, found.corrected, found.kernel):
        assert says in one.trust
        assert (one.low is None) == (identities < 8)
        assert one.minimum_n == 16


def test_a_correction_needs_two_rows_in_each_half():
    x, y = sets(3, 6)
    found = measure_sets(x, y)
    assert found.corrected is None
    assert found.frechet.bias is None
    assert found.frechet.value == pytest.approx(frechet_distance(x, y), rel=1e-12)


def test_bias_that_swamps_the_value_is_said():
    x, y = sets(64, 400)
    found = measure_sets(x, y)
    assert "of the value comes from the sizes of the sets" in found.frechet.trust
    assert found.corrected.low < 0 < found.corrected.high
    assert "assumes that the sets vary in the same directions" in found.corrected.trust
    assert found.kernel.trust is None
    large = measure_sets(*sets(64, 4, shift=2.0))
    assert (large.frechet.trust, large.corrected.trust, large.kernel.trust) == (None, None, None)


def test_bias_of_a_difference_is_said():
    """A model whose clips are all alike has a smaller bias, and so looks nearer than one with the right spread."""
    rng = np.random.default_rng(0)
    reference, good = rng.normal(size=(2, 16, 400))
    alike = 0.5 * rng.normal(size=(16, 400))
    found = compare_sets(alike, good, reference)
    assert found.frechet.high < 0
    assert "of the difference comes from the sizes of the sets" in found.frechet.trust
    # alike: 400 (1 − 0.5)² away; good: 0
    assert found.corrected.low < 100 < found.corrected.high
    assert found.corrected.value > 0


def test_one_identity_that_makes_the_variance_is_said():
    x, y = sets(32, 8)
    x[5] += 20
    assert "of the variance comes from one identity" in measure_sets(x, y).frechet.trust
    # The kernel's third power spreads it over everyone whom that identity is compared with: no share is above half.
    # But with an outlier that far, the features vary in one direction only.
    x[5] += 1000
    found = measure_sets(x, y)
    assert "of the variance comes from one identity" in found.frechet.trust
    assert "the features vary in 1.1 directions" in found.kernel.trust


def test_sets_of_unequal_sizes_and_of_partly_shared_identities():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(300, 6))
    # two clips fail: their identities are in the reference only
    found = measure_sets(rng.normal(size=(38, 6)), reference[:40], (own("a", 38), own("a", 40)))
    assert (found.kernel.identities, found.kernel.trust) == (38, None)
    assert found.corrected.low < 0 < found.corrected.high
    found = measure_sets(rng.normal(size=(20, 6)), reference)
    assert (found.kernel.n, found.kernel.m, found.kernel.identities) == (20, 300, 20)
    assert found.corrected.low < 0 < found.corrected.high


def test_results_are_json():
    found = asdict(measure_sets(*sets(16, 5)))
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_models_with_different_cases_are_refused():
    with pytest.raises(UserError, match="16 clips and the other 15"):
        compare_sets(np.zeros((16, 3)), np.zeros((15, 3)), np.zeros((16, 3)))
    with pytest.raises(UserError, match="of one identity"):
        measure_sets(*sets(6, 3), (["a"] * 6, ["a"] * 6))
