"""LPIPS of clips: published files, the cache, what is missing, and what is not computed."""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from ipa_bench import video, weights
from ipa_bench.cache import Cache
from ipa_bench.metrics import METRICS, find
from ipa_bench.metrics.pairing import pair_hands
from ipa_bench.nets.checkpoint import random_weights
from ipa_bench.nets.lpips import Heads, Lpips, Trunk
from ipa_bench.observers.looker import Looker
from ipa_bench.observers.networks import PUBLISHED
from ipa_bench.observers.table import OBSERVERS
from ipa_bench.scorer import Scorer
from ipa_bench.types import Case, Video
from tests.hands import made_up, observed
from tests.lpips_nets import by_networks, drawn, network

SUITE = Path(__file__).parents[2] / "ipa_bench" / "embedded" / "suite"
NAMES = tuple(f"{region}.lpips" for region in ("frame", "hand", "rest"))


@pytest.fixture(scope="module")
def net():
    return drawn()


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Six frames of a case of the built-in suite, and what a model made of them: a stored copy with smeared hands."""
    source, folder = SUITE / "driving" / "test000__take0.mp4", tmp_path_factory.mktemp("made")
    frames = np.stack([f.image for f in video.read_frames(source)][:6])
    clip, made = folder / "driving.mp4", folder / "test000__take0.mp4"
    video.encode(list(frames), clip, video.probe(source).fps, crf=8)
    smeared = gaussian_filter(frames.astype(float), (0, 1, 1, 0)).astype(np.uint8)
    video.encode(list(smeared), made, video.probe(source).fps, crf=20)
    return Case("wave", clip, clip), made


@pytest.fixture(scope="module")
def hands_seen(case, tmp_path_factory):
    """A cache that knows the hands of both clips and nothing else."""
    folder = tmp_path_factory.mktemp("hands")
    for clip in (case[0].driving, case[1]):
        Looker(Cache(folder)).hands(clip)
    return folder


@pytest.fixture
def cache(hands_seen, tmp_path):
    """A copy of it."""
    return Cache(shutil.copytree(hands_seen, tmp_path / "cache"))


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
    for room in (weights, weights.obtain):
        monkeypatch.setattr(room, "WEIGHTS", tuple(table))
    return folder


def test_published_files_are_read_and_scored(case, published, cache):
    (wave, made), looker = case, Looker(cache)
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


def test_the_shipped_network_needs_nothing_and_scores(case, cache):
    (wave, made), looker = case, Looker(cache)
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
    first = Looker(Cache(tmp_path)).look(clips[0], ["lpips"], clips[1])
    # The same content by name, but nothing to see in it, and weights that are gone.
    for weight in weights.WEIGHTS:
        (published / weight.file).unlink(missing_ok=True)
    blind = [Video(np.zeros_like(clip.frames), clip.fps, clip.sha256) for clip in clips]
    second = Looker(Cache(tmp_path)).look(blind[0], ["lpips"], blind[1])
    assert second.reasons == {}
    for region, values in first.observations["lpips"].values.items():
        assert np.isfinite(values).all()
        np.testing.assert_array_equal(second.observations["lpips"][region], values)


def test_only_what_is_new_is_computed_and_other_weights_are_other_distances(case, cache):
    wave, made = case
    one, other = drawn(1), drawn(2)
    looker = Looker(cache, observers=by_networks(network(one, sha256="1" * 64)))
    first = looker.look(made, ["pixels"], wave.driving).observations
    assert (one.passed, set(first)) == (0, {"hands", "pixels"})
    assert not looker.knows(made, wave.driving)
    second = looker.look(made, ["pixels", "lpips"], wave.driving).observations
    assert one.passed == 2 * len(first["hands"]["times"])
    assert looker.knows(made, wave.driving)
    np.testing.assert_array_equal(first["pixels"]["mse.frame"], second["pixels"]["mse.frame"])
    looker = Looker(cache, observers=by_networks(network(other, sha256="2" * 64)))
    assert not looker.knows(made, wave.driving)
    third = looker.look(made, ["lpips"], wave.driving).observations
    assert other.passed == one.passed
    assert (third["lpips"]["frame"] != second["lpips"]["frame"]).all()


def test_in_one_pass_or_in_two_the_numbers_are_the_same(case, net, tmp_path):
    wave, made = case
    observers = by_networks(network(net), network(net, "lpips.embedded"))
    at_once = Looker(Cache(tmp_path / "a"), observers=observers).look(made, ["pixels", "lpips"], wave.driving)
    looker = Looker(Cache(tmp_path / "b"), observers=observers)
    looker.hands(made)
    looker.look(made, ["pixels"], wave.driving)
    later = looker.look(made, ["pixels", "lpips", "lpips.embedded"], wave.driving).observations
    for region in ("frame", "hand", "rest"):
        values = at_once.observations["lpips"][region]
        np.testing.assert_array_equal(values, later["lpips"][region])
        np.testing.assert_array_equal(values, later["lpips.embedded"][region])


# what is missing


def test_missing_weights_are_the_command_that_fetches_them(case, tmp_path, cache_folder, monkeypatch):
    monkeypatch.setenv("IPA_BENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("IPA_BENCH_CACHE", str(cache_folder))  # has the models of hands and bodies, and no others
    (wave, made), looker = case, Looker(Cache(tmp_path / "observations"), observers=by_networks(PUBLISHED))
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
from ipa_bench.observers.looker import Looker
from ipa_bench.scorer import Scorer
from ipa_bench.types import Case
clip, made, cache = map(Path, sys.argv[1:4])
for asked in sys.argv[4:]:
    scorer = Scorer(Looker(Cache(cache)), metrics=[asked])
    print(scorer.score(made, Case("wave", clip, clip))[asked].reason, "torch" in sys.modules)
"""


