"""The composite: what it rewards, what it refuses, and how it is found."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_bench.errors import UserError
from ipa_bench.metrics.pairing import pair_hands
from ipa_bench.metrics.quality import WEIGHTS, hand_quality, hand_quality_free
from ipa_bench.metrics.table import METRICS, PART_IDS, find
from tests.hands import made_up, moved, observed, shown, without


def quality(generated, driving):
    pair = pair_hands(generated, driving)
    return hand_quality(observed(generated, pair, pair)).value


def test_a_video_against_itself_is_perfect():
    assert quality(made_up(), made_up()) == pytest.approx(1.0)


def test_the_weights_are_a_mean():
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)
    assert {i.partition("@")[0] for i in PART_IDS} == {f"hand_quality.{name}" for name in WEIGHTS}


@given(st.integers(0, 50))
def test_growing_damage_lowers_it(seed):
    driving = made_up(30)
    offset = np.random.default_rng(seed).normal(0, 1, (21, 2))
    values = [quality(moved(driving, k * offset), driving) for k in (0, 2, 4, 8, 16)]
    assert values == sorted(values, reverse=True)
    assert all(0 <= v <= 1 for v in values)


def test_frozen_missing_late_stuttering_and_blurred_hands_are_worse_than_the_original():
    driving = made_up(60, speed=1.0)
    index = np.arange(60)
    damaged = {
        "frozen": shown(driving, np.zeros(60, int)),
        "late": shown(driving, np.maximum(index - 3, 0)),
        "stutter": shown(driving, index - index % 2),
        "missing": without(driving, slice(0, 60, 5)),
        "blurred": replace(driving, sharpness=driving.sharpness * 0.6),
        "shaking": moved(driving, np.random.default_rng(0).normal(0, 3, (60, 2, 21, 2))),
    }
    values = {name: quality(tracks, driving) for name, tracks in damaged.items()}
    assert all(value < 0.97 for value in values.values()), values
    assert values["frozen"] < 0.3
    assert quality(without(driving, slice(None)), driving) < 1e-2
    # a hand that is mostly missing is no better than one that is there and frozen
    assert quality(without(driving, slice(6, 60)), driving) < values["frozen"]
    assert quality(without(driving, slice(0, 60, 2)), driving) < 0.55


def test_a_still_driving_hand_is_judged_without_motion():
    driving = made_up(60)
    still = replace(driving, landmarks=np.broadcast_to(driving.landmarks[:1], driving.landmarks.shape))
    assert quality(still, still) == pytest.approx(1.0)


def test_no_driving_hand_is_a_reason():
    driving = without(made_up(), slice(None))
    pair = pair_hands(made_up(), driving)
    measured = hand_quality(observed(made_up(), pair, pair))
    assert (measured.value, measured.reason) == (None, "the driving video shows no hand")


def test_the_free_composite_rewards_neither_missing_nor_frozen_hands():
    moving = made_up(60)
    missing = without(moving, slice(0, 30))
    frozen = shown(moving, np.zeros(60, int))
    full = hand_quality_free(observed(moving)).value
    assert hand_quality_free(observed(missing)).value == pytest.approx(full / 2, rel=0.05)
    assert hand_quality_free(observed(without(moving, slice(None)))).value == 0.0
    assert hand_quality_free(observed(frozen)).value is None


def test_every_metric_is_in_the_table_once_and_can_be_found():
    ids = [m.info.id for m in METRICS]
    assert len(ids) == len(set(ids))
    assert find("hand_quality").info.id == "hand_quality@1"
    with pytest.raises(UserError, match="did you mean 'hand_quality'"):
        find("hand_qualty")
