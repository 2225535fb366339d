"""Blocks of few operations are diffusers' own, with LoRAs on, off and kept apart, and so are their gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel, WanVACETransformer3DModel
from peft import LoraConfig
from torch import Tensor

from ipa_bench.models.wan import blocks

SIZES = {
    "num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4, "out_channels": 4, "text_dim": 8,
    "freq_dim": 16, "ffn_dim": 48, "num_layers": 3,
}  # fmt: skip
LAYERS = r"(vace_)?blocks\.\d+\.(attn[12]\.to_(q|k|v|out\.0)|ffn\.net\.(0\.proj|2))"


def net(kind: str = "vace", dropout: float = 0.0, **lora: Any) -> Any:
    torch.manual_seed(0)
    more = {"vace_layers": [0, 2], "vace_in_channels": 72} if kind == "vace" else {}
    made: Any = {"vace": WanVACETransformer3DModel, "plain": WanTransformer3DModel}[kind](**SIZES, **more)
    made.requires_grad_(False)
    made.add_adapter(
        LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, init_lora_weights=False, target_modules=LAYERS, **lora)
    )
    return made


def passed(of: Any) -> Tensor:
    torch.manual_seed(1)
    x, control, text = torch.randn(2, 4, 3, 4, 8), torch.randn(2, 72, 3, 4, 8), torch.randn(2, 5, 8)
    given = {"control_hidden_states": control} if hasattr(of, "vace_blocks") else {}
    made: Tensor = of(
        hidden_states=x, timestep=torch.tensor([120.0, 840.0]), encoder_hidden_states=text, return_dict=False, **given
    )[0]
    return made


def gradients(of: Any) -> Tensor:
    of.zero_grad()
    passed(of).float().square().mean().backward()
    return torch.cat([p.grad.flatten() for p in of.parameters() if p.requires_grad])


def replaced(of: Any) -> list[Any]:
    """Let its blocks be ours; what is called grows with each that is."""
    called: list[Any] = []

    def run(*given: Any) -> Tensor:
        called.append(given)
        return blocks.block(*given)

    assert blocks.fits(of)
    blocks.replace(of, run)
    return called


def distance(a: Tensor, b: Tensor) -> float:
    return float((a.float() - b.float()).detach().norm() / b.detach().float().norm())


@pytest.mark.parametrize("kind", ["vace", "plain"])
def test_they_are_the_librarys_with_a_lora_and_without(kind: str) -> None:
    of = net(kind)
    on, slope = passed(of), gradients(of)
    of.disable_adapters()
    off = passed(of)
    assert distance(on, off) > 0.05
    called = replaced(of)
    assert distance(passed(of), off) < 1e-5
    of.enable_adapters()
    assert distance(passed(of), on) < 1e-5
    assert distance(gradients(of), slope) < 1e-4
    assert len(called) == 3 * (5 if kind == "vace" else 3)


@pytest.mark.filterwarnings("ignore:Mismatch dtype")
def test_they_are_the_librarys_under_autocast() -> None:
    of = net()
    with torch.autocast("cpu", torch.bfloat16):
        on, slope = passed(of), gradients(of)
        replaced(of)
        assert distance(passed(of), on) < 0.02
        assert distance(gradients(of), slope) < 0.05


def test_attention_over_many_tokens_is_that_over_few(monkeypatch: pytest.MonkeyPatch) -> None:
    of = net()
    slope = gradients(of)
    replaced(of)
    monkeypatch.setattr(blocks, "MANY", 0)
    assert distance(gradients(of), slope) < 1e-4


@pytest.mark.parametrize("lora", [{"dropout": 0.5}, {"use_dora": True}, {"lora_bias": True}], ids=str)
def test_what_cannot_be_added_to_a_weight_stays_the_librarys(lora: dict[str, Any]) -> None:
    of = net(**lora)
    of.train()
    torch.manual_seed(3)
    called = replaced(of)
    passed(of)
    assert not called
    of.disable_adapters()
    passed(of)
    assert len(called) == 5


def test_another_transformer_does_not_fit() -> None:
    assert not blocks.fits(WanTransformer3DModel(**SIZES, image_dim=8))
    assert not blocks.fits(WanTransformer3DModel(**SIZES, cross_attn_norm=False))
    assert not blocks.fits(WanTransformer3DModel(**SIZES, eps=1e-5))
