"""A run folder survives kill -9, torn lines, a full disk and a second writer."""

from __future__ import annotations

import errno
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipa_bench.errors import UserError
from ipa_bench.files import write_atomic
from ipa_bench.store import RunStore
from tests.forked import Server, Started
from tests.store.runs import HEADER, record, shards


@pytest.mark.parametrize(
    "junk",
    [b"", b"{", b"null\n", b"\0\0\0\n", b'{"case": "x"}\n', b"\xff\xfe\n", b'{"case":"a","seed":0,"model":"A"', b"1\n"],
)
def test_a_torn_line_costs_that_line_only(tmp_path: Path, junk: bytes) -> None:
    store = RunStore.open(tmp_path, HEADER)
    for case in "abc":
        store.append(record(case))
    (shard,) = shards(tmp_path)
    lines = shard.read_bytes().splitlines(keepends=True)
    shard.write_bytes(lines[0] + junk + (b"\n" if junk and not junk.endswith(b"\n") else b"") + lines[2])
    assert set(store.records()) == {("a", 0, "A"), ("c", 0, "A")}
    assert RunStore.load(tmp_path).read().damaged == bool(junk)


@settings(max_examples=12)
@given(cut=st.integers(0, 10_000))
def test_a_shard_cut_anywhere_keeps_every_whole_line(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("run")
    store = RunStore.open(folder, HEADER)
    for case in "abcd":
        store.append(record(case))
    store.close()
    (shard,) = shards(folder)
    content = shard.read_bytes()
    cut %= len(content) + 1
    shard.write_bytes(content[:cut])
    whole = content[:cut].count(b"\n") + (content[cut : cut + 1] == b"\n")  # the newline itself may be what is lost
    assert len(store.records()) == whole
    store.append(record("e"))  # whoever resumes is not glued to the torn line
    assert ("e", 0, "A") in store.records()


def start(server: Server, what: str, said: Path, *arguments: object) -> Started:
    """A process that does ``what`` of :mod:`tests.store.writers`."""
    return server.start(arguments, said.parent, os.environ, said, call=f"tests.store.writers:{what}")


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
def test_kill_9_at_any_moment_loses_nothing_that_append_returned_for(server: Server, tmp_path: Path) -> None:
    """Real processes, killed at random moments while others write: all that they confirmed is on the disk."""
    run = tmp_path / "run"
    RunStore.open(run, HEADER)
    rng = random.Random(0)
    confirmed = 0
    for batch in range(2):
        names = [f"{batch}.{i}" for i in range(3)]
        writers = {name: start(server, "on_and_on", tmp_path / f"said{name}", run, name) for name in names}
        last = {}
        for writer in writers.values():
            deadline = time.monotonic() + 60
            while "\n" not in writer.out:  # until it writes
                assert time.monotonic() < deadline, writer.errors
                time.sleep(0.002)
        for name, writer in writers.items():
            time.sleep(rng.uniform(0, 0.03))
            writer.signal(signal.SIGKILL)
            assert writer.wait() == -signal.SIGKILL
            last[name] = int(writer.out.split()[-1])
        store = RunStore.load(run)
        records = store.records()
        for name, until in last.items():
            for i in range(until + 1):
                (score,) = records[f"{name}-{i}", 0, "A"].scores
                assert score.value == i / 7
            confirmed += until + 1
        assert store.read().damaged <= 3 * (batch + 1)
    assert confirmed > 20


@pytest.mark.skipif(sys.platform == "win32", reason="fork is POSIX")
def test_a_forked_child_has_a_shard_of_its_own(server: Server, tmp_path: Path) -> None:
    run = tmp_path / "run"
    RunStore.open(run, HEADER)
    process = start(server, "forking", tmp_path / "said", run)
    assert process.wait() == 0, process.errors
    assert len(RunStore.load(run).records()) == 3
    assert sorted(len(shard.read_bytes().splitlines()) for shard in shards(run)) == [1, 2]


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_a_write_that_runs_out_of_room_leaves_nothing_half_written(server: Server, tmp_path: Path) -> None:
    """A real short write (a file size limit in the middle of a line), then room again."""
    run = tmp_path / "run"
    RunStore.open(run, HEADER)
    process = start(server, "out_of_room", tmp_path / "said", run)
    assert process.wait() == 0, process.errors
    count, problem = process.out.strip().split(" ", 1)
    assert problem == f"no room left to write in {run}"
    store = RunStore.load(run)
    assert int(count) > 2
    assert {case for case, _, _ in store.records()} == {f"before-{i}" for i in range(int(count))} | {"after"}
    assert store.read().damaged == 0
    assert all(shard.read_bytes().endswith(b"\n") for shard in shards(run))


def failing(number: int) -> Callable[..., int]:
    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("number", "problem"), [(errno.ENOSPC, "no room left"), (errno.EDQUOT, "no room left"), (errno.EROFS, "Read-only")]
)
def test_a_file_that_cannot_be_replaced_stays_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, problem: str
) -> None:
    path = tmp_path / "kept.json"
    write_atomic(path, b"old")
    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, failing(number))
            with pytest.raises(UserError, match=problem):
                write_atomic(path, b"new")
        assert path.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["kept.json"]


def test_a_folder_that_cannot_be_written_is_found_out_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write in .*file/run: Not a directory"):
        RunStore.open(tmp_path / "file" / "run", HEADER)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_found_out_at_once(tmp_path: Path) -> None:
    RunStore.open(tmp_path / "run", HEADER)
    (tmp_path / "run" / "scores").chmod(0o500)
    with pytest.raises(UserError, match=r"cannot write in .*run: Permission denied"):
        RunStore.open(tmp_path / "run", HEADER)
