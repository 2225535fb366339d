"""3D-ResNet-50 against a float64 implementation written out elsewhere, and against published names and counts."""

import pytest
import torch

from ipa_bench.errors import Unscorable, UserError
from ipa_bench.nets.checkpoint import load
from ipa_bench.nets.fold import prepare
from ipa_bench.nets.resnet3d import ResNet3D
from tests.nets.golden import golden, golden_weights, off, published_file
from tests.references.make_backbone_golden import clip


@pytest.fixture(scope="module")
def drawn():
    return golden_weights(ResNet3D(), "resnet")


@pytest.fixture(scope="module")
def ready(drawn):
    return prepare(drawn)


@torch.no_grad()
def test_features_are_those_of_the_slow_float64_network(drawn, ready):
    given = clip(16, 112, 0, 255).float()
    features = ready(given)
    assert features.shape == (1, 2048)
    assert off(features[0], golden("resnet")) < 1e-5
    assert off(drawn(given)[0], golden("resnet")) < 1e-5


def test_bfloat16_is_close_and_its_features_are_float32(drawn):
    features = prepare(drawn, torch.bfloat16)(clip(16, 112, 0, 255).float())
    assert features.dtype == torch.float32
    assert 1e-5 < off(features[0], golden("resnet")) < 2e-2


@pytest.mark.gpu
def test_a_gpu_gives_the_same(drawn, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    features = prepare(drawn, device="cuda")(clip(16, 112, 0, 255).float())
    assert off(features[0].cpu(), golden("resnet")) < 1e-4


def test_a_clip_does_not_depend_on_its_batch(ready):
    one, other = clip(16, 112, 0, 255).float(), clip(16, 112, 50, 90).float()
    both = ready(torch.cat([one, other]))
    torch.testing.assert_close(both, torch.cat([ready(one), ready(other)]), rtol=1e-5, atol=1e-5)
    assert float((both[0] - both[1]).abs().max()) > 1e-3


def test_names_are_those_of_the_published_file():
    state = ResNet3D().state_dict()
    expected = {
        "conv1.weight": (64, 3, 7, 7, 7),
        "bn1.running_mean": (64,),
        "layer1.0.conv1.weight": (64, 64, 1, 1, 1),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1, 1),
        "layer1.0.downsample.1.running_var": (256,),
        "layer2.0.conv2.weight": (128, 128, 3, 3, 3),
        "layer3.5.bn3.bias": (1024,),
        "layer4.2.conv3.weight": (2048, 512, 1, 1, 1),
    }
    assert {name: tuple(state[name].shape) for name in expected} == expected
    # 53 convolutions (1 + 16 blocks of 3 + 4 shortcuts), each with the five entries of a batch norm
    assert len(state) == 53 * 6
    assert sum(p.numel() for p in ResNet3D().parameters()) == 46_198_976


def test_the_published_container_loads(drawn, tmp_path):
    state = {f"module.{name}": tensor for name, tensor in drawn.state_dict().items()}
    state |= {"module.fc.weight": torch.zeros(400, 2048), "module.fc.bias": torch.zeros(400)}
    torch.save({"arch": "resnet-50", "epoch": 1, "state_dict": state}, tmp_path / "w.pth")
    net = ResNet3D()
    load(net, tmp_path / "w.pth")
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in drawn.state_dict().items())


def test_other_inputs_are_refused(ready):
    with pytest.raises(Unscorable, match="16 frames at a time, got 15"):
        ready(torch.zeros(1, 3, 15, 112, 112))
    for given in (torch.zeros(1, 3, 16, 224, 224), torch.zeros(1, 3, 16, 112, 112, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="takes float"):
            ready(given)
    for value in (-80.0, 340.0, float("nan")):
        given = torch.full((1, 3, 16, 112, 112), value)
        with pytest.raises(UserError, match="RGB from 0 to 255"):
            ready(given)
    ResNet3D._check(torch.tensor([-20.0, 275.0]).repeat(3 * 16 * 112 * 56).reshape(1, 3, 16, 112, 112))


@pytest.mark.weights
def test_the_published_file_fits():
    net = ResNet3D()
    load(net, published_file("resnet50_kinetics"))
    features = prepare(net)(torch.cat([clip(16, 112, 0, 255), clip(16, 112, 100, 110)]).float())
    assert float(features.min()) >= 0
    assert float((features[0] - features[1]).norm()) > 0.1 * float(features[0].norm())
