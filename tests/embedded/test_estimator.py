"""The imperfect pose estimator of the world."""

from __future__ import annotations

import numpy as np
import pytest

from ipa_bench import pose
from ipa_bench.embedded import estimator, world


def test_exact_poses_are_the_clips_joints() -> None:
    clip = world.clip("test", 2, 0)
    exact = estimator.exact_pose(clip)
    np.testing.assert_array_equal(exact.hands, clip.joints[..., :2])
    wrists = [pose.BODY_JOINTS.index(f"{side}_wrist") for side in ("left", "right")]
    np.testing.assert_allclose(exact.body[:, wrists], clip.joints[:, :, 0, :2], atol=1e-4)
    # the person's left is on the image's right
    left, right = (pose.BODY_JOINTS.index(f"{side}_shoulder") for side in ("left", "right"))
    assert (exact.body[:, left, 0] > exact.body[:, right, 0]).all()


def test_estimates_repeat_and_are_near_what_is_true() -> None:
    clip = world.clip("train", 4, 0)
    one, two = (estimator.estimated_pose(clip, "train", 4, 0) for _ in range(2))
    np.testing.assert_array_equal(one.hands, two.hands)
    np.testing.assert_array_equal(one.hands_found, two.hands_found)
    other = estimator.estimated_pose(clip, "train", 4, 1)
    assert not np.array_equal(one.hands, other.hands)
    error = np.linalg.norm(one.hands - clip.joints[..., :2], axis=-1) / clip.person.palm
    assert 0.005 < error.mean() < 0.3


@pytest.mark.parametrize("failings", [estimator.SEVERE, estimator.USUAL, estimator.MILD])
def test_hands_are_lost_fingers_dropped_and_frames_skipped_as_often_as_said(failings: estimator.Failings) -> None:
    clip = world.clip("train", 0, 0, frames=17)
    found = np.concatenate(
        [estimator.estimated_pose(clip, "train", i, 0, failings).hands_found.transpose(1, 0, 2) for i in range(300)]
    )  # [600 hands, T, 21]
    lost = ~found.any((1, 2))
    assert abs(lost.mean() - failings.lost) < 0.07
    whole_frames = found.any(-1)
    fingers = found[:, :, 1:].reshape(len(found), 17, 5, 4).any(-1)
    fingerless = ~lost & (~fingers & whole_frames[..., None]).any((1, 2))
    assert abs(fingerless.mean() - failings.fingerless) < 0.07
    gaps = ~lost & ~whole_frames.all(1)
    assert abs(gaps.mean() - failings.gap * (1 - failings.lost)) < 0.07


def test_a_lost_hand_is_not_drawn() -> None:
    clip = world.clip("train", 1, 0, frames=2)
    exact = estimator.exact_pose(clip)
    nothing = pose.Pose(exact.body, exact.body_found, exact.hands, np.zeros_like(exact.hands_found), exact.size)
    with_hands, without = pose.draw(exact), pose.draw(nothing)
    changed = np.abs(with_hands.astype(int) - without).max(-1) > 40
    assert changed.any()
    assert (clip.masks.sum(1) > 0)[changed].mean() > 0.8
