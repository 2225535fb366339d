"""How fast faces are found and told apart, one thread, processor time.

    IPA_BENCH_MEDIA=FOLDER OMP_NUM_THREADS=1 pytest benchmarks/performance/test_faces.py --benchmark-only

Times are of a face (SFace, dlib), of a picture (YuNet) and of a frame of 1280 x 720 with one face, decoding left out;
last of whole looks at such a clip, with faces and without, and what memory they take.
"""

import itertools
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from ipa_bench import video, weights
from ipa_bench.cache import Cache
from ipa_bench.nets import dlib_face, sface
from ipa_bench.nets.dlib_face import load_dlib_face
from ipa_bench.nets.sface import load_sface
from ipa_bench.nets.yunet import detect, load_yunet
from ipa_bench.observers.faces import SFACE, FaceObserver
from ipa_bench.observers.looker import Looker

FRAMES = 24
HANDS, FACES = ("hands",), ("faces.sface",)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def _timed(benchmark, work, count):
    """Processor milliseconds of one of ``count``, the fastest of five rounds."""
    times = []

    def once():
        begin = time.process_time()
        work()
        times.append((time.process_time() - begin) / count * 1e3)

    benchmark.pedantic(once, rounds=5, warmup_rounds=1)
    benchmark.extra_info["cpu_ms"] = round(min(times), 1)
    print(f"{benchmark.name}: {min(times):.1f} ms")
    return min(times)


@pytest.mark.parametrize("size", [(640, 640), (384, 640), (320, 320)])
def test_detection(benchmark, size):
    net = load_yunet(weights.path("yunet"))
    picture = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    assert _timed(benchmark, lambda: detect(net, picture), 1) < 400


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("name", ["sface", "dlib"])
def test_embedding(benchmark, name, batch):
    if name == "sface":
        net, side = load_sface(weights.path("sface")), sface.SIDE
    else:
        net, side = load_dlib_face(weights.path("dlib_face")), dlib_face.SIDE
    faces = torch.rand(batch, 3, side, side) * 255

    def embed():
        with torch.inference_mode():
            net(faces)

    assert _timed(benchmark, embed, batch) < 250


def test_frames(benchmark, clips):
    frames = [frame for frame, _ in itertools.islice(video.read_frames(clips[1]), FRAMES)]
    observer = FaceObserver(SFACE)
    assert observer.load() is None

    def look():
        session = observer.start()
        for n, frame in enumerate(frames):
            session.push(frame, n / 25)
        assert session.finish()["found"].all()

    assert _timed(benchmark, look, FRAMES) < 500


@pytest.fixture(scope="module")
def parts(clips, tmp_path_factory):
    """The first frames of the clip of 1280 x 720, as files: frames -> path."""
    folder = tmp_path_factory.mktemp("parts")
    made = {}
    for count in (FRAMES, 3 * FRAMES):
        made[count] = folder / f"{count}.mp4"
        video.encode((frame.image for frame in itertools.islice(video.read_frames(clips[1]), count)), made[count], 25)
    return made


def test_the_whole_with_faces_and_without(benchmark, parts, tmp_path):
    """Decoding, hands and their bookkeeping, by turns with and without faces, nothing known, one thread."""
    lookers = {names: Looker(Cache(tmp_path / str(len(names)))) for names in (HANDS, (*HANDS, *FACES))}
    times = {names: [] for names in lookers}

    def both():
        for names, looker in lookers.items():
            shutil.rmtree(tmp_path / str(len(names)), ignore_errors=True)
            begin = time.process_time()
            assert set(names) == set(looker.look(parts[FRAMES], names).observations)
            times[names].append(time.process_time() - begin)

    benchmark.pedantic(both, rounds=2, warmup_rounds=1)
    for looker in lookers.values():
        looker.close()
    off, on = (FRAMES / min(each[1:]) for each in times.values())
    benchmark.extra_info.update(frames_without=round(off, 1), frames_with=round(on, 1))
    print(f"{off:.1f} frames a processor second without faces, {on:.1f} with")
    assert on > off / 10


def test_memory_is_flat_in_the_length_of_a_clip(benchmark, parts, tmp_path):
    """Peak of a process that looks for hands and faces."""
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom ipa_bench.cache import Cache\n"
        "from ipa_bench.observers.looker import Looker\n"
        f"Looker(Cache(Path(sys.argv[1]))).look(Path(sys.argv[2]), {(*HANDS, *FACES)!r})\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)\n"
    )
    peaks = {}

    def each():
        for count, clip in parts.items():
            command = [sys.executable, "-c", code, str(tmp_path / str(count)), str(clip)]
            peaks[count] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    benchmark.pedantic(each, rounds=1)
    benchmark.extra_info["peak_mb"] = list(peaks.values())
    print(f"peak memory, MB, by frames: {peaks}")
    assert peaks[3 * FRAMES] < peaks[FRAMES] + 30
