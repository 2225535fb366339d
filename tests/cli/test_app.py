"""The command line as a real process: what it prints, its exit status; bad input is one line, never a traceback."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from ipa_bench import harness, video
from ipa_bench.metrics.table import METRICS, SET_METRICS
from ipa_bench.suite import load_suite
from ipa_bench.weights import WEIGHTS
from tests import clips as awkward


def failed(result, status, *words):
    """The command failed as a user should see it."""
    assert result.returncode == status, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, result.stderr
    for word in words:
        assert word in result.stderr, result.stderr


def test_help_is_instant_and_loads_no_library():
    code = (
        "import sys; sys.argv = ['ipa-bench', '--help']\n"
        "from ipa_bench.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'torch', 'av', 'scipy', 'PIL', 'matplotlib', 'ai_edge_litert', 'pydantic'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "loaded: []" in result.stdout
    for verb in ("run", "report", "score", "validate", "select", "metrics", "doctor", "weights"):
        assert verb in result.stdout


def test_workers_load_neither_torch_nor_scipy_to_begin_with():
    """Both are slow to import; who needs them is asked for later, or not at all."""
    code = "import sys, ipa_bench.harness.workers; print(sorted({'torch', 'scipy', 'matplotlib'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "[]\n", result.stdout + result.stderr


def test_run_prints_a_leaderboard_and_writes_every_report(started_tool, tool, footage, tmp_path):
    (tmp_path / "clips").mkdir()
    shutil.copy(footage.clips / "anna__near.mp4", tmp_path / "clips")
    command = ("run", "clips", footage.fine, f"bad={footage.poor}", "-o", "out")
    result = started_tool(*command)
    assert result.returncode == 0, result.stderr
    assert result.stdout.index("fine") < result.stdout.index("bad")
    out = tmp_path / "out"
    for name in ("run.json", "report.html", "leaderboard.md", "report.json", "scores.csv", "leaderboard.csv"):
        assert (out / name).stat().st_size > 100, name
    before = (out / "scores.csv").read_bytes()
    assert tool(*command).returncode == 0
    assert (out / "scores.csv").read_bytes() == before
    (out / "leaderboard.md").unlink()
    assert tool("report", "out").returncode == 0
    assert (out / "leaderboard.md").exists()
    # another suite is not mixed into it
    failed(tool("run", footage.clips, footage.fine, "-o", "out"), 2, "another folder")


def test_a_dry_run_says_what_is_missing_and_does_nothing(tool, footage, tmp_path):
    some = tmp_path / "some"
    some.mkdir()
    shutil.copy(footage.fine / "anna__near.mp4", some)
    shutil.copy(footage.fine / "anna__near.mp4", some / "stranger.mp4")
    result = tool("run", footage.clips, some, "--dry-run")
    assert result.returncode == 0
    assert "2 missing" in result.stderr
    assert "1 not asked for: stranger.mp4" in result.stderr
    assert "3 videos" in result.stdout
    assert not (tmp_path / "runs").exists()


def test_clips_alone_are_compared_with_their_own_damage(tool, footage, tmp_path):
    images = [frame.image for frame in video.read_frames(footage.clips / "anna__near.mp4")]
    video.encode(images[:8], tmp_path / "near.mp4", 25, crf=12)
    result = tool("run", tmp_path / "near.mp4", "-o", "out")
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["leaderboard"]["rows"][0]["model"] == "re-encoded"


def test_score_gives_numbers_and_json(tool, footage):
    result = tool("score", footage.fine / "anna__wide.mp4", "--driving", footage.clips / "anna__wide.mp4", "--json")
    assert result.returncode == 0, result.stderr
    (entry,) = json.loads(result.stdout)
    assert 0.5 < entry["scores"]["hand_quality@4"]["value"] < 1
    assert entry["scores"]["frame.psnr@1"]["value"] > 30
    free = tool("score", footage.clips)
    assert free.returncode == 0
    assert free.stdout.count("hand.seen@1") == 3


def test_select_refuses_the_test_split_and_chooses_from_the_others(tool, footage, tmp_path, cache_folder, monkeypatch):
    suite = tmp_path / "suite.toml"
    text = f"""
