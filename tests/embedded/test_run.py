"""The tiny checkpoint, and `ipa-bench run` without arguments as a real process."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ipa_bench import video
from ipa_bench.embedded import world
from ipa_bench.models.checkpoint import EMBEDDED_FOLDER
from ipa_bench.store import RunStore
from tests.forked import Server

PEOPLE = Path(__file__).parents[2] / "benchmarks" / "embedded-people"


def test_the_checkpoint_is_small_and_without_pickles() -> None:
    files = [file for file in EMBEDDED_FOLDER.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 22e6
    assert {file.suffix for file in files} <= {".json", ".safetensors"}


def test_the_pipeline_opens_it_as_it_is() -> None:
    from diffusers import AutoencoderKLWan, WanVACEPipeline, WanVACETransformer3DModel

    pipe: Any = WanVACEPipeline.from_pretrained(EMBEDDED_FOLDER)  # type: ignore[no-untyped-call]
    assert type(pipe.vae) is AutoencoderKLWan
    assert type(pipe.transformer) is WanVACETransformer3DModel
    assert (pipe.vae_scale_factor_spatial, pipe.vae_scale_factor_temporal) == (8, 2)


def test_the_autoencoder_keeps_pictures() -> None:
    from diffusers import AutoencoderKLWan

    vae: Any = AutoencoderKLWan.from_pretrained(EMBEDDED_FOLDER, subfolder="vae", dtype=torch.float32)
    for identity in (0, 1):
        clip = world.clip("test", identity, 0, frames=5)
        pixels = torch.from_numpy(clip.frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        with torch.inference_mode():
            made = vae.decode(vae.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)
        assert 10 * torch.log10(4 / (made - pixels).square().mean()) > 28


def environment(cache: Path) -> dict[str, str]:
    return os.environ | {"IPA_BENCH_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}


def scores(run: Path) -> dict[tuple[str, int, str, str], tuple[float | None, str | None]]:
    return {(*score.unit, score.metric): (score.value, score.reason) for score in RunStore.load(run).scores()}


@pytest.fixture(scope="module")
def finished(cache_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the first case, by a process that begins with nothing."""
    out = tmp_path_factory.mktemp("runs") / "embedded"
    command = [sys.executable, "-m", "ipa_bench", "run", "--out", out, "--limit", "1", "--jobs", "1"]
    done = subprocess.run(command, env=environment(cache_folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "ground truth, re-encoded" in done.stdout
    return out


def test_without_arguments_it_generates_scores_and_reports(finished: Path) -> None:
    assert (finished / "report.html").exists()
    clips = sorted((finished / "videos").rglob("*.mp4"))
    made = [clip for clip in clips if clip.parent.name in ("pretrained", "base", "aligned")]
    assert len(made) == 3
    frames = np.stack([frame.image for frame in video.read_frames(made[0])])
    assert frames.shape == (17, 128, 128, 3)
    truth = world.clip("test", 0, 0).frames
    assert 10 * np.log10(255**2 / np.mean((frames.astype(float) - truth) ** 2)) > 14
    quality = {key[2]: value for key, (value, _) in scores(finished).items() if key[3] == "frame.psnr@1"}
    assert quality["ground truth, re-encoded"] > max(v for name, v in quality.items() if not name.startswith("ground"))


def test_again_it_makes_nothing_and_says_the_same(
    server: Server, finished: Path, cache_folder: Path, tmp_path: Path
) -> None:
    clips = {clip: clip.stat().st_mtime_ns for clip in (finished / "videos").rglob("*.mp4")}
    before = scores(finished)
    again = ["run", "--out", finished, "--limit", "1", "--jobs", "1"]
    done = server.run(again, tmp_path, environment(cache_folder), tmp_path / "said")
    assert done.returncode == 0, done.stderr
    assert {clip: clip.stat().st_mtime_ns for clip in (finished / "videos").rglob("*.mp4")} == clips
    assert scores(finished) == before


def run(server: Server, out: Path, cache: Path, *arguments: str, kill: float | None = None) -> None:
    """A run that goes on with what ``out`` holds, killed after ``kill`` seconds."""
    said = out.with_name("said")
    process = server.start(["run", "--out", out, *arguments], out.parent, environment(cache), said)
    if kill is not None:
        assert process.kill_after(kill) in (0, -signal.SIGKILL), process.errors
    else:
        assert process.wait(3000) == 0, process.errors


@pytest.mark.slow
def test_killed_at_ten_moments_it_gives_the_same_numbers(
    training_server: Server, cache_folder: Path, tmp_path: Path
) -> None:
    """Both halves at once; by default clips are killed in harness/test_generate.py, scores in harness/test_loop.py."""
    limit = ("--limit", "6")
    whole = tmp_path / "whole"
    begin = time.monotonic()
    run(training_server, whole, cache_folder, *limit)
    seconds = time.monotonic() - begin
    # What the first run observed must not help the second one along.
    cold = tmp_path / "cache"
    cold.mkdir()
    for file in cache_folder.iterdir():
        if file.is_file():
            shutil.copy(file, cold)
    out = tmp_path / "killed"
    for _ in range(10):
        run(training_server, out, cold, *limit, kill=random.uniform(0.02, 0.3) * seconds)
    run(training_server, out, cold, *limit)
    assert scores(out) == scores(whole)


@pytest.mark.slow
def test_a_suite_of_pairs_killed_in_its_middle_and_resumed_has_the_same_scores(
    training_server: Server, cache_folder: Path, tmp_path: Path
) -> None:
    """``benchmarks/embedded-people``, one case of it: killed with one clip made, with one scored, and with three."""
    arguments = (str(PEOPLE), "--limit", "1", "--jobs", "1")
    cold = tmp_path / "cache"
    shutil.copytree(cache_folder, cold, ignore=shutil.ignore_patterns("observations", "encoded"))
    whole, out = tmp_path / "whole", tmp_path / "killed"
    run(training_server, whole, cold, *arguments)
    shutil.rmtree(cold)
    shutil.copytree(cache_folder, cold, ignore=shutil.ignore_patterns("observations", "encoded"))

    def scored() -> int:
        return len(known(out)) if (out / "run.json").exists() else 0

    left = []
    for due in (lambda: any((out / "videos").rglob("*.mp4")), lambda: scored() >= 1, lambda: scored() >= 3):
        process = training_server.start(
            ["run", "--out", out, *arguments], tmp_path, environment(cold), tmp_path / "said"
        )
        while not due():
            assert process.wait(0.02) is None, process.errors
        process.signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, process.errors
        left.append(scored())
    run(training_server, out, cold, *arguments)
    assert left[0] <= left[1] <= left[2] < len(known(whole)) == 5
    assert known(out) == known(whole)
    assert scores(out) == scores(whole)


def known(folder: Path) -> dict[tuple[str, int, str], str | None]:
    """The sha256 of each video that a run has scored."""
    return {unit: record.sha256 for unit, record in RunStore.load(folder).records().items()}
