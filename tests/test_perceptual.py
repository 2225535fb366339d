"""LPIPS of frames, hands and the rest: exact values, regions against masks, kept features, and what is missing."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from ipa_bench import video, weights
from ipa_bench.cache import Cache
from ipa_bench.metrics import find
from ipa_bench.metrics.align import pair_hands
from ipa_bench.metrics.base import Evidence
from ipa_bench.nets.checkpoint import random_weights
from ipa_bench.nets.fold import prepare
from ipa_bench.nets.lpips import Heads, Lpips, Trunk
from ipa_bench.observers.look import Looker
from ipa_bench.observers.perceptual import PerceptualObserver, covered, one_thread, region_distances
from ipa_bench.observers.perceptual_nets import NETWORKS, Network
from ipa_bench.observers.pixels import Box, hand_boxes
from ipa_bench.scorer import Scorer
from ipa_bench.types import Case, PerceptualStats, Video
from tests.hands import made_up, without

SUITE = Path(__file__).parents[1] / "ipa_bench" / "embedded" / "suite"
NAMES = tuple(f"{region}.lpips" for region in ("frame", "hand", "rest"))


class Counting(Lpips):
    """AlexNet that counts the images that pass through it."""

    passed = 0

    def features(self, images):
        self.passed += len(images)
        return super().features(images)


def drawn(seed=3):
    net = Counting("alex")
    random_weights(net, seed)
    return prepare(net)


@pytest.fixture(scope="module")
def net():
    return drawn()


def network(net, name="lpips", sha256="0" * 64, short_side=None):
    """A network that is here already."""
    return Network(name, list, lambda: sha256, lambda _: net, short_side)


def observe(networks, tracks, images, truth, times=None, **options):
    """The distances by the first network."""
    observer = PerceptualObserver(networks=networks, **options)
    name = networks[0].name
    assert observer.load(name) is None
    with one_thread():
        session = observer.start(name, tracks, iter(truth))
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
    stats = observe([network(net)], hands_in((72, 96)), generated, truth)
    with torch.inference_mode(), one_thread():
        expected = net.distance(net.features(generated), net.features(truth))
    assert stats.lpips["frame"].tolist() == expected.tolist()
    assert (stats.lpips["frame"] > 0).all()
    assert observe([network(net)], hands_in((72, 96)), truth, truth).lpips["frame"].tolist() == [0.0] * 5


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
    stats = observe([network(net)], tracks, generated, truth)
    with torch.inference_mode():
        squares = [(a - b) ** 2 for a, b in zip(net.features(generated), net.features(truth), strict=True)]
        maps = [plane.numpy().astype(np.float64) for plane in net.heads(squares)]
    for index in range(5):
        boxes = hand_boxes(tracks, index, (96, 72))
        assert len(boxes) == 2
        hand, rest, share = by_mask([plane[index] for plane in maps], boxes, (96, 72))
        assert stats.lpips["hand"][index] == pytest.approx(hand, rel=1e-6)
        assert stats.lpips["rest"][index] == pytest.approx(rest, rel=1e-6)
        assert stats.lpips["frame"][index] == pytest.approx(share * hand + (1 - share) * rest, rel=1e-5)


corner = st.tuples(st.integers(0, 39), st.integers(0, 29), st.integers(1, 40), st.integers(1, 30))


@settings(max_examples=40)
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
        found = observe([network(net)], tracks, images, truth).lpips
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
            observe([network(net)], tracks, wrong, truth)
    right = observe([network(net)], tracks, generated, truth).lpips["frame"]
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
    stats = observe([network(net)], tracks, small[[0, 2, 2, 4, 5]], truth, times)
    with torch.inference_mode():
        stretched = np.stack([video.resize(image, (96, 72), "stretch") for image in small[[0, 2, 2, 4]]])
        expected = net.distance(net.features(stretched), net.features(truth[[0, 2, 2, 4]]))
    np.testing.assert_allclose(stats.lpips["frame"][:4], expected, rtol=1e-5)
    assert all(np.isnan(values[4]) for values in stats.lpips.values())
    none = observe([network(net)], without(tracks, slice(None)), generated, truth).lpips
    assert np.isnan(none["hand"]).all()
    np.testing.assert_allclose(none["rest"], none["frame"], rtol=1e-6)


def test_a_network_may_see_large_frames_reduced(net):
    generated, truth = footage(size=(128, 160), noise=60)
    reduced = [
        np.floor(images.reshape(5, 64, 2, 80, 2, 3).mean((2, 4)) + 0.5).astype(np.uint8)
        for images in (generated, truth)
    ]
    tracks = hands_in((128, 160))
    one = observe([network(net, short_side=64)], tracks, generated, truth)
    halved = replace(tracks, box=tracks.box / 2, size=(80, 64))
    other = observe([network(net)], halved, *reduced)
    np.testing.assert_allclose(one.lpips["frame"], other.lpips["frame"], rtol=1e-4)
    np.testing.assert_allclose(one.lpips["hand"], other.lpips["hand"], rtol=0.1)  # boxes end on whole pixels of each
    as_it_is = observe([network(net, short_side=128)], tracks, generated, truth)
    np.testing.assert_array_equal(
        as_it_is.lpips["frame"], observe([network(net)], tracks, generated, truth).lpips["frame"]
    )


# keeping


def test_features_of_the_ground_truth_are_made_once_for_all_models():
    generated, truth = footage(frames=20)
    tracks = hands_in((72, 96), frames=20)
    counting = drawn()
    each = [observe([network(counting)], tracks, images, truth).lpips["hand"] for images in (generated, truth)]
    assert counting.passed == 80
    for kept_bytes, passed in ((2**30, 60), (2**20, 80)):
        counting.passed = 0
        observer = PerceptualObserver(networks=[network(counting)], kept_bytes=kept_bytes)
        observer.load("lpips")
        for images, expected in zip((generated, truth), each, strict=True):
            with one_thread():
                session = observer.start("lpips", tracks, iter(truth))
                for image, time in zip(images, tracks.times, strict=True):
                    session.push(image, float(time))
                np.testing.assert_array_equal(session.finish().lpips["hand"], expected)
        assert counting.passed == passed


def test_threads_change_no_value_and_torch_gets_its_own_back(net):
    generated, truth = footage(frames=30)
    tracks = hands_in((72, 96), frames=30)
    one, three = (observe([network(net)], tracks, generated, truth, threads=n).lpips for n in (1, 3))
    for region in one:
        np.testing.assert_array_equal(one[region], three[region])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# on clips


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A case of the built-in suite, and what a model made of it: a stored copy with smeared hands."""
    clip = SUITE / "driving" / "test000__take0.mp4"
    frames = np.stack([f.image for f in video.read_frames(clip)]).astype(float)
    made = tmp_path_factory.mktemp("made") / "test000__take0.mp4"
    video.encode(list(gaussian_filter(frames, (0, 1, 1, 0)).astype(np.uint8)), made, video.probe(clip).fps, crf=20)
    return Case("wave", clip, clip), made


