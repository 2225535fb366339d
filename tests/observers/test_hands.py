"""The hand observer on real footage: what its result must not depend on; and its pieces on made-up hands."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from ipa_bench import video
from ipa_bench.errors import UserError
from ipa_bench.observers.crops import change, sharpness
from ipa_bench.observers.follow import MEMORY, Follower, distinct
from ipa_bench.observers.hands import HandObserver, find_hands, joints_between, wrists_between
from ipa_bench.observers.mediapipe.body import Body, _nearest
from ipa_bench.observers.mediapipe.detect import Detection, iou, upright
from ipa_bench.observers.mediapipe.litert import Roi, ssd_anchors, warp
from ipa_bench.observers.mediapipe.palm import BODY, FOLLOWED, PALM, Hand, HandNet, landmark_roi
from tests.hands import OPEN_HAND, hand

FIELDS = ("landmarks", "world", "presence", "box", "sharpness", "change", "found", "how")


@pytest.fixture(scope="module")
def frames(media):
    return [f for i, f in enumerate(video.read_frames(media / "hand.mp4")) if i < 26]


def observe(frames, threads=1):
    return HandObserver(threads).observe([f.image for f in frames], [f.time for f in frames], "x")


def test_threads_do_not_change_the_result(frames):
    one, two = observe(frames), observe(frames, 2)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(one, field), getattr(two, field))


def test_the_observation_is_whole_and_in_range(frames):
    tracks = observe(frames)
    assert tracks.found[:, 1].all() or tracks.found[:, 0].all()
    seen = tracks.found
    assert (tracks.presence[seen] >= 0.5).all()
    assert (tracks.landmarks[seen] > 0).all()
    assert (tracks.landmarks[seen][..., 0] < 640).all()
    assert (tracks.sharpness[seen] > 0).all()
    assert (tracks.change[1:][seen[1:]] > 0).all()
    assert (tracks.change[0] == 0).all()
    np.testing.assert_allclose(tracks.box[seen][:, :2], tracks.landmarks[seen].min(axis=1), rtol=1e-6)
    for field in FIELDS:
        assert (getattr(tracks, field)[~seen] == 0).all()
    # bones of a hand, in metres
    wrist_to_knuckle = np.linalg.norm(tracks.world[seen][:, 9] - tracks.world[seen][:, 0], axis=-1)
    assert 0.05 < np.median(wrist_to_knuckle) < 0.13


def test_where_a_clip_is_cut_does_not_change_what_is_seen_in_a_frame(frames):
    whole, cut = observe(frames), observe(frames[8:])
    np.testing.assert_array_equal(whole.landmarks[8:], cut.landmarks)


def test_two_hands_of_one_picture(media):
    """A hand and its mirror image, side by side: the one on the image's left is the right hand."""
    image = Image.open(media / "thumb_up.jpg").convert("RGB")
    both = Image.new("RGB", (2 * image.width, image.height))
    both.paste(image, (0, 0))
    both.paste(ImageOps.mirror(image), (image.width, 0))
    tracks = HandObserver().observe([np.asarray(both)], [0.0], "x")
    assert tracks.found.all()
    left, right = tracks.landmarks[0].mean(axis=1)
    assert right[0] < image.width < left[0]
    mirrored = tracks.landmarks[0, 1] * (-1, 1) + (2 * image.width, 0)
    assert np.abs(tracks.landmarks[0, 0] - mirrored).mean() < 0.1 * np.ptp(mirrored, axis=0).max()


def test_a_small_hand_is_found_in_the_crop_around_the_wrist(media):
    """Shrunk into a corner of a large picture the palm detector overlooks the hand; around the wrist it does not."""
    image = Image.open(media / "thumb_up.jpg").convert("RGB")
    small = image.resize((120, 98))
    large = Image.new("RGB", (1920, 1080), (128, 128, 128))
    large.paste(small, (400, 500))
    net = HandNet()
    nowhere = np.full((2, 3), np.nan, np.float32)
    at = np.array([[460, 550, 80], [np.nan] * 3], np.float32)
    assert not find_hands(net, large, nowhere)
    assert len(find_hands(net, large, at)) == 1


def test_a_hand_whose_palm_is_not_recognised_is_found_by_the_bodys_joints(media, monkeypatch):
    """As for a hand seen edge-on: its palm is found and refused, wrist and knuckles of the body are known."""
    image = Image.open(media / "thumb_up.jpg").convert("RGB")
    net = HandNet()
    (known,) = find_hands(net, image, np.full((2, 3), np.nan, np.float32))
    wrist, knuckles = known.landmarks[0], known.landmarks[[5, 9, 13]].mean(axis=0)
    reach = 1.5 * known.size
    wrists = np.array([[*wrist, reach], [np.nan] * 3], np.float32)
    joints = np.stack([np.stack([wrist, knuckles]), np.full((2, 2), np.nan)]).astype(np.float32)
    # a palm that the landmark net refuses, beside the wrist
    refused = Detection(np.array([*(wrist - 10), *(wrist + 10)], np.float32), np.zeros((7, 2), np.float32), 0.9)
    monkeypatch.setattr(net, "palms", lambda *_: [refused])
    monkeypatch.setattr(net, "hand", lambda *_: replace(known, presence=0.1))
    (hand,) = find_hands(net, image, wrists, joints)
    assert (known.how, hand.how) == (PALM, BODY)
    assert known.apart(hand) < 0.15
    assert not find_hands(net, image, wrists)
    # where the joints are somewhere else, there is no hand
    assert not find_hands(net, image, wrists, joints * np.float32(0) + np.array([[20, 20], [40, 30]], np.float32))
    # nor is it looked for where no palm was
    monkeypatch.setattr(net, "palms", lambda *_: [])
    assert not find_hands(net, image, wrists, joints)


