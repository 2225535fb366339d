"""Extraction against a loop that does one thing after the other; what it costs, keeps, skips and survives."""

import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ipa_bench import video
from ipa_bench.cache import Cache
from ipa_bench.errors import UserError
from ipa_bench.observers.features import POLICIES, FeatureDefinition, TorchBackbone, extract
from ipa_bench.observers.features.extract import KIND, _in_background
from tests.clips import write
from tests.observers.features.small import DIMENSION, clip, small

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def backbone():
    return small()


@pytest.fixture(scope="module")
def definition(backbone):
    return FeatureDefinition.of(backbone, policy="styleganv", length=8, stride=5)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Four clips of 8, 20, 13 and 33 frames: 1, 3, 2 and 6 windows of 8 frames every 5."""
    folder = tmp_path_factory.mktemp("clips")
    return [clip(folder / f"c{index}.mp4", frames, index) for index, frames in enumerate((8, 20, 13, 33))]


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture(autouse=True)
def no_thread_stays():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def _reference(paths, definition, backbone):
    """Each clip in memory, each window by itself, in the network's plain layout."""
    rows, owner, start = [], [], []
    for index, path in enumerate(paths):
        frames = video.load(path).frames
        for first in range(0, len(frames) - definition.length + 1, definition.stride):
            window = POLICIES[definition.policy](frames[first : first + definition.length], backbone.size)
            with torch.no_grad():
                rows.append(backbone.net(torch.from_numpy(window[None])).numpy()[0])
            owner.append(index)
            start.append(first)
    return np.stack(rows), owner, start


def _entries(cache):
    return list(cache.folder.rglob("*.npz"))


# ---------------------------------------------------------------------------------------------------------------------
# values


@pytest.mark.parametrize("policy", POLICIES)
def test_features_are_those_of_a_plain_loop(clips, backbone, policy):
    definition = FeatureDefinition.of(backbone, policy=policy, length=8, stride=5)
    found = extract(clips, definition, backbone, None)
    values, owner, start = _reference(clips, definition, backbone)
    assert found.values.dtype == np.float32
    assert np.abs(found.values - values).max() < 1e-5
    assert np.ptp(values, axis=0).min() > 1e-3  # windows can be told apart
    assert found.owner.tolist() == owner == [0, 1, 1, 1, 2, 2, 3, 3, 3, 3, 3, 3]
    assert found.start.tolist() == start == [0, 0, 5, 10, 0, 5, 0, 5, 10, 15, 20, 25]
    assert (found.decoded, found.passed, found.skipped) == (4, 12, ())
    assert found.definition == definition
    assert found.paths == tuple(clips)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_the_batch_does_not_change_values(clips, backbone, definition, batch):
    one, other = extract(clips, definition, backbone, None), extract(clips, definition, backbone, None, batch)
    assert np.abs(one.values - other.values).max() < 1e-5
    assert one.owner.tolist() == other.owner.tolist()


def test_order_follows_the_paths(clips, backbone, definition):
    forward, backward = (extract(paths, definition, backbone, None) for paths in (clips, clips[::-1]))
    for index in range(4):
        ours, theirs = forward.values[forward.owner == index], backward.values[backward.owner == 3 - index]
        assert np.abs(ours - theirs).max() < 1e-5


def test_segments_are_a_videos_mean(clips, tmp_path):
    """DisCo's FID-VID: the last segment repeats the last frame, and every video is one row."""
    backbone = small(scale="kinetics-mean")
    definition = FeatureDefinition.of(backbone, policy="disco", length=8, stride=8, aggregation="segments")
    short = clip(tmp_path / "short.mp4", 3, 9)
    found = extract([clips[2], short], definition, backbone, None)
    assert found.owner.tolist() == [0, 1]
    assert found.start.tolist() == [0, 0]
    for row, path, count in zip(found.values, (clips[2], short), (2, 1), strict=True):
        frames = video.load(path).frames
        filled = np.concatenate([frames, np.repeat(frames[-1:], 8 * count - len(frames), axis=0)])
        segments = [POLICIES["disco-legacy"](filled[8 * k : 8 * k + 8], 32, "kinetics-mean") for k in range(count)]
        with torch.no_grad():
            expected = backbone.net(torch.from_numpy(np.stack(segments))).numpy().mean(axis=0)
        assert row == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_bfloat16_is_another_definition(clips, backbone, definition, cache):
    exact = extract(clips, definition, backbone, cache)
    net = small().net.to(torch.bfloat16)
    fast = replace(backbone, net=net, dtype="bf16")
    found = extract(clips, replace(definition, dtype="bf16"), fast, cache)
    assert found.decoded == 4
    difference = np.abs(found.values - exact.values).max()
    assert 0 < difference < 0.05
    with pytest.raises(UserError, match="precision: fp32, bf16"):
        extract(clips, definition, fast, cache)


