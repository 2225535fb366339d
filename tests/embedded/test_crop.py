"""Crops of hands: where a joint goes, and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_bench.embedded import crop


def test_a_square_holds_the_hand_with_its_margin():
    joints = np.zeros((21, 2))
    joints[1] = (40, 10)
    assert crop.squares(joints) == pytest.approx([20, 5, 64])  # 40 px x 1.6


def test_a_tiny_hand_has_the_smallest_square():
    assert crop.squares(np.full((21, 2), 3.0)) == pytest.approx([3, 3, crop.SMALLEST])


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_crop_of_its_own_size_is_the_image(mirrored):
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    cut = crop.crop(image, np.array([4.0, 4.0, 8.0]), 8, mirrored)
    assert np.allclose(cut, image[:, ::-1] if mirrored else image, atol=1e-3)


def test_the_rim_continues():
    image = np.full((4, 4, 3), 7, np.uint8)
    assert (crop.crop(image, np.array([0.0, 0.0, 20.0]), 5, False) == 7).all()


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_outside_undoes_into(seed, mirrored):
    rng = np.random.default_rng(seed)
    joints, square = rng.uniform(0, 128, (21, 2)), np.array([*rng.uniform(0, 128, 2), rng.uniform(16, 90)])
    assert np.allclose(crop.outside(crop.into(joints, square, mirrored), square, mirrored), joints)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_bright_pixel_lies_where_into_says(mirrored):
    image = np.zeros((64, 64, 3), np.uint8)
    image[20, 30] = 255
    square = np.array([32.0, 28.0, 40.0])
    cut = crop.crop(image, square, 160, mirrored)[..., 0]
    row, column = np.unravel_index(cut.argmax(), cut.shape)
    place = crop.into(np.array([[30.5, 20.5]]), square, mirrored)[0]
    assert (column + 0.5, row + 0.5) == pytest.approx(tuple(place * 160), abs=2.1)
