"""A file is written whole or not at all, and its hash is of what it holds now, whatever its name and times say."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from ipa_bench import files
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.files import file_sha256, read_json, replacing, sha256_of


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def old(path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is old enough for its hash to be remembered."""
    path.write_bytes(content)
    monkeypatch.setattr(files, "_FRESH", -(10**12))
    return path


def test_a_file_is_read_once_as_long_as_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old(tmp_path / "a", b"one", monkeypatch)
    assert sha256_of(path) == sha(b"one")
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("read again"))
    assert sha256_of(path) == file_sha256(str(path)) == sha(b"one")
    monkeypatch.undo()
    files.forget_hashes()
    assert sha256_of(path) == sha(b"one")


def test_what_is_put_back_under_its_old_time_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old(tmp_path / "a", b"one", monkeypatch)
    sha256_of(path)
    before = path.stat()
    time.sleep(0.05)  # file systems count time in steps
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert sha256_of(path) == sha(b"two")
    other = tmp_path / "b"
    other.write_bytes(b"six")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert sha256_of(path) == sha(b"six")


def test_a_fresh_file_is_not_remembered(tmp_path: Path) -> None:
    """Within one step of the file system's clock a second writing leaves no trace in size and times."""
    path = tmp_path / "a"
    files.forget_hashes()
    for content in (b"one", b"two", b"six"):
        path.write_bytes(content)
        assert sha256_of(path) == sha(content)
    assert not files._known


def test_what_cannot_be_read_has_a_reason(tmp_path: Path) -> None:
    with pytest.raises(Unscorable, match=r"absent.mp4: cannot be read: No such file"):
        file_sha256(tmp_path / "absent.mp4")
    with pytest.raises(OSError, match="absent"):
        sha256_of(tmp_path / "absent.mp4")


@pytest.mark.parametrize("alone", [False, True])
def test_a_name_beside_the_file_becomes_it_or_goes_away(tmp_path: Path, alone: bool) -> None:
    path = tmp_path / "state.pt"
    path.write_bytes(b"old")

    def fail() -> None:
        with replacing(path, alone=alone, sync=True) as part:
            part.write_bytes(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"old", ["state.pt"])
    if alone:
        (tmp_path / "state.part").write_bytes(b"what a killed process left, which is longer")
    with replacing(path, alone=alone, sync=True) as part:
        part.write_bytes(b"new")
        assert part.parent == tmp_path
        assert path.read_bytes() == b"old"
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"new", ["state.pt"])


def test_a_long_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250)
    files.write_atomic(path, b"x")
    assert path.read_bytes() == b"x"


def test_what_is_no_json_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert read_json(path) is None
    path.write_bytes(b'{"a": 1')
    assert read_json(path) is None
    path.write_bytes(b'{"a": 1}')
    assert read_json(path) == {"a": 1}
    with pytest.raises(UserError, match="cannot write in"):
        files.write_atomic(path / "below", b"")
