"""LPIPS of frames, hands and the rest: exact values, regions against masks, kept features, threads."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from ipa_bench import video
from ipa_bench.observers.base import Truth
from ipa_bench.observers.perceptual import PerceptualObserver, covered, one_thread, region_distances
from ipa_bench.observers.pixels import Box, hand_boxes
from tests.hands import made_up, without
from tests.lpips_nets import drawn, network

SUITE = Path(__file__).parents[2] / "ipa_bench" / "embedded" / "suite"
NAMES = tuple(f"{region}.lpips" for region in ("frame", "hand", "rest"))


@pytest.fixture(scope="module")
def net():
    return drawn()


def observe(net, tracks, images, truth, times=None, **options):
    """The distances by a network."""
    observer = PerceptualObserver(net, **options)
    assert observer.load() is None
    with one_thread():
        session = observer.start(Truth(tracks.observation, iter(truth)))
        for image, time in zip(images, tracks.times if times is None else times, strict=False):
            session.push(image, float(time))
        stats = session.finish()
    observer.close()
    return stats


def footage(frames=5, size=(72, 96), seed=0, noise=20):
    """(generated, truth): smooth pictures and noisy copies, uint8 [T, H, W, 3]."""
    rng = np.random.default_rng(seed)
    truth = gaussian_filter(rng.uniform(0, 255, (frames, *size, 3)), (0, 4, 4, 0))
    truth = np.clip((truth - 127) * 6 + 127, 0, 255)
    other = np.clip(truth + rng.normal(0, noise, truth.shape), 0, 255)
    return other.astype(np.uint8), truth.astype(np.uint8)


def hands_in(size, frames=5, hand=20.0, fps=25.0):
    """Made-up hands that fit into frames of ``size`` (height, width)."""
    tracks = made_up(frames, fps=fps)
    scale = np.array([size[1] / 640, size[0] / 480] * 2, np.float32)
    centre = (tracks.box * scale).reshape(frames, 2, 2, 2).mean(2)
    box = np.concatenate([centre - hand / 2, centre + hand / 2], -1).astype(np.float32)
    return replace(tracks, box=box, size=(size[1], size[0]))


# values


def test_the_frames_value_is_lpips_to_the_bit(net):
    generated, truth = footage()
    stats = observe(network(net), hands_in((72, 96)), generated, truth)
    with torch.inference_mode(), one_thread():
        expected = net.distance(net.features(generated), net.features(truth))
    assert stats["frame"].tolist() == expected.tolist()
    assert (stats["frame"] > 0).all()
    assert observe(network(net), hands_in((72, 96)), truth, truth)["frame"].tolist() == [0.0] * 5


def by_mask(maps, boxes, size):
    """hand and rest: the mask of the boxes brought to each layer's cells by exact area, written out."""
    width, height = size
    mask = np.zeros((height, width))
    for box in boxes:
        mask[box.y0 : box.y1, box.x0 : box.x1] = 1
    hand = rest = 0.0
    for plane in maps:
        rows, columns = plane.shape
        fine = np.repeat(np.repeat(mask, rows, 0), columns, 1)  # every pixel and every cell is a whole number of these
        weight = fine.reshape(rows, height, columns, width).mean((1, 3))
        hand += (weight * plane).sum() / weight.sum() if weight.sum() else 0.0
        rest += ((1 - weight) * plane).sum() / (1 - weight).sum() if (1 - weight).sum() else 0.0
    return hand, rest, mask.mean()


def test_hand_and_rest_are_what_area_weighted_masks_give(net):
    generated, truth = footage()
    tracks = hands_in((72, 96))
    stats = observe(network(net), tracks, generated, truth)
    with torch.inference_mode():
        squares = [(a - b) ** 2 for a, b in zip(net.features(generated), net.features(truth), strict=True)]
        maps = [plane.numpy().astype(np.float64) for plane in net.heads(squares)]
    for index in range(5):
        boxes = hand_boxes(tracks, index, (96, 72))
        assert len(boxes) == 2
        hand, rest, share = by_mask([plane[index] for plane in maps], boxes, (96, 72))
        assert stats["hand"][index] == pytest.approx(hand, rel=1e-6)
        assert stats["rest"][index] == pytest.approx(rest, rel=1e-6)
        assert stats["frame"][index] == pytest.approx(share * hand + (1 - share) * rest, rel=1e-5)


corner = st.tuples(st.integers(0, 39), st.integers(0, 29), st.integers(1, 40), st.integers(1, 30))


@settings(max_examples=12)
@given(st.integers(0, 1000), st.lists(corner, max_size=2), st.lists(st.integers(1, 13), min_size=2, max_size=6))
def test_the_area_weighted_mean_of_hand_and_rest_is_the_frame(seed, corners, cells):
    rng = np.random.default_rng(seed)
    boxes = [Box(x, y, min(x + w, 40), min(y + h, 30)) for x, y, w, h in corners]
    maps = [rng.uniform(0, 1, (rows, columns)) for rows, columns in pairwise(cells)]
    regions = region_distances(maps, boxes, (40, 30))
    hand, rest, share = by_mask(maps, boxes, (40, 30))
    assert set(regions) == {name for name, part in (("hand", share), ("rest", 1 - share)) if part > 0}
    whole = sum(plane.mean() for plane in maps)
    assert share * regions.get("hand", 0) + (1 - share) * regions.get("rest", 0) == pytest.approx(whole)
    for name, expected in (("hand", hand), ("rest", rest)):
        assert regions.get(name, 0.0) == pytest.approx(expected, abs=1e-9)


