"""A disk that is full at the worst moment: said, nothing lost, and the same command ends the same to the bit."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ipa_bench.errors import UserError
from tests.trainers import tiny_runs
from tests.trainers.test_run_processes import assert_same_run
from trainers import run as training


@contextmanager
def room(size: int) -> Iterator[None]:
    """Files end at so many bytes: writing more fails as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(("when", "what"), [(3, "state.pt"), (4, "lora")])
def test_a_run_whose_disk_is_full_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: int, what: str
) -> None:
    """Full from the third step on, so that its second state cannot be written, or right after the last one."""
    monkeypatch.setenv("IPA_BENCH_CACHE", str(tmp_path / "cache"))
    folder = tiny_runs.write(tmp_path / "material")
    job = tiny_runs.job(folder, "ipa", {"train": {"steps": 4, "save_every": 2, "batch": 1}})
    full = room(2000)  # less than a state or a LoRA, more than the log

    def tell(stage: str, done: int, *_: object) -> None:
        if stage == "train" and done == when:
            full.__enter__()

    out = tmp_path / "out"
    try:
        with pytest.raises(UserError, match=rf"cannot write .*{what}") as error:
            training.train(job, out, tell=tell)
    finally:
        full.__exit__(None, None, None)
    assert "run again" in error.value.fix
    assert tiny_runs.state(out)["step"] == (2 if when == 3 else 4)
    assert training.train(job, out) is not None
    assert training.train(job, tmp_path / "whole") is not None
    assert_same_run(tmp_path / "whole", out)
