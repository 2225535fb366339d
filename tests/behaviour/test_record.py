"""The whole record: equal to that of another version, or to itself."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.behaviour import __main__ as behaviour
from tests.behaviour import comparing

#: a record of the version to compare with; without it, this one's is made twice
BEFORE = "IPA_BENCH_BEHAVIOUR"


@pytest.mark.slow
def test_everything_printed_written_and_measured_is_the_same_as_before(whole_media: Path) -> None:
    def record() -> comparing.Files:
        files: comparing.Files = behaviour.record(behaviour.ROOT, Path(sys.executable), whole_media)["files"]
        return files

    before = os.environ.get(BEFORE)
    expected = json.loads(Path(before).read_bytes())["files"] if before else record()
    assert list(comparing.differences(expected, record())) == []
