"""The prepared GPU script, rehearsed on a processor: every stage leaves a log and a line in the summary."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu" / "run.sh"


def rehearsed(out: Path, *stages: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"OUT": str(out), "PYTHON": sys.executable, "REHEARSE": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run([SCRIPT, *stages], env=env, capture_output=True, text=True, check=False)


def test_an_unknown_stage_names_the_known(tmp_path: Path) -> None:
    done = rehearsed(tmp_path, "everything")
    assert done.returncode == 2
    assert "device tests cost-1.3b cost-14b pretrain options" in done.stderr


@pytest.mark.slow
def test_the_stages_run_at_small_size(tmp_path: Path) -> None:
    done = rehearsed(tmp_path, "cost-1.3b", "pretrain")
    lines = [json.loads(line) for line in (tmp_path / "summary.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["status"]) for line in lines] == [("cost-1.3b", 0), ("pretrain", 0)], done.stdout
    assert (tmp_path / "pretrain" / "checkpoint" / "transformer").is_dir()
    assert list((tmp_path / "cost-1.3b").iterdir())
