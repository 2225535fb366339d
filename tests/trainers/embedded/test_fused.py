"""The fused velocity is diffusers' own, and so are its gradients; tokens that are left out leave the rest theirs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanVACETransformer3DModel
from torch import Tensor

from trainers.embedded import fused
from trainers.embedded import transformer as flow_stage


@pytest.fixture(params=[(2, 2), (1, 2)], ids=str)
def net(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return WanVACETransformer3DModel(  # type: ignore[no-untyped-call]
        patch_size=(1, *request.param), num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4,
        text_dim=8, freq_dim=16, ffn_dim=48, num_layers=3, vace_layers=[0, 2], vace_in_channels=8 + 64,
    )  # fmt: skip


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, 4, 3, 4, 8), torch.randn(2, 72, 3, 4, 8), torch.tensor([120.0, 840.0]), torch.randn(2, 5, 8)


def whole(net: Any, inputs: tuple[Tensor, ...]) -> Tensor:
    x, control, t, prompt = inputs
    made: Tensor = net(
        hidden_states=x, control_hidden_states=control, timestep=t, encoder_hidden_states=prompt, return_dict=False
    )[0]
    return made


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_it_is_the_librarys(net: Any, inputs: tuple[Tensor, ...]) -> None:
    assert fused.fits(net)
    with torch.no_grad():
        assert distance(fused.velocity(net, *inputs), whole(net, inputs)) < 0.01
        assert distance(fused.velocity(net, *inputs, dtype=torch.float32), whole(net, inputs)) < 1e-5


def test_its_gradients_are_the_librarys(net: Any, inputs: tuple[Tensor, ...]) -> None:
    def gradients(made: Tensor) -> list[Tensor]:
        net.zero_grad()
        made.square().mean().backward()
        return [p.grad.clone() for p in net.parameters()]

    ours, theirs = gradients(fused.velocity(net, *inputs)), gradients(whole(net, inputs))
    assert all(torch.isfinite(g).all() for g in ours)
    assert distance(torch.cat([g.flatten() for g in ours]), torch.cat([g.flatten() for g in theirs])) < 0.02


def test_all_tokens_in_another_order_are_all_tokens(net: Any, inputs: tuple[Tensor, ...]) -> None:
    patch = tuple(net.config.patch_size)
    count = 3 * (4 // patch[1]) * (8 // patch[2])
    keep = torch.stack([torch.randperm(count) for _ in range(2)])
    with torch.no_grad():
        rows = fused.velocity(net, *inputs, keep=keep)
        assert distance(rows, fused.tokens(whole(net, inputs), patch, keep)) < 0.01


def test_another_library_model_does_not_fit() -> None:
    other = WanVACETransformer3DModel(  # type: ignore[no-untyped-call]
        patch_size=(2, 2, 2), num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4,
        text_dim=8, freq_dim=16, ffn_dim=48, num_layers=1, vace_layers=[0], vace_in_channels=72,
    )  # fmt: skip
    assert not fused.fits(other)


def test_tokens_about_hands_are_chosen_first() -> None:
    hands = torch.zeros(1, 1, 2, 4, 4)
    hands[0, 0, 1, 2, :2] = 1.0
    for seed in range(5):
        keep = flow_stage.chosen(hands, (1, 1, 2), 0.25, np.random.default_rng(seed))
        first, second = keep[0, :2], keep[0, 2:]  # of eight tokens a frame
        assert set(first.tolist()) <= set(range(8))
        assert set(second.tolist()) <= set(range(8, 16))
        assert 8 + 4 in second.tolist()  # third row, first two columns
