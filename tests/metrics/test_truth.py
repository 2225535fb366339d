"""Readings of who really is in each place: hand-computed cases, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_bench.errors import UserError
from ipa_bench.metrics import truth
from ipa_bench.metrics.base import Evidence, Measured
from ipa_bench.metrics.seal import check_open
from ipa_bench.metrics.truth import SHARES, TRUTH, Reading, nearest, reading, who

K, S, T = 2, 3, 8
FAR = 4000.0


def errors(people: tuple[int, int] = (0, 1), parts: tuple[int, int] | None = None) -> np.ndarray:
    """[K, 2, C]: in each place somebody, 40 away; ``parts``: whose head and torso are in place 0."""
    out = np.full((K, 2, K + S + (K - 1) * len(SHARES)), FAR)
    for place, person in enumerate(people):
        out[place, :, person] = 40.0
    if parts is not None:
        out[0] = FAR
        out[0, 0, parts[0]], out[0, 1, parts[1]] = 40.0, 40.0
    # The mixtures of a place: quadratic in the share of the other, least at the person who is there.
    for place in range(K):
        for part in range(2):
            own = out[place, part, place] < FAR
            out[place, part, K + S :] = 40 + (FAR - 40) * (np.array(SHARES) - (0 if own else 1)) ** 2
    return out


def read(frames: list[np.ndarray], pixels: float = 500.0) -> Reading:
    counts = np.where(np.isfinite(np.stack(frames)[..., 0]), pixels, 0.0)
    return reading(np.stack(frames), counts, np.arange(len(frames)) / 12)


def values(found: Reading) -> dict[str, float | None]:
    return {name: getattr(truth, name)(found).value
            for name in ("top1", "swap", "leak", "blend", "duplicate", "stranger", "drift")}  # fmt: skip


def test_everybody_in_place() -> None:
    found = read([errors()] * T)
    expected = {"top1": 1, "swap": 0, "leak": 0, "blend": 0, "duplicate": 0, "stranger": 0, "drift": 0}
    assert values(found) == pytest.approx(expected, abs=1e-9)
    assert truth.likelihood(found).value == pytest.approx(1)


def test_likelihood_is_a_share_of_a_softmax_and_a_place_weighs_by_its_pixels() -> None:
    alike = errors()
    alike[0] = 40.0  # few pixels are in view there, and all are as near
    pixels = np.full((2, K, 2), 500.0)
    pixels[1, 0] = 25.0
    found = reading(np.stack([errors(), alike]), pixels, np.arange(2) / 12)
    measured = truth.likelihood(found)
    one = (1000 + 50 / (K + S)) / 1050  # of the person in place 0; by frames it would be (1 + 1 / 5) / 2
    assert measured.value == pytest.approx((one + 1) / 2)
    assert measured.series is not None
    assert measured.series.tolist() == pytest.approx([1, (1000 + 50 / (K + S)) / 1050])
    nearer = errors()
    nearer[0, :, 0], nearer[0, :, 1] = 90.0, 40.0  # by the temperature: e times less likely
    assert truth.likelihood(read([nearer])).value == pytest.approx((1 / (1 + np.e) + 1) / 2)
    # a part that is too small to be compared adds no weight
    alike[0, 1] = np.nan
    half = reading(np.stack([errors(), alike]), pixels, np.arange(2) / 12)
    assert truth.likelihood(half).value == pytest.approx(((1000 + 25 / (K + S)) / 1025 + 1) / 2)


def test_an_exchange_for_a_quarter_of_the_frames() -> None:
    found = read([errors()] * 6 + [errors((1, 0))] * 2)
    got = values(found)
    assert (got["top1"], got["swap"], got["leak"], got["duplicate"]) == (0.75, 0.25, 0, 0)
    series = truth.swap(found).series
    assert series is not None
    assert series.tolist() == [0] * 6 + [1] * 2
    assert got["drift"] is not None
    assert got["drift"] > 0.5  # an exchange near the end is a drift, too


def test_one_person_twice_a_leak_and_a_stranger() -> None:
    twice = values(read([errors((0, 0))] * T))
    assert (twice["duplicate"], twice["swap"], twice["top1"]) == (1, 0.5, 0.5)
    leaked = values(read([errors(parts=(0, 1))] * T))
    assert leaked["leak"] == 0.5  # of place 0 alone
    one = errors()
    one[0, :, :K], one[0, :, K + 1] = FAR, 50.0
    one[0, :, K + S :] = FAR
    strange = values(read([one] * T))
    assert (strange["stranger"], strange["top1"], strange["swap"], strange["leak"]) == (0.5, 0.5, 0, 0)


@pytest.mark.parametrize(("share", "blended"), [(0.1, 0), (0.3, 0.5), (0.5, 0.5), (0.7, 0.5), (0.9, 0)])
def test_a_mixture_is_a_blend_from_a_quarter_to_three_quarters(share: float, blended: float) -> None:
    one = errors()
    one[0, :, 0], one[0, :, 1] = 40 + FAR * share**2, 40 + FAR * (1 - share) ** 2
    one[0, :, K + S :] = 40 + FAR * (np.array(SHARES) - share) ** 2
    assert values(read([one] * T))["blend"] == blended


def test_drift_is_the_share_gained_each_second() -> None:
    frames = []
    for t in range(T):
        one, share = errors(), 0.6 * t / 12
        one[0, :, 0] = 40 + FAR * share**2
        one[0, :, K + S :] = 40 + FAR * (np.array(SHARES) - share) ** 2
        frames.append(one)
    assert truth.drift(read(frames)).value == pytest.approx(0.6 / 2)  # of one of two people


def test_what_is_hidden_does_not_count_and_nothing_in_view_is_a_reason() -> None:
    one = errors((1, 0))
    one[0] = np.nan
    found = read([one] * T)
    assert who(found)[:, 0].tolist() == [-1] * T
    got = values(found)
    assert (got["top1"], got["swap"]) == (0, 1)
    assert truth.duplicate(found).reason == "no frame shows two people"
    assert truth.leak(read([np.where(np.arange(2)[None, :, None] == 1, np.nan, errors())] * T)).reason
    hidden = read([np.full_like(errors(), np.nan)] * T)
    assert all(
        isinstance(measured := metric(hidden), Measured) and measured.reason
        for metric in (truth.top1, truth.likelihood, truth.blend, truth.drift, truth.leak)
    )


def test_a_hidden_part_leaves_the_other_to_tell() -> None:
    one = errors((1, 0))
    one[:, 0] = np.nan
    assert values(read([one] * T))["swap"] == 1


@given(st.floats(0, 2000), st.floats(0, 2000))
def test_another_is_nearer_only_where_it_is_surely_so(mine: float, other: float) -> None:
    found = int(nearest(np.array([mine, other]), np.array(0)))
    assert found == int(mine - other > max(0.1 * min(mine, other), 25))


@given(st.integers(0, 10_000))
def test_the_order_of_the_frames_tells_only_drift(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = [errors(tuple(rng.permutation(2))) for _ in range(T)]  # type: ignore[arg-type]
    shuffled = [frames[i] for i in rng.permutation(T)]
    one, two = values(read(frames)), values(read(shuffled))
    assert {k: v for k, v in one.items() if k != "drift"} == {k: v for k, v in two.items() if k != "drift"}


def test_nothing_is_chosen_or_rewarded_by_the_truth() -> None:
    assert TRUTH
    for metric in TRUTH:
        assert metric.asked
        with pytest.raises(UserError, match="only judges: it knows the answer"):
            check_open([metric.info.id])


def test_a_case_of_another_world_says_so() -> None:
    found = TRUTH[0].measure(Evidence({}, reasons={"truth": "the case is no scene"}))
    assert (found.value, found.reason) == (None, "the case is no scene")


def test_another_s_shirt_is_a_leak_and_neither_an_exchange_nor_a_double() -> None:
    one = errors(parts=(0, 1))
    frames = read([one] * T)
    # most pixels are the torso's, and so by all of them the place is the other's
    heavy = reading(np.stack([one] * T), np.tile(np.array([100.0, 900.0]), (T, K, 1)), np.arange(T) / 12)
    for found in (frames, heavy):
        got = values(found)
        assert (got["leak"], got["swap"], got["duplicate"]) == (0.5, 0, 0)
    assert values(heavy)["top1"] == 0.5
