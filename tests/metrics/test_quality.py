"""The composite: what it rewards, what it refuses, and how it is found."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_bench.errors import UserError
from ipa_bench.metrics import hand
from ipa_bench.metrics.alignment import lag, offset
from ipa_bench.metrics.former import FORMER
from ipa_bench.metrics.motion import jitter, speed, stall
from ipa_bench.metrics.pairing import pair_hands
from ipa_bench.metrics.quality import WEIGHTS, alignment, hand_quality, moving, shape
from ipa_bench.metrics.table import METRICS, PART_IDS, find, info_in, infos_of, parts_of
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


def test_what_a_person_does_not_see_costs_less_than_what_one_sees():
    """Two frames late and two hundredths of the width beside, against a finger out of place and a missing hand."""
    long = made_up(120, speed=1.0)
    driving = replace(shown(long, np.arange(20, 110)), times=np.arange(90) / 25)
    late = replace(shown(long, np.arange(18, 108)), times=np.arange(90) / 25)
    beside = moved(driving, np.array([0.02 * 640, 0.0]))
    both = moved(late, np.array([-0.01 * 640, 0.0]))
    finger = np.zeros((21, 2))
    finger[9:13] = [[8, 0], [14, 0], [20, 0], [26, 0]]  # the middle finger's tip a quarter of the hand to the side
    unseen = {"late": late, "beside": beside, "both": both}
    seen = {"finger": moved(driving, finger), "missing": without(driving, slice(0, 90, 6))}
    values = {name: quality(tracks, driving) for name, tracks in (unseen | seen).items()}
    assert min(values[name] for name in unseen) > 0.88, values
    assert min(values[name] for name in unseen) > max(values[name] for name in seen), values


def test_a_shift_is_taken_out_up_to_its_bound_and_costs_what_it_is():
    driving = made_up(60)
    shapes, aligned = [], []
    for share in (0.0, 0.01, 0.03, 0.05):
        tracks = moved(driving, np.array([share * 640, 0.0]))
        pair = pair_hands(tracks, driving)
        evidence = observed(tracks, pair, pair)
        assert offset(evidence).value == pytest.approx(share, abs=1e-6)
        shapes.append(shape(evidence).value)
        aligned.append(alignment(evidence).value)
    assert shapes[:3] == pytest.approx([1.0] * 3, abs=1e-5)
    # two hundredths of 640 pixels stay: in hand sizes over the tolerance, as in hand_quality.shape
    (size, _) = pair_hands(driving, driving).size
    assert shapes[3] == pytest.approx(np.exp(-0.02 * 640 / size / 0.15), rel=0.05)
    assert aligned == pytest.approx([np.exp(-((s / 0.03) ** 2)) for s in (0.0, 0.01, 0.03, 0.05)], rel=1e-4)


def test_an_offset_does_not_hide_a_lag_nor_a_lag_an_offset():
    long = made_up(120, speed=2.0)
    driving = replace(shown(long, np.arange(20, 110)), times=np.arange(90) / 25)
    late = replace(shown(long, np.arange(17, 107)), times=np.arange(90) / 25)
    tracks = moved(late, np.array([9.6, -3.2]))
    pair = pair_hands(tracks, driving)
    evidence = observed(tracks, pair, pair)
    assert lag(evidence).value == pytest.approx(0.12)
    assert offset(evidence).value == pytest.approx(np.hypot(9.6, 3.2) / 640, rel=0.1)
    assert shape(evidence).value > 0.99


def test_a_finger_out_of_place_moves_no_offset():
    driving = made_up(60)
    wrong = np.zeros((21, 2))
    wrong[5:9] = 30.0
    pair = pair_hands(moved(driving, wrong), driving)
    assert offset(observed(driving, pair, pair)).value == 0.0


def test_blur_of_fast_frames_alone_is_not_sharp():
    driving = made_up(80)
    change = driving.change * np.where(np.arange(80) % 5 == 0, 4.0, 1.0)[:, None]
    driving = replace(driving, change=change.astype(np.float32))
    blurred = np.where(np.arange(80) % 5 == 0, 0.3, 1.0)[:, None]
    pair = pair_hands(replace(driving, sharpness=driving.sharpness * blurred), driving)
    assert hand.sharpness(observed(driving, pair, pair)).value == pytest.approx(-np.log(0.3), rel=1e-5)


def test_a_value_without_all_parts_says_on_which_it_rests():
    still = made_up(60)
    still = replace(still, landmarks=np.broadcast_to(still.landmarks[:1], still.landmarks.shape))
    pair = pair_hands(still, still)
    measured = hand_quality(observed(still, pair, pair))
    assert measured.note.startswith("rests on shape, sharpness, alignment alone (no motion: the driving hand is still")
    pair = pair_hands(made_up(), made_up())
    assert hand_quality(observed(made_up(), pair, pair)).note is None


def test_what_cannot_be_told_of_motion_is_not_perfect():
    """A hand that flickers in and out has no run of frames to take differences over."""
    driving = made_up(60)
    flickers = without(driving, slice(0, 60, 2))
    pair = pair_hands(flickers, driving)
    evidence = observed(flickers, pair, pair)
    assert jitter(evidence).value is None
    assert moving(evidence).value <= 0.5 * np.exp(-2) + 1e-9


@pytest.mark.parametrize("frames", [13, 14, 16])
def test_what_a_short_clip_cannot_tell_of_any_video_costs_nothing(frames):
    """One hand that moves in fewer than twelve frames: nobody can stall. A copy of it is as good as the clip."""
    driving = made_up(frames, slots=1)
    change = driving.change * np.where(np.arange(frames) % 3 == 0, 0.2, 1.0)[:, None]
    driving = replace(driving, change=change.astype(np.float32))
    pair = pair_hands(driving, driving)
    evidence = observed(driving, pair, pair)
    assert stall(evidence).value is None
    measured = moving(evidence)
    assert measured.value == pytest.approx(1.0)
    assert measured.note.startswith("rests on speed, jitter alone (no stall: the driving hand moves in fewer than 12")
    assert quality(driving, driving) == pytest.approx(1.0)
    frozen = shown(driving, np.zeros(frames, int))
    assert quality(frozen, driving) < 0.6


def test_what_missing_hands_leave_untold_costs():
    """The driving hand moves in all of its frames; the other video shows it in a run that is too short to tell."""
    driving = made_up(40, slots=1)
    gone = without(driving, slice(11, 40))
    pair = pair_hands(gone, driving)
    evidence = observed(gone, pair, pair)
    assert stall(evidence).value is None
    assert moving(evidence).value == 0.0
    some = without(
        driving, slice(13, 40)
    )  # its speed can be told, whether it stalls cannot: the first frame has no change
    change = driving.change * np.where(np.arange(40) % 6 == 0, 0.2, 1.0)[:, None].astype(np.float32)
    driving, some = replace(driving, change=change), replace(some, change=change)
    pair = pair_hands(some, driving)
    evidence = observed(some, pair, pair)
    assert (stall(evidence).value, speed(evidence).value) == (None, pytest.approx(0.0, abs=1e-6))
    assert moving(evidence).value == pytest.approx(13 / 40 * np.exp(-1), rel=0.01)


def test_every_metric_is_in_the_table_once_and_can_be_found():
    ids = [m.info.id for m in METRICS]
    assert len(ids) == len(set(ids))
    assert find("hand_quality").info.id == "hand_quality@4"
    with pytest.raises(UserError, match="did you mean 'hand_quality'"):
        find("hand_qualty")


def test_metrics_of_earlier_versions_are_known_and_not_computed():
    assert not {info.id for info in FORMER} & {m.info.id for m in METRICS}
    with pytest.raises(UserError, match="hand_quality@1 is no longer computed") as error:
        find("hand_quality@1")
    assert error.value.fix == "name hand_quality@4, its present version"
    with pytest.raises(UserError, match="hand_quality_free@1 is no longer computed"):
        find("hand_quality_free")
    held = ("hand.recall@1", "hand_quality@1", "hand_quality.place@1", "hand_quality.motion@1")
    assert [info.id for info in infos_of(held)] == [held[1], held[2], held[3], held[0]]
    assert info_in("hand_quality", held).id == "hand_quality@1"
    assert info_in("hand_quality", ()).id == "hand_quality@4"
    assert info_in("truth.likelihood", ("truth.likelihood@1",)).sealed == info_in("truth.likelihood", ()).sealed
    assert parts_of("hand_quality@1") == tuple(f"hand_quality.{p}@1" for p in ("place", "sharpness", "motion"))
    assert parts_of("hand_quality@4") == PART_IDS
    for version in ("@2", "@3"):
        assert parts_of(f"hand_quality{version}") == tuple(part.replace("@4", version) for part in PART_IDS)
    assert parts_of("hand.recall@1") == ()
