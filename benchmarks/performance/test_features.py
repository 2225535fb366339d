"""Two models against one reference: evaluated one by one, as published scripts do it, and by ``extract``.

    pytest benchmarks/performance/test_features.py --benchmark-only

Ratios are in ``extra_info``, of wall time and of processor time; absolute times belong to the machine. The network has
random weights: its speed does not depend on them. Both ways compute the same features, which is checked.

Passes alone would give 3/4: the reference goes through the network once instead of twice. The rest of the gain is the
network's layout and folded batch norms, and resizing only the pixels that are read: ``cache_alone`` and
``network_and_resize_alone`` tell them apart.
"""

import copy
import math
import time
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from ipa_bench import video
from ipa_bench.cache import Cache
from ipa_bench.observers.features import POLICIES, FeatureDefinition, TorchBackbone, extract

T = 16


class Spent(NamedTuple):
    """Seconds."""

    wall: float
    processor: float


def _timed(work):
    begin = time.perf_counter(), time.process_time()
    result = work()
    return Spent(time.perf_counter() - begin[0], time.process_time() - begin[1]), result


@pytest.fixture(scope="session")
def sets(clips, tmp_path_factory):
    """A reference and two models' videos of it: two cuts of 32 frames of real footage, re-encoded."""
    root = tmp_path_factory.mktemp("sets")
    made = {}
    for name, crf in (("reference", 18), ("one", 30), ("two", 38)):
        made[name] = []
        for index, clip in enumerate(clips):
            images = [frame.image for k, frame in enumerate(video.read_frames(clip)) if 24 <= k < 56]
            (root / name).mkdir(exist_ok=True)
            made[name].append(root / name / f"{index}.mp4")
            video.encode(images, made[name][-1], 25, crf=crf)
    return made


@pytest.fixture(scope="session")
def i3d():
    """I3D with random weights that keep activations in range, as it is published, and made ready to run."""
    from ipa_bench.nets.fold import prepare
    from ipa_bench.nets.i3d import BICUBIC_LIMIT, I3D

    torch.manual_seed(0)
    net = I3D(limit=BICUBIC_LIMIT).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.Conv3d):
            torch.nn.init.kaiming_normal_(module.weight)
    backbone = TorchBackbone(prepare(copy.deepcopy(net)), "i3d-random", "0" * 64, 224, 9, 400)
    return net, backbone


# ---------------------------------------------------------------------------------------------------------------------
# one evaluation as published scripts do it: whole clips in memory, floats of whole frames, one window at a time


