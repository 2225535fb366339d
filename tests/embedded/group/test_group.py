"""Several people in one scene: the one-person world's people, exactly known places, and who hides whom."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ipa_bench import pose
from ipa_bench.embedded import estimator, world
from ipa_bench.embedded.group.setting import ARRANGEMENTS, WIDTHS, Key, alone, identities, key_of, moved, setting
from ipa_bench.embedded.group.shot import exact_poses, reference, shot
from ipa_bench.errors import UserError

KEY = Key(2, "test", 1)


def one_person(identity: int = 5) -> tuple[world.Clip, object]:
    """A clip of the one-person world, and the same described as a group of one in a frame of its size."""
    clip = world.clip("test", identity, 0, frames=3)
    whole = setting(KEY, 3)
    description = replace(
        whole,
        people=(clip.person,),
        looks=((clip.person,),) * 3,
        rigs=(clip.rig,),
        order=(0,),
        scenes=(clip.scene,) * 3,
        size=(world.SIZE, world.SIZE),
    )
    return clip, description


def test_a_group_of_one_is_drawn_as_the_one_person_world_draws() -> None:
    clip, description = one_person()
    drawn = shot(description)  # type: ignore[arg-type]
    np.testing.assert_array_equal(drawn.frames, clip.frames)
    hands, sleeves = drawn.cover[:, 0, 3:], drawn.cover[:, 0, 2]
    assert (hands <= clip.masks * 255 + 0.51).all()
    cuff = np.broadcast_to(sleeves[:, None] > 0, hands.shape)  # it lies over the wrist, which a mask of hands has
    np.testing.assert_allclose(hands[~cuff], clip.masks[~cuff] * 255, atol=0.51)
    (exact,) = exact_poses(description)  # type: ignore[arg-type]
    np.testing.assert_array_equal(exact.body, estimator.exact_pose(clip).body)


@pytest.mark.parametrize("people", [2, 3])
def test_the_same_key_gives_the_same_clip_and_groups_share_nobody(people: int) -> None:
    key = Key(people, "val", 4)
    one, two = shot(setting(key, 2)), shot(setting(key, 2))
    assert one.frames.shape == (2, 128, WIDTHS[people], 3)
    np.testing.assert_array_equal(one.frames, two.frames)
    seen = [identity for index in range(6) for identity in identities(Key(people, "val", index))]
    assert len(set(seen)) == len(seen) == 6 * people
    assert not set(seen) & set(range(500))  # the one-person world shows those


def test_every_pixel_of_a_person_belongs_to_somebody_and_a_hidden_one_to_who_is_in_front() -> None:
    crossing = next(s for i in range(30) if (s := setting(Key(2, "test", i))).arrangement == "cross")
    drawn = shot(crossing)
    assert drawn.masks.astype(int).sum(1).max() <= 256  # rounding of two
    behind, front = crossing.order
    middle = int(np.argmin(np.abs(crossing.rigs[0].chest[:, 0] - crossing.rigs[1].chest[:, 0])))
    torso = drawn.cover[:, :, 1].sum((2, 3), dtype=float)
    assert torso[middle, behind] < 0.35 * torso[0, behind]
    assert torso[middle, front] > 0.6 * torso[0, front]
    # without the one in front, the one behind is whole
    only = replace(crossing, order=(behind,))
    alone_ = shot(only).masks[middle, behind]
    assert (alone_ >= drawn.masks[middle, behind].astype(int) - 1).all()


def test_people_cross_meet_and_wave_as_their_arrangement_says() -> None:
    found = {name: [] for name in ARRANGEMENTS}
    for index in range(24):
        one = setting(Key(2, "test", index))
        found[one.arrangement].append(one)
    assert all(found.values())
    for one in found["cross"]:
        ends = [rig.chest[[0, -1], 0] for rig in one.rigs]
        assert ends[0][0] < ends[1][0]
        assert ends[0][1] > ends[1][1]
    for one in found["beside"]:
        assert (one.rigs[1].chest[:, 0] - one.rigs[0].chest[:, 0]).min() > 60
    for one in found["occlude"]:
        assert 15 < (one.rigs[1].chest[:, 0] - one.rigs[0].chest[:, 0]).min() < 55
    for one in found["wave"]:
        assert (one.rigs[0].motions[0].motion, one.rigs[1].motions[1].motion) == ("wave", "wave")


def test_a_moved_rig_keeps_its_bones() -> None:
    one = setting(KEY, 4).rigs[0]
    by = np.array([0.0, 3.0, -7.0, 11.0])
    other = moved(one, by)
    np.testing.assert_allclose(other.hands[..., 0] - one.hands[..., 0], np.broadcast_to(by[:, None, None], (4, 2, 21)))
    np.testing.assert_allclose(other.elbow - other.wrist, one.elbow - one.wrist)
    np.testing.assert_array_equal(other.palms[..., 1:], one.palms[..., 1:])


def test_a_reference_shows_one_person_alone_with_the_face_free() -> None:
    key = Key(2, "test", 3)
    picture, description = reference(key, 1), alone(key, 1)
    assert picture.shape == (128, 208, 3)
    assert description.people == (setting(key, 1).people[1],)
    drawn = shot(description)
    head = drawn.cover[0, 0, 0]
    hands = drawn.cover[0, 0, 3:].sum(0)
    x, y = description.rigs[0].head[0].astype(int)
    assert head[y, x] == 255
    assert hands[y - 5 : y + 5, x - 5 : x + 5].max() == 0


def test_a_pose_map_of_two_is_each_drawn_over_the_one_before() -> None:
    one, two = exact_poses(setting(KEY, 2))
    both, first, second = pose.draw_group([one, two]), pose.draw(one), pose.draw(two)
    apart = (first.max(-1) == 0) | (second.max(-1) == 0)
    np.testing.assert_array_equal(both[apart], np.maximum(first, second)[apart])
    np.testing.assert_array_equal(pose.draw_group([one]), first)
    with pytest.raises(ValueError, match="one length"):
        pose.draw_group([one, replace(two, size=(10, 10))])


def test_keys_are_read_as_they_are_written() -> None:
    key = Key(3, "train", 12, 2)
    assert key_of(str(key)) == key
    for wrong in ("group4/test/0/0", "group2/test/-1/0", "group2/tset/0/0", "group2/test/0", "x", "group2/test/00/0"):
        with pytest.raises(UserError, match="no scene"):
            key_of(wrong)
