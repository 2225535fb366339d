"""Fixtures that more than one test file uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def media() -> Path:
    """The folder of real footage: $IPA_BENCH_MEDIA, else ../shared/media beside the repository."""
    folder = Path(os.environ.get("IPA_BENCH_MEDIA") or Path(__file__).parents[2] / "shared" / "media")
    if not folder.is_dir():
        pytest.skip(f"no real footage at {folder}; set IPA_BENCH_MEDIA to a folder that has it")
    return folder
