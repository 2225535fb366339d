"""What is trained and what it is compared with, on a real WanVACE transformer of random weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ipa_bench.errors import UserError
from ipa_bench.files import LORA_FILE
from ipa_bench.models import lora
from ipa_bench.models.checkpoint import lora_parts
from ipa_bench.models.wan.vace import WanVace
from tests import tiny_wan
from trainers import policy
from trainers.config import AdapterConfig
from trainers.data.encode import Batch
from trainers.policy import FullPolicy, LoraPolicy, Policy

QKV = AdapterConfig(rank=4, alpha=8.0)


def batch(dtype: torch.dtype = torch.float32) -> Batch:
    generator = torch.Generator().manual_seed(1)

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    latents, condition = some(2, 4, 3, 4, 4), {"control": some(2, 24, 3, 4, 4), "prompt": some(2, 5, 16)}
    return Batch(latents, condition, torch.zeros(2, 2, 4, 4), ("a", "b"))


def shown(trained: Policy) -> Tensor:
    given = batch()
    return trained.predict(given, given.latents, torch.tensor([0.25, 0.75]))


def base() -> Tensor:
    """What the model gives before anything is trained."""
    plain = FullPolicy(tiny_wan.base())
    with torch.no_grad():
        return shown(plain)


def perturb(trained: Policy, seed: int = 2) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trained.parameters.values():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


def flags(trained: Policy) -> dict[str, bool]:
    return {name: p.requires_grad for name, p in trained.transformer.named_parameters()}


@pytest.mark.parametrize(
    ("layers", "blocks", "modules"),
    # two blocks and one of VACE: q, k, v of two attentions; their outputs; two layers of a feed-forward network
    [("qkv", "all", 18), ("attention", "all", 24), ("linear", "all", 30), ("qkv", "main", 12), ("qkv", "vace", 6)],
)
def test_the_lora_is_where_it_is_asked_for(layers: Any, blocks: Any, modules: int) -> None:
    trained = LoraPolicy(tiny_wan.base(), AdapterConfig(rank=3, layers=layers, blocks=blocks), None, 0)
    names = list(trained.parameters)
    assert len(names) == 2 * modules
    assert all(".policy." in name and "lora_" in name for name in names)
    assert {name.split(".")[0] for name in names} == {
        "all": {"blocks", "vace_blocks"}, "main": {"blocks"}, "vace": {"vace_blocks"},
    }[blocks]  # fmt: skip
    assert all(3 in p.shape for p in trained.parameters.values())
    assert {name for name, asks in flags(trained).items() if asks} == set(names)


def test_it_begins_as_the_base_to_the_bit_and_as_a_function_of_the_seed() -> None:
    one, same, other = (LoraPolicy(tiny_wan.base(), QKV, None, seed) for seed in (3, 3, 4))
    with torch.no_grad():
        assert torch.equal(shown(one), base())
    a, b, c = (torch.cat([p.detach().flatten() for p in each.parameters.values()]) for each in (one, same, other))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_a_saved_lora_changes_the_plain_pipeline_as_it_did_in_training(tmp_path: Path) -> None:
    from diffusers import WanVACEPipeline

    trained = LoraPolicy(tiny_wan.base(), QKV, None, 0)
    perturb(trained)
    file = trained.save(tmp_path / "lora")
    assert file == tmp_path / "lora" / LORA_FILE
    tiny_wan.save(tmp_path / "model")
    pipe: Any = WanVACEPipeline.from_pretrained(tmp_path / "model", dtype=torch.float32)  # type: ignore[no-untyped-call]
    pipe.load_lora_weights(tmp_path / "lora")
    given = batch()
    with torch.no_grad():
        expected = shown(trained)
        loaded = pipe.transformer(
            hidden_states=given.latents, timestep=torch.tensor([250.0, 750.0]), return_dict=False,
            encoder_hidden_states=given.condition["prompt"], control_hidden_states=given.condition["control"],
        )[0]  # fmt: skip
    torch.testing.assert_close(loaded, expected, rtol=1e-5, atol=1e-6)
    assert (expected - base()).abs().max() > 0.01


def test_the_same_lora_is_the_same_file(tmp_path: Path) -> None:
    trained = LoraPolicy(tiny_wan.base(), QKV, None, 0)
    files = {trained.save(tmp_path / str(index)).read_bytes() for index in range(6)}
    assert len(files) == 1
    assert all(torch.isfinite(value).all() for value in load_file(tmp_path / "0" / LORA_FILE).values())


@pytest.mark.parametrize("kind", ["lora", "continued", "full"])
def test_the_reference_is_what_training_began_with_and_leaves_no_trace(tmp_path: Path, kind: str) -> None:
    start = tiny_wan.save_lora(tmp_path) / LORA_FILE if kind == "continued" else None
    trained = policy.build(tiny_wan.base(), AdapterConfig(rank=4, full=kind == "full"), start, 0)
    trained.transformer.train()
    with torch.no_grad():
        began = shown(trained)
    if kind == "continued":
        assert (began - base()).abs().max() > 0.01
    else:
        assert torch.equal(began, base())
    perturb(trained)
    before, asked = shown(trained).detach(), flags(trained)
    assert (before - began).abs().max() > 0.01
    for _ in range(2):
        with trained.reference():
            inside = shown(trained)
        assert torch.equal(inside, began)
        assert not inside.requires_grad
    assert flags(trained) == asked
    assert trained.transformer.training
    after = shown(trained)
    assert torch.equal(after, before)
    after.square().mean().backward()
    moved = {name for name, p in trained.transformer.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved
    assert moved <= set(trained.parameters)


@pytest.mark.parametrize("kind", ["lora", "continued", "full"])
def test_an_error_inside_the_reference_leaves_the_policy_as_it_was(tmp_path: Path, kind: str) -> None:
    start = tiny_wan.save_lora(tmp_path) / LORA_FILE if kind == "continued" else None
    trained = policy.build(tiny_wan.base(), AdapterConfig(rank=4, full=kind == "full"), start, 0)
    perturb(trained)
    before, asked = shown(trained).detach(), flags(trained)
    with pytest.raises(RuntimeError, match="out of memory"), trained.reference():
        raise RuntimeError("out of memory")
    assert torch.equal(shown(trained), before)
    assert flags(trained) == asked


def test_continued_the_same_lora_is_trained_and_saved_alone(tmp_path: Path) -> None:
    start = tiny_wan.save_lora(tmp_path / "before") / LORA_FILE
    trained = LoraPolicy(tiny_wan.base(), QKV, start, 0)
    assert "before" not in trained.reference_is
    assert LORA_FILE in trained.reference_is
    again = load_file(trained.save(tmp_path / "same"))
    first = load_file(start)
    assert again.keys() == first.keys()
    assert all(torch.equal(again[name], first[name]) for name in first)
    perturb(trained)
    later = load_file(trained.save(tmp_path / "moved"))
    assert later.keys() == first.keys()
    assert not any(torch.equal(later[name], first[name]) for name in first)


def test_the_reference_has_no_dropout(tmp_path: Path) -> None:
    first = LoraPolicy(tiny_wan.base(), AdapterConfig(rank=4, dropout=0.5), None, 0)
    perturb(first)
    start = first.save(tmp_path)
    trained = LoraPolicy(tiny_wan.base(), QKV, start, 0)
    trained.transformer.train()
    first.transformer.eval()
    with torch.no_grad():
        assert not torch.equal(shown(trained), shown(trained))  # the policy has
        expected = shown(first)
    random = torch.random.get_rng_state()
    with trained.reference():
        assert torch.equal(shown(trained), expected)
    assert torch.equal(torch.random.get_rng_state(), random)


def test_frozen_half_precision_weights_train_a_lora_in_single(tmp_path: Path) -> None:
    pipe = tiny_wan.pipeline()
    pipe.transformer.to(torch.bfloat16)
    trained = LoraPolicy(WanVace(pipe), QKV, None, 0)
    assert {p.dtype for p in trained.parameters.values()} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        made = shown(trained)
    assert made.dtype == torch.float32
    made.square().mean().backward()
    grads = [p.grad for name, p in trained.parameters.items() if "lora_B" in name]
    assert all(grad is not None and grad.dtype == torch.float32 and torch.isfinite(grad).all() for grad in grads)
    assert {value.dtype for value in load_file(trained.save(tmp_path)).values()} == {torch.float32}


def test_a_full_model_is_saved_as_a_folder_that_loads(tmp_path: Path) -> None:
    from diffusers import WanVACEPipeline

    trained = FullPolicy(tiny_wan.base())
    assert policy.trainable_size(trained.parameters) == sum(p.numel() for p in trained.transformer.parameters())
    perturb(trained)
    folder = trained.save(tmp_path / "full")
    pipe: Any = WanVACEPipeline.from_pretrained(folder, dtype=torch.float32)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        assert torch.equal(shown(FullPolicy(WanVace(pipe))), shown(trained))


def test_a_file_that_is_no_lora_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.safetensors cannot be read"):
        lora.check_lora(tmp_path / "none.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(UserError, match=r"torn.safetensors cannot be read"):
        lora.check_lora(tmp_path / "torn.safetensors")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"other.safetensors holds no LoRA"):
        lora.check_lora(tmp_path / "other.safetensors")
    lora.check_lora(tiny_wan.save_lora(tmp_path / "lora") / LORA_FILE)


@pytest.mark.parametrize("kind", ["wider", "deeper", "text encoder"])
def test_a_lora_of_another_model_is_refused(tmp_path: Path, kind: str) -> None:
    file = tiny_wan.save_lora(tmp_path) / LORA_FILE
    found = load_file(file)
    if kind == "wider":
        found = {name: value.repeat(1, 2) if "lora_A" in name else value.repeat(2, 1) for name, value in found.items()}
    elif kind == "deeper":
        found = {re.sub(r"\bblocks\.1\.", "blocks.7.", name): value for name, value in found.items()}
        assert any("blocks.7." in name for name in found)
    else:
        found = {name.replace("transformer.", "text_encoder."): value for name, value in found.items()}
    save_file(found, file)
    with pytest.raises(UserError, match=LORA_FILE):
        LoraPolicy(tiny_wan.base(), QKV, file, 0)


def test_a_base_of_two_networks_is_trained_and_kept_whole(tmp_path: Path) -> None:
    base = WanVace(tiny_wan.pipeline(experts=2))  # the second is for t below 0.875
    trained = LoraPolicy(base, QKV, None, 0)
    names = list(trained.parameters)
    assert len(names) == 2 * 36
    assert sum(name.startswith("transformer_2.") for name in names) == 36
    given = batch()

    def at(t: float) -> Tensor:
        return trained.predict(given, given.latents, torch.full((2,), t))

    with torch.no_grad():
        began = at(0.9), at(0.1)
    perturb(trained)
    with trained.reference():
        assert torch.equal(at(0.9), began[0])
        assert torch.equal(at(0.1), began[1])
    at(0.1).square().mean().backward()
    moved = {name for name, p in trained.parameters.items() if p.grad is not None and p.grad.any()}
    assert moved
    assert all(name.startswith("transformer_2.") for name in moved)
    for network, file in lora_parts(trained.save(tmp_path)).items():
        saved = load_file(file)
        assert len(saved) == 36, network
        assert any(value.any() for name, value in saved.items() if ".lora_B." in name), network
