"""How fast faces are found and told apart, one thread, processor time.

    IPA_BENCH_MEDIA=FOLDER OMP_NUM_THREADS=1 pytest benchmarks/performance/test_faces.py --benchmark-only

Times are of a face (SFace, dlib), of a picture (YuNet) and of a frame of 1280 x 720 with one face, decoding left out.
"""

import itertools
import time

import numpy as np
import pytest
import torch

from ipa_bench import video, weights
from ipa_bench.nets import dlib_face, sface
from ipa_bench.nets.dlib_face import load_dlib_face
from ipa_bench.nets.sface import load_sface
from ipa_bench.nets.yunet import detect, load_yunet
from ipa_bench.observers.faces import SFACE, FaceObserver

FRAMES = 24


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