def test_a_hand_that_is_missed_for_a_moment_is_looked_for_and_says_so(frames, monkeypatch):
    """The palm detector is made blind in four frames: the hand is in all of them, and known to be followed there."""
    seen = observe(frames[:16])
    real, count = HandNet.palms, iter(range(1000))
    blind = {5, 6, 9, 15}
    monkeypatch.setattr(HandNet, "palms", lambda *a: [] if len(a) == 2 and next(count) in blind else real(*a))
    tracks = observe(frames[:16])
    np.testing.assert_array_equal(tracks.found, seen.found)
    slot = int(np.argmax(seen.found.sum(axis=0)))
    assert set(np.flatnonzero(tracks.how[:, slot] == FOLLOWED)) == blind
    assert (seen.how[seen.found] == PALM).all()
    apart = np.linalg.norm(tracks.landmarks[:, slot] - seen.landmarks[:, slot], axis=-1).mean(axis=-1)
    assert (apart / np.ptp(seen.landmarks[:, slot], axis=1).max(axis=1)).max() < 0.08
    assert (tracks.sharpness[tracks.found] > 0).all()


def test_an_unknown_backend_is_refused():
    with pytest.raises(UserError, match="litert, mediapipe"):
        HandObserver(backend="openpose")


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.sampled_from([0.0, 1e-9, 0.5, 1e9, np.inf, np.nan, -5.0]))
def test_a_detectors_nonsense_is_black_not_a_crash(x, y, side):
    image = Image.new("RGB", (64, 48), (255, 255, 255))
    assert warp(image, Roi(x, y, side), 16, extend=True).shape == (16, 16, 3)


def test_warp_reads_what_the_region_shows():
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[10:20, 30:40] = 255
    image = Image.fromarray(pixels)
    inside = warp(image, Roi(35, 15, 8), 8)
    assert inside.min() > 0.99
    turned = warp(image, Roi(35, 15, 7, np.pi / 2), 8)
    assert turned.min() > 0.99
    assert warp(image, Roi(200, 200, 8), 8).max() == 0
    border = Image.new("RGB", (20, 20), (255, 0, 0))
    assert warp(border, Roi(25, 10, 8), 8, extend=True)[..., 0].min() > 0.99


@given(st.floats(-3, 3), st.floats(10, 200), st.floats(-50, 50), st.floats(-50, 50))
def test_a_region_maps_its_own_corners(rotation, side, x, y):
    roi = Roi(x, y, side, rotation)
    centre = roi.to_image(np.array([[0.5, 0.5]]))
    np.testing.assert_allclose(centre, [[x, y]], atol=1e-3)
    corners = roi.to_image(np.array([[0, 0], [1, 0], [1, 1], [0, 1]]))
    sides = np.linalg.norm(np.roll(corners, -1, 0) - corners, axis=1)
    np.testing.assert_allclose(sides, side, rtol=1e-3)


def test_upright_is_the_turn_that_makes_a_hand_point_up():
    assert upright(np.array([0, 0]), np.array([0, -1])) == pytest.approx(0)
    assert upright(np.array([0, 0]), np.array([1, 0])) == pytest.approx(np.pi / 2)
    assert upright(np.array([0, 0]), np.array([-1, 0])) == pytest.approx(-np.pi / 2)


def test_landmark_region_covers_the_hand():
    points = (OPEN_HAND * 100 + 50).astype(np.float32)
    roi = landmark_roi(points)
    assert abs(roi.rotation) < 0.2
    assert np.abs(points - (roi.x, roi.y)).max() < roi.side / 2


def test_anchors_are_as_many_as_the_models_outputs():
    assert ssd_anchors(192, (8, 16, 16, 16)).shape == (2016, 2)
    assert ssd_anchors(224, (8, 16, 32, 32, 32)).shape == (2254, 2)


def test_iou_of_known_boxes():
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 6, 6], [0, 0, 0, 0]], np.float32)
    np.testing.assert_allclose(iou(boxes[0], boxes), [1, 1 / 7, 0, 0], atol=1e-6)


# crops


def checks(size=200, cell=5):
    y, x = np.mgrid[:size, :size] // cell
    return np.repeat((((x + y) % 2) * 200 + 20).astype(np.uint8)[..., None], 3, 2)


