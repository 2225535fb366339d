"""The composite and the scorer: what they reward, what they refuse, and one call for a trainer."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_bench import video
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.metrics.base import Evidence
from ipa_bench.metrics.pairing import pair_hands
from ipa_bench.scorer import ALL, PART_IDS, WEIGHTS, Scorer, find, hand_quality, hand_quality_free
from ipa_bench.types import Case
from tests.hands import made_up, moved, shown, without


def quality(generated, driving):
    pair = pair_hands(generated, driving)
    return hand_quality(Evidence(generated, pair, pair)).value


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
    measured = hand_quality(Evidence(made_up(), pair, pair))
    assert (measured.value, measured.reason) == (None, "the driving video shows no hand")


def test_the_free_composite_rewards_neither_missing_nor_frozen_hands():
    moving = made_up(60)
    missing = without(moving, slice(0, 30))
    frozen = shown(moving, np.zeros(60, int))
    full = hand_quality_free(Evidence(moving)).value
    assert hand_quality_free(Evidence(missing)).value == pytest.approx(full / 2, rel=0.05)
    assert hand_quality_free(Evidence(without(moving, slice(None)))).value == 0.0
    assert hand_quality_free(Evidence(frozen)).value is None


def test_every_metric_is_in_the_table_once_and_can_be_found():
    ids = [m.info.id for m in ALL]
    assert len(ids) == len(set(ids))
    assert find("hand_quality").info.id == "hand_quality@1"
    with pytest.raises(UserError, match="did you mean 'hand_quality'"):
        find("hand_qualty")


# on real footage


@pytest.fixture(scope="module")
def clip(media, tmp_path_factory):
    """A second of a moving hand, small."""
    path = tmp_path_factory.mktemp("clip") / "hand.mp4"
    frames = [f.image for f in video.read_frames(media / "hand.mp4")][:30]
    video.encode(frames, path, 25, crf=14)
    return path


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    from ipa_bench.cache import Cache
    from ipa_bench.observers.looker import Looker

    return Scorer(Looker(Cache(tmp_path_factory.mktemp("cache"))))


def test_one_call_scores_a_file_and_the_same_in_memory(clip, scorer, tmp_path):
    case = Case("hand", clip, clip)
    frames = np.stack([f.image for f in video.read_frames(clip)])
    other = tmp_path / "generated.mp4"
    video.encode(frames, other, 25, crf=30)
    from_file = scorer.score(other, case)
    loaded = video.load(other)
    in_memory = scorer.score(loaded, case)
    assert 0.3 < from_file.hand_quality < 1.0
    for metric, measured in from_file.measured.items():
        found = in_memory.measured[metric]
        if measured.value is None:  # a network without weights
            assert (found.value, found.reason) == (None, measured.reason), metric
        else:
            assert found.value == pytest.approx(measured.value, rel=1e-6), metric
    assert scorer.score(clip, case).hand_quality == pytest.approx(1.0)
    assert set(PART_IDS) <= set(from_file.measured)


def test_a_second_look_at_the_same_content_gives_the_same_numbers(clip, scorer, tmp_path):
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(clip.read_bytes())
    first, second = (scorer.looker.hands(p) for p in (clip, copy))
    np.testing.assert_array_equal(first.landmarks, second.landmarks)
    assert first.sha256 == second.sha256


def test_without_a_case_only_free_metrics_have_values(clip, scorer):
    scores = scorer.score(clip)
    assert scores["hand.seen"].value == 1.0
    assert scores["hand.keypoint_error"].reason == "the case has no driving video"


def test_a_short_video_is_refused_unless_the_case_asks_for_no_more(clip, scorer, tmp_path):
    short = tmp_path / "short.mp4"
    video.encode([f.image for f in video.read_frames(clip)][:10], short, 25)
    for case in (Case("hand", clip, clip), Case("hand", clip, clip, frames=30)):
        with pytest.raises(Unscorable, match=r"lasts 0\.40 s of the 1\.20 s"):
            scorer.score(short, case)
    assert scorer.score(str(short), Case("hand", clip, clip, frames=10)).hand_quality > 0.5
    video.encode([f.image for f in video.read_frames(clip)][:1], short, 25)
    with pytest.raises(Unscorable, match=r"lasts 0\.04 s"):
        scorer.score(short, Case("hand", clip, clip))


def test_a_video_without_hands_scores_zero_not_nothing(clip, scorer):
    blank = video.video_from_frames(np.full((30, 360, 640, 3), 90, np.uint8), 25)
    scores = scorer.score(blank, Case("hand", clip, clip))
    assert scores["hand.recall"].value == 0.0
    assert scores["hand.keypoint_error"].value == 1.0
    assert scores.hand_quality < 1e-3