def test_torch_is_not_imported_for_missing_or_unwanted_distances(case, tmp_path, cache, cache_folder):
    wave, made = case
    environment = {**os.environ, "IPA_BENCH_WEIGHTS": str(tmp_path), "IPA_BENCH_CACHE": str(cache_folder)}
    arguments = [wave.driving, made, cache.folder, "frame.lpips", "frame.psnr"]
    run = subprocess.run(
        [sys.executable, "-c", CODE, *map(str, arguments)], capture_output=True, text=True, env=environment
    )
    assert run.returncode == 0, run.stderr
    missing, unwanted = run.stdout.splitlines()
    assert "alexnet is missing" in missing
    assert missing.endswith(" False")
    assert unwanted == "None False"


def test_frames_that_are_too_small_are_a_reason_of_that_metric_alone(case, net, tmp_path):
    frames = np.stack([video.resize(f.image, (24, 24)) for f in video.read_frames(case[0].driving)])
    tiny = video.video_from_frames(frames, 8)
    found = Looker(Cache(tmp_path), observers=by_networks(network(net))).look(tiny, ["pixels", "lpips"], tiny)
    assert found.reasons == {"lpips": "LPIPS (alex) needs images of 31 x 31 pixels or more, got 24 x 24"}
    assert found.observations["pixels"]["mse.frame"].tolist() == [0.0] * len(frames)


def test_the_metrics_read_the_distances_or_say_why_not():
    tracks = made_up(4)
    pair = pair_hands(tracks, tracks)
    ones = np.ones(4)
    series = {"frame": 0.5 * ones, "hand": np.array([np.nan, 0.1, 0.3, np.nan]), "rest": ones}
    evidence = observed(tracks, pair, pair, {"lpips.embedded": "gone"}, lpips=series)
    assert find("hand.lpips").measure(evidence).value == pytest.approx(0.2)
    assert find("frame.lpips").measure(evidence).series.tolist() == [0.5] * 4
    assert find("frame.lpips.embedded").measure(evidence).reason == "gone"
    assert find("rest.lpips").measure(observed(tracks)).reason == "the case has no ground truth video"
    none = {**series, "hand": np.full(4, np.nan)}
    assert find("hand.lpips").measure(observed(tracks, lpips=none)).reason == "the ground truth shows no hand"
    # pose tracks are made of what these two see: no metric reads them
    assert {each.name for each in OBSERVERS} - {"body", "people"} == {
        name for metric in METRICS for name in metric.reads
    }


def test_without_a_ground_truth_or_with_pixels_left_out_nothing_is_computed(case, cache):
    wave, made = case
    untouched = drawn()
    looker = Looker(cache, observers=by_networks(network(untouched), network(untouched, "lpips.embedded")))
    cross = Scorer(looker).score(made, replace(wave, ground_truth=None))
    assert cross["hand.lpips"].reason == "the case has no ground truth video"
    left_out = Scorer(looker, pixels=False).score(made, wave)
    assert left_out["rest.lpips"].reason == left_out["rest.psnr"].reason == "pixels were not compared"
    assert Scorer(looker, metrics=["frame.psnr"]).score(made, wave).evidence.seen.keys() == {"hands", "pixels"}
    assert untouched.passed == 0
