"""What ``validate`` and comparisons with a ground truth take, against how the same was computed before.

    pytest benchmarks/performance/test_validate.py --benchmark-only

User time of this process, both ways in turn in one run: the machine's other work does not count. Ratios are in
``extra_info``; that both ways give the same is asserted here.
"""

import time

import numpy as np
import pytest
from PIL import Image

from ipa_bench import video
from ipa_bench.cache import Cache
from ipa_bench.models import damage
from ipa_bench.observers import pixels
from ipa_bench.observers.looker import Looker
from ipa_bench.observers.pixels import PixelSession
from ipa_bench.scorer import Scorer
from ipa_bench.types import Case
from ipa_bench.validate import ladder


def in_turn(benchmark, ways, rounds):
    """Runs both ``ways`` in turn; median user time of the second over that of the first."""
    spent = {name: [] for name in ways}

    def both():
        for name, way in ways.items():
            begin = time.process_time()
            way()
            spent[name].append(time.process_time() - begin)

    benchmark.pedantic(both, rounds=rounds, iterations=1, warmup_rounds=1)
    medians = [float(np.median(values[1:])) for values in spent.values()]
    ratio = medians[1] / medians[0]
    names = dict(zip(ways, medians, strict=True))
    benchmark.extra_info.update(ratio=ratio, **{f"{name}_ms": 1000 * value for name, value in names.items()})
    return ratio


def counted(one, other):
    """Sum of squares, sum and pixels from how often each of the 256 differences occurs: how they were summed before."""
    difference = np.maximum(one, other) - np.minimum(one, other)
    height, width, _ = difference.shape
    counts = Image.frombuffer("L", (3 * width, height), difference, "raw", "L", 0, 1).histogram()
    how_often, values = np.array(counts, np.float64), np.arange(256, dtype=np.float64)
    return np.array([how_often @ values**2, how_often @ values, height * width])


def strided(image):
    """The luma as a sum of strided planes: how it was reduced before."""
    plane = np.asarray(Image.fromarray(image).convert("L"), np.float32)
    factor = max(1, round(min(plane.shape) / 256))
    height, width = (n - n % factor for n in plane.shape)
    total = sum(plane[i:height:factor, j:width:factor] for i in range(factor) for j in range(factor))
    return np.asarray(total / np.float32(factor**2), np.float32)


