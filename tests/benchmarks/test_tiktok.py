"""The TikTok template on stand-in clips: every metric that it names exists, and says how to get what it lacks."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from ipa_bench.nets.checkpoint import random_weights
from ipa_bench.nets.i3d import I3D
from ipa_bench.nets.resnet3d import ResNet3D

ROOT = Path(__file__).parents[2]
CLIPS = ROOT / "ipa_bench" / "embedded" / "suite" / "driving"
SEQUENCES = [f"{number:05}" for number in range(335, 341)]


@pytest.fixture
def suite(tmp_path):
    """The template with rendered people in the place of the dataset's, and a system that shows the next one's clip."""
    shutil.copy(ROOT / "benchmarks" / "tiktok" / "suite.toml", tmp_path)
    (tmp_path / "data").mkdir()
    outputs = tmp_path / "outputs" / "my-system"
    outputs.mkdir(parents=True)
    for index, name in enumerate(SEQUENCES):
        shutil.copy(CLIPS / f"test{index:03}__take0.mp4", tmp_path / "data" / f"{name}.mp4")
        shutil.copy(CLIPS / f"test{index + 1:03}__take0.mp4", outputs / f"{name}.mp4")
    return tmp_path / "suite.toml"


def report(folder):
    return json.loads((folder / "report.json").read_text())


def test_the_template_runs_and_names_what_is_missing(tool, suite, tmp_path):
    empty = tmp_path / "weights"
    empty.mkdir()
    result = tool("run", suite, "--limit", "3", "-o", "out", environment={"IPA_BENCH_WEIGHTS": str(empty)})
    assert result.returncode == 0, result.stderr
    found = report(tmp_path / "out")
    (row,) = [row for row in found["leaderboard"]["rows"] if row["model"] == "my-system"]
    assert {"frame.psnr@1", "hand.keypoint_error@1"} <= set(row["cells"])
    reasons = {entry["metric"]: entry["reason"] for entry in found["sets"] if entry["model"] == "my-system"}
    assert reasons["hand.fvmd@1"] is None
    for metric, needed in (("fid_vid@1", "resnet50_kinetics"), ("fvd@1", "i3d"), ("fvd.disco@1", "i3d")):
        assert needed in reasons[metric]


@pytest.mark.slow
def test_with_networks_every_distance_has_a_value(tool, suite, tmp_path):
    """Random weights: the paths are those of the published files, the numbers mean nothing."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for net, name in ((I3D(), "i3d_pretrained_400.pt"), (ResNet3D(), "resnet-50-kinetics.pth")):
        random_weights(net, 1)
        torch.save(net.state_dict(), folder / name)
    result = tool("run", suite, "-o", "out", environment={"IPA_BENCH_WEIGHTS": str(folder)})
    assert result.returncode == 0, result.stderr
    entries = [e for e in report(tmp_path / "out")["sets"] if e["model"] == "my-system" and not e["baseline"]]
    assert {e["metric"] for e in entries} == {"fid_vid@1", "fvd.disco@1", "fvd@1", "hand.fvmd@1"}
    for entry in entries:
        assert entry["reason"] is None, entry
        assert entry["distances"]["frechet"]["value"] > 0
