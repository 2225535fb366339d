"""Real footage and a cold cache for the performance benchmarks."""

import os
import shutil
from pathlib import Path

import pytest

from ipa_bench import weights

MODELS = ("palm_detection_full", "hand_landmark_full", "pose_detection", "pose_landmark_full")


@pytest.fixture(scope="session")
def clips() -> list[Path]:
    """The two clips of the speed claims."""
    folder = Path(os.environ.get("IPA_BENCH_MEDIA") or Path(__file__).parents[3] / "shared" / "media")
    found = [folder / name for name in ("hand_640x360.mp4", "gesture_1280x720.mp4")]
    if not all(path.exists() for path in found):
        pytest.skip(f"no real footage at {folder}; set IPA_BENCH_MEDIA")
    return found


@pytest.fixture
def cold_cache(tmp_path, monkeypatch):
    """A function that empties the cache of observations; models stay."""
    models = [weights.path(name) for name in MODELS]
    task = weights.hand_landmarker_task()

    def empty() -> None:
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        (tmp_path / "cache").mkdir()
        for path in (*models, task):
            shutil.copy(path, tmp_path / "cache")

    empty()
    monkeypatch.setenv("IPA_BENCH_CACHE", str(tmp_path / "cache"))
    return empty