def test_blur_lowers_sharpness_and_contrast_does_not_change_it():
    from PIL import ImageFilter

    points = (OPEN_HAND * 150 + 20).astype(np.float32)
    image = Image.fromarray(checks())
    values = [sharpness(image.filter(ImageFilter.GaussianBlur(s)), points) for s in (0, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 3 * values[-1]
    flat = Image.fromarray((checks() // 2 + 60).astype(np.uint8))
    assert sharpness(flat, points) == pytest.approx(values[0], rel=0.02)
    assert sharpness(image, points + 1000) == 0.0


def test_change_is_zero_for_a_repeated_frame_and_grows_with_movement():
    points = (OPEN_HAND * 150 + 20).astype(np.float32)
    image = Image.fromarray(checks(cell=20))
    moved = [Image.fromarray(np.roll(checks(cell=20), s, 1)) for s in (2, 6)]
    assert change(image, image, points) == 0.0
    assert change(image, None, points) == 0.0
    assert 0 < change(image, moved[0], points) < change(image, moved[1], points)


def test_hands_found_twice_are_one():
    kept = distinct([hand(100, 100, 0.8), hand(103, 101, 0.95), hand(300, 100, 0.7)])
    assert [h.presence for h in kept] == [0.95, 0.7]


def test_two_finds_that_sit_on_one_hand_are_one():
    """A wrong region gives a small hand inside the true one: their boxes share less than half."""
    kept = distinct([hand(100, 100, 0.9, size=60), hand(104, 102, 0.6, size=36), hand(148, 100, 0.8, size=60)])
    assert [h.presence for h in kept] == [0.9, 0.8]


# following


def followed(plan, presence=0.8, fps=25.0):
    """``plan``: for each frame where a hand is found by itself, or None. Looks elsewhere find one where it was."""
    looks = []

    def where(image, before):
        looks.append(image.width)
        return Hand(before.landmarks, before.world, presence, FOLLOWED)

    follower = Follower(where)
    for index, x in enumerate(plan):
        image = Image.new("RGB", (200 + index, 200), (90, 90, 90))
        follower.push(image, index / fps, [] if x is None else [hand(x, 100)])
    hands, crops = follower.finish()
    assert [len(h) for h in hands] == [len(c) for c in crops]
    return [h[0].how if h else 0 for h in hands], looks


def test_gaps_are_followed_from_both_ends_for_a_quarter_of_a_second():
    six = round(MEMORY * 25)
    found, _ = followed([100] * 3 + [None] * six + [100] * 3)
    assert found == [PALM] * 3 + [FOLLOWED] * six + [PALM] * 3
    found, _ = followed([100] + [None] * (3 * six) + [100])
    assert found == [PALM] + [FOLLOWED] * six + [0] * six + [FOLLOWED] * six + [PALM]
    found, _ = followed([100] + [None] * 20 + [100], fps=50.0)
    assert found == [PALM] + [FOLLOWED] * 20 + [PALM]


def test_nothing_is_looked_for_where_nothing_is_missed():
    found, looks = followed([100] * 10)
    assert (found, looks) == ([PALM] * 10, [])


def test_a_hand_that_is_not_there_is_not_followed():
    found, looks = followed([100] * 3 + [None] * 5 + [100] * 3, presence=0.4)
    assert found == [PALM] * 3 + [0] * 5 + [PALM] * 3
    assert len(looks) == 2  # once from each end


def test_wrists_are_interpolated_and_unseen_ones_left_out():
    joints = np.zeros((33, 2), np.float32)
    joints[11], joints[12], joints[13], joints[15] = (0, 0), (40, 0), (0, 50), (0, 100)
    visible = np.zeros(33, np.float32)
    visible[15] = 0.9
    before = Body(joints, visible)
    after = Body(joints + np.array([20, 0], np.float32), visible)
    middle = wrists_between(before, after, 0.5)
    np.testing.assert_allclose(middle[0], [10, 112.5, 50])
    assert np.isnan(middle[1]).all()
    np.testing.assert_allclose(wrists_between(before, None, 0.5)[0], [0, 112.5, 50])
    assert np.isnan(wrists_between(None, None, 0.3)).all()
    joints[17], joints[19] = (6, 120), (0, 126)
    knuckles = joints_between(Body(joints, visible), Body(joints + np.array([20, 0], np.float32), visible), 0.5)
    np.testing.assert_allclose(knuckles[0], [[10, 100], [12, 124]])
    assert np.isnan(knuckles[1]).all()


def test_of_two_people_the_one_who_was_seen_before_is_kept():
    def person(x, score):
        return Detection(np.zeros(4, np.float32), np.array([(x, 100), (x, 0)], np.float32), score)

    def body(x):
        return Body(np.full((33, 2), (x, 100), np.float32), np.ones(33, np.float32))

    people = [person(500, 0.95), person(100, 0.9)]
    assert _nearest(people, None).score == 0.95
    assert _nearest(people, body(110)).score == 0.9
    assert _nearest(people, body(300)) is None
    assert _nearest(people[:1], body(110)) is None
