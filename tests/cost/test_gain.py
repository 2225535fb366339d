"""Quality against cost: hand-computed gains, and a Pareto front that is what its definition says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_bench.cost import Amount, Cost
from ipa_bench.cost.gain import front, model_costs
from ipa_bench.cost.ledger import Costs, PostTraining
from ipa_bench.types import Comparison, Interval, Leaderboard, LeaderboardRow
from tests.cost.test_meter import part

METRIC = "hand.keypoint_error@1"


def board(model="aligned", baseline="base"):
    pair = Comparison(METRIC, model, baseline, 9, 9, 0, -0.2, -0.3, -0.1, 0.01, 0.01, 0.05, None, "better")
    rows = [LeaderboardRow(name, 1, {METRIC: Interval(0.5, 0.4, 0.6, 9, 9, 0)}) for name in ("aligned", "base")]
    return Leaderboard(METRIC, (METRIC,), tuple(rows), (pair,))


FOUR = Amount(4.0)


def costs(hours=FOUR, base="base"):
    counts = {"items": Amount(8.0), "video_seconds": Amount(5.0)}
    made = part("generate", unit="clip", seconds=10.0, process_seconds=20.0, **counts)
    return Costs(
        {"aligned": Cost((made,))}, {"aligned": PostTraining(hours, Amount(reason="not measured"), "told", base)}
    )


def test_gain_is_the_improvement_over_the_hours():
    aligned, base = model_costs(board(), costs(), METRIC, "lower")
    assert (aligned.gain.value, aligned.gain.low, aligned.gain.high) == pytest.approx((0.05, 0.025, 0.075))
    assert aligned.seconds.value == 2.5  # of two devices
    assert aligned.realtime.value == 0.5
    assert base.gain is None
    assert base.device_hours.value == 0.0
    assert aligned.device_hours.value == 4.0
    assert base.seconds.reason == "its videos were not made here"


def test_a_pair_the_other_way_round_says_the_same_with_the_other_sign():
    (aligned, _) = model_costs(board("base", "aligned"), costs(), METRIC, "lower")
    assert (aligned.gain.value, aligned.gain.low, aligned.gain.high) == pytest.approx((-0.05, -0.075, -0.025))


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (costs(Amount(0.0)), "it took no device-hours"),
        (costs(Amount(reason="not measured")), "device-hours: not measured"),
        (costs(base=None), "the model that it was made from is not in this run"),
        (costs(base="other"), "no video to compare with other"),
    ],
)
def test_what_is_not_known_has_a_reason(known, reason):
    (aligned, _) = model_costs(board(), known, METRIC, "lower")
    assert aligned.gain is None
    assert aligned.no_gain == reason


def test_front_of_four():
    points = {"cheap": (1.0, 0.2), "good": (4.0, 0.9), "dear": (5.0, 0.9), "poor": (2.0, 0.1)}
    assert front(points, "higher") == ("cheap", "good")
    assert front(points, "lower") == ("cheap", "poor")


small = st.integers(0, 4).map(float)


@given(st.dictionaries(st.sampled_from("abcdefg"), st.tuples(small, small), min_size=1))
def test_each_model_is_on_the_front_or_beaten_by_one_that_is(points):
    best = front(points, "higher")
    assert best
    for name, (cost, quality) in points.items():
        on_front_and_as_good = [b for b in best if points[b][0] <= cost and points[b][1] >= quality]
        assert on_front_and_as_good
        if name in best:
            assert all(points[b] == (cost, quality) for b in on_front_and_as_good)