def test_cells_count_by_their_area():
    # pixels 3 to 7 of 10 on four cells of 2.5: nothing, 2 of 2.5, 2 of 2.5, nothing
    np.testing.assert_allclose(covered(3, 7, 10, 4), [0, 0.8, 0.8, 0])
    plane = np.array([[1.0, 2.0], [3.0, 4.0]])
    # a box over three of four columns: the left cells whole, half of the right ones
    regions = region_distances([plane], [Box(0, 0, 3, 2)], (4, 2))
    assert regions["hand"] == pytest.approx((1 + 3 + 0.5 * (2 + 4)) / 3)
    assert regions["rest"] == pytest.approx(3.0)


def test_what_is_done_to_the_hands_is_seen_there_and_more_of_it_more(net):
    _, truth = footage(size=(128, 128), frames=3)
    tracks = hands_in((128, 128), frames=3, hand=40)
    series = []
    for sigma in (0.0, 0.7, 1.5, 3.0, 6.0):
        images = truth.copy()
        for index, image in enumerate(images):
            for box in hand_boxes(tracks, index, (128, 128)):
                part = image[box.y0 : box.y1, box.x0 : box.x1]
                part[:] = gaussian_filter(part, (sigma, sigma, 0)) if sigma else part
        found = observe(network(net), tracks, images, truth)
        series.append([found[region].mean() for region in ("hand", "frame", "rest")])
    hand, frame, rest = zip(*series, strict=True)
    assert (hand[0], frame[0], rest[0]) == (0.0, 0.0, 0.0)
    assert list(hand) == sorted(set(hand))
    assert list(frame) == sorted(set(frame))
    assert all(h > 1.5 * f and f > 1.2 * r for h, f, r in zip(hand[1:], frame[1:], rest[1:], strict=True))


def test_frames_are_bytes_and_nothing_else(net):
    generated, truth = footage()
    tracks = hands_in((72, 96))
    for wrong in (generated / np.float32(255), generated.astype(np.float32)):
        with pytest.raises(ValueError, match="LPIPS takes uint8"):
            observe(network(net), tracks, wrong, truth)
    right = observe(network(net), tracks, generated, truth)["frame"]
    with torch.inference_mode():
        floats = [torch.tensor(images).permute(0, 3, 1, 2) / 127.5 - 1 for images in (generated, truth)]
        expected = net.distance(*(net.features_of_floats(images) for images in floats))
        in_0_1 = net.distance(*(net.features_of_floats((images + 1) / 2) for images in floats))
    np.testing.assert_allclose(right, expected, rtol=1e-5)
    assert (np.abs(right / in_0_1.numpy() - 1) > 0.2).all()  # what the usual mistake would have given


def test_frames_are_paired_by_time_and_stretched(net):
    generated, truth = footage(frames=6)
    tracks = hands_in((72, 96), frames=6, fps=10)
    small = np.stack([video.resize(image, (48, 36)) for image in generated])
    times = [0.0, 0.2, 0.21, 0.4, 99.0]
    stats = observe(network(net), tracks, small[[0, 2, 2, 4, 5]], truth, times)
    with torch.inference_mode():
        stretched = np.stack([video.resize(image, (96, 72), "stretch") for image in small[[0, 2, 2, 4]]])
        expected = net.distance(net.features(stretched), net.features(truth[[0, 2, 2, 4]]))
    np.testing.assert_allclose(stats["frame"][:4], expected, rtol=1e-5)
    assert all(np.isnan(values[4]) for values in stats.values())
    none = observe(network(net), without(tracks, slice(None)), generated, truth)
    assert np.isnan(none["hand"]).all()
    np.testing.assert_allclose(none["rest"], none["frame"], rtol=1e-6)


def test_a_network_may_see_large_frames_reduced(net):
    generated, truth = footage(size=(128, 160), noise=60)
    reduced = [
        np.floor(images.reshape(5, 64, 2, 80, 2, 3).mean((2, 4)) + 0.5).astype(np.uint8)
        for images in (generated, truth)
    ]
    tracks = hands_in((128, 160))
    one = observe(network(net, short_side=64), tracks, generated, truth)
    halved = replace(tracks, box=tracks.box / 2, size=(80, 64))
    other = observe(network(net), halved, *reduced)
    np.testing.assert_allclose(one["frame"], other["frame"], rtol=1e-4)
    np.testing.assert_allclose(one["hand"], other["hand"], rtol=0.1)  # boxes end on whole pixels of each
    as_it_is = observe(network(net, short_side=128), tracks, generated, truth)
    np.testing.assert_array_equal(as_it_is["frame"], observe(network(net), tracks, generated, truth)["frame"])


# keeping


def test_features_of_the_ground_truth_are_made_once_for_all_models():
    generated, truth = footage(frames=20)
    tracks = hands_in((72, 96), frames=20)
    counting = drawn()
    each = [observe(network(counting), tracks, images, truth)["hand"] for images in (generated, truth)]
    assert counting.passed == 80
    for kept_bytes, passed in ((2**30, 60), (2**20, 80)):
        counting.passed = 0
        observer = PerceptualObserver(network(counting), kept_bytes=kept_bytes)
        observer.load()
        for images, expected in zip((generated, truth), each, strict=True):
            with one_thread():
                session = observer.start(Truth(tracks.observation, iter(truth)))
                for image, time in zip(images, tracks.times, strict=True):
                    session.push(image, float(time))
                np.testing.assert_array_equal(session.finish()["hand"], expected)
        assert counting.passed == passed


def test_threads_change_no_value_and_torch_gets_its_own_back(net):
    generated, truth = footage(frames=30)
    tracks = hands_in((72, 96), frames=30)
    one, three = (observe(network(net), tracks, generated, truth, threads=n) for n in (1, 3))
    for region in one:
        np.testing.assert_array_equal(one[region], three[region])
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
