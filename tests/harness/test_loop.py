"""The whole loop on real footage: same numbers for any jobs, order, and after kill -9."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from ipa_bench import harness, video
from ipa_bench.harness import generate, header
from ipa_bench.models.specs import FolderSpec
from ipa_bench.store import RunStore
from ipa_bench.suite import Suite, suite_from_folders
from ipa_bench.types import Case


@pytest.fixture(autouse=True)
def _own_cache(cache_folder, monkeypatch):
    monkeypatch.setenv("IPA_BENCH_CACHE", str(cache_folder))


@pytest.fixture
def suite(footage):
    return suite_from_folders(footage.clips, [("fine", footage.fine), ("poor", footage.poor)])


@pytest.fixture(scope="module")
def whole(footage, cache_folder, tmp_path_factory):
    """The folder of a run of everything by one process, which nothing happened to. It is not written to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    suite = suite_from_folders(footage.clips, [("fine", footage.fine), ("poor", footage.poor)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPA_BENCH_CACHE", str(cache_folder))
        harness.run(suite, folder, jobs=1)
    return folder


def numbers(store):
    return [(s.unit, s.metric, s.value, s.reason) for s in store.scores()]


def test_the_better_system_wins_and_a_second_run_has_nothing_to_do(suite, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    store = RunStore.load(tmp_path / "run")
    board = harness.view(store).leaderboard
    assert board.primary == "hand_quality@4"
    means = {row.model: row.cells["hand_quality@4"].mean for row in board.rows}
    assert means["fine"] > means["poor"]
    assert board.rows[0].model == "fine"
    assert {row.cells["hand_quality@4"].scored for row in board.rows} == {3}
    seen = []
    again = harness.run(suite, tmp_path / "run", jobs=1, progress=lambda *event: seen.append(event))
    assert numbers(again) == numbers(store)
    assert [event for event in seen if event[2]] == []


def test_a_run_that_other_observers_looked_at_is_scored_anew(suite, whole, tmp_path):
    """Nothing of what they saw is left beside what the present ones see, although the metrics' ids are the same."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    head = json.loads((folder / "run.json").read_text())
    assert head["observers"]["hands"] == head["environment"]["hands"] == "hands@2"
    del head["observers"]  # as versions wrote it that did not know the key
    head["environment"]["hands"] = "hands@1"
    (folder / "run.json").write_text(json.dumps(head))
    for shard in (folder / "scores").glob("*.jsonl"):
        lines = [json.loads(line) for line in shard.read_text().splitlines()]
        for score in (score for line in lines for score in line["scores"]):
            score["value"] = None if score["value"] is None else score["value"] + 0.25
        shard.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert numbers(RunStore.load(folder)) != numbers(RunStore.load(whole))
    part = harness.run(suite.limit(1), folder, jobs=1, sets=False)
    assert {unit[0] for unit in part.records()} == {suite.cases[0].id}
    assert part.read().seen_otherwise == 4
    again = harness.run(suite, folder, jobs=1, sets=False)
    assert numbers(again) == numbers(RunStore.load(whole))
    assert (again.header.looked, again.read().seen_otherwise) == (1, 0)
    assert again.header.observers["hands"] == "hands@2"


def test_one_and_two_jobs_and_any_order_of_cases_give_the_same_numbers(
    suite, whole, tmp_path, cache_folder, monkeypatch
):
    one = RunStore.load(whole)
    cold = tmp_path / "cache"  # or the second run would be served what the first one saw
    cold.mkdir()
    for model in cache_folder.glob("*.tflite"):
        shutil.copy(model, cold)
    monkeypatch.setenv("IPA_BENCH_CACHE", str(cold))
    cases = suite.cases[:0:-1]  # the last first, and not the first
    turned = Suite(suite.name, cases, suite.models[::-1], suite.seeds, suite.primary, whole=suite.cases)
    two = harness.run(turned, tmp_path / "two", jobs=2)
    assert numbers(two) == [found for found in numbers(one) if found[0][0] != suite.cases[0].id]
    assert one.header.suite_hash == two.header.suite_hash


def test_what_was_prepared_is_not_asked_again(suite, tmp_path, monkeypatch):
    prepared = harness.prepare(suite, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert [model.name for model in prepared.models] == ["fine", "poor"]
    assert prepared.header.suite_hash == suite.hash()
    for room, names in ((header, ("prepare", "metrics_of", "set_metrics_of", "header")), (generate, ("plans",))):
        for name in names:
            monkeypatch.setattr(room, name, lambda *_: pytest.fail("asked again"))
    monkeypatch.setattr(Suite, "hash", lambda _: pytest.fail("hashed again"))
    store = harness.run_prepared(prepared, jobs=1, sets=False)
    assert len(store.records()) == 6
    assert store.header == prepared.header


def test_a_lifted_limit_goes_on_and_details_hold_what_the_page_draws(suite, whole, tmp_path):
    part = harness.run(suite.limit(1), tmp_path / "run", jobs=1)
    assert {unit[0] for unit in part.records()} == {suite.cases[0].id}
    details = part.read_details((suite.cases[0].id, 0, "fine"))
    assert details.generated_landmarks.shape == (16, 2, 21, 2)
    assert details.driving_found.any()
    assert 0 <= details.driving_landmarks[details.driving_found].min() <= details.driving_landmarks.max() <= 1.3
    assert len(details.series["hand.keypoint_error@1"]) == 16
    lifted, fresh = harness.run(suite, tmp_path / "run", jobs=1), RunStore.load(whole)
    assert numbers(lifted) == numbers(fresh)
    assert harness.view(lifted).floors == harness.view(fresh).floors


def test_missing_and_broken_videos_are_reasons_and_are_tried_again(suite, footage, tmp_path):
    folder = tmp_path / "some"
    shutil.copytree(footage.fine, folder)
    whole = (folder / "anna__near.mp4").read_bytes()
    (folder / "anna__near.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "anna__wide.mp4").unlink()
    partial = suite_from_folders(footage.clips, [("some", folder)])
    scores = {s.unit[0]: s for s in harness.run(partial, tmp_path / "run", jobs=1).scores() if s.model == "some"}
    assert "truncated" in scores["anna__near"].reason or "decode" in scores["anna__near"].reason
    assert scores["anna__wide"].reason == "no video named anna__wide in some"
    assert scores["bert__wave"].reason is None
    board = harness.view(RunStore.load(tmp_path / "run")).leaderboard
    assert (board.rows[0].cells["hand_quality@4"].scored, board.rows[0].cells["hand_quality@4"].missing) == (1, 2)
    # mended, the next run takes them up
    for name in ("anna__near.mp4", "anna__wide.mp4"):
        shutil.copy(footage.fine / name, folder / name)
    mended = harness.run(partial, tmp_path / "run", jobs=1)
    assert all(s.reason is None for s in mended.scores() if s.model == "some" and s.metric == "hand_quality@4")


def test_a_video_that_was_made_anew_is_scored_anew(footage, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(footage.fine, folder)
    suite = suite_from_folders(footage.clips, [("model", folder)])
    before = harness.run(suite, tmp_path / "run", jobs=1)
    old = {u: r.sha256 for u, r in before.records().items()}
    stat = (folder / "bert__wave.mp4").stat()
    (folder / "bert__wave.mp4").write_bytes((footage.poor / "bert__wave.mp4").read_bytes())
    os.utime(folder / "bert__wave.mp4", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as cp -p would
    after = harness.run(suite, tmp_path / "run", jobs=1).records()
    changed = {u[0] for u, r in after.items() if r.sha256 != old[u]}
    assert changed == {"bert__wave"}
    (folder / "bert__wave.mp4").unlink()
    gone = harness.run(suite, tmp_path / "run", jobs=1).records()[("bert__wave", 0, "model")]
    assert gone.sha256 is None
    assert "no video" in gone.scores[0].reason


def test_the_floor_is_measured_and_no_model_of_the_run(whole):
    view = harness.view(RunStore.load(whole))
    assert 0 < view.floors["hand.keypoint_error@1"] < 0.1
    assert {model for _, _, model in view.records} == {"fine", "poor"}
    assert [row.model for row in view.leaderboard.rows] == ["fine", "poor"]


def test_a_ground_truth_of_another_length_is_drawn_where_it_belongs(footage, tmp_path):
    clip = footage.clips / "anna__near.mp4"
    truth = tmp_path / "truth.mp4"
    video.encode([f.image for f in video.read_frames(clip)][:15], truth, 25, crf=12)
    case = Case("near", clip, truth, identity="anna")
    suite = Suite("one", (case,), (FolderSpec(name="m", kind="folder", path=_folder(tmp_path, clip)),))
    store = harness.run(suite, tmp_path / "run", jobs=1)
    details = store.read_details(("near", 0, "m"))
    assert len(details.times) == 16
    assert np.isfinite(details.series["frame.ssim@1"][:15]).all()
    assert np.isnan(details.series["frame.ssim@1"][15])
    assert np.isfinite(details.series["hand.keypoint_error@1"]).all()


def _folder(tmp_path, clip):
    (tmp_path / "m").mkdir()
    shutil.copy(clip, tmp_path / "m" / "near.mp4")
    return tmp_path / "m"


def _kill_and_resume(server, footage, tmp_path, cache_folder, kills, limit):
    """Start the command again and again, killing it at random moments; the run that it leaves each time."""
    rng = random.Random(kills)
    killed, attempt = 0, 0
    while killed < kills:
        attempt += 1
        cache, out = tmp_path / f"cache{attempt}", tmp_path / f"run{attempt}"
        cache.mkdir()
        for model in cache_folder.glob("*.tflite"):
            shutil.copy(model, cache)
        environment = {**os.environ, "IPA_BENCH_CACHE": str(cache)}
        while True:
            command = ["run", footage.clips, footage.fine, footage.poor, "-o", out, *limit]
            process = server.start(command, tmp_path, environment, tmp_path / "said")
            status = process.kill_after(rng.uniform(0.1, 4)) if killed < kills else process.wait()
            if status != -signal.SIGKILL:
                assert status == 0, process.errors
                break
            killed += 1
        yield RunStore.load(out)


@pytest.mark.parametrize(("kills", "limit"), [(3, ("--limit", "1")), pytest.param(25, (), marks=pytest.mark.slow)])
def test_killed_at_random_moments_and_resumed_the_numbers_are_the_same(
    server, whole, footage, tmp_path, cache_folder, kills, limit
):
    every = numbers(RunStore.load(whole))
    for store in _kill_and_resume(server, footage, tmp_path, cache_folder, kills, limit):
        cases = {case.id for case in store.header.cases[: int(limit[1]) if limit else None]}
        assert numbers(store) == [found for found in every if found[0][0] in cases]


def test_workers_do_not_outlive_a_killed_parent(footage, tmp_path, cache_folder):
    psutil = pytest.importorskip("psutil")
    cache = tmp_path / "cache"
    cache.mkdir()
    for model in cache_folder.glob("*.tflite"):
        shutil.copy(model, cache)
    process = subprocess.Popen(
        [sys.executable, "-m", "ipa_bench", "run", str(footage.clips), str(footage.fine), "-j", "2", "-o", "run"],
        cwd=tmp_path,
        env={**os.environ, "IPA_BENCH_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    parent = psutil.Process(process.pid)
    deadline = time.monotonic() + 60
    children = []
    while time.monotonic() < deadline and len(children) < 3 and process.poll() is None:
        children = parent.children(recursive=True)
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert len(children) >= 2
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
