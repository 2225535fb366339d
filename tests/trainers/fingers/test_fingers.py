"""Training of the finger head: what edits do to a drawn hand, slow twins, and a fit that can be seen through."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ipa_bench.observers.mediapipe.maps import CHANNELS, GRID
from tests.hands import OPEN_HAND
from trainers.fingers import fit, material
from trainers.fingers.edits import CONTROL_SHARES, CONTROLS, EDIT_SHARES, EDITS, drawn
from trainers.fingers.material import PICTURES, Material
from trainers.fingers.nuisance import SIDE, cropped, spoiled
from trainers.fingers.shapes import Hand, bones
from trainers.fingers.sources import CANVAS, SIGNS, standing_in

SKIN, WALL = (200, 150, 120), (60, 70, 160)
ALL = (0, 1, 2, 3, 4)


@pytest.fixture(scope="module")
def hand():
    """An open hand of one colour before a wall of another."""
    points = (OPEN_HAND * 100 + (80, 90)).astype(np.float32)
    image = Image.new("RGB", (CANVAS, CANVAS), WALL)
    pen = ImageDraw.Draw(image)
    pen.polygon([tuple(points[j]) for j in (0, 1, 5, 9, 13, 17)], SKIN)
    for finger in range(5):
        chain = [tuple(points[j]) for j in (0, *range(1 + 4 * finger, 5 + 4 * finger))]
        pen.line(chain, SKIN, 9, "curve")
    return Hand(np.asarray(image), points)


def skin(pixels):
    """Pixels that are nearer to skin than to the wall."""
    away = [np.linalg.norm(pixels - np.array(colour), axis=-1) for colour in (SKIN, WALL)]
    return int((away[0] < away[1]).sum())


def test_bones_are_those_of_a_slow_twin():
    chain = np.array([[4.0, 5.0], [20.0, 9.0], [25.0, 25.0]], np.float32)
    radii, feather = (3.0, 2.0, 1.5), 1.2
    found = bones(32, chain, radii, feather)
    for y in range(0, 32, 3):
        for x in range(0, 32, 3):
            share = np.linspace(0, 1, 4001)[:, None]
            away = min(
                float((np.linalg.norm(a + share * (b - a) - (x, y), axis=1) - (r + share[:, 0] * (s - r))).min())
                for a, b, r, s in zip(chain[:-1], chain[1:], radii[:-1], radii[1:], strict=True)
            )
            # the nearest point of the middle line decides, which is not always the nearest point of the outline
            assert found[y, x] == pytest.approx(np.clip(0.5 - away / feather, 0, 1), abs=0.12)


def test_a_finger_more_is_more_skin_and_one_fewer_less(hand):
    whole = skin(hand.pixels)
    for name, least in (("extra", 60), ("between", 60)):
        made = [EDITS[name](hand, ALL, np.random.default_rng(seed)) for seed in range(6)]
        assert all(each.change == 1 for each in made)
        assert np.mean([skin(each.pixels) - whole for each in made]) > least
    made = [EDITS["missing"](hand, ALL, np.random.default_rng(seed)) for seed in range(6)]
    assert all(each.change == -1 and skin(each.pixels) < whole - 100 for each in made)


@pytest.mark.parametrize("name", [*EDITS, *CONTROLS])
def test_edits_follow_from_their_draw_and_stay_about_the_hand(hand, name):
    made, again = ({**EDITS, **CONTROLS}[name](hand, ALL, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(made.pixels, again.pixels)
    np.testing.assert_array_equal(made.pixels[:8, :8], hand.pixels[:8, :8])
    changed = np.abs(made.pixels - hand.pixels).max()
    assert changed == 0 if name == "unchanged" else changed > 5


def test_a_control_leaves_the_hand_as_it_is(hand):
    for seed in range(5):
        back = CONTROLS["put_back"](hand, ALL, np.random.default_rng(seed))
        assert abs(skin(back.pixels) - skin(hand.pixels)) < 0.04 * skin(hand.pixels)
        beside = CONTROLS["beside"](hand, ALL, np.random.default_rng(seed))
        inside = hand.mask > 0.99
        np.testing.assert_array_equal(beside.pixels[inside], hand.pixels[inside])


def test_a_fist_is_not_given_what_it_cannot_have(hand):
    for name in ("extra", "between", "missing", "length", "bent", "thumb", "put_back"):
        assert {**EDITS, **CONTROLS}[name](hand, (), np.random.default_rng(0)) is None
    names = {drawn(hand, (), EDITS, EDIT_SHARES, np.random.default_rng(seed))[0] for seed in range(20)}
    assert names == {"melt", "smear"}
    assert EDITS.keys() == EDIT_SHARES.keys()
    assert CONTROLS.keys() == CONTROL_SHARES.keys()


def test_the_two_kinds_that_are_held_out_are_not_among_the_edits():
    assert not {name for name in EDITS if "fus" in name or "doubl" in name or "fork" in name}
    assert [len(standing) for standing in SIGNS] == [0, 1, 2, 3, 4, 5, 3, 3, 3, 3]


def test_straight_fingers_stand():
    joints = np.concatenate([OPEN_HAND, np.zeros((21, 1))], axis=1)
    assert {1, 2, 3, 4} <= set(standing_in(joints))
    bent = joints.copy()
    bent[8] = bent[6] + (bent[6] - bent[7])  # the tip of the index finger comes back
    assert 1 not in standing_in(bent)


def test_crops_and_nuisances_follow_from_their_draw(hand):
    pictures = [spoiled(cropped(hand.pixels, 0.74, rng), rng) for rng in map(np.random.default_rng, (3, 3, 4))]
    assert pictures[0].shape == (SIDE, SIDE, 3)
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert (pictures[0] != pictures[2]).any()


def see_through(hands, seed):
    """Maps that say it all: channel 0 is brighter where a hand is wrong, channel 1 as bright as it has fingers."""
    rng = np.random.default_rng(seed)
    count = len(PICTURES) * hands
    wrong = np.tile([0, 0, 0, 1, 1, 1], hands).astype(np.float32)
    change = np.where(wrong > 0, rng.choice([-1.0, 1.0], count), 0.0).astype(np.float32)
    fingers = rng.integers(1, 5, hands).repeat(len(PICTURES)) + change
    maps = rng.normal(0, 0.3, (count, GRID, GRID, CHANNELS)).astype(np.float16)
    maps[..., 0] += wrong[:, None, None].astype(np.float16)
    maps[..., 1] += fingers[:, None, None].astype(np.float16)
    group = np.arange(hands).repeat(len(PICTURES))
    kind = np.where(wrong > 0, "extra", "unchanged")
    return Material(
        maps, group, wrong, fingers.astype(np.float32), change, np.zeros(count, bool), kind, np.full(count, "digits")
    )


def test_what_is_to_be_seen_is_learned(tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "HANDS", 6)
    how = fit.Descent(steps=45, batch=36, rate=4e-3, decay=0.01)
    head = fit.fit([see_through(20, 0), see_through(4, 1)], tmp_path / "state.pt", how, lambda *_: None)
    other = see_through(8, 2)
    found = fit.measured(head, other)
    assert found["paired"] > 0.97
    assert np.corrcoef(fit.answers(head, other)[:, 1], other.count)[0, 1] > 0.9
    assert set(found["kinds"]) == {"extra"}


def test_material_is_made_once(tmp_path, hand, monkeypatch):
    class Blank:
        def of_region(self, image, roi):
            assert image.size == (SIDE, SIDE)
            return np.full((GRID, GRID, CHANNELS), np.asarray(image).mean(), np.float32)

    monkeypatch.setattr(material, "MapNet", Blank)
    source = material.Source("digits", 7, True, hand, ALL, 5.0)
    made = material.make("one", [source], tmp_path, 0)
    assert len(made) == len(PICTURES)
    assert made.wrong.tolist() == [0, 0, 0, 1, 1, 1]
    assert made.held_out.all()
    rows = json.loads((tmp_path / "one.json").read_text())
    assert [row["count"] for row in rows[:3]] == [5.0, 5.0, 5.0]
    known = np.isfinite(made.change)
    np.testing.assert_array_equal(made.count[known], 5 + made.change[known])
    again = material.make("one", iter(()), tmp_path, 0)  # nothing is looked at
    np.testing.assert_array_equal(again.maps, made.maps)
    assert (again.of(again.wrong > 0).kind == made.kind[3:]).all()
