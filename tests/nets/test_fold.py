"""Paddings and pooling against loops written out; folding against the formula; what prepare changes and what not."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ipa_bench.errors import UserError
from ipa_bench.nets.checkpoint import random_weights
from ipa_bench.nets.fold import folded, prepare
from ipa_bench.nets.layers import convolve, convolve_same, max_pool, max_pool_same, same_padding
from ipa_bench.nets.lpips import Lpips
from ipa_bench.nets.resnet3d import Bottleneck, ResNet3D


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        # worked out by hand from "ceil(size / stride) outputs, the odd zero behind"
        (224, 7, 2, (2, 3)),  # 112 outputs reach 222 + 7 = 229
        (17, 7, 2, (3, 3)),  # 9 outputs reach 16 + 7 = 23
        (112, 3, 2, (0, 1)),
        (15, 3, 2, (1, 1)),
        (8, 2, 2, (0, 0)),
        (7, 2, 2, (0, 1)),
        (28, 3, 1, (1, 1)),
        (5, 1, 2, (0, 0)),
    ],
)
def test_same_padding_by_hand(size, kernel, stride, expected):
    assert same_padding(size, kernel, stride) == expected


def slow_max_pool(x, kernel, stride, pads):
    """Window by window, over the places that exist."""
    spatial = x.shape[2:]
    counts = [(n + sum(p) - k) // s + 1 for n, k, s, p in zip(spatial, kernel, stride, pads, strict=True)]
    result = np.empty((*x.shape[:2], *counts), x.dtype)
    for place in itertools.product(*(range(count) for count in counts)):
        window = []
        for axis in range(3):
            start = place[axis] * stride[axis] - pads[axis][0]
            window.append(slice(max(start, 0), min(start + kernel[axis], spatial[axis])))
        result[(..., *place)] = x[(..., *window)].max(axis=(2, 3, 4))
    return result


KERNELS = [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2)), ((3, 3, 3), (1, 1, 1))]


@settings(max_examples=12)
@given(st.tuples(*[st.integers(1, 9)] * 3), st.sampled_from(KERNELS), st.integers(0, 99), st.booleans())
def test_max_pool_is_the_maximum_of_every_window(size, pool, seed, last):
    values = np.random.default_rng(seed).random((2, 3, *size)).astype(np.float32)
    given_ = torch.from_numpy(values)
    given_ = given_.contiguous(memory_format=torch.channels_last_3d) if last else given_
    pads = [same_padding(*numbers) for numbers in zip(size, *pool, strict=True)]
    pooled = max_pool_same(given_, *pool)
    np.testing.assert_array_equal(pooled.numpy(), slow_max_pool(values, *pool, pads))
    assert list(pooled.shape[2:]) == [-(-n // s) for n, s in zip(size, pool[1], strict=True)]
    np.testing.assert_array_equal(given_.numpy(), values)  # the input is not written to


@given(st.integers(2, 12), st.integers(0, 99))
def test_max_pool_with_zeros_on_both_sides(size, seed):
    values = np.random.default_rng(seed).random((1, 2, size, size, size)).astype(np.float32)
    pads = ((1, 1),) * 3
    pooled = max_pool(torch.from_numpy(values), (3, 3, 3), (2, 2, 2), pads)
    np.testing.assert_array_equal(pooled.numpy(), slow_max_pool(values, (3, 3, 3), (2, 2, 2), pads))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("size", "kernel", "stride"), [((5, 6, 7), 3, 1), ((5, 6, 7), 3, 2), ((4, 9, 8), 7, 2)])
def test_a_convolution_of_ones_counts_the_places_of_its_window(size, kernel, stride, dtype):
    conv = nn.Conv3d(1, 1, kernel, stride, bias=False).to(dtype)
    nn.init.ones_(conv.weight)
    counts = []
    for length in size:
        before, _ = same_padding(length, kernel, stride)
        starts = [i * stride - before for i in range(-(-length // stride))]
        counts.append([min(start + kernel, length) - max(start, 0) for start in starts])
    expected = np.einsum("i,j,k->ijk", *counts)
    with torch.no_grad():
        result = convolve_same(torch.ones(1, 1, *size, dtype=dtype), conv)
    np.testing.assert_allclose(result[0, 0].numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kernel", [1, 3])
def test_the_fast_convolution_is_the_convolution(batch, kernel):
    torch.manual_seed(0)
    conv = nn.Conv3d(8, 6, kernel).requires_grad_(False)
    wide = torch.randn(batch, 12, 4, 5, 6).contiguous(memory_format=torch.channels_last_3d)
    part = wide[:, 2:10]  # a slice of channels is not contiguous, as within a block of I3D
    expected = nn.functional.conv3d(part.double(), conv.weight.double(), conv.bias.double(), padding=kernel // 2)
    torch.testing.assert_close(convolve(part, conv, [kernel // 2] * 3).double(), expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=10)
@given(st.integers(0, 999), st.booleans(), st.booleans())
def test_folding_is_the_formula(seed, with_bias, affine):
    torch.manual_seed(seed)
    conv = nn.Conv3d(3, 4, 2, bias=with_bias)
    norm = nn.BatchNorm3d(4, eps=1e-3, affine=affine)
    norm.running_mean, norm.running_var = torch.randn(4), torch.rand(4) + 0.01
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    x = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    y = nn.functional.conv3d(x, conv.weight.double(), conv.bias.double() if with_bias else None)
    mean, deviation = norm.running_mean.double(), (norm.running_var.double() + 1e-3).sqrt()
    y = (y - mean[:, None, None, None]) / deviation[:, None, None, None]
    if affine:
        y = y * norm.weight.double()[:, None, None, None] + norm.bias.double()[:, None, None, None]
    one = folded(conv, norm)
    torch.testing.assert_close(one(x.float()).double(), y, rtol=1e-4, atol=1e-4)
    assert not one.weight.requires_grad


def test_a_norm_without_statistics_cannot_be_folded():
    with pytest.raises(ValueError, match="running statistics"):
        folded(nn.Conv3d(1, 1, 1), nn.BatchNorm3d(1, track_running_stats=False))


def test_prepare_leaves_the_original_alone():
    net = ResNet3D()
    random_weights(net, 1)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    ready = prepare(net, torch.bfloat16)
    assert net.conv1.weight.requires_grad
    assert net.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert not any(isinstance(module, nn.BatchNorm3d) for module in ready.modules())
    assert not any(parameter.requires_grad for parameter in ready.parameters())
    assert {parameter.dtype for parameter in ready.parameters()} == {torch.bfloat16}
    assert ready.conv1.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert ready.origin == net.origin == "random (seed 1), not comparable"
    assert not ready.comparable


def test_the_last_layers_stay_in_float32():
    net = Lpips("alex")
    random_weights(net, 0)
    ready = prepare(net, torch.bfloat16)
    assert ready.heads.lin0.model[1].weight.dtype == torch.float32
    assert torch.equal(ready.heads.lin0.model[1].weight, net.heads.lin0.model[1].weight)
    assert ready.trunk.features[0].weight.dtype == torch.bfloat16
    assert ready.trunk.features[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not ready.comparable


def test_a_block_folds_to_itself():
    torch.manual_seed(0)
    net = ResNet3D()
    random_weights(net, 2)
    block = net.layer2[0].eval()
    assert isinstance(block, Bottleneck)
    x = torch.rand(1, 256, 4, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(prepare(net).layer2[0](x), block(x), rtol=1e-4, atol=1e-4)


def test_prepare_says_what_it_cannot_do():
    net = Lpips("squeeze")
    with pytest.raises(UserError, match="int8"):
        prepare(net, torch.int8)
    with pytest.raises(UserError, match="cannot run on"):
        prepare(net, device="cuda:99")
