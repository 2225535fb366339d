"""A run folder survives kill -9, torn lines, a full disk and a second writer; and refuses to mix two runs."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipa_bench.errors import UserError
from ipa_bench.files import write_atomic
from ipa_bench.store import CaseEntry, Details, FloorRecord, ModelEntry, RunHeader, RunStore, UnitRecord
from ipa_bench.types import Score

HEADER = RunHeader(
    name="demo",
    suite_hash="a" * 64,
    primary="hand_quality@1",
    seeds=(0, 1),
    metrics=("hand.pck@1", "hand.recall@1"),
    cases=(CaseEntry("wave", "alice", "test", "clips/wave.mp4", "clips/wave.mp4", ("fast",)),),
    models=(ModelEntry("A", "folder", "outA"),),
    environment={"python": "3.11"},
    tool_version="0.1",
    created="2026-08-01T00:00:00+00:00",
)


def record(case: str = "wave", seed: int = 0, model: str = "A", value: float = 0.5) -> UnitRecord:
    scores = (
        Score(case, seed, model, "hand.recall@1", value),
        Score(case, seed, model, "hand.pck@1", reason="the driving video shows no hand"),
    )
    return UnitRecord(case, seed, model, f"out/{case}.mp4", "f" * 64, 1.25, ("a note",), scores)


def shards(folder: Path) -> list[Path]:
    return sorted((folder / "scores").glob("*.jsonl"))


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path / "run", HEADER)
    written = [record('wäve\u2028 "', seed, model) for seed in (1, 0) for model in ("B", "A")]
    for each in written:
        store.append(each)
    loaded = RunStore.load(tmp_path / "run")
    assert loaded.header == HEADER
    assert loaded.records() == {each.unit: each for each in written}
    assert list(loaded.records()) == sorted(each.unit for each in written)
    assert loaded.read().damaged == 0
    assert len(shards(tmp_path / "run")) == 1
    assert len(shards(tmp_path / "run")[0].read_bytes().splitlines()) == 4


def test_scores_are_sorted_by_unit_and_the_headers_metric_order(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path, HEADER)
    for seed, case in ((1, "b"), (0, "b"), (0, "a")):
        store.append(record(case, seed))
    order = [(s.case, s.seed, s.metric) for s in store.scores()]
    pck, recall = "hand.pck@1", "hand.recall@1"
    assert order == [("a", 0, pck), ("a", 0, recall), ("b", 0, pck), ("b", 0, recall), ("b", 1, pck), ("b", 1, recall)]


def test_done_asks_for_every_metric_and_takes_a_reason_for_an_answer(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path, HEADER)
    store.append(record("a"))
    store.append(replace(record("b"), scores=record("b").scores[:1]))
    assert store.read().done(HEADER.metrics) == {("a", 0, "A")}
    assert store.read().done(["hand.recall@1"]) == {("a", 0, "A"), ("b", 0, "A")}
    assert store.read().done(["other@1"]) == set()


def test_records_refuse_scores_of_another_unit_and_repeated_metrics() -> None:
    with pytest.raises(ValueError, match="its own unit"):
        UnitRecord("a", 0, "A", scores=record("b").scores)
    with pytest.raises(ValueError, match="one score per metric"):
        UnitRecord("wave", 0, "A", scores=record().scores[:1] * 2)


def test_json_is_strict(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path, HEADER)
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.append(replace(record(), seconds=float("nan")))
    store.append(record())
    assert len(store.records()) == 1
    assert store.read().damaged == 0


def test_the_newest_of_two_records_of_a_unit_stays(tmp_path: Path) -> None:
    first = RunStore.open(tmp_path, HEADER)
    first.append(record(value=0.1))
    first.append(record(value=0.2))
    assert first.scores()[1].value == 0.2
    second = RunStore.open(tmp_path, HEADER)
    second.append(record(value=0.3))
    assert second.scores()[1].value == 0.3
    assert len(shards(tmp_path)) == 2


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


@settings(max_examples=40)
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


WRITER = """
import sys
from pathlib import Path
from ipa_bench.store import RunStore, UnitRecord
from ipa_bench.types import Score

