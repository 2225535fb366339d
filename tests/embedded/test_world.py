"""The built-in world: deterministic, anatomically plausible, and its hands are found where they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipa_bench.embedded import gesture, hand, world
from ipa_bench.embedded.hand import LONG_FINGERS, THUMB
from ipa_bench.embedded.rig import CLEARANCE, bend_elbow
from ipa_bench.observers.hands import HandObserver

IDENTITIES = st.integers(0, 400)


def test_the_same_arguments_give_the_same_clip() -> None:
    one, two = world.clip("test", 3, 1), world.clip("test", 3, 1)
    assert one.frames.shape == (17, 128, 128, 3)
    assert one.frames.dtype == np.uint8
    np.testing.assert_array_equal(one.frames, two.frames)
    np.testing.assert_array_equal(one.joints, two.joints)


def test_splits_identities_and_takes_differ() -> None:
    keys = [("train", 0, 0), ("val", 0, 0), ("test", 0, 0), ("test", 1, 0), ("test", 0, 1)]
    clips = [world.clip(split, identity, take, frames=1) for split, identity, take in keys]  # type: ignore[arg-type]
    for i, a in enumerate(clips):
        for b in clips[i + 1 :]:
            assert np.abs(a.frames.astype(float) - b.frames).mean() > 5
    # one identity keeps its looks from take to take
    assert clips[2].person == clips[4].person
    assert len({clip.person for clip in clips}) == 4


def test_a_reference_shows_the_same_person_in_the_same_place_with_the_hands_elsewhere() -> None:
    clip, image = world.clip("test", 5, 0), world.reference("test", 5, 0)
    corner = (slice(0, 12), slice(0, 20))
    np.testing.assert_array_equal(image[corner], clip.frames[0][corner])
    assert (np.abs(image.astype(int) - clip.frames[0]).max(-1) > 30).mean() > 0.05


@settings(max_examples=12)
@given(IDENTITIES)
def test_bones_keep_their_length(identity: int) -> None:
    clip = world.clip("train", identity, 0, frames=9)
    for first, finger in zip(range(1, 21, 4), (THUMB, *LONG_FINGERS), strict=True):
        bones = np.linalg.norm(np.diff(clip.joints[:, :, first : first + 4], axis=2), axis=-1)
        expected = np.array(finger.lengths) * clip.person.palm
        np.testing.assert_allclose(bones, np.broadcast_to(expected, bones.shape), rtol=1e-3)


@settings(max_examples=12)
@given(IDENTITIES)
def test_hands_move_as_fast_as_people_do_stay_apart_and_in_the_frame(identity: int) -> None:
    clip = world.clip("test", identity, 0)
    palms = clip.joints[:, :, (0, 5, 9, 13, 17), :2].mean(2) / clip.person.palm
    speed = np.linalg.norm(np.diff(palms, axis=0), axis=-1) * clip.fps
    assert speed.max() < 15  # palm lengths a second: 1.5 m/s
    assert np.linalg.norm(palms[:, 0] - palms[:, 1], axis=-1).min() > CLEARANCE * 0.99
    assert clip.visible.all()


def test_arms_reach_with_both_bones() -> None:
    rng = np.random.default_rng(0)
    shoulder, wrist = np.zeros((50, 3)), rng.uniform(-50, 50, (50, 3))
    elbow, reached = bend_elbow(shoulder, wrist, (34.0, 31.0), np.array([0.8, 0.6, 0.0]))
    np.testing.assert_allclose(np.linalg.norm(elbow - shoulder, axis=1), 34, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(reached - elbow, axis=1), 31, rtol=1e-6)
    near = np.linalg.norm(wrist, axis=1)
    inside = (near > 5) & (near < 64)
    np.testing.assert_allclose(reached[inside], wrist[inside], atol=1e-9)


def test_some_gestures_are_in_the_test_split_alone() -> None:
    seen = {"train": set[str](), "test": set[str]()}
    for split, found in seen.items():
        for identity in range(60):
            motions = world.clip(split, identity, 0, frames=2).rig.motions  # type: ignore[arg-type]
            found |= {m.posture for m in motions} | {m.motion for m in motions}
    kept = {gesture.TEST_MOTION, *gesture.TEST_POSTURES}
    assert not seen["train"] & kept
    assert kept <= seen["test"]
    assert set(gesture.POSTURES) <= seen["train"]


def test_masks_cover_the_hands() -> None:
    clip = world.clip("train", 7, 0)
    covered = []
    for t in range(len(clip.frames)):
        for slot in range(2):
            x, y = clip.joints[t, slot, :, :2].round().astype(int).T
            covered.append(clip.masks[t, :, y, x].max(1) > 0.5)
    assert np.mean(covered) > 0.97
    assert clip.masks.min() >= 0
    assert clip.masks.max() <= 1
    assert 0.02 < (clip.masks.sum(1) > 0.5).mean() < 0.3


def test_flexion_bends_fingers_toward_the_palm() -> None:
    flexion = np.linspace(0, 0.95, 8)[:, None] * np.ones(5)
    joints = hand.joints(flexion, np.full(8, 1.2))
    reach = np.linalg.norm(joints[:, 12] - joints[:, 0], axis=-1)
    assert (np.diff(reach) < 0).all()
    assert reach[0] == pytest.approx(1.05 + 0.50 + 0.32 + 0.23, abs=0.01)
    assert (joints[1:, 8:20:4, 2] > 0).all()


def observed(clips: int) -> tuple[float, float, int]:
    """Recall, median joint error in hand sizes, and frames looked at."""
    observer, found, errors, frames = HandObserver(threads=2), [], [], 0
    for identity in range(clips):
        clip = world.clip("test", identity, 0)
        tracks = observer.observe(clip.frames, np.arange(len(clip.frames)) / clip.fps, f"test{identity}")
        frames += len(clip.frames)
        size = np.median(np.ptp(clip.joints[..., :2], axis=2).max(-1), axis=0)
        # every true hand against the nearer of the two that were found
        distance = np.linalg.norm(tracks.landmarks[:, None] - clip.joints[:, :, None, :, :2], axis=-1).mean(-1)
        distance = np.where(tracks.found[:, None], distance / size[None, :, None], np.inf).min(-1)
        found.append(distance < 1)
        errors.append(distance[distance < 1])
    return float(np.mean(found)), float(np.median(np.concatenate(errors))), frames


def test_the_observer_finds_the_hands_where_they_are() -> None:
    recall, error, _ = observed(8)
    assert recall >= 0.95
    assert error <= 0.06


@pytest.mark.slow
def test_the_observer_finds_the_hands_in_500_frames() -> None:
    recall, error, frames = observed(48)
    print(f"recall {recall:.4f}, median error {error:.4f} hand sizes, {frames} frames")
    assert frames >= 500
    assert recall >= 0.97
    assert error <= 0.06