# ---------------------------------------------------------------------------------------------------------------------
# what it costs


def test_a_rerun_costs_no_decode_and_no_pass(clips, backbone, definition, cache):
    cold = extract(clips, definition, backbone, cache)
    warm = extract(clips, definition, backbone, cache)
    assert (warm.decoded, warm.passed) == (0, 0)
    assert np.array_equal(warm.values, cold.values)
    assert warm.owner.tolist() == cold.owner.tolist()
    assert warm.start.tolist() == cold.start.tolist()


def test_what_is_kept_is_known_by_content_not_by_name(clips, backbone, definition, cache, tmp_path):
    cold = extract(clips[1:2], definition, backbone, cache)
    # as a .png it would not decode: that it has features shows that nothing was decoded
    renamed = Path(shutil.copy(clips[1], tmp_path / "renamed.png"))
    found = extract([renamed], definition, backbone, cache)
    assert np.array_equal(found.values, cold.values)
    assert extract([renamed], definition, backbone, None).skipped[0].reason.startswith("renamed.png: ")


def test_two_models_and_a_reference_cost_three_passes(clips, backbone, definition, cache, tmp_path):
    models = [
        [clip(tmp_path / name / p.name, 20, seed + k) for k, p in enumerate(clips)]
        for name, seed in (("a", 50), ("b", 70))
    ]
    decoded = passed = 0
    for model in models:
        for paths in (clips, model):
            found = extract(paths, definition, backbone, cache)
            decoded, passed = decoded + found.decoded, passed + found.passed
    assert decoded == 3 * 4
    assert passed == 12 + 2 * 4 * 3


def test_the_same_bytes_are_decoded_once(clips, backbone, definition, tmp_path):
    copy = Path(shutil.copy(clips[1], tmp_path / "copy.mp4"))
    found = extract([clips[1], clips[0], copy, clips[1]], definition, backbone, None)
    assert (found.decoded, found.passed) == (2, 4)
    assert found.owner.tolist() == [0, 0, 0, 1, 2, 2, 2, 3, 3, 3]
    assert np.array_equal(found.values[:3], found.values[4:7])
    assert np.array_equal(found.values[:3], found.values[7:])


def test_another_definition_shares_nothing(clips, backbone, definition, cache):
    extract(clips[:1], definition, backbone, cache)
    for other in (replace(definition, policy="tf"), replace(definition, stride=4), replace(definition, length=7)):
        assert extract(clips[:1], other, backbone, cache).decoded == 1
    another = small(seed=1)
    assert extract(clips[:1], replace(definition, weights=another.sha256), another, cache).decoded == 1
    resized = replace(backbone, size=40)
    assert extract(clips[:1], definition, resized, cache).decoded == 1
    # covariances come later: the features are the same
    assert extract(clips[:1], replace(definition, ddof=0), backbone, cache).decoded == 0


def test_another_decoder_shares_nothing(clips, backbone, definition, cache, monkeypatch):
    extract(clips[:1], definition, backbone, cache)
    monkeypatch.setattr(video, "DECODER", "av0")
    assert extract(clips[:1], definition, backbone, cache).decoded == 1


