"""How fast scoring is, and its ratio to a plain loop over the official runtime in the same run.

    pytest benchmarks/performance --benchmark-only

Ratios are in ``extra_info``: absolute times belong to the machine.
"""

import json
import os
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from PIL import Image

from ipa_bench import video


def _tool(*arguments):
    """Wall time of the command as a user runs it."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "ipa_bench", *map(str, arguments)], check=True, capture_output=True)
    return time.perf_counter() - begin


def _plain_loop(clips):
    """Decode, detect, keep: what a user of MediaPipe's Tasks API writes."""
    begin = time.perf_counter()
    code = (
        "import sys\nfrom PIL import Image\nfrom ipa_bench import video\n"
        "from ipa_bench.observers.mediapipe.tasks import TasksHands\n"
        "net = TasksHands()\n"
        "for path in sys.argv[1:]:\n"
        "    hands = [net.find(Image.fromarray(frame.image)) for frame in video.read_frames(path)]\n"
        "net.close()\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, *map(str, clips)], check=True, capture_output=True, env=dict(os.environ)
    )
    return time.perf_counter() - begin


def test_scoring_against_a_plain_loop_over_mediapipe(benchmark, clips, cold_cache):
    try:
        _plain_loop([])  # in a process of its own: the runtime's threads would take time from what is measured
    except subprocess.CalledProcessError as error:
        pytest.skip(error.stderr.decode()[-200:])
    frames = sum(1 for clip in clips for _ in video.read_frames(clip))
    ours, theirs = [], []

    def both():
        cold_cache()
        theirs.append(_plain_loop(clips))
        ours.append(_tool("score", *clips))

    benchmark.pedantic(both, rounds=5, iterations=1)
    ratio = float(np.median(np.array(theirs) / np.array(ours)))
    benchmark.extra_info.update(
        frames_per_second=frames / float(np.median(ours)),
        mediapipe_frames_per_second=frames / float(np.median(theirs)),
        times_faster=ratio,
    )
    assert ratio >= 1.5


def test_a_second_run_is_served_from_the_cache(benchmark, clips, cold_cache, tmp_path):
    """In one process, so that starting Python is not what is measured; then as a command."""
    from ipa_bench.observers.looker import Looker
    from ipa_bench.scorer import Scorer
    from ipa_bench.types import Case

    def score():
        begin = time.perf_counter()
        scorer = Scorer(Looker(threads=2))
        for clip in clips:
            scorer.score(clip, Case(clip.stem, clip, clip))
        return time.perf_counter() - begin

    cold, warm = [], []

    def both():
        cold_cache()
        cold.append(score())
        warm.append(score())

    benchmark.pedantic(both, rounds=5, iterations=1)
    cold_cache()
    command = [_tool("score", *clips) for _ in range(2)]
    ratio = float(np.median(np.array(warm) / np.array(cold)))
    benchmark.extra_info.update(warm_over_cold=ratio, command_warm_over_cold=command[1] / command[0])
    assert ratio < 0.1
    assert command[1] / command[0] < 0.1


def test_memory_is_flat_in_the_number_of_clips(benchmark, clips, cold_cache, tmp_path):
    """Peak memory of the command and its workers over 2 clips and over 200 (1 s each, all different)."""
    images = [f.image for i, f in enumerate(video.read_frames(clips[0])) if i < 25]
    images = [video.resize(image, (320, 180)) for image in images]
    folders = {}
    for count in (2, 200):
        folders[count] = tmp_path / f"clips{count}"
        folders[count].mkdir()
        for index in range(count):
            marked = [image.copy() for image in images]
            for image in marked:
                image[:4, :4] = index
            video.encode(marked, folders[count] / f"c{index:03}.mp4", 25, preset="ultrafast")

    def peak(folder):
        scores = tmp_path / "scores.json"
        with scores.open("w") as out:
            # one process: with two clips two would have more threads than with two hundred
            command = [sys.executable, "-m", "ipa_bench", "score", str(folder), "--json", "-j", "1"]
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        most, watched = 0, psutil.Process(process.pid)
        while process.poll() is None:
            try:
                family = [watched, *watched.children(recursive=True)]
                most = max(most, sum(p.memory_info().rss for p in family))
            except psutil.Error:
                pass
            time.sleep(0.05)
        assert len(json.loads(scores.read_text())) == len(list(folder.iterdir()))
        return most / 2**20

    peaks = {}
    benchmark.pedantic(lambda: peaks.update({n: peak(folder) for n, folder in folders.items()}), rounds=1, iterations=1)
    benchmark.extra_info.update({f"peak_mb_{n}_clips": round(value) for n, value in peaks.items()})
    assert peaks[200] < 1.15 * peaks[2]


@pytest.mark.parametrize("index", [0, 1], ids=["640x360", "1280x720"])
def test_decode(benchmark, clips, index):
    benchmark.pedantic(lambda: sum(1 for _ in video.read_frames(clips[index])), rounds=3, iterations=1)


@pytest.mark.parametrize("index", [0, 1], ids=["640x360", "1280x720"])
def test_observe_one_thread(benchmark, clips, index):
    from ipa_bench.observers.hands import HandObserver

    frames = [f for i, f in enumerate(video.read_frames(clips[index])) if i < 64]
    observer = HandObserver()
    observer.observe([frames[0].image], [0.0], "")
    benchmark.pedantic(
        lambda: observer.observe([f.image for f in frames], [f.time for f in frames], ""), rounds=3, iterations=1
    )
    benchmark.extra_info["frames_per_second"] = 64 / benchmark.stats.stats.median


def test_compare_pixels(benchmark):
    from ipa_bench.observers.pixels import Box, Side, compare, luma

    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 255, (720, 1280, 3), dtype=np.uint8) for _ in range(2))
    benchmark(lambda: compare(one, other, [Box(300, 200, 600, 500)], Side(luma(other))))


def test_one_hand(benchmark, clips):
    from ipa_bench.observers.mediapipe.palm import HandNet

    image = Image.fromarray(next(iter(video.read_frames(clips[0]))).image)
    net = HandNet()
    (palm, *_) = net.palms(image)
    benchmark(net.hand, image, palm)
