"""Hand masks against a slow twin and by what must hold; their way into latent space; the weights."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from trainers import halo

Array = NDArray[np.float32]
SIZE = (40, 30)
shapes = st.sampled_from(["hull", "box"])
#: one frame with one hand: joints anywhere near the frame, or on a coarse grid where many coincide or line up
hands = st.one_of(
    hnp.arrays(np.float32, (21, 2), elements=st.floats(-20, 60, width=32)),
    hnp.arrays(np.float32, (21, 2), elements=st.sampled_from([0.0, 3.0, 10.0, 25.5, 40.0])),
)
masks = hnp.arrays(np.float32, (1, 4, 6), elements=st.floats(0, 1, width=32))


def draw(
    hand: Array, shape: halo.Shape = "hull", margin: float = 0.25, out: tuple[int, int] = SIZE, found: bool = True
) -> Array:
    landmarks = np.zeros((1, 2, 21, 2), np.float32)
    landmarks[0, 1] = hand
    return halo.hand_mask(landmarks, np.array([[False, found]]), SIZE, out, shape=shape, margin=margin)[0]


def some_hand(seed: int, spread: float = 6.0) -> Array:
    return (np.random.default_rng(seed).normal(size=(21, 2)) * spread + (20, 15)).astype(np.float32)


def slow_hull(hand: Array, margin: float) -> tuple[NDArray[np.float64], NDArray[np.bool_], float]:
    """Distance of each pixel's centre to the nearest of all 210 segments between joints, inside by triangulation."""
    points = hand.astype(np.float64)
    x, y = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    centres = np.stack([x, y], -1)
    distance = np.full(x.shape, np.inf)
    for a, b in combinations(points, 2):
        share = np.clip((centres - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
        distance = np.minimum(distance, np.linalg.norm(centres - a - share[..., None] * (b - a), axis=-1))
    inside = Delaunay(points).find_simplex(centres) >= 0
    return distance, inside, max(margin * float(np.ptp(points, axis=0).max()), halo.LEAST)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("margin", [0.0, 0.25])
def test_hull_is_its_slow_twin(seed: int, margin: float) -> None:
    hand = some_hand(seed)
    distance, inside, radius = slow_hull(hand, margin)
    clear = np.abs(distance - radius) > 1e-9
    made = draw(hand, margin=margin) > 0
    assert np.array_equal(made[clear], ((distance <= radius) | inside)[clear])


def test_masks_by_hand() -> None:
    # an L of joints from (10, 10) to (20, 10) to (10, 20): hand size 10, grown by 2
    hand = np.full((21, 2), 10, np.float32)
    hand[0], hand[1] = (20, 10), (10, 20)
    box = np.zeros(SIZE[::-1], np.float32)
    box[8:22, 8:22] = 1
    assert np.array_equal(draw(hand, "box", 0.2), box)
    hull = draw(hand, "hull", 0.2)
    # triangle, its three sides 2 wide, and a disc of radius 2 in three parts
    assert hull.sum() == pytest.approx(50 + 2 * (20 + 200**0.5) + np.pi * 4, rel=0.03)
    assert hull.dtype == np.float32
    assert hull[8, 15] == 1
    assert hull[7, 15] == 0
    assert hull[20, 20] == 0


@pytest.mark.parametrize("shape", ["hull", "box"])
def test_a_hand_without_extent_is_a_spot(shape: halo.Shape) -> None:
    point = draw(np.full((21, 2), (12.5, 7.5), np.float32), shape)
    assert np.argwhere(point).tolist() == [[7, 12]]
    line = np.linspace((5.5, 10.5), (15.5, 10.5), 21).astype(np.float32)
    assert draw(line, shape, 0.0).sum() == 11
    assert draw(line, shape, 0.2).sum() >= 5 * 11
    slanted = np.linspace((5, 5), (15, 12), 21).astype(np.float32)
    assert draw(slanted, shape, 0.1).any()


@settings(max_examples=12)
@given(hands, shapes, st.floats(0, 1))
def test_every_joint_in_the_frame_is_covered(hand: Array, shape: halo.Shape, margin: float) -> None:
    mask = draw(hand, shape, margin)
    cells = np.floor(hand).astype(int)
    cells = cells[((cells >= 0) & (cells < SIZE)).all(1)]
    assert (mask[cells[:, 1], cells[:, 0]] == 1).all()
    assert set(np.unique(mask)) <= {0, 1}


@settings(max_examples=12)
@given(hands, st.floats(0, 1), st.floats(0, 1))
def test_the_box_holds_the_hull_and_a_margin_only_adds(hand: Array, margin: float, more: float) -> None:
    hull, wider = draw(hand, "hull", margin), draw(hand, "hull", margin + more)
    box, wider_box = draw(hand, "box", margin), draw(hand, "box", margin + more)
    assert (hull <= box).all()
    assert (hull <= wider).all()
    assert (box <= wider_box).all()


@settings(max_examples=12)
@given(hands, shapes, st.sampled_from([(80, 60), (20, 15), (80, 15)]))
def test_only_the_share_of_the_frame_matters(hand: Array, shape: halo.Shape, out: tuple[int, int]) -> None:
    scaled = hand * (np.array(out) / np.array(SIZE)).astype(np.float32)
    landmarks = np.stack([scaled, scaled])[None]
    direct = halo.hand_mask(landmarks, np.array([[True, False]]), out, out, shape=shape)[0]
    assert direct.shape == out[::-1]
    assert np.array_equal(draw(hand, shape, out=out), direct)


def test_a_larger_mask_has_the_same_share() -> None:
    hand = some_hand(1, 4.0)
    assert draw(hand, out=(400, 300)).mean() == pytest.approx(draw(hand).mean(), rel=0.05)


def test_missing_and_far_hands_add_nothing_and_two_are_joined() -> None:
    hand = some_hand(2)
    assert not draw(hand, found=False).any()
    assert not draw(hand + 1000).any()
    assert not draw(hand - 1000).any()
    assert not draw(hand - np.float32(1e30)).any()
    other = some_hand(3, 3.0) + 8
    both = halo.hand_mask(np.stack([hand, other])[None], np.array([[True, True]]), SIZE, SIZE)[0]
    assert np.array_equal(both, np.maximum(draw(hand), draw(other)))


def test_frames_are_independent() -> None:
    landmarks = np.stack([np.stack([some_hand(s), some_hand(s + 9)]) for s in range(3)])
    found = np.array([[True, False], [False, False], [True, True]])
    made = halo.hand_mask(landmarks, found, SIZE, SIZE)
    for t in range(3):
        assert np.array_equal(made[t], halo.hand_mask(landmarks[t : t + 1], found[t : t + 1], SIZE, SIZE)[0])
    assert not made[1].any()


def test_bad_landmarks_are_errors() -> None:
    landmarks, found = np.zeros((2, 2, 21, 2), np.float32), np.zeros((2, 2), np.bool_)
    with pytest.raises(ValueError, match="expected landmarks"):
        halo.hand_mask(landmarks[:1], found, SIZE, SIZE)
    with pytest.raises(ValueError, match="expected landmarks"):
        halo.hand_mask(landmarks[..., :1], found, SIZE, SIZE)
    with pytest.raises(ValueError, match="sizes must be positive"):
        halo.hand_mask(landmarks, found, SIZE, (0, 3))
    for margin in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="margin"):
            halo.hand_mask(landmarks, found, SIZE, SIZE, margin=margin)
    landmarks[1, 0, 3, 1] = np.nan
    with pytest.raises(ValueError, match="finite"):
        halo.hand_mask(landmarks, found, SIZE, SIZE)


def test_latent_groups_by_hand() -> None:
    mask = np.zeros((9, 4, 4), np.float32)
    mask[0, :2, :2] = 1  # the first latent frame, one block full
    mask[4, :2, :2] = 1  # one frame of the second's four
    mask[5:7, 2, 2] = 1  # a pixel of four in two frames of the third's four
    made = halo.to_latent(mask, 3, 2, 2)
    assert made.tolist() == [[[1, 0], [0, 0]], [[0.25, 0], [0, 0]], [[0, 0], [0, 0.125]]]
    assert made.dtype == np.float32
    assert halo.to_latent(mask[:1], 1, 4, 4).tolist() == mask[:1].tolist()


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_averaging_keeps_the_mean(seed: int, group: int, groups: int, tall: int, wide: int) -> None:
    mask = np.random.default_rng(seed).random((1 + group * groups, 2 * tall, 3 * wide), np.float32)
    made = halo.to_latent(mask, 1 + groups, 2, 3)
    share = np.array([1] + [group] * groups)
    assert (made.mean((1, 2)) * share).sum() / len(mask) == pytest.approx(mask.mean(), abs=1e-6)
    assert made.min() >= mask.min()
    assert made.max() <= mask.max()


@given(st.floats(0, 1, width=32), st.integers(1, 5), st.integers(1, 4))
def test_a_constant_mask_stays_constant(value: float, group: int, groups: int) -> None:
    mask = np.full((1 + group * groups, 8, 8), value, np.float32)
    np.testing.assert_allclose(halo.to_latent(mask, 1 + groups, 2, 4), value, rtol=1e-7)


@given(masks, masks)
def test_averaging_is_monotone(first: Array, second: Array) -> None:
    low, high = (halo.to_latent(m, 1, 2, 2) for m in (np.minimum(first, second), np.maximum(first, second)))
    assert (low <= high).all()


@pytest.mark.parametrize(
    ("shape", "latent", "named"),
    [
        ((5, 8, 8), (2, 3, 4), "8 × 8 does not divide into 3 × 4"),
        ((5, 8, 8), (2, 4, 5), "8 × 8 does not divide into 4 × 5"),
        ((5, 8, 8), (2, 16, 8), "8 × 8 does not divide into 16 × 8"),
        ((6, 8, 8), (3, 4, 4), "6 video frames do not divide into 3 latent"),
        ((5, 8, 8), (1, 4, 4), "5 video frames do not divide into 1 latent"),
        ((1, 8, 8), (3, 4, 4), "1 video frames do not divide into 3 latent"),
        ((0, 8, 8), (1, 4, 4), "0 video frames do not divide into 1 latent"),
    ],
)
def test_what_does_not_divide_is_an_error(shape: tuple[int, ...], latent: tuple[int, int, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        halo.to_latent(np.zeros(shape, np.float32), *latent)


def test_weights_by_hand() -> None:
    mask = torch.tensor([[[[0.0, 1.0]], [[0.5, 0.0]]]])
    assert halo.weights(mask, 10).tolist() == [[[[[1.0, 1.0]], [[1.0, 10.0]], [[5.5, 1.0]]]]]
    assert halo.weights(mask, 10, "paper", 0).tolist() == [[[[[1.0, 11.0]], [[6.0, 1.0]]]]]
    assert torch.equal(halo.weights(mask, 10), halo.weights(mask, 9, "paper"))
    assert halo.weights(mask, 3, references=2).shape == (1, 1, 4, 1, 2)


@given(masks, st.floats(1, 100), st.floats(0, 100))
def test_weights_are_between_1_and_the_strength(mask: Array, strength: float, more: float) -> None:
    tensor = torch.from_numpy(mask)[None]
    made, stronger = halo.weights(tensor, strength), halo.weights(tensor, strength + more)
    assert (made[:, :, 0] == 1).all()
    assert ((made >= 1) & (made <= strength * (1 + 1e-6))).all()
    assert (made <= stronger).all()
    assert (halo.weights(tensor, 1) == 1).all()
    assert (halo.weights(tensor, 0, "paper") == 1).all()


def test_bad_weights_are_errors() -> None:
    mask = torch.zeros(1, 2, 3, 3)
    for strength, form in ((0.9, "authors"), (-0.1, "paper"), (float("nan"), "paper"), (float("inf"), "authors")):
        with pytest.raises(ValueError, match="strength must be at least"):
            halo.weights(mask, strength, form)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected a mask"):
        halo.weights(mask[0], 10)
    with pytest.raises(ValueError, match="expected a mask"):
        halo.weights(mask, 10, references=-1)
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="mask must be in"):
            halo.weights(torch.full_like(mask, value), 10)
