"""How fast the built-in world renders, on one core.

pytest benchmarks/performance/test_world.py --benchmark-only
"""

from ipa_bench import pose
from ipa_bench.embedded import estimator, world


def test_rendering(benchmark):
    """Frames with joints and masks; at least 100 a second are wanted."""
    takes = iter(range(10**6))
    benchmark.pedantic(lambda: world.clip("train", next(takes), 0), rounds=20, warmup_rounds=2)
    benchmark.extra_info["frames_per_second"] = round(world.FRAMES / benchmark.stats["mean"], 1)


def test_drawing_pose_maps(benchmark):
    """The same clip's pose map."""
    clip = world.clip("train", 0, 0)
    estimated = estimator.estimated_pose(clip, "train", 0, 0)
    benchmark(lambda: pose.draw(estimated))
    benchmark.extra_info["frames_per_second"] = round(world.FRAMES / benchmark.stats["mean"], 1)
