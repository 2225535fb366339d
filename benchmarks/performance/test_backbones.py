"""How fast the backbones of FVD, FID-VID and LPIPS are, against the same network as it is usually written.

    pytest benchmarks/performance/test_backbones.py --benchmark-only

The usual form is one clip at a time, float32, channels first, a batch norm after every convolution. Both are timed
in turn in the same run; what is asserted is the median of their ratios per clip. On two free cores I3D has to be 1.7
times as fast in float32 and 3 times in bfloat16. With OMP_NUM_THREADS=1 processor time is taken, which other work on
the machine disturbs least; with more threads it is wall time, and the cores have to be free.
"""

import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ipa_bench.nets.checkpoint import random_weights
from ipa_bench.nets.fold import prepare
from ipa_bench.nets.i3d import I3D
from ipa_bench.nets.lpips import Lpips
from ipa_bench.nets.resnet3d import ResNet3D

ROUNDS = 5
BATCH = 4


def _clock():
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def _in_turn(benchmark, usual, ours, *, clips):
    """Median ratio of times per clip; ``usual`` does one clip and ``ours`` does ``clips``."""
    times = {"usual": [], "ours": []}

    def both():
        for name, work in (("usual", usual), ("ours", ours)):
            begin = _clock()
            work()
            times[name].append(_clock() - begin)

    with torch.inference_mode():
        usual(), ours()
        benchmark.pedantic(both, rounds=ROUNDS, iterations=1)
    each = {"usual": np.array(times["usual"]), "ours": np.array(times["ours"]) / clips}
    ratio = float(np.median(each["usual"] / each["ours"]))
    seconds = {f"{name}_seconds_per_clip": float(values.min()) for name, values in each.items()}
    benchmark.extra_info.update(times_faster=ratio, threads=torch.get_num_threads(), **seconds)
    return ratio


# ---------------------------------------------------------------------------------------------------------------------
# I3D as it is usually written


def _same(x, kernel, stride):
    pads = []
    for size, length, step in zip(x.shape[2:], kernel, stride, strict=True):
        total = max((-(-size // step) - 1) * step + length - size, 0)
        pads = [total // 2, total - total // 2, *pads]
    return F.pad(x, pads)


class UsualI3D:
    """Pad, convolve, normalise, ReLU; pad, pool; four branches and a concatenation."""

    def __init__(self, state):
        self.state = state

    def unit(self, x, name, kernel=1, stride=1):
        x = _same(x, [kernel] * 3, [stride] * 3)
        x = F.conv3d(x, self.state[f"{name}.conv3d.weight"], stride=stride)
        norm = [self.state[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.relu(F.batch_norm(x, *norm, eps=1e-3))

    def pool(self, x, kernel, stride):
        return F.max_pool3d(_same(x, kernel, stride), kernel, stride)

    def mixed(self, x, name):
        b1 = self.unit(self.unit(x, f"{name}.b1a"), f"{name}.b1b", 3)
        b2 = self.unit(self.unit(x, f"{name}.b2a"), f"{name}.b2b", 3)
        b3 = self.unit(self.pool(x, (3, 3, 3), (1, 1, 1)), f"{name}.b3b")
        return torch.cat([self.unit(x, f"{name}.b0"), b1, b2, b3], 1)

    def __call__(self, x):
        x = self.pool(self.unit(x, "Conv3d_1a_7x7", 7, 2), (1, 3, 3), (1, 2, 2))
        x = self.unit(self.unit(x, "Conv3d_2b_1x1"), "Conv3d_2c_3x3", 3)
        x = self.pool(x, (1, 3, 3), (1, 2, 2))
        for names, pool in (("3b 3c", 3), ("4b 4c 4d 4e 4f", 2), ("5b 5c", None)):
            for name in names.split():
                x = self.mixed(x, f"Mixed_{name}")
            x = self.pool(x, (pool,) * 3, (2, 2, 2)) if pool else x
        x = F.avg_pool3d(x, (2, 7, 7), 1)
        return F.conv3d(x, self.state["logits.conv3d.weight"], self.state["logits.conv3d.bias"]).mean((2, 3, 4))


@pytest.mark.parametrize(
    ("dtype", "target"), [(torch.float32, 1.7), (torch.bfloat16, 3.0)], ids=["float32", "bfloat16"]
)
def test_i3d(benchmark, dtype, target):
    net = I3D()
    random_weights(net, 0)
    usual, ours = UsualI3D({name: t.detach() for name, t in net.state_dict().items()}), prepare(net, dtype)
    clips = torch.rand(BATCH, 3, 16, 224, 224) * 2 - 1
    with torch.inference_mode():  # the same network: a ratio of different things would mean nothing
        expected = usual(clips[:1])
        assert float((ours(clips[:1]) - expected).abs().max()) < 0.02 * float(expected.abs().max())
    assert _in_turn(benchmark, lambda: usual(clips[:1]), lambda: ours(clips), clips=BATCH) >= target


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_resnet(benchmark, dtype):
    net = ResNet3D()
    random_weights(net, 0)
    usual, ours = net.eval(), prepare(net, dtype)
    clips = torch.rand(BATCH, 3, 16, 112, 112) * 255
    assert _in_turn(benchmark, lambda: usual(clips[:1]), lambda: ours(clips), clips=BATCH) >= 1.0


@pytest.mark.parametrize("net", ["alex", "squeeze", "vgg"])
def test_lpips_with_the_truths_features_kept(benchmark, net):
    """Against both images of every pair, one pair at a time: what scoring several models against one truth costs."""
    lpips = Lpips(net)
    random_weights(lpips, 0)
    usual, ours = lpips.eval(), prepare(lpips)
    source = np.random.default_rng(0)
    one, other = (source.integers(0, 256, (BATCH, 256, 256, 3), dtype=np.uint8) for _ in range(2))
    kept = ours.features(other)

    def pair():
        return usual.distance(usual.features(one[:1]), usual.features(other[:1]))

    ratio = _in_turn(benchmark, pair, lambda: ours.distance(ours.features(one), kept), clips=BATCH)
    assert ratio >= 1.2