def test_pixels_of_a_large_frame(benchmark):
    """Sums and luma of 1920x1080; SSIM itself is as it was. The frames are as near as a generated one and its truth."""
    rng = np.random.default_rng(0)
    one = rng.integers(0, 255, (1080, 1920, 3), dtype=np.uint8)
    other = np.clip(one + rng.normal(0, 2, one.shape), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(pixels._sums(one, other), counted(one, other))
    np.testing.assert_array_equal(pixels.luma(one), strided(one))
    ways = {
        "before": lambda: (counted(one, other), strided(one), strided(other)),
        "now": lambda: (pixels._sums(one, other), pixels.luma(one), pixels.luma(other)),
    }
    assert in_turn(benchmark, ways, 8) < 0.8


def test_a_large_frame_that_three_observers_look_at(benchmark):
    """Hands, pixels and LPIPS each made a picture of it."""
    frames = [np.random.default_rng(i).integers(0, 255, (1080, 1920, 3), dtype=np.uint8) for i in range(4)]

    def once():
        with video.pictures_shared():
            return [[video.picture(frame) for _ in range(3)] for frame in frames]

    ways = {"before": lambda: [[Image.fromarray(frame) for _ in range(3)] for frame in frames], "now": once}
    assert all(np.array_equal(np.asarray(made[2]), frame) for made, frame in zip(once(), frames, strict=True))
    assert in_turn(benchmark, ways, 8) < 0.5


def full_scale(crop, points, size):
    """What surrounds a hand at full resolution: how it was made before."""
    from scipy.ndimage import gaussian_filter

    outside = 1 - damage._mask(crop.shape, points, size)
    sigma = 0.15 * size
    weight = gaussian_filter(outside, sigma, mode="nearest") + 1e-3
    return np.stack([gaussian_filter(crop[..., c] * outside, sigma, mode="nearest") / weight for c in range(3)], -1)


def test_a_hand_painted_over(benchmark, clips):
    hands = Looker().hands(clips[0])
    frame = next(iter(video.read_frames(clips[0]))).image
    points = hands.landmarks[0, int(np.argmax(hands.found[0]))]
    size = float(np.ptp(points, axis=0).max())
    ways = {
        "before": lambda: full_scale(frame, points, size),
        "now": lambda: damage._background(frame, points, size),
    }
    near = np.abs(ways["before"]() - ways["now"]())
    assert np.quantile(near, 0.95) < 4  # grey levels, of a picture that is blurred by a seventh of the hand
    assert in_turn(benchmark, ways, 4) < 0.5


@pytest.mark.parametrize("variant", [("stutter", "medium")], ids=["stutter"])
def test_frames_at_other_times(benchmark, clips, tmp_path, variant):
    """A version that shows the clean one's frames at other times, against storing it and looking at it again."""
    short = tmp_path / "short.mp4"
    images = [frame.image for index, frame in enumerate(video.read_frames(clips[1])) if 50 <= index < 74]
    video.encode(images, short, 25, crf=14)
    cache = Cache(tmp_path / "cache")
    hands = Looker(cache).hands(short)
    ladder.observe_variant(short, ladder.CLEAN, hands, cache)
    name, strength = variant
    level = damage.find(name).level(strength)

    def truth():
        return PixelSession(hands, (frame.image for frame in video.read_frames(short)))

    ways = {
        "looked at": lambda: ladder._observed(
            ladder._stored(short, hands, damage.find(name), strength), hands, truth()
        ),
        "put in order": lambda: ladder._out_of_time(short, level, name, hands, cache, truth()),
    }
    assert in_turn(benchmark, ways, 3) < 0.8


def scored(tmp_path, name, driving, own, keeps):
    """Scores of a video beside the one that drove it, and what the second and third model of the case would find."""
    looker = Looker(Cache(tmp_path / name))
    if not keeps:
        looker._truths, looker._observers["pixels"]._sides = video.Keeper(0), pixels.Sides(0)
    scorer = Scorer(looker)
    found = [scorer.score(clip, Case("case", driving, driving)).measured for clip in own]
    return [{name: each.value for name, each in measured.items()} for measured in found]


@pytest.mark.parametrize("models", [1, 2], ids=["score --driving", "two models"])
def test_a_large_ground_truth_is_decoded_once(benchmark, clips, tmp_path, models):
    """Clips of 1920x1080 beside their driving one, one thread, in a cold cache."""
    images = [frame.image for index, frame in enumerate(video.read_frames(clips[1])) if 50 <= index < 66]
    images = [video.resize(image, (1920, 1080)) for image in images]
    names = ("driving", "one", "other")[: models + 1]
    for crf, name in zip((16, 24, 28), names, strict=False):
        video.encode(images, tmp_path / f"{name}.mp4", 25, crf=crf)
    driving, *own = (tmp_path / f"{name}.mp4" for name in names)
    made: dict[str, list] = {}
    turn = iter(range(99))

    def way(keeps):
        made[keeps] = scored(tmp_path, f"cache{next(turn)}", driving, own, keeps)

    ratio = in_turn(benchmark, {"before": lambda: way(False), "now": lambda: way(True)}, 2)
    assert made[False] == made[True]
    benchmark.extra_info["ms_a_frame"] = benchmark.extra_info["now_ms"] / len(images) / models
    assert ratio < 0.97


def test_versions_of_a_clip_share_what_is_the_clip_s(benchmark, clips, tmp_path, monkeypatch):
    """Three versions of a clip: its frames and their side of SSIM, made anew or kept."""
    short = tmp_path / "short.mp4"
    video.encode([frame.image for index, frame in enumerate(video.read_frames(clips[0])) if index < 24], short, 25)
    hands = Looker(Cache(tmp_path / "hands")).hands(short)
    made, turn = {}, iter(range(99))

    def way(keeps):
        cache = Cache(tmp_path / f"cache{next(turn)}")
        monkeypatch.setattr(ladder, "_kept", video.Keeper() if keeps else video.Keeper(0))
        monkeypatch.setattr(ladder, "_sides", pixels.Sides() if keeps else pixels.Sides(0))
        variants = (ladder.CLEAN, ("jpeg", "mild"), ("late", "mild"))
        made[keeps] = [ladder.observe_variant(short, variant, hands, cache) for variant in variants]

    ratio = in_turn(benchmark, {"before": lambda: way(False), "now": lambda: way(True)}, 2)
    for one, other in zip(made[False], made[True], strict=True):
        assert all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)
    assert ratio < 0.97
