"""Attention, compiled blocks and fp8 as options of a base: refused by name, set where meant, right to rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from diffusers.models import attention_dispatch
from safetensors.torch import load_file
from torch import Tensor, nn

from ipa_bench import video
from ipa_bench.config.toml import read_toml
from ipa_bench.errors import UserError
from ipa_bench.models import hasten
from ipa_bench.models.checkpoint import described, locate, recipe_of
from ipa_bench.models.specs import WanVaceSpec
from ipa_bench.models.speed import BACKENDS, Attention, Speed
from ipa_bench.models.wan import blocks
from ipa_bench.models.wan.pipeline import load
from ipa_bench.models.wan.vace import WanVace
from ipa_bench.suite import load_suite
from tests import tiny_wan
from tests.trainers import tiny_runs
from trainers.config import AdapterConfig, TrainConfig
from trainers.policy import LoraPolicy

GIVEN = {"control": torch.randn(1, 24, 3, 4, 4, generator=torch.Generator().manual_seed(1))}
GIVEN |= {"prompt": torch.randn(1, 7, 16, generator=torch.Generator().manual_seed(2))}
Z, T = torch.randn(1, 4, 3, 4, 4, generator=torch.Generator().manual_seed(3)), torch.tensor([0.5])


def spec_of(model: Path, **settings: Any) -> WanVaceSpec:
    given = {"name": "tiny", "kind": "wan_vace", "model": str(model), "steps": 1, "dtype": "fp32"}
    return WanVaceSpec.model_validate({**given, **settings})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_wan.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_runs.write(tmp_path_factory.mktemp("material"))


def test_the_names_are_those_of_diffusers() -> None:
    assert set(get_args(Attention)) == set(BACKENDS)
    known = {each.value for each in attention_dispatch.AttentionBackendName}
    assert {backend.diffusers for backend in BACKENDS.values()} <= known


def test_sdpa_is_torchs_own_choice_and_an_unknown_name_is_told_with_its_line(model: Path, tmp_path: Path) -> None:
    assert spec_of(model, attention="sdpa") == spec_of(model)
    file = tmp_path / "train.toml"
    text = '[data]\nsuite = "s"\nselection = "x"\n[model]\nmodel = "embedded"\nattention = "NAME"\n'
    file.write_text(text.replace("NAME", "sdpa"))
    assert read_toml(file, TrainConfig).value.model.attention == "native"
    file.write_text(text.replace("NAME", "flas"))
    with pytest.raises(UserError, match=r"toml:6: .*flas") as error:
        read_toml(file, TrainConfig)
    assert "flash" in error.value.fix
    file.write_text(text.replace("NAME", "sage"))
    with pytest.raises(UserError, match=r"sage.*no backward pass"):
        read_toml(file, TrainConfig)


def test_what_is_not_installed_is_refused_by_name_before_anything_is_loaded(
    model: Path, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipa_bench.models.wan.vace.load_lazily", lambda *_: pytest.fail("loaded"))
    monkeypatch.setattr(hasten, "_gpu", lambda: False)
    monkeypatch.setattr(hasten, "find_spec", lambda name: None)
    with pytest.raises(UserError, match='model tiny: attention = "sage" needs sageattention') as error:
        tiny_wan.generator(spec_of(model, attention="sage"), tmp_path / "clips")
    assert error.value.fix == "pip install sageattention; here: native, flash, math"
    with pytest.raises(UserError, match=r"flash_attn.*not installed"):
        tiny_runs.job(material, "sft", {"model": {"attention": "flash_attn"}})
    monkeypatch.setattr(hasten, "find_spec", lambda name: object())
    with pytest.raises(UserError, match=r"sage.*needs a GPU"):
        locate(spec_of(model, attention="sage"))
    monkeypatch.setattr(hasten, "_gpu", lambda: True)
    locate(spec_of(model, attention="sage"))
    monkeypatch.setattr(hasten, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="compile needs Triton"):
        locate(spec_of(model, compile=True))
    monkeypatch.setattr(hasten, "_gpu", lambda: False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UserError, match=r"compile needs a C\+\+ compiler"):
        locate(spec_of(model, compile=True))


def velocity(transformer: Any) -> Tensor:
    pipe = tiny_wan.pipeline()
    pipe.transformer = transformer
    with torch.no_grad():
        return WanVace(pipe).velocity(Z, T, GIVEN)


def test_an_attention_is_that_of_one_network_and_the_same_to_rounding(model: Path) -> None:
    plain, other = (load(spec_of(model, attention=each), locate(spec_of(model))) for each in ("native", "math"))
    own = {block.attn1.processor._attention_backend.value for block in other.transformer.blocks}
    assert own == {"_native_math"}
    assert {block.attn1.processor._attention_backend for block in plain.transformer.blocks} == {None}
    assert attention_dispatch._AttentionBackendRegistry.get_active_backend()[0].value == "native"
    torch.testing.assert_close(velocity(plain.transformer), velocity(other.transformer))


def rounded(transformer: Any) -> int:
    """Round what fp8 rounds, in place; how many values."""
    count = 0
    for name, module in transformer.named_modules():
        inside = name.startswith(("blocks.", "vace_blocks.")) and "lora" not in name
        if inside and isinstance(module, nn.Linear):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(torch.float8_e4m3fn).to(parameter.dtype)
                count += parameter.numel()
    return count


def test_fp8_is_what_rounded_weights_are_also_in_the_backward_pass() -> None:
    found, counts = [], []
    for shrunk in (False, True):
        base = tiny_wan.base()
        policy = LoraPolicy(base, AdapterConfig(rank=2), None, 0)
        policy.checkpoint_gradients()
        policy.train()
        for name, parameter in policy.parameters.items():
            parameter.data += 0.05 * ("lora_B" in name)
        if shrunk:
            hasten.shrink(policy.networks)
            narrow = {n: p.numel() for n, p in policy.named() if p.dtype == torch.float8_e4m3fn}
            assert not any(".lora_" in n or "norm" in n or "embed" in n for n in narrow)
            assert base.dtype == torch.float32
        counts.append(sum(narrow.values()) if shrunk else rounded(base.transformer))
        made = base.velocity(Z, T, GIVEN)
        made.square().mean().backward()
        found.append((made.detach(), {n: p.grad for n, p in policy.parameters.items()}))
    assert counts[0] == counts[1] > 10_000
    (one, gradients), (other, narrow_gradients) = found
    torch.testing.assert_close(one, other)
    assert max(gradient.abs().max() for gradient in gradients.values() if gradient is not None) > 1e-4
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, narrow_gradients[name], msg=name)


def test_what_counts_is_a_part_of_the_recipe_and_what_rounds_is_not(model: Path, material: Path) -> None:
    plain, key = recipe_of(spec_of(model), locate(spec_of(model))), tiny_runs.job(material, "sft").key
    free: dict[str, Any]
    for free in ({"attention": "flash"}, {"compile": True}):
        assert recipe_of(spec_of(model, **free), locate(spec_of(model))) == plain
        assert tiny_runs.job(material, "sft", {"model": free}).key == key
        assert spec_of(model, **free).loaded != spec_of(model).loaded
    narrow = recipe_of(spec_of(model, fp8=True), locate(spec_of(model)))
    assert narrow == plain | {"fp8": True}
    assert Speed("sage").counts == {"attention": "sage"}
    assert described(spec_of(model, fp8=True, attention="flash"), narrow).endswith("attention flash, weights in fp8")
    with pytest.raises(ValueError, match="sequential"):
        spec_of(model, offload="sequential", compile=True)
    half: dict[str, Any] = {"model": {"fp8": True}, "train": {"gradient_checkpointing": True}}
    assert tiny_runs.job(material, "sft", half).key != key
    sharded = {**half, "train": {"gradient_checkpointing": True, "shard": True}}
    for wrong in ({"model": {"fp8": True}}, {**half, "adapter": {"full": True}}, sharded):
        with pytest.raises(UserError, match=r"fp8"):
            tiny_runs.config(material, "sft", wrong)


def test_in_fp8_with_another_attention_it_trains_and_samples(
    model: Path, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPA_BENCH_CACHE", str(tmp_path / "cache"))
    asked: dict[str, Any] = {"attention": "flash", "fp8": True}
    changes = {"model": asked, "train": {"gradient_checkpointing": True, "steps": 1, "batch": 1}}
    lora = tiny_runs.train(material, tmp_path / "out", "ipa", changes)
    spec = spec_of(model, lora=str(lora), **asked)
    made = tiny_wan.generator(spec, tmp_path / "clips")
    clip = made.generate(load_suite(material / "suite.toml").cases[0], 0)
    assert video.probe(clip).declared_frames == 5
    # in the weights fp8 would round it away
    assert any(".lora_" in name for name, _ in made.base.transformer.named_parameters())
    with pytest.raises(UserError, match="compile goes without fp8"):
        locate(spec_of(model, compile=True, fp8=True))


def test_what_is_compiled_is_the_blocks_that_repeat(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, ours = [], []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(type(self).__name__))
    monkeypatch.setattr(torch, "compile", lambda block, dynamic: ours.append(block) or block)
    monkeypatch.setattr(hasten, "_gpu", lambda: False)
    spec = spec_of(model, compile=True)
    load(spec, locate(spec_of(model)))
    assert (compiled, ours) == ([], [blocks.block])
    monkeypatch.setattr(hasten, "_gpu", lambda: True)
    load(spec, locate(spec_of(model)))
    assert compiled == ["WanTransformerBlock"] * 2 + ["WanVACETransformerBlock"]
    assert ours == [blocks.block]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_is_compiled_samples_and_trains_the_same_to_rounding(
    model: Path, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = load_suite(material / "suite.toml").cases[0]
    kept, states, loras = [], [], []
    for compiled in (False, True):
        monkeypatch.setenv("IPA_BENCH_CACHE", str(tmp_path / f"cache{compiled}"))
        changes = {"model": {"compile": compiled}, "train": {"gradient_checkpointing": True, "steps": 1}}
        out = tmp_path / f"out{compiled}"
        # Not IPA: it multiplies what the policy and its reference differ in, which is rounding alone at the first step.
        loras.append(tiny_runs.train(material, out, "sft", changes))
        states.append(out)
        # the same LoRA for both: Adam makes a whole step of a gradient that is nothing but rounding
        spec = spec_of(model, lora=str(loras[0]), compile=compiled, keep_latents=True)
        clip = tiny_wan.generator(spec, tmp_path / f"clips{compiled}").generate(case, 0)
        kept.append(load_file(clip.with_suffix(".safetensors"))["latents"].float())
    torch.testing.assert_close(*kept, rtol=0, atol=1e-5 * float(kept[0].abs().max()))
    tiny_runs.assert_same_gradients(*states, "sft")
