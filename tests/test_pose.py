"""Pose maps: known colours at known pixels, what is missing is not drawn, and the drawing follows its size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipa_bench import video
from ipa_bench.errors import UserError
from ipa_bench.pose import (
    BODY_JOINTS,
    COLOURS,
    HAND_COLOURS,
    HAND_EDGES,
    HAND_JOINT_COLOUR,
    LIMBS,
    Pose,
    cropped,
    draw,
    draw_frame,
    inside,
    read_track,
    write_track,
)

SIZE = (320, 320)


def person(count=1, size=SIZE):
    """A pose in which no two joints are near each other: the body fills the left half, the hands the right one."""
    columns, rows = np.meshgrid(np.linspace(0.06, 0.44, 3), np.linspace(0.05, 0.95, 6))
    body = np.stack([columns.ravel(), rows.ravel()], axis=1)
    angles = np.radians([-60, -30, 0, 30, 60])
    reach = np.array([0.08, 0.12, 0.16, 0.2])[:, None]
    fingers = np.stack([np.sin(angles) * reach, -np.cos(angles) * reach], axis=-1).swapaxes(0, 1).reshape(20, 2)
    hand = np.concatenate([np.zeros((1, 2)), fingers])
    hands = np.stack([hand + np.array(centre) for centre in ((0.75, 0.35), (0.75, 0.85))])
    body, hands = (np.repeat(p[None] * size, count, axis=0).astype(np.float32) for p in (body, hands))
    return Pose(body, np.ones((count, 18), bool), hands, np.ones((count, 2, 21), bool), size)


def only(pose, body=(), hands=()):
    """The pose with nothing found but some body joints, and some (slot, joint) of the hands."""
    body_found, hands_found = np.zeros_like(pose.body_found), np.zeros_like(pose.hands_found)
    body_found[:, list(body)] = True
    for slot, joint in hands:
        hands_found[:, slot, joint] = True
    return Pose(pose.body, body_found, pose.hands, hands_found, pose.size)


def at(image, point):
    return tuple(int(v) for v in image[int(point[1]), int(point[0])])


def test_the_skeleton_is_openposes():
    assert len(BODY_JOINTS) == len(COLOURS) == 18
    assert len(LIMBS) == 17
    named = {(BODY_JOINTS[a], BODY_JOINTS[b]): COLOURS[i] for i, (a, b) in enumerate(LIMBS)}
    assert named["neck", "right_shoulder"] == (255, 0, 0)
    assert named["neck", "left_shoulder"] == (255, 85, 0)
    assert named["neck", "nose"] == (0, 0, 255)
    assert HAND_EDGES[:6] == ((0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (5, 6))
    assert (len(HAND_EDGES), HAND_EDGES[-1]) == (20, (19, 20))
    assert HAND_COLOURS[0] == (255, 0, 0)
    assert HAND_COLOURS[10] == (0, 255, 255)


@pytest.mark.parametrize("limb", range(17))
def test_a_limb_has_its_colour_dimmed_between_bright_joints(limb):
    a, b = LIMBS[limb]
    pose = only(person(), [a, b])
    image = draw(pose)[0]
    assert at(image, pose.body[0, [a, b]].mean(axis=0)) == tuple(int(0.6 * v) for v in COLOURS[limb])
    assert at(image, pose.body[0, a]) == COLOURS[a]
    assert at(image, pose.body[0, b]) == COLOURS[b]


@pytest.mark.parametrize("edge", range(20))
@pytest.mark.parametrize("slot", [0, 1])
def test_a_finger_bone_has_its_colour_between_blue_joints(slot, edge):
    a, b = HAND_EDGES[edge]
    pose = only(person(), hands=[(slot, a), (slot, b)])
    big = draw(pose, (1280, 1280))[0]
    ends = pose.hands[0, slot, [a, b]] * 4
    x, y = ends.mean(axis=0).astype(int)
    assert HAND_COLOURS[edge] in {tuple(map(int, p)) for p in big[y - 1 : y + 2, x - 1 : x + 2].reshape(9, 3)}
    assert at(big, ends[0]) == at(big, ends[1]) == HAND_JOINT_COLOUR


def test_a_line_needs_both_its_ends():
    pose = person()
    image = draw(only(pose, [2, 4], [(0, 0), (0, 2)]))[0]
    for middle in (pose.body[0, [2, 3]], pose.body[0, [3, 4]], pose.hands[0, 0, [0, 1]], pose.hands[0, 0, [1, 2]]):
        assert at(image, middle.mean(axis=0)) == (0, 0, 0)
    assert at(image, pose.body[0, 2]) == COLOURS[2]


def test_nobody_is_black():
    assert not draw(only(person(2))).any()
    assert draw(person(0)).shape == (0, 320, 320, 3)


def test_what_is_not_found_may_be_anything():
    pose = only(person(), [0, 1, 2], [(1, 0), (1, 1)])
    body, hands = pose.body.copy(), pose.hands.copy()
    body[~pose.body_found], hands[~pose.hands_found] = np.nan, np.inf
    np.testing.assert_array_equal(draw(Pose(body, pose.body_found, hands, pose.hands_found, SIZE)), draw(pose))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e30, 1e30])
def test_joints_that_are_nowhere_count_as_not_found(bad):
    pose = person()
    body = pose.body.copy()
    body[0, 3, 0] = bad
    wrong = Pose(body, pose.body_found, pose.hands, pose.hands_found, SIZE)
    found = pose.body_found.copy()
    found[0, 3] = False
    np.testing.assert_array_equal(draw(wrong), draw(Pose(pose.body, found, pose.hands, pose.hands_found, SIZE)))


def test_a_limb_that_leaves_the_frame_is_drawn_up_to_its_border():
    pose = only(person(), [2, 3])
    pose.body[0, 2], pose.body[0, 3] = (100, 160), (500, 160)
    image = draw(pose)[0]
    assert at(image, (319, 160)) == tuple(int(0.6 * v) for v in COLOURS[2])
    assert draw(inside(pose))[0, 160, 319].sum() == 0


@settings(max_examples=10)
@given(
    st.lists(
        st.floats(-2000, 2000, width=32, allow_subnormal=False) | st.just(float("nan")), min_size=120, max_size=120
    ),
    st.integers(1, 150),
    st.integers(1, 150),
)
def test_any_joints_in_any_size_are_drawn_the_same_twice(values, width, height):
    points = np.array(values, np.float32).reshape(60, 2)
    arguments = (points[:18], np.ones(18, bool), points[18:].reshape(2, 21, 2), np.ones((2, 21), bool), (width, height))
    image = draw_frame(*arguments)
    assert (image.shape, image.dtype) == ((height, width, 3), np.uint8)
    np.testing.assert_array_equal(image, draw_frame(*arguments))


def test_a_larger_map_is_the_same_picture():
    large = draw(person(), (640, 640))[0]
    small = draw(person(), (160, 160))[0].astype(float)
    reduced = video.resize(large, (160, 160), "area").astype(float)
    # Lines shrink less than the frame, so the small map is brighter, in the same places.
    assert np.corrcoef(small.sum(axis=2).ravel(), reduced.sum(axis=2).ravel())[0, 1] > 0.8
    assert small.mean() > reduced.mean()


def test_another_aspect_ratio_stretches():
    pose = only(person(), [1, 2])
    image = draw(pose, (640, 160))[0]
    assert image.shape == (160, 640, 3)
    assert at(image, pose.body[0, 1] * (2, 0.5)) == COLOURS[1]


def test_lines_move_by_fractions_of_a_pixel():
    pose = only(person(size=(128, 128)), [1, 2])
    moved = Pose(pose.body + np.float32(0.5), pose.body_found, pose.hands, pose.hands_found, pose.size)
    one, two = (draw(p)[0].astype(float).sum(axis=2) for p in (pose, moved))
    for axis in (0, 1):
        centres = [(image.sum(axis=1 - axis) * np.arange(128)).sum() / image.sum() for image in (one, two)]
        assert centres[1] - centres[0] == pytest.approx(0.5, abs=0.06)


def test_fingers_can_be_told_apart_in_a_small_frame():
    pose = person(size=(128, 128))
    small = Pose(pose.body, pose.body_found, pose.hands, pose.hands_found, (128, 128))
    image = draw(small)[0]
    lit = image.max(axis=2) > 60
    around = lit[15:50, 70:122]
    tips = [tuple(small.hands[0, 0, tip]) for tip in (4, 8, 12, 16, 20)]
    assert all(image[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].max() > 100 for x, y in tips)
    assert 0.05 < around.mean() < 0.4


def test_a_crop_maps_joints_as_a_resize_maps_pixels():
    frame = np.zeros((180, 320, 3), np.uint8)
    frame[120:124, 200:204] = 255
    pose = only(person(size=(320, 180)), [1, 2])
    pose.body[0, 1], pose.body[0, 2] = (202, 122), (20, 122)
    small = cropped(pose, (90, 90))
    y, x = np.argwhere(video.resize(frame, (90, 90), "crop").max(axis=2) > 128).mean(axis=0) + 0.5
    np.testing.assert_allclose(small.body[0, 1], (x, y), atol=0.3)
    assert list(small.body_found[0, [1, 2]]) == [True, False]
    assert small.size == (90, 90)


def test_wrong_shapes_and_sizes_are_named():
    pose = person(2)
    with pytest.raises(ValueError, match=r"hands_found must have shape \[2, 2, 21\], got \[2, 2\]"):
        Pose(pose.body, pose.body_found, pose.hands, pose.hands_found[:, :, 0], SIZE)
    with pytest.raises(ValueError, match="at least 1x1, got 0x8"):
        draw(pose, (0, 8))


def test_a_track_comes_back_as_it_was_written(tmp_path):
    one = person(3)
    write_track(one, 12.5, tmp_path / "a.npz")
    back, fps = read_track(tmp_path / "a.npz")
    assert (fps, back.size) == (12.5, one.size)
    for name in ("body", "body_found", "hands", "hands_found"):
        np.testing.assert_array_equal(getattr(back, name), getattr(one, name))


@pytest.mark.parametrize("how", ["text", "missing", "shape", "pickle", "rate"])
def test_what_is_no_track_says_why(tmp_path, how):
    one, path = person(3), tmp_path / "a.npz"
    arrays = {"body": one.body, "body_found": one.body_found, "hands": one.hands, "hands_found": one.hands_found}
    arrays |= {"size": np.array(one.size), "fps": np.array(12.0)}
    if how == "missing":
        del arrays["hands"]
    elif how == "shape":
        arrays["body"] = one.body[:, :17]
    elif how == "pickle":
        arrays["body"] = np.array([{"not": "numbers"}], object)
    elif how == "rate":
        arrays["fps"] = np.array(0.0)
    if how == "text":
        path.write_text("a pose")
    else:
        np.savez(path, **arrays)
    with pytest.raises(UserError, match=r"a\.npz is no pose track") as error:
        read_track(path)
    assert "body_found" in error.value.fix
    assert "trust" not in error.value.problem
