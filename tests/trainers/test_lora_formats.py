"""LoRA files under the names of Wan's authors: the same change, and the same file when they come back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file

pytest.importorskip("diffusers")

from peft import LoraConfig

from ipa_bench.errors import UserError
from ipa_bench.files import LORA_FILE
from ipa_bench.models.lora import check_lora, load_lora
from ipa_bench.models.wan import names
from tests import tiny_wan
from tests.verbs import verb
from trainers import lora, lora_formats
from trainers.config import AdapterConfig
from trainers.policy import LoraPolicy

#: kinds of LoRAs that can be trained here or continued: peft's settings beside rank and layers
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "alpha": {"lora_alpha": 1.7},
    "rsLoRA": {"use_rslora": True, "lora_alpha": 3},
    "patterns": {"rank_pattern": {"blocks.1.attn1.to_q": 3}, "alpha_pattern": {"blocks.0.attn1.to_q": 0.3}},
    "biases": {"lora_bias": True, "lora_alpha": 1.3},
    "half": {},
}


def written(folder: Path, kind: str) -> Path:
    """A LoRA of every linear layer of blocks and control blocks with random values, as training writes it."""
    base = tiny_wan.base()
    settings = {"lora_alpha": 2, **KINDS[kind]}
    base.transformer.requires_grad_(False)
    base.transformer.add_adapter(
        LoraConfig(r=2, target_modules=base.adapted("linear", "all"), **settings), adapter_name="policy"
    )
    torch.manual_seed(5)
    for name, value in base.transformer.named_parameters():
        if ".lora_" in name:
            value.data = 0.3 * torch.randn_like(value)
    policy = LoraPolicy.__new__(LoraPolicy)
    policy.base, policy._stored, policy._strength = base, torch.float16 if kind == "half" else torch.float32, 1.0
    return policy.save(folder)


def weights(file: Path) -> dict[str, torch.Tensor]:
    """Of the tiny transformer with a LoRA merged into it."""
    pipe = tiny_wan.pipeline()
    load_lora(pipe, file, "lora")
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    return {name: p.detach().clone() for name, p in pipe.transformer.named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_is_the_same_file_and_everywhere_the_same_change(tmp_path: Path, kind: str) -> None:
    mine = written(tmp_path / "mine", kind)
    there, back = tmp_path / "there.safetensors", tmp_path / "back.safetensors"
    made = lora_formats.write(there, mine)
    lora_formats.write(back, there, diffusers=True)
    assert back.read_bytes() == mine.read_bytes()
    assert made.layers == 30  # 2 blocks and one of control, 10 layers each
    found = load_file(there)
    assert "diffusion_model.vace_blocks.0.cross_attn.o.lora_down.weight" in found
    assert check_lora(there).layers == 30
    # what ComfyUI adds: alpha / rank x up @ down to weights, diff_b to biases
    plain = dict(tiny_wan.pipeline().transformer.named_parameters())
    merged = weights(there)
    for name, down in found.items():
        if not name.endswith(".lora_down.weight"):
            continue
        layer = name.removesuffix(".lora_down.weight")
        own = names.diffusers(layer.removeprefix("diffusion_model."))
        scale = float(found[f"{layer}.alpha"]) / down.shape[0]
        change = scale * found[f"{layer}.lora_up.weight"].float() @ down.float()
        torch.testing.assert_close(merged[f"{own}.weight"] - plain[f"{own}.weight"], change, rtol=0, atol=2e-6)
        shift = found.get(f"{layer}.diff_b", torch.zeros(1)).float()
        moved = merged[f"{own}.bias"] - plain[f"{own}.bias"]
        torch.testing.assert_close(moved, shift.expand_as(moved), rtol=0, atol=2e-6)
    # the arithmetic of strengths and means reads either
    for file in (mine, there):
        lora.write_strength(tmp_path / f"twice {file.stem}.safetensors", file, 2.0)
    one, other = (lora.read(tmp_path / f"twice {file.stem}.safetensors").lora for file in (mine, there))
    for name, layer in one.items():
        assert layer.scale == pytest.approx(other[name].scale, rel=1e-12)
        assert torch.equal(layer.up, other[name].up)


def test_a_file_of_somebody_else_has_its_own_alphas(tmp_path: Path) -> None:
    torch.manual_seed(1)
    held = {}
    for block, (rank, alpha) in enumerate([(2, 1.0), (3, 3.0)]):
        layer = f"diffusion_model.blocks.{block}.self_attn.q"
        held |= {f"{layer}.lora_A.weight": torch.randn(rank, 32), f"{layer}.lora_B.weight": torch.randn(32, rank)}
        held |= {} if block else {f"{layer}.alpha": torch.tensor(alpha)}
    held["diffusion_model.blocks.0.self_attn.norm_q.diff"] = torch.zeros(32)
    save_file(held, tmp_path / "other.safetensors")
    read = lora.read(tmp_path / "other.safetensors").lora
    assert {name: (layer.rank, layer.scale) for name, layer in read.items()} == {
        "blocks.0.attn1.to_q": (2, 0.5),
        "blocks.1.attn1.to_q": (3, 1.0),
    }
    back = tmp_path / "back.safetensors"
    lora_formats.write(back, tmp_path / "other.safetensors", diffusers=True)
    a, b = weights(tmp_path / "other.safetensors"), weights(back)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_what_cannot_be_renamed_is_refused_by_name(tmp_path: Path) -> None:
    down, up = torch.ones(2, 32), torch.ones(32, 2)
    odd = {"transformer.nowhere.lora_A.weight": down, "transformer.nowhere.lora_B.weight": up}
    half = {"diffusion_model.blocks.0.self_attn.q.lora_A.weight": down}
    strange = {"diffusion_model.blocks.0.self_attn.q.dora_scale": torch.ones(32, 1)}
    cases = (
        (odd, "nowhere has no name"),
        (half, "lacks one of its two matrices"),
        (strange, "dora_scale is not low-rank"),
    )
    for content, says in cases:
        save_file(content, tmp_path / "odd.safetensors")
        with pytest.raises(UserError, match=says):
            lora_formats.write(tmp_path / "out.safetensors", tmp_path / "odd.safetensors")
    with pytest.raises(UserError, match="one of the LoRAs to read"):
        lora_formats.write(tmp_path / "odd.safetensors", tmp_path / "odd.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_the_verb_takes_both_experts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = tiny_wan.save_lora(tmp_path / "lora", seed=1) / LORA_FILE
    second = tiny_wan.save_lora(tmp_path / "other", seed=2) / LORA_FILE
    second.rename(first.with_name("pytorch_lora_weights_2.safetensors"))
    out = tmp_path / "comfy.safetensors"
    assert verb("lora", "export", out, first) == 0
    said = capsys.readouterr().out
    assert f"{out}: under Wan's authors' and ComfyUI's names" in said
    assert (tmp_path / "comfy_2.safetensors").is_file()
    with safe_open(out, "pt") as opened:
        assert json.loads((opened.metadata() or {}).get("lora_adapter_metadata", "{}")) == {}
    assert verb("lora", "export", tmp_path / "back.safetensors", out, "--diffusers") == 0
    for name in ("back", "back_2"):
        again = load_file(tmp_path / f"{name}.safetensors")
        before = load_file(first.with_name(first.name if name == "back" else "pytorch_lora_weights_2.safetensors"))
        assert again.keys() == before.keys()
        assert all(torch.equal(again[key], before[key]) for key in before)


def test_what_was_trained_here_is_written_as_before(tmp_path: Path) -> None:
    base = tiny_wan.base()
    file = LoraPolicy(base, AdapterConfig(rank=2), None, 0).save(tmp_path / "a")
    assert all(name.startswith("transformer.") for name in load_file(file))