[suite]
name = "training"
[[case]]
id = "anna__near"
driving = "{footage.clips}/anna__near.mp4"
ground_truth = "driving"
split = "SPLIT"
[[model]]
name = "fine"
kind = "folder"
path = "{footage.fine}"
[[model]]
name = "poor"
kind = "folder"
path = "{footage.poor}"
"""
    monkeypatch.setenv("IPA_BENCH_CACHE", str(cache_folder))
    for split in ("test", "train", "val"):
        suite.write_text(text.replace("SPLIT", split))
        harness.run(load_suite(suite), tmp_path / split, jobs=1, sets=False)  # no page, which nothing is chosen from
    failed(tool("select", "test"), 2, "test split")
    failed(tool("select", "val"), 2, "train split")
    assert tool("select", "val", "--split", "val").stdout.splitlines()[0].startswith("1 of 2 videos chosen by")
    chosen = tool("select", "train", "--top-k", "1")
    assert chosen.returncode == 0, chosen.stderr
    selection = json.loads((tmp_path / "train" / "selection.json").read_text())
    assert [row["model"] for row in selection["rows"]] == ["fine"]
    assert "hand_quality.shape@4" in selection["by"]
    pairs = tool("select", "train", "--pairs", "0.05")
    assert pairs.returncode == 0, pairs.stderr
    assert "strict" in pairs.stdout
    failed(tool("select", "train", "--threshold", "1.5"), 2, "threshold")


def test_a_price_is_a_number(tool):
    for price in ("nan", "inf", "-1"):
        assert tool("report", "nowhere", "--price", price).returncode == 2


def test_metrics_doctor_and_weights_answer(tool, tmp_path):
    table = tool("metrics")
    assert table.returncode == 0
    for metric in ("hand_quality@4", "hand.pck10@1", "rest.psnr@1"):
        assert metric in table.stdout
    assert "palm_detection_full" in tool("weights", "list").stdout
    verified = tool("weights", "verify", "palm_detection_full")
    assert verified.returncode == 0
    # it imports what is installed in other processes; the real ones in tests/cli/test_checks.py
    for name in ("torch", "torchvision", "mediapipe", "ai_edge_litert"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('no {name} today')")
    doctor = tool("doctor", environment={"PYTHONPATH": str(tmp_path)})
    assert doctor.returncode == 1
    assert "cores" in doctor.stdout
    assert "no torch today" in doctor.stdout


@pytest.mark.parametrize("columns", ["80", "200"])
def test_tables_are_whole_at_any_width(tool, tmp_path, columns):
    lines = tool("metrics", environment={"COLUMNS": columns}).stdout.splitlines()
    assert max(map(len, lines)) <= int(columns)
    first = [line.split()[0] for line in lines if line.strip()]
    assert {info.id for info in (*(m.info for m in METRICS), *SET_METRICS)} <= set(first)
    listed = tool("weights", "list", environment={"COLUMNS": columns, "IPA_BENCH_CACHE": str(tmp_path)}).stdout
    table, _, fixes = listed.partition("\n\nwhat to do\n")
    assert max(map(len, table.splitlines())) <= int(columns)
    for weight in WEIGHTS:
        assert f"\n{weight.name} " in table
        assert f"\n{weight.name}: " in f"\n{fixes}"


# bad input


@pytest.fixture
def bad(tmp_path, footage):
    """A folder of awkward files by name."""
    folder = tmp_path / "bad"
    folder.mkdir()
    data = (footage.clips / "anna__near.mp4").read_bytes()
    (folder / "truncated.mp4").write_bytes(data[: len(data) // 2])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("not a video")
    awkward.write_audio(folder / "audio.mp4")
    return folder


@pytest.mark.parametrize("name", ["truncated.mp4", "empty.mp4", "text.mp4", "audio.mp4"])
def test_what_does_not_decode_is_a_reason_and_status_1(tool, bad, name):
    result = tool("score", bad / name)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert f"not scored: {name}" in result.stdout


def test_one_bad_file_does_not_stop_the_others(tool, bad, footage):
    shutil.copy(footage.fine / "anna__wide.mp4", bad)
    result = tool("score", bad)
    assert result.returncode == 0
    assert result.stdout.count("not scored:") == 4
    assert result.stdout.count("hand.seen@1") == 1


def _score(tool, path):
    result = tool("score", path, "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(result.stdout)[0]["scores"]


def test_awkward_but_whole_files_are_scored(tool, footage, tmp_path):
    images = [f.image for f in video.read_frames(footage.clips / "anna__wide.mp4")][:12]
    awkward.write(tmp_path / "ten bits ünï.mp4", images, pix_fmt="yuv420p10le")
    assert _score(tool, tmp_path / "ten bits ünï.mp4")["hand.seen@1"]["value"] == 1.0
    awkward.write(tmp_path / "vfr.mp4", images, stamps=list(np.cumsum([1, 3] * 6)))
    assert _score(tool, tmp_path / "vfr.mp4")["hand.seen@1"]["value"] == 1.0
    awkward.write(tmp_path / "odd.mkv", [i[:179, :319] for i in images], codec="ffv1", pix_fmt="yuv444p")
    assert _score(tool, tmp_path / "odd.mkv")["hand.seen@1"]["value"] == 1.0
    awkward.write(tmp_path / "one.mp4", images[:1])
    one = _score(tool, tmp_path / "one.mp4")
    assert one["hand.seen@1"]["value"] == 1.0
    assert "12 frames" in one["hand.bone_drift@1"]["reason"]
    awkward.write(tmp_path / "a.gif", images, codec="gif", pix_fmt="rgb8")
    assert _score(tool, tmp_path / "a.gif")["hand.seen@1"]["value"] is not None  # 256 colours: few hands are left


def test_a_rotated_phone_video_is_seen_upright(tool, footage, tmp_path):
    images = [f.image for f in video.read_frames(footage.clips / "anna__wide.mp4")][:12]
    # stored lying on its side, with the matrix that turns it back by 90 degrees
    awkward.write(tmp_path / "phone.mp4", [np.ascontiguousarray(np.rot90(i)) for i in images])
    awkward.set_display_matrix(tmp_path / "phone.mp4", 0, 1, -1, 0)
    info = video.probe(tmp_path / "phone.mp4")
    assert (info.width, info.height, info.rotation) == (320, 180, 90)
    assert _score(tool, tmp_path / "phone.mp4")["hand.seen@1"]["value"] == 1.0


def test_nobody_in_view_is_a_reason(tool, tmp_path):
    video.encode(awkward.smooth(6), tmp_path / "sky.mp4", 25)
    result = tool("run", tmp_path / "sky.mp4", "-o", "out")
    assert "Traceback" not in result.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "the driving video shows no hand" in json.dumps(report)
    failed(tool("validate", tmp_path / "sky.mp4"), 2, "fewer than 24 frames", "give a clip that shows a hand")


def test_a_misspelt_key_names_line_and_nearest_key(tool, tmp_path):
    (tmp_path / "s.toml").write_text('[suite]\nname = "x"\nprimry = "hand_quality"\n')
    failed(tool("run", "s.toml"), 2, "s.toml:3", "primry", "primary")


def test_wrong_names_are_refused_with_a_fix(tool, footage, tmp_path):
    failed(tool("run", "nowhere"), 2, "nowhere does not exist")
    failed(tool("run", footage.clips, "nowhere"), 2, "nowhere is not a folder")
    failed(tool("score", "nowhere.mp4"), 2, "does not exist")
    failed(tool("report", tmp_path), 2)
    failed(tool("select", tmp_path), 2)
    failed(tool("weights", "fetch", "palm_detectoin_full"), 2, "palm_detection_full")


def test_validation_cannot_be_written_shows_before_the_work(tool, footage, tmp_path):
    (tmp_path / "file").write_text("in the way")
    failed(tool("validate", footage.clips, "-o", "file"), 2, "cannot make file")


def test_names_come_through_json_as_they_are(tool, footage, tmp_path):
    shutil.copy(footage.fine / "anna__wide.mp4", tmp_path / "take:fire:1 é.mp4")
    result = tool("score", tmp_path / "take:fire:1 é.mp4", "--json", environment={"PYTHONIOENCODING": "ascii"})
    assert json.loads(result.stdout)[0]["video"].endswith("take:fire:1 é.mp4")


def test_a_folder_that_cannot_be_written_fails_before_the_work(tool, footage, tmp_path):
    (tmp_path / "file").write_text("in the way")
    begin = time.monotonic()
    failed(tool("run", footage.clips, footage.fine, "-o", "file/out"), 2, "file/out")
    assert time.monotonic() - begin < 100


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_line(footage, tmp_path, cache_folder):
    """A file-size limit stands in for a full disk: writing past it fails with an error of the system."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        f"sys.argv = ['ipa-bench', 'run', {str(footage.clips)!r}, {str(footage.fine)!r}, '-o', 'out', '-j', '1']\n"
        "from ipa_bench.cli import main\nmain()"
    )
    environment = {**os.environ, "IPA_BENCH_CACHE": str(cache_folder)}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=900
    )
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert "error:" in result.stderr