def test_what_is_too_short_is_known_to_be(backbone, definition, cache, tmp_path):
    short = clip(tmp_path / "short.mp4", 7)
    cold, warm = (extract([short], definition, backbone, cache) for _ in range(2))
    assert (cold.decoded, warm.decoded) == (1, 0)
    assert cold.skipped == warm.skipped
    # shorter windows are another definition
    assert len(extract([short], replace(definition, length=7), backbone, cache).values) == 1


@pytest.mark.parametrize("damage", ["cut", "other dimension", "fewer rows", "no frames"])
def test_a_damaged_entry_is_computed_again(clips, backbone, definition, cache, damage):
    cold = extract(clips[1:2], definition, backbone, cache)
    (entry,) = _entries(cache)
    if damage == "cut":
        entry.write_bytes(entry.read_bytes()[:150])
    else:
        values = cold.values[:, :-1] if damage == "other dimension" else cold.values
        kept = {"values": values[:1] if damage == "fewer rows" else values, "frames": np.array(20)}
        np.savez(entry, **{name: array for name, array in kept.items() if damage != "no frames" or name != "frames"})
    again = extract(clips[1:2], definition, backbone, cache)
    assert again.decoded == 1
    assert np.array_equal(again.values, cold.values)
    assert extract(clips[1:2], definition, backbone, cache).decoded == 0


def test_what_is_cached_needs_no_torch():
    code = "import sys, ipa_bench.observers.features; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_every_kind_of_entry_is_under_one_name(clips, backbone, definition, cache):
    extract(clips, definition, backbone, cache)
    assert [path.name for path in cache.folder.iterdir()] == [KIND]


def test_progress_counts_videos(clips, backbone, definition, cache):
    for expected in ([0, 1, 2, 3, 4], [4]):
        told = []
        extract(clips, definition, backbone, cache, progress=lambda *step, told=told: told.append(step))
        assert told == [("features", done, 4) for done in expected]


def test_nothing_asked_nothing_found(backbone, definition):
    found = extract([], definition, backbone, None)
    assert found.values.shape == (0, DIMENSION)
    assert found.skipped == ()


# ---------------------------------------------------------------------------------------------------------------------
# what it skips


def test_bad_videos_are_skipped_with_a_reason_and_the_rest_goes_on(clips, backbone, definition, cache, tmp_path):
    whole = clip(tmp_path / "whole.mp4", 40, 5, muxer={"movflags": "faststart"})
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    text, empty, missing = tmp_path / "text.mp4", tmp_path / "empty.mp4", tmp_path / "missing.mp4"
    text.write_text("no video")
    empty.touch()
    short = clip(tmp_path / "short.mp4", 7, 6)
    brief = clip(tmp_path / "brief.mp4", 2, 7)
    paths = [missing, clips[0], cut, text, clips[1], empty, tmp_path, short, brief, clips[2]]
    found = extract(paths, definition, backbone, cache)
    reasons = {skip.path.name: skip.reason for skip in found.skipped}
    assert reasons.pop(tmp_path.name).startswith(f"{tmp_path.name}: ")
    assert reasons.pop("cut.mp4").startswith("cut.mp4: truncated: ")
    assert reasons == {
        "missing.mp4": "missing.mp4: cannot be read: No such file or directory",
        "text.mp4": "text.mp4: not a video, or cut off before its index",
        "empty.mp4": "empty.mp4: is empty",
        "short.mp4": "short.mp4: has 7 frames, a window needs 8 (the network itself takes 3 or more: shorter windows "
        "are another definition)",
        "brief.mp4": "brief.mp4: has 2 frames, a window needs 8 (the network takes no fewer than 3)",
    }
    assert [skip.asked for skip in found.skipped] == [0, 2, 3, 5, 6, 7, 8]
    assert found.owner.tolist() == [1, 4, 4, 4, 9, 9]
    good = extract([clips[0], clips[1], clips[2]], definition, backbone, None)
    assert np.abs(found.values - good.values).max() < 1e-5
    # the windows before the damage are in nothing that is kept
    assert len(_entries(cache)) == 5
    assert found.passed > 6


