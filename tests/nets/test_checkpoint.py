"""Published containers are read without running their code; another network's file is refused in few words."""

import pickle
import warnings
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ipa_bench.errors import UserError
from ipa_bench.nets.checkpoint import load, random_weights, read
from ipa_bench.nets.lpips import Heads, Lpips, Trunk


def drawn(net="squeeze", seed=5):
    trunk = Trunk(net)
    random_weights(trunk, seed)
    return trunk


def same(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("layout", ["plain", "under state_dict", "of DataParallel", "legacy", "safetensors"])
def test_every_container_is_read(tmp_path, layout):
    source, target = drawn(), Trunk("squeeze")
    state = dict(source.state_dict()) | {"classifier.1.weight": torch.zeros(2, 3)}
    path = tmp_path / ("w.safetensors" if layout == "safetensors" else "w.pth")
    if layout == "safetensors":
        save_file(state, path)
    elif layout == "under state_dict":
        torch.save({"epoch": 3, "arch": "resnet-50", "state_dict": state}, path)
    elif layout == "of DataParallel":
        torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=layout != "legacy")
    assert not same(source, target)
    load(target, path)
    assert same(source, target)
    assert target.origin == path.name
    assert target.comparable


def test_weights_are_cast_to_the_number_format_of_the_network(tmp_path):
    torch.save({name: tensor.double() for name, tensor in drawn().state_dict().items()}, tmp_path / "w.pth")
    target = Trunk("squeeze")
    load(target, tmp_path / "w.pth")
    assert same(drawn(), target)


def test_another_networks_file_is_refused(tmp_path):
    state = dict(drawn().state_dict())
    del state["features.0.weight"]
    state |= {"features.3.squeeze.weight": torch.zeros(16, 64, 3, 3), "fc.bias": torch.zeros(1)}
    torch.save(state, tmp_path / "w.pth")
    target = Trunk("squeeze")
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load(target, tmp_path / "w.pth")
    assert "w.pth is not for Trunk: 1 missing (features.0.weight); 1 unexpected (fc.bias)" in caught.value.problem
    assert "1 of another shape (features.3.squeeze.weight [16, 64, 3, 3] for [16, 64, 1, 1])" in caught.value.problem
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())
    assert not target.comparable


def test_a_long_list_of_differences_is_cut(tmp_path):
    torch.save(drawn("alex").state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"16 missing|missing \(.*, \.\.\.\)") as caught:
        load(Trunk("vgg"), tmp_path / "w.pth")
    assert len(caught.value.problem) < 500 + len(str(tmp_path))


class Touch:
    """Pickled, it would create a file when read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_code_in_a_pickle_is_not_run(tmp_path):
    torch.save({"features.0.weight": Touch(tmp_path / "run")}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="no file of weights"):
        read(tmp_path / "w.pth")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"", b"<html>moved</html>", b"PK\x03\x04 cut short"])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_broken_download_is_told(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="no file of weights"):
        read(tmp_path / name)


def test_what_is_no_state_dict_is_told(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "w.pth")
    with pytest.raises(UserError, match="no state dict"):
        read(tmp_path / "w.pth")
    with pytest.raises(UserError, match="cannot read"):
        read(tmp_path / "missing.pth")


# ---------------------------------------------------------------------------------------------------------------------
# TorchScript


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv3d = nn.Conv3d(2, 3, 1)
        self.batch3d = nn.BatchNorm3d(3)

    def forward(self, x):
        return self.batch3d(self.conv3d(x))


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.branch_1 = nn.Sequential(Inner(), Inner())
        self.sizes = [1, 2]
        self.kept = {"a": 1}
        whole = torch.arange(12.0)
        self.register_buffer("view", whole[3:9].reshape(2, 3).t())  # offset and strides
        self.register_buffer("empty", torch.zeros(0))
        self.register_buffer("halves", torch.ones(2, dtype=torch.float16))

    def forward(self, x):
        return self.branch_1(x) + self.view.sum() + self.sizes[0]


def scripted(module, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates TorchScript; published files stay what they are
        torch.jit.script(module).save(path)
    return path


def test_a_torchscript_archive_gives_its_state_dict(tmp_path):
    module = Outer().eval()
    nn.init.normal_(module.branch_1[1].batch3d.running_mean)
    found = read(scripted(module, tmp_path / "w.pt"))
    expected = module.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].shape == tensor.shape
        assert torch.equal(found[name].float(), tensor.float()), name
    assert found["halves"].dtype == torch.float16


def test_a_torchscript_archive_cannot_name_other_code(tmp_path):
    path = scripted(nn.Linear(1, 1), tmp_path / "w.pt")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / "bad.pt", "w") as target:
        for name in source.namelist():
            bad = name.endswith("/data.pkl")
            target.writestr(name, pickle.dumps(Touch(tmp_path / "run")) if bad else source.read(name))
    with pytest.raises(UserError, match=r"names \w*io\.open"):
        read(tmp_path / "bad.pt")
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------------------------------------------------------------
# random weights


def test_random_weights_depend_on_the_seed_alone():
    assert same(drawn(seed=3), drawn(seed=3))
    assert not same(drawn(seed=3), drawn(seed=4))


def test_random_weights_have_he_variance_and_heads_are_not_negative():
    weight = drawn("vgg").features[28].weight.detach()
    assert float(weight.var()) == pytest.approx(2 / (512 * 9), rel=0.01)
    heads = Heads("vgg")
    random_weights(heads, 0)
    assert all(float(tensor.min()) >= 0 for tensor in heads.state_dict().values())


def test_random_weights_are_never_called_comparable():
    net = Lpips("alex")
    assert not net.comparable
    random_weights(net, 7)
    assert not net.comparable
    assert net.trunk.origin == "random (seed 7), not comparable"