@pytest.fixture
def published(tmp_path_factory, monkeypatch):
    """Random weights in files named as the published ones are, and a table that knows their hashes; the folder."""
    folder = tmp_path_factory.mktemp("weights")
    monkeypatch.setenv("IPA_BENCH_WEIGHTS", str(folder))
    table = []
    for weight in weights.WEIGHTS:
        module = {"alexnet": Trunk("alex"), "lpips_alex": Heads("alex")}.get(weight.name)
        if module is not None:
            random_weights(module, 3)
            torch.save(module.state_dict(), folder / weight.file)
            weight = replace(weight, sha256=hashlib.sha256((folder / weight.file).read_bytes()).hexdigest())
        table.append(weight)
    monkeypatch.setattr(weights, "WEIGHTS", tuple(table))
    return folder


def test_published_files_are_read_and_scored(case, published, tmp_path):
    (wave, made), looker = case, Looker(Cache(tmp_path))
    scores = Scorer(looker, metrics=[*NAMES, "hand.seen"]).score(made, wave)
    net = Lpips("alex")
    random_weights(net.trunk, 3)
    random_weights(net.heads, 3)
    frames = [np.stack([f.image for f in video.read_frames(path)]) for path in (made, wave.ground_truth)]
    with torch.inference_mode():
        expected = net.eval().distance(*(net.features(images) for images in frames))
    assert scores["frame.lpips"].value == pytest.approx(float(expected.mean()), rel=1e-5)
    np.testing.assert_allclose(scores["frame.lpips"].series, expected, rtol=1e-5)
    assert scores["hand.lpips"].value > 0
    assert scores["rest.lpips"].value > 0
    assert scores.evidence.pixels is None  # nobody asked for them
    assert Scorer(looker, metrics=NAMES).score(wave.driving, wave)["hand.lpips"].value == 0.0


