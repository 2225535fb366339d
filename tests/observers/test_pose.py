"""The pose observer: MediaPipe's joints under OpenPose's names, and guesses left out."""

import numpy as np
import pytest

from ipa_bench import video
from ipa_bench.cache import Cache
from ipa_bench.errors import Unscorable
from ipa_bench.observers.looker import Looker
from ipa_bench.observers.mediapipe.body import Body, coco18
from ipa_bench.observers.pose import joined, observe_pose
from ipa_bench.pose import BODY_JOINTS, draw

#: where MediaPipe's documentation puts them
MEDIAPIPE = {
    "nose": 0, "left_eye": 2, "right_eye": 5, "left_ear": 7, "right_ear": 8, "left_shoulder": 11, "right_shoulder": 12,
    "left_elbow": 13, "right_elbow": 14, "left_wrist": 15, "right_wrist": 16, "left_hip": 23, "right_hip": 24,
    "left_knee": 25, "right_knee": 26, "left_ankle": 27, "right_ankle": 28,
}  # fmt: skip


@pytest.fixture(scope="module")
def clip(media, tmp_path_factory):
    """Six frames of a person who raises her right hand before the camera."""
    path = tmp_path_factory.mktemp("pose") / "gesture.mp4"
    frames = [f.image for i, f in enumerate(video.read_frames(media / "gesture.mp4")) if 45 <= i < 51]
    video.encode(frames, path, 25, crf=12)
    return path


@pytest.fixture
def cache(cache_folder):
    return Cache(cache_folder / "observations")


def body(visibility=1.0):
    joints = np.arange(66, dtype=np.float32).reshape(33, 2)
    return Body(joints, np.full(33, visibility, np.float32))


def test_joints_go_by_their_names():
    points, found = coco18(body())
    assert found.all()
    for name, index in MEDIAPIPE.items():
        np.testing.assert_array_equal(points[BODY_JOINTS.index(name)], body().joints[index], err_msg=name)
    np.testing.assert_array_equal(points[BODY_JOINTS.index("neck")], body().joints[[11, 12]].mean(axis=0))


def test_the_neck_needs_both_shoulders_and_joints_need_to_be_visible():
    seen = body()
    seen.visibility[[11, 13]] = 0.49
    _, found = coco18(seen)
    assert [BODY_JOINTS[i] for i in np.flatnonzero(~found)] == ["neck", "left_shoulder", "left_elbow"]
    assert not coco18(body(0.4))[1].any()
    assert not coco18(None)[1].any()


def test_a_joint_without_a_limb_is_left_out():
    found = np.zeros((1, 18), bool)
    found[0, [0, 1, 7]] = True
    assert list(np.flatnonzero(joined(found)[0])) == [0, 1]


def test_hands_are_drawn_where_the_tracks_say(clip, cache):
    looker = Looker(cache)
    tracks, pose = looker.hands(clip), observe_pose(clip, looker)
    assert (len(pose), pose.size) == (6, (640, 360))
    assert tracks.found[:, 1].all(), "the person's right hand is up"
    assert not pose.hands_found[:, 0].any()
    maps = draw(pose)
    for t, image in enumerate(maps):
        lit = image.max(axis=2) > 60
        for x, y in tracks.landmarks[t, 1]:
            assert lit[max(int(y) - 1, 0) : int(y) + 2, max(int(x) - 1, 0) : int(x) + 2].any()


def test_the_body_is_where_the_person_is(clip, cache):
    pose = observe_pose(clip, Looker(cache))
    index = {name: BODY_JOINTS.index(name) for name in BODY_JOINTS}
    seen = [index[n] for n in ("nose", "neck", "right_shoulder", "left_shoulder", "right_eye", "left_eye")]
    assert pose.body_found[:, seen].all()
    assert not pose.body_found[:, [index["right_knee"], index["left_hip"]]].any()
    x, y = pose.body[..., 0], pose.body[..., 1]
    # She faces the camera: her right side is on the left of the picture.
    assert (x[:, index["right_shoulder"]] < x[:, index["neck"]]).all()
    assert (x[:, index["neck"]] < x[:, index["left_shoulder"]]).all()
    assert (y[:, index["nose"]] < y[:, index["neck"]]).all()


def test_hands_and_body_are_seen_in_one_pass_and_not_looked_at_again(clip, tmp_path, monkeypatch):
    cache, heard, decoded = Cache(tmp_path), [], []
    read_frames = video.read_frames
    monkeypatch.setattr(video, "read_frames", lambda path: decoded.append(path) or read_frames(path))
    first = observe_pose(clip, Looker(cache), progress=heard.append)
    assert decoded == [clip]
    monkeypatch.setattr("ipa_bench.observers.body.BodyNet", None)
    again = observe_pose(clip, Looker(cache))
    assert heard == [1, 2, 3, 4, 5, 6]
    for name in ("body", "body_found", "hands", "hands_found"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))


def test_a_file_that_does_not_decode_says_so(tmp_path, cache):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(Unscorable, match=r"broken\.mp4"):
        observe_pose(path, Looker(cache))
