"""Pixel comparisons against scikit-image, torchmetrics and values known in closed form."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ipa_bench.metrics import find
from ipa_bench.metrics.frame import psnr_db
from ipa_bench.metrics.pairing import pair_hands
from ipa_bench.observers.base import Truth
from ipa_bench.observers.pixels import (
    C1,
    MEASURES,
    Box,
    PixelObserver,
    PixelSession,
    Side,
    Sides,
    _sums,
    compare,
    hand_boxes,
    luma,
    ssim_map,
)
from tests.hands import made_up, observed, without


def images(seed=0, shape=(96, 128, 3), noise=12):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (shape[0] // 8, shape[1] // 8, 3), dtype=np.uint8)
    truth = np.asarray(Image.fromarray(coarse).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))
    other = np.clip(truth.astype(int) + rng.normal(0, noise, shape).astype(int), 0, 255).astype(np.uint8)
    return other, truth


def test_ssim_is_that_of_scikit_image():
    from skimage.metrics import structural_similarity

    one, other = (luma(i) for i in images())
    _, full = structural_similarity(
        one, other, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    np.testing.assert_allclose(ssim_map(Side(one), Side(other)), full, atol=2e-4)


def test_ssim_is_that_of_torchmetrics_away_from_the_border():
    # slow to import, and every process that tests imports this file
    from torchmetrics.functional.image import structural_similarity_index_measure

    one, other = (luma(i) for i in images(1))
    tensors = [torch.from_numpy(np.array(i))[None, None].double() for i in (one, other)]
    _, theirs = structural_similarity_index_measure(*tensors, data_range=255.0, return_full_image=True)
    ours = ssim_map(Side(one), Side(other))
    np.testing.assert_allclose(ours[8:-8, 8:-8], theirs[0, 0].numpy()[8:-8, 8:-8], atol=2e-4)


def test_mse_psnr_and_l1_are_those_of_scikit_image_and_numpy():
    from skimage.metrics import mean_squared_error, peak_signal_noise_ratio

    one, other = images(2)
    mse, l1, _ = compare(one, other, [], Side(luma(other)))["frame"]
    assert mse == pytest.approx(mean_squared_error(one, other), rel=1e-6)
    assert float(psnr_db(np.array([mse]))[0]) == pytest.approx(
        peak_signal_noise_ratio(other, one, data_range=255), rel=1e-6
    )
    assert l1 == pytest.approx(np.abs(one.astype(float) - other).mean(), rel=1e-6)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 33000), (97, 131), (64, 1024), (270, 481)])
def test_differences_are_summed_exactly(height, width):
    rng = np.random.default_rng(height)
    one, other = (rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(2))
    one[-1], other[-1] = 255, 0
    away = one.astype(np.int64) - other
    whole = _sums(one, other)
    assert whole.tolist() == [(away**2).sum(), np.abs(away).sum(), height * width]
    box = np.s_[height // 3 :, width // 4 : width // 2 + 1]
    assert _sums(one[box], other[box]).tolist() == [(away[box] ** 2).sum(), np.abs(away[box]).sum(), away[box].size / 3]


def test_zeros_against_ones():
    # Values of the common_metrics repository for these two videos: PSNR 0, SSIM C1 / (1 + C1) = 9.999000099990664e-05.
    zeros, ones = np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)
    mse, l1, ssim = compare(zeros, ones, [], Side(luma(ones)))["frame"]
    assert float(psnr_db(np.array([mse]))[0]) == pytest.approx(0.0, abs=1e-9)
    assert l1 == pytest.approx(255.0)
    assert ssim == pytest.approx(C1 / (255.0**2 + C1), rel=1e-4)
    assert ssim == pytest.approx(9.999000099990664e-05, rel=1e-4)


@settings(max_examples=10)
@given(st.integers(0, 1000), st.tuples(*[st.integers(0, 90)] * 8))
def test_regions_are_what_a_mask_gives(seed, corners):
    one, other = images(seed)
    x = sorted(corners[:2]), sorted(corners[2:4])
    y = sorted(corners[4:6]), sorted(corners[6:8])
    boxes = [Box(a, c, b + 4, d + 4) for (a, b), (c, d) in zip(x, y, strict=True)]
    mask = np.zeros(one.shape[:2], bool)
    for box in boxes:
        mask[box.y0 : box.y1, box.x0 : box.x1] = True
    result = compare(one, other, boxes, Side(luma(other)))
    squared = (one.astype(float) - other) ** 2
    similarity = ssim_map(Side(luma(one)), Side(luma(other)))
    for region, where in (("hand", mask), ("rest", ~mask)):
        assert result[region][0] == pytest.approx(squared[where].mean(), rel=1e-5)
        assert result[region][2] == pytest.approx(similarity[where].mean(), rel=1e-4, abs=1e-5)


def test_a_region_without_pixels_is_left_out():
    one, other = images()
    assert set(compare(one, other, [], Side(luma(other)))) == {"frame", "rest"}
    whole = [Box(0, 0, one.shape[1], one.shape[0])]
    assert set(compare(one, other, whole, Side(luma(other)))) == {"frame", "hand"}


def test_more_noise_is_worse():
    stats = [compare(*images(3, noise=n), [], Side(luma(images(3, noise=n)[1])))["frame"] for n in (0, 4, 8, 16, 32)]
    mse, l1, ssim = zip(*stats, strict=True)
    assert list(mse) == sorted(mse)
    assert list(l1) == sorted(l1)
    assert list(ssim) == sorted(ssim, reverse=True)
    assert (mse[0], l1[0]) == (0.0, 0.0)
    assert ssim[0] == pytest.approx(1.0, abs=1e-6)


def test_large_frames_are_reduced_as_wang_advises():
    assert luma(np.zeros((720, 1280, 3), np.uint8)).shape == (240, 426)
    assert luma(np.zeros((360, 640, 3), np.uint8)).shape == (360, 640)
    gradient = np.tile(np.arange(0, 252, dtype=np.uint8)[:, None, None].repeat(3, 0), (1, 900, 3))
    reduced = luma(gradient)
    np.testing.assert_allclose(reduced[:, 0], gradient[:, 0, 0].reshape(-1, 3).mean(1), atol=0.51)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 16, 17])
def test_the_reduced_luma_is_the_mean_of_whole_numbers(factor, monkeypatch):
    """To the bit, also where the sum of a box is the largest that two bytes hold, and where they do not."""
    monkeypatch.setattr("ipa_bench.observers.pixels._factor", lambda short: factor)
    rng = np.random.default_rng(factor)
    for image in (
        rng.integers(0, 256, (2 * factor + 1, 3 * factor + 2, 3), dtype=np.uint8),
        np.full((factor, factor, 3), 255, np.uint8),
    ):
        plane = np.asarray(Image.fromarray(image).convert("L"), np.int64)
        height, width = (n - n % factor for n in plane.shape)
        boxes = plane[:height, :width].reshape(height // factor, factor, width // factor, factor)
        expected = (boxes.sum(axis=(1, 3)) / factor**2).astype(np.float32)
        np.testing.assert_array_equal(luma(image), expected)
        np.testing.assert_array_equal(luma(image, Image.fromarray(image)), expected)


def test_the_number_of_threads_changes_nothing():
    """Frames of another size, one beyond the ground truth's end, and more of them than are compared at a time."""
    tracks = made_up(9, fps=10)
    rng = np.random.default_rng(1)
    truth = [rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(9)]
    shown = [*(frame[::2, ::2].copy() for frame in truth[:4]), *(frame // 2 for frame in truth[4:])]
    found = []
    for threads in (1, 2, 3):
        observer = PixelObserver(threads)
        session = observer.start(Truth(tracks.observation, iter(truth)))
        for index, frame in enumerate(shown):
            session.push(frame, 99.0 if index == 6 else index / 10)
        found.append(session.finish())
        observer.close()
    assert np.isnan(found[0]["mse.frame"]).tolist() == [index == 6 for index in range(9)]
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for name, values in other.items():
            np.testing.assert_array_equal(values, found[0][name])


def test_what_is_kept_of_a_ground_truth_changes_nothing():
    tracks = made_up(6, fps=10)
    truth = [images(seed)[1] for seed in range(6)]
    found = []
    for sides in (Sides(0), Sides(), Sides(6 * 3 * 96 * 128 * 4 - 1), (kept := Sides(6 * 3 * 96 * 128 * 4)), kept):
        session = PixelSession(tracks, iter(truth), sides=sides)
        for index in range(6):
            session.push(images(index, noise=9)[0], index / 10)
        found.append(session.finish())
    for other in found[1:]:
        for name, values in other.items():
            np.testing.assert_array_equal(values, found[0][name])
    first = kept.get(tracks, 2, truth[2])
    assert kept.get(tracks, 2, truth[2]) is first  # computed once
    assert kept.get(made_up(6, seed=1), 2, truth[2]) is not first  # another ground truth


def test_a_session_pairs_frames_by_time_and_scales_to_the_ground_truth():
    tracks = made_up(6, fps=10)
    rng = np.random.default_rng(0)
    truth = [rng.integers(0, 255, (480, 640, 3), dtype=np.uint8) for _ in range(6)]
    session = PixelSession(tracks, iter(truth))
    for index in (0, 2, 4):
        session.push(truth[index], index / 10)
    session.push(np.zeros((48, 64, 3), np.uint8), 0.5)
    session.push(truth[5], 99.0)
    stats = session.finish()
    assert stats["mse.frame"][:3].tolist() == [0, 0, 0]
    assert stats["mse.frame"][3] > 1000
    assert np.isnan(stats["mse.frame"][4])


def test_hand_boxes_are_cut_to_the_picture():
    tracks = made_up(3, size=900)
    for box in hand_boxes(tracks, 0, (640, 480)):
        assert 0 <= box.x0 < box.x1 <= 640
        assert 0 <= box.y0 < box.y1 <= 480


def each_measure(by_region):
    """The same values for every measure, as the session names them."""
    return {f"{measure}.{region}": values for measure in MEASURES for region, values in by_region.items()}


def test_metrics_read_the_stats_and_skip_frames_without_hands():
    ones = np.ones(4)
    series = {"frame": 4 * ones, "hand": np.array([np.nan, 1.0, 4.0, np.nan]), "rest": ones}
    tracks = made_up(4)
    pair = pair_hands(tracks, tracks)
    evidence = observed(tracks, pair, pair, pixels=each_measure(series))
    assert find("hand.l1").measure(evidence).value == pytest.approx(2.5 / 255)
    assert find("hand.psnr").measure(evidence).value == pytest.approx(
        np.mean([10 * np.log10(255**2 / m) for m in (1, 4)])
    )
    none = {**series, "hand": np.full(4, np.nan)}
    blind = observed(without(tracks, slice(None)), pair, pair, pixels=each_measure(none))
    assert find("hand.ssim").measure(blind).reason == "the ground truth shows no hand"
    assert find("hand.ssim").measure(observed(tracks)).reason == "the case has no ground truth video"
