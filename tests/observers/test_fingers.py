"""The finger observer: the same hands whichever way it comes to them, in one pass, and nothing unless it is asked."""

import numpy as np
import pytest
from PIL import Image

from ipa_bench import video, weights
from ipa_bench.cache import Cache
from ipa_bench.harness.details import details
from ipa_bench.models.damage import damaged
from ipa_bench.models.damage import find as find_damage
from ipa_bench.observers.fingers import FingerObserver
from ipa_bench.observers.looker import Looker
from ipa_bench.observers.mediapipe.maps import CHANNELS, GRID, TENSORS, MapNet
from ipa_bench.observers.mediapipe.palm import HandNet, landmark_roi
from ipa_bench.scorer import Scorer
from ipa_bench.types import Case


@pytest.fixture(scope="module")
def clip(media, tmp_path_factory):
    """Sixteen frames of a hand."""
    frames = [frame.image for _, frame in zip(range(16), video.read_frames(media / "hand.mp4"), strict=False)]
    path = tmp_path_factory.mktemp("fingers") / "clip.mp4"
    video.encode(frames, path, 25, crf=12)
    return path


def test_the_maps_are_those_that_the_joints_come_from(media):
    """The net gives the same joints with its maps kept; the common grid holds every map's mean."""
    image = Image.open(media / "thumb_up.jpg").convert("RGB")
    net, maps = HandNet(), MapNet()
    (palm, *_) = net.palms(image)
    hand = net.hand(image, palm)
    again = net.where(image, hand)
    seen = maps(image, hand.landmarks)
    assert seen.shape == (GRID, GRID, CHANNELS)
    points, *_, fine, middle, coarse = maps._net(_warped(image, hand))
    np.testing.assert_allclose(_placed(points, hand), again.landmarks, atol=1e-2)
    assert [each.shape[-1] for each in (fine, middle, coarse)] == [channels for _, channels in TENSORS.values()]
    parts = np.split(seen, np.cumsum([channels for _, channels in TENSORS.values()])[:-1], axis=-1)
    for part, whole in zip(parts, (fine, middle, coarse), strict=True):
        np.testing.assert_allclose(part.mean(axis=(0, 1)), whole[0].mean(axis=(0, 1)), atol=1e-4)


def _warped(image, hand):
    from ipa_bench.observers.mediapipe.litert import warp

    return warp(image, landmark_roi(hand.landmarks), 224, extend=True)


def _placed(points, hand):
    return landmark_roi(hand.landmarks).to_image(points.reshape(21, 3)[:, :2] / 224)


def test_it_sees_the_same_in_one_pass_and_after_it_on_any_number_of_threads(clip, tmp_path, monkeypatch):
    passes = []
    frames = Looker._frames
    monkeypatch.setattr(
        Looker, "_frames", lambda self, source, *kept: passes.append(source) or frames(self, source, *kept)
    )
    together = Looker(Cache(tmp_path / "one")).look(clip, ["fingers"])
    assert len(passes) == 1
    assert together.reasons == {}
    assert set(together.observations) == {"hands", "fingers"}
    later = Looker(Cache(tmp_path / "two"), threads=3)
    hands = later.hands(clip)
    after = later.look(clip, ["fingers"]).observations["fingers"]
    kept = Looker(Cache(tmp_path / "one")).look(clip, ["fingers"]).observations["fingers"]
    assert len(passes) == 3  # what is kept is not looked at again
    one = together.observations["fingers"]
    np.testing.assert_array_equal(one.found, hands.found)
    assert hands.found.any()
    for name in ("wrong", "count"):
        assert one[name].shape == (16, 2)
        assert one[name].dtype == np.float32
        np.testing.assert_array_equal(one[name], after[name])
        np.testing.assert_array_equal(one[name], kept[name])
        assert (one[name][~hands.found] == 0).all()
        assert (one[name][hands.found] != 0).all()


def test_a_finger_more_is_seen_beside_the_driving_hand(clip, tmp_path):
    """The footage is of a clip that the head was trained on: that it sees others' is in reports/fingers."""
    looker = Looker(Cache(tmp_path / "cache"))
    hands = looker.hands(clip)
    case = Case("hand", clip)
    values = {}
    for name in ("finger_added", "reencode"):
        frames = (frame.image for frame in video.read_frames(clip))
        made = tmp_path / f"{name}.mp4"
        video.encode(damaged(frames, hands, 25, find_damage(name), "medium"), made, 25, crf=18)
        scores = Scorer(looker, ["hand.finger_count", "hand.anatomy_shift"]).score(made, case)
        values[name] = [each.value for each in scores.measured.values()]
        shown = details(scores, case).series  # what the report's gallery draws
        assert set(shown) == {"hand.finger_count@1", "hand.anatomy_shift@1"}
        assert all(len(series) == 16 and np.isfinite(series).any() for series in shown.values())
    assert values["finger_added"][0] > 3 * values["reencode"][0]
    assert values["finger_added"][1] > values["reencode"][1] + 1


def test_the_cache_knows_the_head_and_who_found_the_hands():
    assert FingerObserver().kind().startswith("fingers@1-")
    assert FingerObserver().kind().endswith("-hands@2")
    assert FingerObserver(backend="litert").kind() == FingerObserver(2).kind()


def test_a_head_that_is_not_here_is_a_reason_and_the_hands_are_seen(clip, tmp_path, monkeypatch):
    from ipa_bench.nets import embedded

    monkeypatch.setattr(embedded, "FOLDER", tmp_path)
    monkeypatch.setattr("ipa_bench.nets.fingers.FILE", "nothing.safetensors")
    looker = Looker(Cache(tmp_path / "cache"))
    found = looker.look(clip, ["fingers"])
    assert set(found.observations) == {"hands"}
    assert "nothing.safetensors" in found.reasons["fingers"]
    result = Scorer(looker, ["hand.finger_count"]).score(clip, Case("hand", clip))
    assert "nothing.safetensors" in result["hand.finger_count"].reason


def test_a_net_with_other_maps_is_refused(monkeypatch):
    monkeypatch.setattr("ipa_bench.observers.mediapipe.maps.TENSORS", {120: (28, 40), 142: (14, 112), 157: (7, 96)})
    from ipa_bench.errors import UserError

    with pytest.raises(UserError, match="other maps"):
        MapNet()(Image.new("RGB", (64, 64)), np.random.default_rng(0).uniform(10, 50, (21, 2)).astype(np.float32))
    assert weights.path("hand_landmark_full").exists()