def test_the_reason_names_each_copy(backbone, definition, tmp_path):
    one = tmp_path / "one.mp4"
    one.write_text("no video")
    two = Path(shutil.copy(one, tmp_path / "two.mp4"))
    found = extract([one, two], definition, backbone, None)
    assert [skip.reason.split(":")[0] for skip in found.skipped] == ["one.mp4", "two.mp4"]
    assert found.decoded == 1


class Contrast(torch.nn.Module):
    """Divides by each clip's deviation, which a grey clip has not."""

    def forward(self, x):
        rows = x.flatten(1)
        centred = rows - rows[:, :1]
        return (centred.mean(1) / centred.std(1))[:, None].repeat(1, DIMENSION)


def test_features_that_are_not_finite_are_not_features(clips, definition, cache, tmp_path):
    net = replace(small(), net=Contrast().eval())
    grey = write(tmp_path / "grey.mp4", np.full((20, 48, 64, 3), 128, np.uint8))
    for _ in range(2):  # not kept either
        found = extract([grey, clips[0]], definition, net, cache)
        assert [skip.reason for skip in found.skipped] == ["grey.mp4: the network's features are not finite"]
        assert found.owner.tolist() == [1]
        assert len(_entries(cache)) == 1


def test_a_file_that_changes_under_way_is_not_kept_under_its_old_hash(clips, backbone, definition, cache, tmp_path):
    path = Path(shutil.copy(clips[0], tmp_path / "clip.mp4"))

    def overwrite(stage, done, total):
        if done == 0:  # hashed, not yet decoded
            shutil.copy(clips[1], path)

    found = extract([path], definition, backbone, cache, progress=overwrite)
    assert [skip.reason for skip in found.skipped] == ["clip.mp4: changed while it was read"]
    assert not _entries(cache)


# ---------------------------------------------------------------------------------------------------------------------
# what it refuses


def test_another_network_than_the_definitions_is_refused(clips, backbone, definition):
    with pytest.raises(UserError, match=r"network: small-32, small-16; weights: sha:\w{8}, sha:\w{8}"):
        extract(clips, definition, small(seed=2, size=16), None)
    twin = replace(backbone, sha256=backbone.sha256[:8] + "0" * 56)
    with pytest.raises(ValueError, match="different weights have the same id"):
        extract(clips, definition, twin, None)


def test_a_network_that_lies_about_its_features_is_refused(clips, backbone, definition):
    liar = replace(backbone, dimension=7)
    with pytest.raises(ValueError, match=r"features have shape \(4, 6\)"):
        extract(clips, definition, liar, None)


def test_an_error_of_the_reader_is_raised_here(clips, backbone, definition):
    with pytest.raises(ValueError, match="size must be at least 1"):
        extract(clips, definition, replace(backbone, size=0), None)


def test_a_batch_has_at_least_one_window(clips, backbone, definition):
    with pytest.raises(ValueError, match="batch"):
        extract(clips, definition, backbone, None, batch=0)


def test_training_mode_is_refused(backbone):
    with pytest.raises(ValueError, match="training mode"):
        TorchBackbone(small().net.train(), "small", "0" * 64, 32, 3, DIMENSION)


# ---------------------------------------------------------------------------------------------------------------------
# interruptions


def test_an_interrupted_call_resumes(clips, backbone, definition, cache):
    def stop(stage, done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(clips, definition, backbone, cache, batch=1, progress=stop)
    assert len(_entries(cache)) == 2
    resumed = extract(clips, definition, backbone, cache)
    assert resumed.decoded == 2
    assert np.abs(resumed.values - extract(clips, definition, backbone, None).values).max() < 1e-5


def test_the_reader_is_not_far_ahead():
    made = []

    def items():
        for index in range(100):
            made.append(index)
            yield index

    events = _in_background(items, bound=3)
    assert next(events) == 0
    time.sleep(0.3)
    assert len(made) <= 1 + 3 + 1  # taken, waiting, and the one that finds no place
    assert list(events) == list(range(1, 100))


def test_closing_stops_the_reader():
    closed = threading.Event()

    def items():
        try:
            yield from range(10**9)
        finally:
            closed.set()

    events = _in_background(items, bound=2)
    assert next(events) == 0
    events.close()
    assert closed.is_set()
