"""Who is who by the poses of a driven clip: no ground truth, and an exchange of the whole clip is seen all the same."""

from dataclasses import replace

import numpy as np
import pytest

from ipa_bench.embedded.group.setting import Key, setting
from ipa_bench.embedded.group.shot import exact_poses
from ipa_bench.metrics import identity
from ipa_bench.metrics.people import LADDER, SFACE, beside
from ipa_bench.pose import heads
from ipa_bench.types import Observation

T, D = 6, 4


def faces(whose, places=((40, 60), (160, 60)), side=40, fps=10.0):
    """Two faces [T] of whom [(left, right)], at fixed places."""
    frames = len(whose)
    found = np.array([[who is not None for who in row] for row in whose])
    box = np.zeros((frames, 2, 4), np.float32) + np.array([(x - side / 2, y - side / 2, side, side) for x, y in places])
    numbers = np.zeros((frames, 2, D), np.float32)
    for t, row in enumerate(whose):
        for n, who in enumerate(row):
            if who is not None:
                numbers[t, n, who] = 1
    values = {"found": found, "box": np.where(found[..., None], box, 0), "numbers": numbers,
              "times": np.arange(frames) / fps, "size": np.array([200, 120])}  # fmt: skip
    return Observation("faces.sface@1", "x", values)


def reference(who):
    ladder = np.zeros((1, len(LADDER), D), np.float32)
    ladder[..., who] = 1
    return Observation("reference.sface@1", "x", {"ladder": ladder})


REFERENCES = [reference(0), reference(1)]


def poses(frames=T, fps=10.0):
    box = np.array([(20, 40, 40, 40), (140, 40, 40, 40)], np.float32)
    values = {"found": np.ones((frames, 2), bool), "box": np.repeat(box[None], frames, 0),
              "times": np.arange(frames) / fps, "size": np.array([200, 120])}  # fmt: skip
    return Observation("poses@1", "", values)


def test_people_who_have_exchanged_places_throughout_are_an_exchange_only_where_poses_bind_them():
    clip = faces([(1, 0)] * T)
    assert identity.swap(beside(clip, REFERENCES, SFACE)).value == 0
    bound = beside(clip, REFERENCES, SFACE, places=poses())
    assert identity.swap(bound).value == 1
    assert identity.similarity(bound).value == 0
    right = beside(faces([(0, 1)] * T), REFERENCES, SFACE, places=poses())
    assert (identity.swap(right).value, identity.similarity(right).value) == (0, 1)


def test_a_face_is_due_where_the_pose_has_a_head():
    places = poses()
    found = places["found"].copy()
    found[3:, 1] = False
    places = Observation("poses@1", "", {**places.values, "found": found})
    clip = faces([(0, 1)] * 3 + [(0, None)] * 3)
    assert identity.coverage(beside(clip, REFERENCES, SFACE, places=places)).value == 1
    assert identity.coverage(beside(clip, REFERENCES, SFACE)).value == 0.75


def test_a_ground_truth_says_more_than_poses():
    clip = faces([(0, 1)] * T)
    wrong = Observation("poses@1", "", {**poses().values, "box": poses()["box"][:, ::-1].copy()})
    assert identity.swap(beside(clip, REFERENCES, SFACE, truth=clip, places=wrong)).value == 0


def test_heads_are_about_the_nose_of_each_track():
    described = setting(Key(2, "test", 0))
    tracks = [(pose, 12.0) for pose in exact_poses(described)]
    made = heads(tracks)
    assert made["found"].all()
    for slot, rig in enumerate(described.rigs):
        middle = made["box"][:, slot, :2] + made["box"][:, slot, 2:] / 2
        assert np.linalg.norm(middle - rig.head, axis=1).max() < 6
        height = 2 * described.people[slot].head[1]
        assert made["box"][:, slot, 3] == pytest.approx(np.full(17, height), rel=0.3)
    hidden = replace(tracks[1][0], body_found=np.zeros_like(tracks[1][0].body_found))
    assert heads([tracks[0], (hidden, 12.0)])["found"].tolist() == [[True, False]] * 17
    with pytest.raises(ValueError, match="one size and one rate"):
        heads([tracks[0], (tracks[1][0], 24.0)])