def test_the_shipped_network_needs_nothing_and_scores(case, tmp_path):
    (wave, made), looker = case, Looker(Cache(tmp_path))
    scorer = Scorer(looker, metrics=[f"{region}.lpips.embedded" for region in ("frame", "hand", "rest")])
    blurred = scorer.score(made, wave).measured
    frames = [f.image for f in video.read_frames(wave.driving)]
    worse = np.stack([gaussian_filter(image, (3, 3, 0)) for image in frames])
    blurrier = scorer.score(video.video_from_frames(worse, video.probe(wave.driving).fps), wave).measured
    for metric, measured in scorer.score(wave.driving, wave).measured.items():
        assert measured.value == 0.0
        assert 0 < blurred[metric].value < blurrier[metric].value


def test_a_hit_in_the_cache_looks_at_nothing(case, published, tmp_path):
    wave, made = case
    clips = [video.load(path) for path in (made, wave.driving)]
    first = Looker(Cache(tmp_path)).compare(*clips, networks=["lpips"])
    # The same content by name, but nothing to see in it, and weights that are gone.
    for weight in weights.WEIGHTS:
        (published / weight.file).unlink(missing_ok=True)
    blind = [Video(np.zeros_like(clip.frames), clip.fps, clip.sha256) for clip in clips]
    second = Looker(Cache(tmp_path)).compare(*blind, networks=["lpips"])
    assert second.reasons == {}
    for region, values in first.perceptual["lpips"].lpips.items():
        assert np.isfinite(values).all()
        np.testing.assert_array_equal(second.perceptual["lpips"].lpips[region], values)


def test_only_what_is_new_is_computed_and_other_weights_are_other_distances(case, tmp_path):
    wave, made = case
    cache = Cache(tmp_path)
    one, other = drawn(1), drawn(2)
    looker = Looker(cache, networks=[network(one, sha256="1" * 64)])
    first = looker.compare(made, wave.driving)  # pixels alone
    assert (one.passed, first.perceptual) == (0, {})
    assert not looker.knows(made, wave.driving)
    second = looker.compare(made, wave.driving, networks=["lpips"])
    assert one.passed == 2 * len(first.hands.times)
    assert looker.knows(made, wave.driving)
    np.testing.assert_array_equal(first.pixels.mse["frame"], second.pixels.mse["frame"])
    looker = Looker(cache, networks=[network(other, sha256="2" * 64)])
    assert not looker.knows(made, wave.driving)
    third = looker.compare(made, wave.driving, networks=["lpips"])
    assert other.passed == one.passed
    assert (third.perceptual["lpips"].lpips["frame"] != second.perceptual["lpips"].lpips["frame"]).all()


def test_in_one_pass_or_in_two_the_numbers_are_the_same(case, net, tmp_path):
    wave, made = case
    networks = [network(net), network(net, "lpips.embedded")]
    at_once = Looker(Cache(tmp_path / "a"), networks=networks).compare(made, wave.driving, networks=["lpips"])
    looker = Looker(Cache(tmp_path / "b"), networks=networks)
    looker.hands(made)
    looker.compare(made, wave.driving)
    later = looker.compare(made, wave.driving, networks=["lpips", "lpips.embedded"])
    for region in ("frame", "hand", "rest"):
        values = at_once.perceptual["lpips"].lpips[region]
        np.testing.assert_array_equal(values, later.perceptual["lpips"].lpips[region])
        np.testing.assert_array_equal(values, later.perceptual["lpips.embedded"].lpips[region])


# what is missing


