"""Everybody of a clip on a track of their own, with their own hands: beside each other, and past each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ipa_bench import pose, video
from ipa_bench.cache import Cache
from ipa_bench.embedded.group.setting import Key, setting
from ipa_bench.embedded.group.shot import shot
from ipa_bench.errors import UserError
from ipa_bench.models.poses import write_people
from ipa_bench.observers.looker import Looker
from ipa_bench.observers.mediapipe.body import Body
from ipa_bench.observers.mediapipe.palm import WRIST, Hand
from ipa_bench.observers.people import belonging, colours
from ipa_bench.pose import BODY_JOINTS

NECK = BODY_JOINTS.index("neck")


def body_at(x: float, visible: float = 1.0) -> Body:
    """Shoulders 40 px apart, left ones on the right; wrists 30 px beside the middle, one forearm of 40 px up."""
    joints = np.tile(np.array([x, 100], np.float32), (33, 1))
    joints[11], joints[12] = (x + 20, 100), (x - 20, 100)
    joints[13], joints[14] = (x + 30, 140), (x - 30, 140)
    joints[15], joints[16] = (x + 30, 100), (x - 30, 100)
    return Body(joints, np.full(33, visible, np.float32))


def hand_at(x: float, y: float) -> Hand:
    landmarks = np.tile(np.array([x, y - 10], np.float32), (21, 1))
    landmarks[WRIST] = (x, y)
    return Hand(landmarks, np.zeros((21, 3), np.float32), 1.0)


def test_a_hand_belongs_to_the_wrist_it_hangs_on_and_not_to_whom_it_is_near() -> None:
    bodies = [body_at(100), body_at(180)]
    # The first one's left hand is nearer to the second one's middle than the second one's left hand is.
    hands = [hand_at(132, 92), hand_at(148, 92), hand_at(210, 92), hand_at(70, 92)]
    assert belonging(hands, bodies) == [(0, 0), (1, 1), (1, 0), (0, 1)]


def test_a_hand_far_from_every_wrist_is_nobodys_and_a_wrist_has_one_hand() -> None:
    assert belonging([hand_at(300, 92), hand_at(131, 92), hand_at(134, 92)], [body_at(100)]) == [
        (-1, 0), (0, 0), (-1, 0),
    ]  # fmt: skip
    assert belonging([hand_at(100, 100)], []) == [(-1, 0)]
    assert belonging([hand_at(130, 92)], [body_at(100, visible=0.1)]) == [(-1, 0)]  # its wrists are not seen


def test_clothes_are_told_by_their_colours() -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    image[:, 150:] = (200, 30, 30)
    one, two = colours(image, body_at(80)), colours(image, body_at(220))
    assert one @ one == pytest.approx(1)
    assert one @ two == 0
    assert not colours(image, body_at(900)).any()


@pytest.fixture(scope="module")
def crossing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Two drawn people who pass each other, four times as large, and where their middles are, ``[T, 2]``."""
    described = setting(Key(2, "test", 1))
    assert described.arrangement == "cross"
    frames = shot(described).frames.repeat(4, 1).repeat(4, 2)
    path = tmp_path_factory.mktemp("people") / "cross.mp4"
    video.encode(frames, path, 12, crf=12)
    return path, 4 * np.stack([rig.chest[:, 0] for rig in described.rigs], 1)


def test_people_are_followed_past_each_other(crossing: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, middles = crossing
    looker = Looker(Cache(tmp_path / "cache"))
    made = write_people(path, tmp_path / "pose.mp4", looker, 2)
    assert [each.path.name for each in made] == ["pose.a.npz", "pose.b.npz"]
    for slot, each in enumerate(made):
        track, fps = pose.read_track(each.path)
        assert (fps, track.size) == (12, (832, 512))
        found = np.flatnonzero(track.body_found[:, NECK])
        assert len(found) >= len(middles) / 2
        assert {found[0], found[-1]} <= {0, 1, len(middles) - 2, len(middles) - 1}
        np.testing.assert_allclose(track.body[found[[0, -1]], NECK, 0], middles[found[[0, -1]], slot], atol=40)
    assert video.load(tmp_path / "pose.mp4").frames.shape == (17, 512, 832, 3)
    with pytest.raises(UserError, match=r"cross\.mp4: 2 people are seen in half of the frames, not 3"):
        write_people(path, tmp_path / "three.mp4", looker, 3)
