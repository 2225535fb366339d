"""I3D against a float64 implementation written out elsewhere, and against published counts, names and distances."""

import copy

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ipa_bench.errors import Unscorable, UserError
from ipa_bench.nets.checkpoint import load, random_weights
from ipa_bench.nets.fold import prepare
from ipa_bench.nets.i3d import BICUBIC_LIMIT, I3D
from tests.nets.golden import frechet, golden, golden_weights, off, published_file
from tests.references.make_backbone_golden import I3D_FRAMES, clip


@pytest.fixture(scope="module")
def drawn():
    return golden_weights(I3D(), "i3d")


@pytest.fixture(scope="module")
def ready(drawn):
    return prepare(drawn)


def with_pooling(net, frames):
    other = copy.copy(net)
    other.pool_frames = frames
    return other


@pytest.mark.parametrize("frames", I3D_FRAMES)
def test_logits_are_those_of_the_slow_float64_network(ready, frames):
    given = clip(frames, 224, -1, 1).float()
    logits = ready(given)
    assert logits.shape == (1, 400)
    assert logits.dtype == torch.float32
    assert off(logits[0], golden(f"i3d_{frames}")) < 1e-5
    assert off(with_pooling(ready, 1)(given)[0], golden(f"i3d_disco_{frames}")) < 1e-5
    # the two poolings differ by far more than that, except where one window sees all there is
    apart = np.abs(golden(f"i3d_{frames}") - golden(f"i3d_disco_{frames}")).max()
    assert apart < 1e-12 if frames <= 16 else apart > 1e-3


@torch.no_grad()
def test_the_network_as_loaded_gives_the_same(drawn):
    assert off(drawn(clip(9, 224, -1, 1).float())[0], golden("i3d_9")) < 1e-5


def test_bfloat16_is_close_and_its_logits_are_float32(drawn):
    logits = prepare(drawn, torch.bfloat16)(clip(16, 224, -1, 1).float())
    assert logits.dtype == torch.float32
    assert 1e-5 < off(logits[0], golden("i3d_16")) < 2e-2


@pytest.mark.gpu
def test_a_gpu_gives_the_same(drawn, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    for frames in I3D_FRAMES:
        logits = prepare(drawn, device="cuda")(clip(frames, 224, -1, 1).float())
        assert off(logits[0].cpu(), golden(f"i3d_{frames}")) < 1e-4
        logits = prepare(drawn, torch.bfloat16, "cuda")(clip(frames, 224, -1, 1).float())
        assert off(logits[0].cpu(), golden(f"i3d_{frames}")) < 2e-2


def test_a_clip_does_not_depend_on_its_batch(ready):
    one, other = clip(9, 224, -1, 1).float(), clip(9, 224, -0.5, 0.2).float()
    both = ready(torch.cat([one, other]))
    assert off(both, torch.cat([ready(one), ready(other)]).double().numpy()) < 1e-5
    assert float((both[0] - both[1]).abs().max()) > 1e-3


def test_logits_are_affine_in_the_pooled_features(drawn, ready):
    pooled = ready.pooled(clip(9, 224, -1, 1).float())
    assert pooled.shape == (1, 1024)
    weight, bias = (t.detach().double().numpy() for t in drawn.logits.conv3d.parameters())
    assert off(ready.logits(pooled)[0], weight.reshape(400, 1024) @ pooled[0].double().numpy() + bias) < 1e-6


def test_parameters_and_operations_are_the_published_counts():
    net = I3D()
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(12.70e6, abs=0.005e6)
    meta = net.to("meta")
    with FlopCounterMode(display=False) as counter:
        meta.logits(meta._pooled(torch.empty(1, 3, 16, 224, 224, device="meta")))
    assert counter.get_total_flops() == pytest.approx(55.6e9, abs=0.05e9)


def test_names_are_those_of_the_published_file():
    state = I3D().state_dict()
    # 57 units of a weight and five entries of a batch norm, and the logits' weight and bias
    assert len(state) == 57 * 6 + 2
    expected = {
        "Conv3d_1a_7x7.conv3d.weight": (64, 3, 7, 7, 7),
        "Conv3d_2c_3x3.bn.running_var": (192,),
        "Mixed_3b.b0.conv3d.weight": (64, 192, 1, 1, 1),
        "Mixed_4e.b2b.conv3d.weight": (64, 32, 3, 3, 3),
        "Mixed_4f.b1a.bn.weight": (160,),
        "Mixed_5c.b3b.conv3d.weight": (128, 832, 1, 1, 1),
        "logits.conv3d.weight": (400, 1024, 1, 1, 1),
        "logits.conv3d.bias": (400,),
    }
    assert {name: tuple(state[name].shape) for name in expected} == expected


def test_names_of_the_torchscript_file_are_translated(drawn, tmp_path):
    translation = {"b0": "branch_0", "b1a": "branch_1.0", "b1b": "branch_1.1"}
    translation |= {"b2a": "branch_2.0", "b2b": "branch_2.1", "b3b": "branch_3.1", "bn": "batch3d"}
    state = {}
    for name, tensor in drawn.state_dict().items():
        head, *rest = name.split(".")
        head = "conv3d_0c_1x1" if head == "logits" else head[0].lower() + head[1:]
        state[".".join([head, *(translation.get(part, part) for part in rest)])] = tensor
    assert {"mixed_3b.branch_1.0.conv3d.weight", "conv3d_1a_7x7.batch3d.bias"} <= state.keys()
    torch.save(state, tmp_path / "w.pt")
    net = I3D()
    load(net, tmp_path / "w.pt")
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in drawn.state_dict().items())


