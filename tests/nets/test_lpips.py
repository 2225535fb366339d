"""LPIPS against the package ``lpips`` 0.1.4 (stored outputs, and itself where it is installed), and properties."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ipa_bench.errors import Unscorable, UserError
from ipa_bench.nets.checkpoint import load, random_weights
from ipa_bench.nets.fold import prepare
from ipa_bench.nets.lpips import Lpips
from tests.nets.golden import golden, golden_weights, published_file
from tests.references.make_backbone_golden import (
    IMAGE_SIZES,
    NETS,
    as_package_wants,
    image_pairs,
    import_lpips,
    lpips_of_package,
)

TOLERANCE = 1e-6
BACKBONES = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}


@pytest.fixture(scope="module", params=NETS)
def drawn(request):
    return golden_weights(Lpips(request.param), f"lpips_{request.param}")


@pytest.fixture(scope="module")
def ready(drawn):
    return prepare(drawn)


@pytest.fixture(scope="module")
def alex():
    net = Lpips("alex")
    random_weights(net, 3)
    return prepare(net)


@pytest.mark.parametrize("size", IMAGE_SIZES)
def test_distances_are_the_packages(ready, size):
    one, other = (ready.features(images) for images in image_pairs(*size))
    distances, expected = ready.distance(one, other).numpy(), golden(f"lpips_{ready.net}_{size[1]}")
    assert distances.shape == (3,)
    np.testing.assert_allclose(distances, expected, rtol=1e-5, atol=TOLERANCE)
    assert expected[0] > 10 * expected[1] > 0  # noise is further off than a slightly changed copy
    where = ready.distance_map(one, other, size)
    assert where.shape == (3, *size)
    np.testing.assert_allclose(where[0, ::3, ::3], golden(f"lpips_{ready.net}_{size[1]}_map"), rtol=1e-4, atol=1e-5)


def test_distances_are_those_of_the_installed_package(drawn):
    try:
        import_lpips()
    except ImportError:
        pytest.skip("needs the extra lpips")
    ready = prepare(drawn)
    one, other = image_pairs(80, 70)
    with torch.no_grad():
        expected = lpips_of_package(drawn, False)(as_package_wants(one), as_package_wants(other)).flatten()
        enlarged = lpips_of_package(drawn, True)(as_package_wants(one), as_package_wants(other))[:, 0]
    features = ready.features(one), ready.features(other)
    torch.testing.assert_close(ready.distance(*features), expected, rtol=1e-5, atol=TOLERANCE)
    torch.testing.assert_close(ready.distance_map(*features, (80, 70)), enlarged, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_close(drawn, ready):
    one, other = image_pairs(64, 64)
    fast = prepare(drawn, torch.bfloat16)
    exact = ready.distance(ready.features(one), ready.features(other))
    near = fast.distance(fast.features(one), fast.features(other))
    assert near.dtype == torch.float32
    torch.testing.assert_close(near, exact, rtol=0.05, atol=1e-4)
    assert not torch.equal(near, exact)


@pytest.mark.gpu
def test_a_gpu_gives_the_same(drawn, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    ready = prepare(drawn, device="cuda")
    one, other = (ready.features(images) for images in image_pairs(64, 64))
    distances = ready.distance(one, other).cpu().numpy()
    np.testing.assert_allclose(distances, golden(f"lpips_{ready.net}_64"), rtol=1e-4, atol=TOLERANCE)


@settings(max_examples=10)
@given(st.integers(0, 999), st.integers(31, 70), st.integers(31, 70))
def test_a_distance_is_symmetric_not_negative_and_zero_for_equal_images(alex, seed, height, width):
    source = np.random.default_rng(seed)
    one, other = (source.integers(0, 256, (2, height, width, 3), dtype=np.uint8) for _ in range(2))
    a, b = alex.features(one), alex.features(other)
    there, back = alex.distance(a, b), alex.distance(b, a)
    assert torch.equal(there, back)
    assert float(there.min()) > 0
    assert torch.equal(alex.distance(a, alex.features(one.copy())), torch.zeros(2))
    assert torch.equal(alex.distance_map(a, a, (height, width)), torch.zeros(2, height, width))


@settings(max_examples=10)
@given(st.integers(0, 999))
def test_features_have_unit_norm_or_are_zero(alex, seed):
    images = np.random.default_rng(seed).integers(0, 256, (1, 40, 44, 3), dtype=np.uint8)
    for each in alex.features(images):
        norms = each.double().square().sum(1).sqrt()
        assert bool(((norms - 1).abs().lt(1e-5) | norms.eq(0)).all())


def test_the_map_shows_where_the_images_differ(alex):
    one = np.full((1, 128, 128, 3), 90, np.uint8)
    other = one.copy()
    other[0, :40, 88:] = np.random.default_rng(0).integers(0, 256, (40, 40, 3))
    where = alex.distance_map(alex.features(one), alex.features(other), (128, 128))[0]
    assert float(where[:40, 88:].mean()) > 20 * float(where[88:, :40].mean())


def test_bytes_are_scaled_to_minus_one_to_one(alex):
    images = np.random.default_rng(0).integers(0, 256, (2, 48, 40, 3), dtype=np.uint8)
    images.flags.writeable = False  # as decoded frames are
    floats = torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float() * 2 / 255 - 1
    for ours, theirs in zip(alex.features(images), alex.features_of_floats(floats), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    wrong = alex.features_of_floats((floats + 1) / 2)  # the usual mistake; no check of the range can see it
    assert float(alex.distance(alex.features(images), wrong).min()) > 1e-4


def test_kept_features_serve_again(alex):
    source = np.random.default_rng(1)
    truth, *others = (source.integers(0, 256, (1, 48, 40, 3), dtype=np.uint8) for _ in range(3))
    kept = alex.features(truth)
    before = [each.clone() for each in kept]
    for other in others:
        alex.distance(kept, alex.features(other))
        alex.distance_map(kept, alex.features(other), (48, 40))
    assert all(torch.equal(a, b) for a, b in zip(kept, before, strict=True))


@pytest.mark.parametrize(("net", "least"), [("alex", 31), ("squeeze", 17), ("vgg", 16)])
def test_the_smallest_image(net, least):
    lpips = prepare(Lpips(net))
    assert lpips.features(np.zeros((1, least, 64, 3), np.uint8))[-1].shape[2] >= 1
    with pytest.raises(Unscorable, match=f"{least} x {least} pixels or more, got 64 x {least - 1}"):
        lpips.features(np.zeros((1, least - 1, 64, 3), np.uint8))
    # the trunk itself could not take less: the limit is not stricter than it has to be
    with pytest.raises(RuntimeError, match=r"too small|can't be greater"):
        lpips.trunk(torch.zeros(1, 3, least - 1, 64))


def test_other_inputs_are_refused(alex):
    for images in (
        np.zeros((1, 3, 64, 64), np.uint8),
        np.zeros((1, 64, 64, 3), np.float32),
        np.zeros((0, 64, 64, 3), np.uint8),
    ):
        with pytest.raises(ValueError, match="LPIPS takes uint8"):
            alex.features(images)
    for images in (torch.zeros(1, 64, 64, 3), torch.zeros(1, 3, 64, 64, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="LPIPS takes float"):
            alex.features_of_floats(images)
    for value in (1.01, -1.01, 255.0, float("nan")):
        with pytest.raises(UserError, match=r"RGB in \[-1, 1\]"):
            alex.features_of_floats(torch.full((1, 3, 64, 64), value))
    small, large = (alex.features(np.zeros((1, side, 64, 3), np.uint8)) for side in (64, 96))
    with pytest.raises(ValueError, match="images of one size"):
        alex.distance(small, large)


def test_names_are_those_of_the_published_files():
    assert Lpips("alex").heads.state_dict().keys() == {f"lin{k}.model.1.weight" for k in range(5)}
    assert Lpips("squeeze").heads.state_dict()["lin6.model.1.weight"].shape == (1, 512, 1, 1)
    alex, vgg, squeeze = (Lpips(net).trunk.state_dict() for net in NETS)
    convolutions = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    shapes = {f"features.{k}.weight": (out, into, size, size) for k, (out, into, size) in convolutions.items()}
    assert {name: tuple(t.shape) for name, t in alex.items() if name.endswith("weight")} == shapes
    assert [int(name.split(".")[1]) for name in vgg if name.endswith("weight")] == [
        *(0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    ]
    assert tuple(squeeze["features.11.expand3x3.weight"].shape) == (256, 64, 3, 3)
    # parameters of torchvision's features: metrics of the published files (2.47 M, 14.71 M and 0.72 M)
    assert [sum(t.numel() for t in state.values()) for state in (alex, vgg, squeeze)] == [
        2_469_696,
        14_714_688,
        722_496,
    ]


@pytest.mark.weights
@pytest.mark.parametrize("net", NETS)
def test_published_weights(net):
    lpips = Lpips(net)
    load(lpips.heads, published_file(f"lpips_{net}"))
    load(lpips.trunk, published_file(BACKBONES[net]))
    assert lpips.comparable
    ready = prepare(lpips)
    black, white = (ready.features(np.full((1, 64, 64, 3), value, np.uint8)) for value in (0, 255))
    distance = float(ready.distance(black, white))
    if net == "alex":  # README of JunyaoHu/common_metrics_on_video_quality
        assert distance == pytest.approx(0.8140090703964233, abs=1e-5)
    else:
        assert 0.2 < distance < 1.2
