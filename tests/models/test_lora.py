"""LoRA files that hold more than low-rank matrices: everything in them is applied, or they are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

pytest.importorskip("diffusers")

from ipa_bench.errors import UserError
from ipa_bench.files import LORA_FILE
from ipa_bench.models.lora import check_lora, load_lora
from tests import tiny_wan

WIDTH = 32


def weights(file: Path | None) -> dict[str, Tensor]:
    pipe = tiny_wan.pipeline()
    if file is not None:
        load_lora(pipe, file, "lora")
        pipe.fuse_lora()
        pipe.unload_lora_weights()
    return {name: p.detach().clone() for name, p in pipe.transformer.named_parameters()}


def original(rank: int = 4) -> dict[str, Tensor]:
    """Wan's own names, as most LoRAs of others have them; diffusers wants every layer of every block."""
    generator = torch.Generator().manual_seed(0)
    layers = [f"{a}.{o}" for a in ("self_attn", "cross_attn") for o in "qkvo"]
    return {
        f"diffusion_model.blocks.{block}.{layer}.{side}.weight": 0.05 * torch.randn(*sides, generator=generator)
        for block in range(2)
        for layer in layers
        for side, sides in (("lora_down", (rank, WIDTH)), ("lora_up", (WIDTH, rank)))
    }


def test_alphas_and_shifts_of_wans_own_names_are_applied(tmp_path: Path) -> None:
    layer = "diffusion_model.blocks.0.self_attn.q"
    held = original() | {f"{layer}.alpha": torch.tensor(2.0), f"{layer}.diff_b": torch.full((WIDTH,), 0.5)}
    save_file(held, tmp_path / "own.safetensors")
    base, found = weights(None), weights(tmp_path / "own.safetensors")
    wanted = 0.5 * held[f"{layer}.lora_up.weight"] @ held[f"{layer}.lora_down.weight"]
    name = "blocks.0.attn1.to_q.weight"
    torch.testing.assert_close(found[name] - base[name], wanted, rtol=0, atol=1e-6)
    name = "blocks.0.attn1.to_q.bias"
    torch.testing.assert_close(found[name] - base[name], torch.full((WIDTH,), 0.5), rtol=0, atol=1e-6)


def musubi() -> dict[str, Tensor]:
    """The same under the names of musubi-tuner, of half the strength, with the feed-forward layers that it has too."""
    wide = 2 * WIDTH
    sides = {"ffn.0": (WIDTH, wide), "ffn.2": (wide, WIDTH)}
    held = original() | {
        f"diffusion_model.blocks.{block}.{layer}.lora_{side}.weight": torch.full(shape, 0.01)
        for block in range(2)
        for layer, (wide_in, wide_out) in sides.items()
        for side, shape in (("down", (4, wide_in)), ("up", (wide_out, 4)))
    }
    found = {}
    for name, tensor in held.items():
        layer, side = name.removeprefix("diffusion_model.").split(".lora_")
        flat = "lora_unet_" + layer.replace(".", "_")
        found |= {f"{flat}.lora_{side}": tensor, f"{flat}.alpha": torch.tensor(2.0)}
    return found


def test_names_of_musubi_tuner_are_applied_and_a_layer_too_many_or_too_few_is_refused(tmp_path: Path) -> None:
    save_file(musubi(), tmp_path / "musubi.safetensors")
    base, found = weights(None), weights(tmp_path / "musubi.safetensors")
    for layer, name in (("self_attn.q", "attn1.to_q"), ("cross_attn.o", "attn2.to_out.0")):
        up, down = (original()[f"diffusion_model.blocks.1.{layer}.lora_{side}.weight"] for side in ("up", "down"))
        weight = f"blocks.1.{name}.weight"
        torch.testing.assert_close(found[weight] - base[weight], 0.5 * up @ down, rtol=0, atol=1e-6)
    head = "lora_unet_head_head.lora"
    more = {f"{head}_down.weight": torch.ones(4, WIDTH), f"{head}_up.weight": torch.ones(16, 4)}
    save_file(musubi() | more, tmp_path / "more.safetensors")
    save_file({name: t for name, t in musubi().items() if "ffn" not in name}, tmp_path / "less.safetensors")
    for name in ("more", "less"):
        with pytest.raises(UserError, match=rf"{name}\.safetensors"):
            weights(tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize(
    "name",
    [
        "diffusion_model.blocks.0.self_attn.norm_q.diff",
        "diffusion_model.patch_embedding.diff",
        "diffusion_model.blocks.0.modulation.diff",
        "diffusion_model.blocks.0.self_attn.q.dora_scale",
        "transformer.blocks.0.attn1.to_q.dora_scale",
    ],
)
def test_what_would_be_left_out_is_refused_by_name_and_zeros_are_not(tmp_path: Path, name: str) -> None:
    save_file(original() | {name: torch.full((WIDTH,), 0.5)}, tmp_path / "more.safetensors")
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        check_lora(tmp_path / "more.safetensors")
    save_file(original() | {name: torch.zeros(WIDTH)}, tmp_path / "zero.safetensors")
    assert check_lora(tmp_path / "zero.safetensors").layers == 16


def test_a_shift_of_a_layer_that_cannot_be_shifted_is_refused(tmp_path: Path) -> None:
    more = {"diffusion_model.blocks.0.self_attn.norm_q.diff_b": torch.full((WIDTH,), 0.5)}
    save_file(original() | more, tmp_path / "norm.safetensors")
    with pytest.raises(UserError, match="norm_q is shifted and has no matrices"):
        weights(tmp_path / "norm.safetensors")


def test_an_alpha_that_diffusers_would_pass_over_is_refused(tmp_path: Path) -> None:
    plain = load_file(tiny_wan.save_lora(tmp_path) / LORA_FILE)
    name = "transformer.blocks.0.attn1.to_q.alpha"
    rank = float(plain[name.replace("alpha", "lora_A.weight")].shape[0])
    for alpha in (rank, 2 * rank):
        save_file(plain | {name: torch.tensor(alpha)}, tmp_path / f"{alpha}.safetensors")
    assert check_lora(tmp_path / f"{rank}.safetensors").layers > 0
    with pytest.raises(UserError, match=r"to_q\.alpha"):
        check_lora(tmp_path / f"{2 * rank}.safetensors")