def test_norms_without_gamma_have_gamma_one(drawn, tmp_path):
    state = {name: tensor for name, tensor in drawn.state_dict().items() if not name.endswith("bn.weight")}
    torch.save(state, tmp_path / "w.pt")
    net = I3D()
    random_weights(net, 1)
    load(net, tmp_path / "w.pt")
    assert torch.equal(net.Mixed_3b.b0.bn.weight, torch.ones(64))
    assert torch.equal(net.Mixed_3b.b0.bn.bias, drawn.Mixed_3b.b0.bn.bias)
    state["Mixed_3b.b0.bn.weight"] = torch.ones(64)  # some and not all: a damaged file
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"56 missing \(Conv3d_1a_7x7.bn.weight, "):
        load(net, tmp_path / "w.pt")


def test_too_few_frames_are_unscorable(ready):
    with pytest.raises(Unscorable, match="9 frames or more, the clip has 8"):
        ready(torch.zeros(1, 3, 8, 224, 224))
    assert with_pooling(ready, 1)(torch.zeros(1, 3, 1, 224, 224)).shape == (1, 400)


@pytest.mark.parametrize("value", [1.002, -1.002, 255.0, float("nan"), float("inf")])
def test_values_out_of_range_are_refused(ready, value):
    given = torch.zeros(1, 3, 9, 224, 224)
    given[0, 1, 2, 3, 4] = value
    with pytest.raises(UserError, match=r"RGB in \[-1, 1\]"):
        ready(given)


def test_a_bicubic_resize_may_overshoot():
    net = I3D(limit=BICUBIC_LIMIT)
    net._check(torch.full((1, 3, 9, 224, 224), 1.5))
    with pytest.raises(UserError):
        net._check(torch.full((1, 3, 9, 224, 224), 1.6))


@pytest.mark.parametrize(
    "given",
    [
        torch.zeros(1, 9, 3, 224, 224),
        torch.zeros(1, 3, 9, 112, 112),
        torch.zeros(3, 9, 224, 224),
        torch.zeros(0, 3, 9, 224, 224),
        torch.zeros(1, 3, 9, 224, 224, dtype=torch.uint8),
    ],
)
def test_other_shapes_and_types_are_refused(ready, given):
    with pytest.raises(ValueError, match="I3D takes float"):
        ready(given)


# ---------------------------------------------------------------------------------------------------------------------
# published distances


@pytest.fixture(scope="module", params=["i3d_torchscript", "i3d_pretrained_400"])
def published(request):
    net = I3D()
    load(net, published_file(request.param))
    return prepare(net)


@pytest.mark.weights
@pytest.mark.parametrize(
    ("frames", "distance", "tolerance"),
    # README of JunyaoHu/common_metrics_on_video_quality; at odd lengths it differs from TensorFlow's 151.39 for T = 30
    [(16, 152.9175, 0.05), (30, 151.2565, 1.0)],
)
def test_black_against_white(published, frames, distance, tolerance):
    # eight equal videos a side: no covariance, and resizing a constant changes nothing
    sets = [published(torch.full((1, 3, frames, 224, 224), value)).repeat(8, 1) for value in (-1.0, 1.0)]
    assert frechet(*sets) == pytest.approx(distance, abs=tolerance)


@pytest.mark.weights
@pytest.mark.slow
def test_noise_against_noise(published):
    """universome/fvd-comparison, compare_metrics.py: 128 clips a side in [0, 1], not scaled to [-1, 1]."""
    sets = []
    for seed in (1, 2):
        source = np.random.RandomState(seed)
        clips = (source.rand(1, 16, 224, 224, 3).astype(np.float32) for _ in range(128))
        sets.append(torch.cat([published(torch.from_numpy(c).permute(0, 4, 1, 2, 3)) for c in clips]))
    assert frechet(*sets) == pytest.approx(10.138084766713924, rel=1e-3)
