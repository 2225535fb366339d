"""Resizing and hashing single images."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ipa_bench import video
from ipa_bench.errors import Unscorable
from ipa_bench.types import UInt8
from tests import clips

POLICIES = get_args(video.ResizePolicy)
sides = st.integers(1, 40)
clip_arrays = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6), st.just(3)),
    elements=st.integers(0, 255),
)


@given(sides, sides, sides, sides, st.sampled_from(POLICIES), st.tuples(*[st.integers(0, 255)] * 3))
def test_resize_gives_the_size_and_keeps_a_constant(
    height: int, width: int, new_height: int, new_width: int, policy: video.ResizePolicy, colour: tuple[int, int, int]
) -> None:
    image = np.full((height, width, 3), colour, np.uint8)
    resized = video.resize(image, (new_width, new_height), policy)
    assert resized.shape == (new_height, new_width, 3)
    assert resized.dtype == np.uint8
    assert resized.flags.c_contiguous
    seen = {tuple(int(v) for v in pixel) for pixel in resized.reshape(-1, 3)}
    assert colour in seen
    assert seen <= ({colour, (0, 0, 0)} if policy == "fit" else {colour})


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 6), st.integers(0, 99))
def test_area_is_the_mean_of_each_block(height: int, width: int, factor: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height * factor, width * factor, 3), np.uint8)
    blocks = image.reshape(height, factor, width, factor, 3).mean((1, 3))
    assert np.abs(video.resize(image, (width, height), "area") - blocks).max() <= 1.01  # two roundings


def triangle(image: UInt8, length: int) -> np.ndarray:
    """Antialiased linear interpolation along the first axis, the slow way."""
    count = image.shape[0]
    scale = max(1.0, count / length)
    centres = (np.arange(length) + 0.5) * count / length - 0.5
    weights = np.clip(1 - np.abs(np.arange(count)[None] - centres[:, None]) / scale, 0, None)
    return np.asarray(np.tensordot(weights / weights.sum(1, keepdims=True), image.astype(float), 1))


@pytest.mark.parametrize("size", [(50, 20), (128, 96), (31, 200), (300, 17)])
def test_stretch_is_antialiased_bilinear(size: tuple[int, int]) -> None:
    image = clips.noise(1)[0]
    expected = triangle(triangle(image, size[1]).swapaxes(0, 1), size[0]).swapaxes(0, 1)
    assert np.abs(video.resize(image, size) - expected).max() <= 1.01


def test_fit_keeps_the_aspect_ratio_on_black() -> None:
    fitted = video.resize(np.full((50, 100, 3), 200, np.uint8), (60, 60), "fit")
    assert (fitted[15:45] == 200).all()
    assert not fitted[:15].any()
    assert not fitted[45:].any()


@pytest.mark.parametrize(("height", "width", "side"), [(40, 100, 20), (90, 60, 20), (64, 128, 32), (20, 30, 60)])
def test_crop_is_short_side_to_size_then_centre_crop(height: int, width: int, side: int) -> None:
    image = clips.noise(1, height, width)[0]
    scale = side / min(height, width)
    whole = video.resize(image, (round(width * scale), round(height * scale)))
    top, left = (whole.shape[0] - side) // 2, (whole.shape[1] - side) // 2
    expected = whole[top : top + side, left : left + side]
    assert np.abs(video.resize(image, (side, side), "crop").astype(int) - expected).max() <= 1


def test_resize_to_the_same_size_changes_nothing() -> None:
    image = clips.noise(1)[0]
    for policy in POLICIES:
        np.testing.assert_array_equal(video.resize(image, (128, 96), policy), image)


def test_resize_refuses_what_it_does_not_know() -> None:
    image = clips.noise(1)[0]
    with pytest.raises(ValueError, match="policy must be one of stretch, fit, crop, area"):
        video.resize(image, (8, 8), "bicubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1x1"):
        video.resize(image, (0, 8))
    for wrong in (image.astype(np.float32), image[..., 0], image[..., :2], image[:0]):
        with pytest.raises(ValueError, match="expected uint8"):
            video.resize(wrong, (8, 8))


@given(clip_arrays, st.data())
def test_hash_does_not_depend_on_pieces_or_layout(frames: UInt8, data: st.DataObject) -> None:
    expected = video.pixel_sha256(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(frames)), max_size=3)))
    hasher = video.PixelHasher()
    for piece in np.split(frames, cuts):
        hasher.update(piece)
    assert hasher.hexdigest() == expected
    assert video.pixel_sha256(np.asfortranarray(frames)) == expected
    assert video.pixel_sha256(frame.copy() for frame in frames) == expected


@given(clip_arrays, st.data())
def test_hash_sees_every_pixel(frames: UInt8, data: st.DataObject) -> None:
    before = video.pixel_sha256(frames)
    at = tuple(data.draw(st.integers(0, n - 1)) for n in frames.shape)
    frames[at] ^= data.draw(st.integers(1, 255))
    assert video.pixel_sha256(frames) != before


@settings(max_examples=10)
@given(clip_arrays)
def test_hash_sees_the_shape(frames: UInt8) -> None:
    count, height, width, _ = frames.shape
    shapes = {frames.shape, (count, width, height, 3), (1, height * count, width, 3), (count * height, 1, width, 3)}
    assert len({video.pixel_sha256(frames.reshape(shape)) for shape in shapes}) == len(shapes)


def test_hash_is_pinned() -> None:
    # stored results are found by this: changing it orphans every cache and run folder
    frames = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    expected = hashlib.sha256(b"ipa-bench rgb24 1\n3 4\n" + frames.tobytes() + b"2\n").hexdigest()
    assert video.pixel_sha256(frames) == expected


def test_hasher_can_be_read_more_than_once_and_refuses_a_mix() -> None:
    frames = clips.noise(2)
    hasher = video.PixelHasher()
    with pytest.raises(ValueError, match="no frames"):
        hasher.hexdigest()
    hasher.update(frames[0])
    assert hasher.hexdigest() == hasher.hexdigest() == video.pixel_sha256(frames[:1])
    hasher.update(frames[1])
    assert hasher.hexdigest() == video.pixel_sha256(frames)
    with pytest.raises(ValueError, match="frame 2 has shape"):
        hasher.update(frames[0, :50])


def test_file_hash(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(256)) * 5000)
    assert video.file_sha256(tmp_path / "a") == hashlib.sha256(bytes(range(256)) * 5000).hexdigest()
    with pytest.raises(Unscorable, match="absent: cannot be read: No such file"):
        video.file_sha256(tmp_path / "absent")