def test_missing_weights_are_the_command_that_fetches_them(case, tmp_path, cache_folder, monkeypatch):
    monkeypatch.setenv("IPA_BENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("IPA_BENCH_CACHE", str(cache_folder))  # has the models of hands and bodies, and no others
    (wave, made), looker = case, Looker(Cache(tmp_path / "observations"), networks=NETWORKS[:1])
    scores = Scorer(looker, metrics=[*NAMES, "frame.psnr"]).score(made, wave)
    for name in NAMES:
        assert scores[name].value is None
        assert scores[name].reason == "alexnet is missing; run `ipa-bench weights fetch alexnet` (244 MB)"
    assert scores["frame.psnr"].value > 20
    assert looker.knows(made, wave.driving)


CODE = """
import sys
from pathlib import Path
from ipa_bench.cache import Cache
from ipa_bench.observers.look import Looker
from ipa_bench.scorer import Scorer
from ipa_bench.types import Case
clip, made, cache = map(Path, sys.argv[1:4])
scorer = Scorer(Looker(Cache(cache)), metrics=sys.argv[4:])
print(scorer.score(made, Case("wave", clip, clip))[sys.argv[4]], "torch" in sys.modules)
"""


@pytest.mark.parametrize("asked", [["frame.lpips"], ["frame.psnr"]])
def test_torch_is_not_imported_for_missing_or_unwanted_distances(case, asked, tmp_path, cache_folder):
    wave, made = case
    environment = {**os.environ, "IPA_BENCH_WEIGHTS": str(tmp_path), "IPA_BENCH_CACHE": str(cache_folder)}
    arguments = [wave.driving, made, tmp_path / "observations", *asked]
    run = subprocess.run(
        [sys.executable, "-c", CODE, *map(str, arguments)], capture_output=True, text=True, env=environment
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.endswith("False\n")
    assert ("alexnet is missing" in run.stdout) == (asked == ["frame.lpips"])


def test_frames_that_are_too_small_are_a_reason_of_that_metric_alone(case, net, tmp_path):
    frames = np.stack([video.resize(f.image, (24, 24)) for f in video.read_frames(case[0].driving)])
    tiny = video.video_from_frames(frames, 8)
    found = Looker(Cache(tmp_path), networks=[network(net)]).compare(tiny, tiny, networks=["lpips"])
    assert found.reasons == {"lpips": "LPIPS (alex) needs images of 31 x 31 pixels or more, got 24 x 24"}
    assert found.pixels.mse["frame"].tolist() == [0.0] * len(frames)


def test_the_metrics_read_the_distances_or_say_why_not():
    tracks = made_up(4)
    pair = pair_hands(tracks, tracks)
    ones = np.ones(4)
    series = {"frame": 0.5 * ones, "hand": np.array([np.nan, 0.1, 0.3, np.nan]), "rest": ones}
    evidence = Evidence(
        tracks, pair, pair, perceptual={"lpips": PerceptualStats(series)}, no_perceptual={"lpips.embedded": "gone"}
    )
    assert find("hand.lpips").measure(evidence).value == pytest.approx(0.2)
    assert find("frame.lpips").measure(evidence).series.tolist() == [0.5] * 4
    assert find("frame.lpips.embedded").measure(evidence).reason == "gone"
    assert find("rest.lpips").measure(Evidence(tracks)).reason == "the case has no ground truth video"
    none = PerceptualStats({**series, "hand": np.full(4, np.nan)})
    assert (
        find("hand.lpips").measure(Evidence(tracks, perceptual={"lpips": none})).reason
        == "the ground truth shows no hand"
    )
    assert {n.name for n in NETWORKS} == {m.network for m in Scorer().metrics if m.network}


def test_without_a_ground_truth_or_with_pixels_left_out_nothing_is_computed(case, tmp_path):
    wave, made = case
    untouched = drawn()
    looker = Looker(Cache(tmp_path), networks=[network(untouched), network(untouched, "lpips.embedded")])
    cross = Scorer(looker).score(made, replace(wave, ground_truth=None))
    assert cross["hand.lpips"].reason == "the case has no ground truth video"
    left_out = Scorer(looker, pixels=False).score(made, wave)
    assert left_out["rest.lpips"].reason == left_out["rest.psnr"].reason == "pixels were not compared"
    assert Scorer(looker, metrics=["frame.psnr"]).score(made, wave).evidence.perceptual == {}
    assert untouched.passed == 0
