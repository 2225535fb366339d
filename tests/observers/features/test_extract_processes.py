"""Extraction in a process of its own: stopped by a signal, and its memory."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ipa_bench.cache import Cache
from ipa_bench.observers.features import FeatureDefinition, extract
from tests.observers.features.small import clip, small

ROOT = Path(__file__).parents[3]


def _child(folder, cache="", size=32, pause=-1):
    command = [sys.executable, "-m", "tests.observers.features.small", *map(str, (folder, cache, size, pause))]
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_stopped_leaves_a_sound_cache(tmp_path, sent):
    folder, cache = tmp_path / "clips", Cache(tmp_path / "cache")
    # more windows than the reader may be ahead: its thread is waiting when the signal comes
    paths = [clip(folder / f"{index:02}.mp4", 40, index) for index in range(12)]
    with _child(folder, cache.folder, pause=2) as child:
        while child.stdout.readline().split()[0] != "2":
            pass
        child.send_signal(sent)
        errors = child.communicate(timeout=60)[1]
    assert child.returncode == -sent
    assert ("KeyboardInterrupt" in errors) == (sent is signal.SIGINT)
    kept = len(list(cache.folder.rglob("*.npz")))
    assert 2 <= kept < 12
    backbone = small()
    definition = FeatureDefinition.of(backbone, policy="styleganv", length=16)
    resumed = extract(paths, definition, backbone, cache)
    assert resumed.decoded == 12 - kept
    assert np.abs(resumed.values - extract(paths, definition, backbone, None).values).max() < 1e-5


@pytest.mark.parametrize(
    ("early", "count", "growth"), [(6, 18, 60), pytest.param(12, 500, 100, marks=pytest.mark.slow)], ids=str
)
def test_memory_does_not_grow_with_the_number_of_clips(tmp_path, early, count, growth):
    """Peak MiB of a process after a few clips and after all. A window takes 9.2 MiB: kept ones would be seen."""
    for index in range(count):
        clip(tmp_path / f"{index:03}.mp4", 20, index)
    with _child(tmp_path, size=224) as child:
        lines, errors = child.communicate(timeout=1800)
    assert child.returncode == 0, errors
    assert lines.splitlines()[-1] == f"rows {count} decoded {count}"
    peaks = {int(done): int(peak) for done, peak in (line.split() for line in lines.splitlines()[:-1])}
    assert peaks[count] - peaks[early] < growth
    assert peaks[count] < 3000