store = RunStore.open(Path(sys.argv[1]), RunStore.load(Path(sys.argv[1])).header)
for i in range(100_000):
    case = f"{sys.argv[2]}-{i}"
    notes = ("x" * (i * 37 % 5000),)
    store.append(UnitRecord(case, 0, "A", notes=notes, scores=(Score(case, 0, "A", "hand.pck@1", i / 7),)))
    print(i, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
def test_kill_9_at_any_moment_loses_nothing_that_append_returned_for(tmp_path: Path) -> None:
    """Real processes, killed at random moments while others write: all that they confirmed is on the disk."""
    RunStore.open(tmp_path, HEADER)
    rng = random.Random(0)
    confirmed = 0
    for batch in range(4):
        writers = {
            f"{batch}.{i}": subprocess.Popen(
                [sys.executable, "-c", WRITER, str(tmp_path), f"{batch}.{i}"], stdout=subprocess.PIPE, text=True
            )
            for i in range(3)
        }
        last = {}
        for writer in writers.values():
            assert writer.stdout is not None
            writer.stdout.readline()  # it writes now
        for name, writer in writers.items():
            time.sleep(rng.uniform(0, 0.03))
            writer.send_signal(signal.SIGKILL)
            assert writer.stdout is not None
            last[name] = int(([0, *writer.stdout.read().split()])[-1])
            writer.stdout.close()
            writer.wait()
        store = RunStore.load(tmp_path)
        records = store.records()
        for name, until in last.items():
            for i in range(until + 1):
                (score,) = records[f"{name}-{i}", 0, "A"].scores
                assert score.value == i / 7
            confirmed += until + 1
        assert store.read().damaged <= 3 * (batch + 1)
    assert confirmed > 50


FORK = """
import os, sys
from pathlib import Path
from ipa_bench.store import RunStore, UnitRecord

store = RunStore.open(Path(sys.argv[1]), RunStore.load(Path(sys.argv[1])).header)
store.append(UnitRecord("parent", 0, "A"))
child = os.fork()
store.append(UnitRecord("child" if child == 0 else "parent", 1, "A"))
if child:
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="fork is POSIX")
def test_a_forked_child_has_a_shard_of_its_own(tmp_path: Path) -> None:
    RunStore.open(tmp_path, HEADER)
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK, str(tmp_path)], check=True)
    assert len(RunStore.load(tmp_path).records()) == 3
    assert sorted(len(shard.read_bytes().splitlines()) for shard in shards(tmp_path)) == [1, 2]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from ipa_bench.errors import UserError
from ipa_bench.store import RunStore, UnitRecord

store = RunStore.open(Path(sys.argv[1]), RunStore.load(Path(sys.argv[1])).header)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
written = 0
try:
    for written in range(100):
        store.append(UnitRecord(f"before-{written}", 0, "A"))
except UserError as error:
    print(written, error.problem)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.append(UnitRecord("after", 0, "A"))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_a_write_that_runs_out_of_room_leaves_nothing_half_written(tmp_path: Path) -> None:
    """A real short write (a file size limit in the middle of a line), then room again."""
    RunStore.open(tmp_path, HEADER)
    out = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    count, problem = out.strip().split(" ", 1)
    assert problem == f"no room left to write in {tmp_path}"
    store = RunStore.load(tmp_path)
    assert int(count) > 2
    assert {case for case, _, _ in store.records()} == {f"before-{i}" for i in range(int(count))} | {"after"}
    assert store.read().damaged == 0
    assert all(shard.read_bytes().endswith(b"\n") for shard in shards(tmp_path))


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


def test_opening_again_goes_on_and_keeps_the_first_environment(tmp_path: Path) -> None:
    RunStore.open(tmp_path, HEADER).append(record())
    later = replace(HEADER, created="2027-01-01", environment={}, seeds=(1, 0))
    store = RunStore.open(tmp_path, later)
    assert store.header == HEADER
    assert store.read().done(HEADER.metrics) == {("wave", 0, "A")}


def test_a_lifted_limit_and_one_more_model_resume(tmp_path: Path) -> None:
    RunStore.open(tmp_path, HEADER).append(record())
    more = replace(
        HEADER,
        cases=(*HEADER.cases, CaseEntry("nod", "bob", "test", "clips/nod.mp4")),
        models=(ModelEntry("B", "folder", "outB"),),
        primary="hand.pck@1",
    )
    header = RunStore.open(tmp_path, more).header
    assert [case.id for case in header.cases] == ["wave", "nod"]
    assert [model.name for model in header.models] == ["A", "B"]
    assert header.primary == "hand.pck@1"
    assert RunStore.load(tmp_path).header == header
    assert RunStore.open(tmp_path, HEADER).header.cases == header.cases


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (replace(HEADER, suite_hash="b" * 64), "the suite (its cases or their clips: aaaaaaaaaaaa, now bbbbbbbbbbbb)"),
        (replace(HEADER, seeds=(0,)), "the seeds (0, 1, now 0)"),
        (replace(HEADER, metrics=("hand.pck@2", "hand.recall@1")), "the metrics (−hand.pck@1, +hand.pck@2)"),
        (replace(HEADER, models=(ModelEntry("A", "folder", "else"),)), "model A (folder outA, now folder else)"),
    ],
)
def test_another_run_is_refused_and_what_differs_is_said(tmp_path: Path, other: RunHeader, said: str) -> None:
    RunStore.open(tmp_path, HEADER)
    with pytest.raises(UserError) as error:
        RunStore.open(tmp_path, other)
    assert said in error.value.problem
    assert error.value.fix == "use another folder or delete this one"
    assert RunStore.load(tmp_path).header == HEADER


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "is not a run"), ("{", "is damaged"), ('{"name": 3}', "is damaged"), ("header", "schema version 2")],
)
def test_a_folder_without_a_good_header_is_refused(tmp_path: Path, content: str | None, problem: str) -> None:
    if content == "header":
        RunStore.open(tmp_path, HEADER)
        content = json.dumps(json.loads((tmp_path / "run.json").read_text()) | {"schema_version": 2})
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match=problem):
        RunStore.load(tmp_path)


def test_scores_without_a_header_are_not_adopted(tmp_path: Path) -> None:
    RunStore.open(tmp_path, HEADER).append(record())
    (tmp_path / "run.json").unlink()
    with pytest.raises(UserError, match="has scores but no"):
        RunStore.open(tmp_path, HEADER)


FLOOR = FloorRecord("wave", {"hand.pck@1": 0.012}, {"hand.recall@1": "no value to compare"})


def test_the_floor_is_no_video(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path, HEADER)
    store.append(replace(FLOOR, changes={"hand.pck@1": 9.0}))
    store.append(record())
    store.append(FLOOR)
    store.append(FloorRecord("nod", reasons={"hand.pck@1": "too short"}))
    held = RunStore.load(tmp_path).read()
    assert list(held.records) == [("wave", 0, "A")]
    assert held.floors == {"nod": FloorRecord("nod", reasons={"hand.pck@1": "too short"}), "wave": FLOOR}
    assert held.floors_done(HEADER.metrics) == {"wave"}
    assert held.floors_done(["hand.pck@1"]) == {"wave", "nod"}
    assert all(score.model == "A" for score in store.scores())
    with pytest.raises(ValueError, match="a value or a reason"):
        FloorRecord("wave", {"m@1": 1.0}, {"m@1": "why"})


def test_the_floor_that_0_1_kept_among_the_scores_is_read(tmp_path: Path) -> None:
    """Version 0.1 wrote it as the scores of a model with an impossible name."""
    store = RunStore.open(tmp_path, HEADER)
    store.append(record())
    line = {
        "case": "wave", "seed": 0, "model": "re-encoded/floor", "video": None, "sha256": None, "seconds": None,
        "notes": [], "scores": [
            {"case": "wave", "seed": 0, "model": "re-encoded/floor", "metric": "hand.pck@1", "value": 0.012,
             "reason": None},
            {"case": "wave", "seed": 0, "model": "re-encoded/floor", "metric": "hand.recall@1", "value": None,
             "reason": "no value to compare"},
        ],
    }  # fmt: skip
    (tmp_path / "scores" / "00000000000000000001-1-0.jsonl").write_text(json.dumps(line) + "\n")
    held = RunStore.load(tmp_path).read()
    assert list(held.records) == [("wave", 0, "A")]
    assert held.floors == {"wave": FLOOR}
    newer = replace(FLOOR, changes={"hand.pck@1": 0.5})
    store.append(newer)
    assert store.read().floors == {"wave": newer}


def test_a_loaded_run_is_read_only(tmp_path: Path) -> None:
    RunStore.open(tmp_path, HEADER)
    with pytest.raises(RuntimeError, match="read-only"):
        RunStore.load(tmp_path).append(record())


UNIT = ("wave", 0, "A")


def details(frames: int = 5, *, driving: bool = True) -> Details:
    rng = np.random.default_rng(frames)
    landmarks = rng.random((frames, 2, 21, 2), dtype=np.float32)
    return Details(
        times=np.arange(frames) / 25,
        fps=25.0,
        size=(64, 48),
        generated_landmarks=landmarks,
        generated_found=landmarks[:, :, 0, 0] > 0.5,
        driving_landmarks=landmarks[::-1] if driving else None,
        driving_found=np.ones((frames, 2), np.bool_) if driving else None,
        series={"hand.pck@1": np.array([np.nan, *range(frames - 1)], np.float32)},
    )


@pytest.mark.parametrize("driving", [True, False])
def test_details_are_read_back_exactly(tmp_path: Path, driving: bool) -> None:
    store = RunStore.open(tmp_path, HEADER)
    written = details(driving=driving)
    store.write_details(UNIT, details(7))
    store.write_details(UNIT, written)
    found = RunStore.load(tmp_path).read_details(UNIT)
    assert found is not None
    assert (found.fps, found.size) == (25.0, (64, 48))
    for name in ("times", "generated_landmarks", "generated_found", "driving_landmarks", "driving_found"):
        ours, theirs = getattr(written, name), getattr(found, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_array_equal(ours, theirs, strict=True)
    np.testing.assert_array_equal(found.series["hand.pck@1"], written.series["hand.pck@1"], strict=True)
    assert store.read_details(("wave", 1, "A")) is None


def test_details_without_series(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path, HEADER)
    store.write_details(UNIT, replace(details(), series={}))
    found = store.read_details(UNIT)
    assert found is not None
    assert found.series == {}


def test_damaged_details_are_none(tmp_path: Path) -> None:
    """Every byte of the file in turn is flipped: what comes back is the truth or nothing."""
    store = RunStore.open(tmp_path, HEADER)
    small = replace(details(1), generated_landmarks=np.zeros((1, 2, 21, 2), np.float32), driving_landmarks=None)
    store.write_details(UNIT, small)
    (path,) = (tmp_path / "details").iterdir()
    good = path.read_bytes()
    lost = 0
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 0xFF]) + good[position + 1 :])
        found = store.read_details(UNIT)
        lost += found is None
        if found is not None:
            np.testing.assert_array_equal(found.times, small.times)
            np.testing.assert_array_equal(found.generated_found, small.generated_found)
    assert lost > len(good) / 4
    for size in range(0, len(good), 17):
        path.write_bytes(good[:size])
        assert store.read_details(UNIT) is None


def test_details_of_another_unit_under_this_name_are_none(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path, HEADER)
    store.write_details(UNIT, details())
    (path,) = (tmp_path / "details").iterdir()
    store.write_details(("nod", 0, "A"), details())
    (other,) = set((tmp_path / "details").iterdir()) - {path}
    other.replace(path)
    assert store.read_details(UNIT) is None


def test_details_are_never_unpickled(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path, HEADER)
    store.write_details(UNIT, details())
    (path,) = (tmp_path / "details").iterdir()
    with np.load(path) as data:
        arrays = dict(data)
    np.savez(path, **(arrays | {"times": np.array([{}], dtype=object)}))
    assert store.read_details(UNIT) is None
