"""Bad habits of hands: what is wrong with them, and that nothing else of the picture is."""

import numpy as np
import pytest
from scipy.ndimage import maximum_filter

from ipa_bench.embedded import habits, world


@pytest.fixture(scope="module")
def clip() -> world.Clip:
    return world.clip("train", 2001, 0)


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def test_a_missing_finger_ends_at_its_knuckle(clip: world.Clip) -> None:
    hands = habits.missing(clip.rig.hands, rng())
    for slot in range(2):
        gone = [f for f in range(5) if np.ptp(hands[:, slot, 1 + 4 * f : 5 + 4 * f], axis=1).max() == 0]
        assert 1 <= len(gone) <= 2
        assert 0 not in gone
        kept = [j for f in range(5) if f not in gone for j in range(1 + 4 * f, 5 + 4 * f)]
        np.testing.assert_array_equal(hands[:, slot, kept], clip.rig.hands[:, slot, kept])


def test_fused_fingers_come_together(clip: world.Clip) -> None:
    hands = habits.fused(clip.rig.hands, rng())

    def apart(joints: np.ndarray, finger: int) -> float:
        one, two = joints[:, 1 + 4 * finger : 5 + 4 * finger], joints[:, 5 + 4 * finger : 9 + 4 * finger]
        return float(np.linalg.norm(one - two, axis=-1).mean())

    for slot in range(2):
        shares = [apart(hands[:, slot], f) / apart(clip.rig.hands[:, slot], f) for f in range(1, 4)]
        assert min(shares) == pytest.approx(1 - habits._CLOSE)


def test_an_added_finger_is_as_long_as_the_one_beside_it_and_the_others_stay(clip: world.Clip) -> None:
    hands = habits.added(clip.rig.hands, rng())
    assert hands.shape[2] == 25
    np.testing.assert_array_equal(hands[:, :, :21], clip.rig.hands)

    def lengths(chain: np.ndarray) -> np.ndarray:
        return np.linalg.norm(np.diff(chain, axis=1), axis=-1)

    for slot in range(2):
        new = lengths(hands[:, slot, 21:])
        own = [lengths(hands[:, slot, 1 + 4 * f : 5 + 4 * f]) for f in range(1, 5)]
        assert min(np.abs(new - each).max() for each in own) < 1e-9


@pytest.mark.parametrize("name", list(habits.HABITS))
def test_only_hands_change(clip: world.Clip, name: str) -> None:
    frames = habits.HABITS[name](clip, rng())
    assert frames.dtype == np.uint8
    near = np.stack([maximum_filter(mask, 41) for mask in clip.masks.max(1)]).max(0) > 0
    far = np.broadcast_to(~near, frames.shape[:3])
    np.testing.assert_array_equal(frames[far], clip.frames[far])
    assert (frames != clip.frames).any((1, 2, 3)).mean() > 0.5


def test_unchanged_hands_are_drawn_as_they_were(clip: world.Clip) -> None:
    same = habits.redrawn(clip, lambda hands, _: hands, rng())
    np.testing.assert_array_equal(same, clip.frames)


def test_bent_hands_keep_their_shape_and_leave_their_arms_away_from_the_body(clip: world.Clip) -> None:
    rig = habits.bent(clip.rig)
    for wrong, right in ((rig.hands, clip.rig.hands), (rig.palms, clip.rig.palms)):
        np.testing.assert_array_equal(wrong[..., 2], right[..., 2])
        assert wrong.shape == right.shape
    np.testing.assert_allclose(rig.hands[:, :, 0], clip.rig.hands[:, :, 0])
    right, wrong = (hands[:, :, 1:, :2] - hands[:, :, :1, :2] for hands in (clip.rig.hands, rig.hands))
    np.testing.assert_allclose(np.linalg.norm(wrong, axis=-1), np.linalg.norm(right, axis=-1))
    cross = right[..., 0] * wrong[..., 1] - right[..., 1] * wrong[..., 0]
    angles = np.arctan2(cross, (right * wrong).sum(-1))
    np.testing.assert_allclose(angles, np.broadcast_to([[[1.5], [-1.5]]], angles.shape))


def test_whole_hands_are_wrong_in_all_frames_and_nothing_else_changes(clip: world.Clip) -> None:
    frames = habits.whole(clip)
    near = np.stack([maximum_filter(mask, 61) for mask in clip.masks.max(1)]).max(0) > 0
    far = np.broadcast_to(~near, frames.shape[:3])
    np.testing.assert_array_equal(frames[far], clip.frames[far])
    assert (frames != clip.frames).any((1, 2, 3)).all()
    frame = habits.whole(world.clip("train", 2001, 0, moments=[3]), [3])
    np.testing.assert_array_equal(frame, frames[3:4])