def _pad_same(x, kernel, stride):
    pads = []
    for size, k, s in reversed(list(zip(x.shape[2:], kernel, stride, strict=True))):
        total = max((-(-size // s) - 1) * s + k - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


def _unit(unit, x):
    conv, norm = unit.conv3d, unit.bn
    x = F.conv3d(_pad_same(x, conv.kernel_size, conv.stride), conv.weight, None, conv.stride)
    return F.relu(F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0, norm.eps))


def _pool(x, kernel, stride):
    return F.max_pool3d(_pad_same(x, kernel, stride), kernel, stride)


def _mixed(block, x):
    return torch.cat(
        [
            _unit(block.b0, x),
            _unit(block.b1b, _unit(block.b1a, x)),
            _unit(block.b2b, _unit(block.b2a, x)),
            _unit(block.b3b, _pool(x, (3, 3, 3), (1, 1, 1))),
        ],
        1,
    )


def _plain_i3d(net, x):
    """The graph in PyTorch's default layout with batch norms, as the public ports of it are written."""
    x = _pool(_unit(net.Conv3d_1a_7x7, x), (1, 3, 3), (1, 2, 2))
    x = _unit(net.Conv3d_2c_3x3, _unit(net.Conv3d_2b_1x1, x))
    x = _pool(x, (1, 3, 3), (1, 2, 2))
    x = _pool(_mixed(net.Mixed_3c, _mixed(net.Mixed_3b, x)), (3, 3, 3), (2, 2, 2))
    for name in ("Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f"):
        x = _mixed(getattr(net, name), x)
    x = _mixed(net.Mixed_5c, _mixed(net.Mixed_5b, _pool(x, (2, 2, 2), (2, 2, 2))))
    head = net.logits.conv3d
    return F.conv3d(F.avg_pool3d(x, (2, 7, 7), 1), head.weight, head.bias).mean((2, 3, 4))


def _styleganv(frames):
    clip = torch.from_numpy(frames).permute(3, 0, 1, 2).float() / 255
    height, width = clip.shape[2:]
    ratio = 224 / min(height, width)
    size = (224, math.ceil(width * ratio)) if height < width else (math.ceil(height * ratio), 224)
    clip = F.interpolate(clip, size=size, mode="bilinear", align_corners=False)
    top, left = ((n - 224) // 2 for n in size)
    return (clip[:, :, top : top + 224, left : left + 224] - 0.5) * 2


def _disco(frames):
    resized = [
        np.stack(
            [np.asarray(Image.fromarray(image[:, :, c].astype(np.float32)).resize((224, 224), 3)) for c in range(3)]
        )
        for image in frames
    ]
    return torch.from_numpy(np.stack(resized, 1)) / 127.5 - 1


def _published(paths, net, resize):
    rows = []
    for path in paths:
        clip = resize(video.load(path).frames)
        with torch.inference_mode():
            rows += [_plain_i3d(net, clip[None, :, s : s + T]) for s in range(0, clip.shape[1] - T + 1, T)]
    return torch.cat(rows).numpy()


# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "resize"), [("styleganv", _styleganv), ("disco-legacy", _disco)])
def test_two_models_and_a_reference(benchmark, sets, i3d, tmp_path, policy, resize):
    net, backbone = i3d
    definition = FeatureDefinition.of(backbone, policy=policy, length=T, stride=T)
    evaluations = [sets["reference"], sets["one"], sets["reference"], sets["two"]]
    rounds = []

    def ours(cache):
        return [extract(paths, definition, backbone, cache) for paths in evaluations]

    def once():
        cache = Cache(tmp_path / f"cache{len(rounds)}")
        published, theirs = _timed(lambda: [_published(paths, net, resize) for paths in evaluations])
        cached, found = _timed(lambda: ours(cache))
        uncached, _ = _timed(lambda: ours(None))
        warm, again = _timed(lambda: ours(cache))
        assert sum(features.passed for features in found) == 3 * 4  # K + 1 passes of 2 clips of 2 windows
        assert sum(features.decoded + features.passed for features in again) == 0
        for features, expected in zip(found, theirs, strict=True):
            assert np.abs(features.values - expected).max() < 1e-3 * np.abs(expected).max()
        rounds.append((published, cached, uncached, warm))

    benchmark.pedantic(once, rounds=3, iterations=1)
    told = {}
    for index, kind in enumerate(Spent._fields):
        published, cached, uncached, warm = (
            np.array([spent[index] for spent in way]) for way in zip(*rounds, strict=True)
        )
        told[f"{kind}_against_published"] = float(np.median(cached / published))
        told[f"{kind}_cache_alone"] = float(np.median(cached / uncached))
        told[f"{kind}_network_and_resize_alone"] = float(np.median(uncached / published))
        told[f"{kind}_rerun"] = float(np.median(warm / cached))
    benchmark.extra_info.update(told)
    assert told["wall_against_published"] < 0.55
    assert told["processor_cache_alone"] < 0.9  # wall time of parts so alike tells more about a busy machine
    assert told["wall_rerun"] < 0.05


@pytest.mark.parametrize("name", POLICIES)
def test_resize_a_frame(benchmark, clips, name):
    """Milliseconds for a frame of 1280x720, one thread."""
    image = next(iter(video.read_frames(clips[1]))).image
    benchmark(POLICIES[name].frame, image)