def test_a_damaged_model_file_is_refused(tool, tmp_path, cache_folder, footage):
    cache = tmp_path / "cache"
    cache.mkdir()
    for model in cache_folder.glob("*.tflite"):
        shutil.copy(model, cache)
    with (cache / "palm_detection_full.tflite").open("r+b") as file:
        file.seek(5000)
        file.write(b"\0\1\2\3\4\5\6\7")
    # without the installer's network it cannot be mended either
    offline = {"IPA_BENCH_CACHE": str(cache), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    failed(tool("score", footage.clips, environment=offline), 2, "palm_detection_full", "fix:")
    verified = tool("weights", "verify", "palm_detection_full", environment=offline)
    assert verified.returncode == 1
    assert "wrong" in verified.stdout


def test_hostile_names_go_through_as_text(tool, footage, tmp_path):
    name = "<img src=x onerror=alert(1)>.mp4"
    for folder in ("drive", "sys&<b>"):
        (tmp_path / folder).mkdir()
        shutil.copy(footage.clips / "anna__near.mp4", tmp_path / folder / name)
    result = tool("run", "drive", "sys&<b>", "-o", "out")
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page


def test_interrupted_it_says_so_and_goes_on(server, footage, tmp_path, cache_folder):
    cache = tmp_path / "cache"
    cache.mkdir()
    for model in cache_folder.glob("*.tflite"):
        shutil.copy(model, cache)
    # a run of one clip can end before the signal comes
    command = ["run", footage.clips, footage.fine, "--limit", "2", "-o", "out"]
    environment = {**os.environ, "IPA_BENCH_CACHE": str(cache)}
    process = server.start(command, tmp_path, environment, tmp_path / "said")
    deadline = time.monotonic() + 60
    while not list((cache / "observations").rglob("*.npz")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert "Traceback" not in process.errors
    assert "goes on where this stopped" in process.errors
    done = server.run(command, tmp_path, environment, tmp_path / "said")
    assert done.returncode == 0, done.stderr
