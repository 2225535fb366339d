"""How much of two cores the process pool makes use of when it scores clips that nobody has looked at.

    pytest benchmarks/performance/test_pool.py --benchmark-only

Efficiency is the time of one process over twice the time of two, in the same round; both times hold the start of the
workers and the loading of the models. The machine must have nothing else to do. ``ceiling`` in ``extra_info`` is the
same ratio for two processes that share nothing, each with half of the clips: cores that share caches, or are two
threads of one, do not reach 1 by any means.
"""

import subprocess
import sys
import time

import numpy as np
import pytest

from ipa_bench import video
from ipa_bench.engine import processes as pool

#: different clips of 48 frames: some 20 s of work for one process
CLIPS = 24


@pytest.fixture(scope="module")
def many(clips, tmp_path_factory):
    """Clips of real footage at 640 pixels, each with a mark that makes it another file."""
    folder = tmp_path_factory.mktemp("many")
    images = [frame.image for _, frame in zip(range(48), video.read_frames(clips[0]), strict=False)]
    for index in range(CLIPS):
        marked = [image.copy() for image in images]
        for image in marked:
            image[:4, :4] = 10 * index
        video.encode(marked, folder / f"c{index:02}.mp4", 25, preset="ultrafast")
    made = sorted(folder.iterdir())
    assert len({video.file_sha256(path) for path in made}) == CLIPS  # or the cache would save some of the work
    return made


def _command(clips, jobs):
    return [sys.executable, "-c", _SCORE, str(jobs), *map(str, clips)]


#: what `ipa-bench score --jobs N` does between starting Python and printing
_SCORE = """
import sys, time
from pathlib import Path
from ipa_bench.engine import processes as pool
from ipa_bench.harness import workers as work
pool.prepare("ipa_bench.harness.workers")
begin = time.perf_counter()
clips = [Path(name) for name in sys.argv[2:]]
found = list(work.score_files(clips, None, False, "litert", int(sys.argv[1]), lambda *_: None))
assert all("scores" in result for result in found), found
print(time.perf_counter() - begin)
"""


def _seconds(clips, jobs):
    shown = subprocess.run(_command(clips, jobs), check=True, capture_output=True, text=True)
    return float(shown.stdout)


def test_two_processes_against_one(benchmark, many, cold_cache):
    if pool.cores() < 2:
        pytest.skip("needs two cores")
    one, two, apart = [], [], []

    def each():
        cold_cache()
        one.append(_seconds(many, 1))
        cold_cache()
        two.append(_seconds(many, 2))
        cold_cache()
        begin = time.perf_counter()
        halves = [subprocess.Popen(_command(many[k::2], 1), stdout=subprocess.PIPE, text=True) for k in (0, 1)]
        apart.append(max(float(half.communicate()[0]) for half in halves))
        assert apart[-1] < time.perf_counter() - begin

    benchmark.pedantic(each, rounds=5, iterations=1)
    efficiency = float(np.median(np.array(one) / (2 * np.array(two))))
    benchmark.extra_info.update(
        one_process_s=float(np.median(one)),
        two_processes_s=float(np.median(two)),
        efficiency=efficiency,
        ceiling=float(np.median(np.array(one) / (2 * np.array(apart)))),
    )
    assert efficiency >= 0.9
