"""The scorer: one call for a trainer, on real footage."""

import numpy as np
import pytest

from ipa_bench import video
from ipa_bench.errors import Unscorable
from ipa_bench.metrics import PART_IDS
from ipa_bench.metrics.motion import stall
from ipa_bench.metrics.pairing import pair_hands
from ipa_bench.metrics.quality import hand_quality
from ipa_bench.models.controls import at_frames
from ipa_bench.observers.hands import HandObserver
from ipa_bench.scorer import Scorer
from ipa_bench.types import Case
from ipa_bench.video.timing import resampled
from tests.hands import observed


@pytest.fixture(scope="module")
def clip(media, tmp_path_factory):
    """A second of a moving hand, small."""
    path = tmp_path_factory.mktemp("clip") / "hand.mp4"
    frames = [f.image for f in video.read_frames(media / "hand.mp4", size=(320, 180))][:30]
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


@pytest.fixture(scope="module")
def gesture(media):
    """The hands of a person who gestures a little, small."""
    frames = list(video.read_frames(media / "gesture.mp4", size=(320, 180)))
    return HandObserver().observe([f.image for f in frames], [f.time for f in frames], "gesture")


@pytest.mark.parametrize(("fps", "frames"), [(16, 16), (12.5, 14), (10, 13), (24, 16), (25, 14), (25, 18), (30, 20)])
def test_the_best_copy_at_the_rate_of_a_case_is_an_upper_bound(gesture, fps, frames):
    """The driving hands themselves, in short: they move in too few frames to tell of any video whether it stalls."""
    copy = at_frames(gesture, resampled(gesture.times, 25, fps)[:frames], fps)
    pair = pair_hands(copy, gesture)
    evidence = observed(copy, pair)
    assert stall(evidence).value is None
    assert hand_quality(evidence).value > 0.9


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
