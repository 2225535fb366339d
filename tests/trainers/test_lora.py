"""LoRA arithmetic: against the products of the matrices, and in a pipeline that loads what was written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from ipa_bench.errors import UserError
from ipa_bench.files import LORA_FILE
from ipa_bench.models.lora import load_lora
from ipa_bench.models.wan.vace import WanVace
from tests import tiny_wan
from tests.conftest import Tool
from tests.trainers.test_policy import perturb, shown
from trainers import lora
from trainers.config import AdapterConfig
from trainers.lora import Layer, Lora
from trainers.policy import ADAPTER, FullPolicy, LoraPolicy

NAME = "blocks.0.to_q"
A, B = f"{NAME}.lora_A.weight", f"{NAME}.lora_B.weight"


def made(seed: int, rank: int = 2, scale: float = 1.0, bias: bool = False) -> dict[str, Layer]:
    generator = torch.Generator().manual_seed(seed)
    down, up = torch.randn(rank, 5, generator=generator), torch.randn(3, rank, generator=generator)
    return {NAME: Layer(down, up, torch.randn(3, generator=generator) if bias else None, scale)}


def change(of: Lora) -> Tensor:
    return of[NAME].scale * of[NAME].up @ of[NAME].down


def shift(of: Lora) -> Tensor:
    bias = of[NAME].bias
    return torch.zeros(3) if bias is None else of[NAME].scale * bias


@hypothesis_settings(deadline=None)
@given(st.integers(0, 99), st.floats(0.1, 5), st.integers(1, 4), st.floats(0.1, 4))
def test_it_goes_along_the_mean_of_the_changes(seed: int, strength: float, count: int, scale: float) -> None:
    start = made(seed, scale=scale)
    runs = [made(seed + 1 + i, rank=2 + i, scale=1.0 + i, bias=i % 2 == 1) for i in range(count)]
    for found, part in ((change, "weight"), (shift, "bias")):
        mean = torch.stack([found(run) for run in runs]).mean(0)
        wanted = found(start) + strength * (mean - found(start))
        torch.testing.assert_close(found(lora.mean(runs, start, strength)), wanted, rtol=1e-4, atol=1e-4, msg=part)
        torch.testing.assert_close(found(lora.mean(runs, None, strength)), strength * mean, rtol=1e-4, atol=1e-4)


def test_other_layers_and_no_run_are_refused() -> None:
    other = {"other": made(1)[NAME]}
    with pytest.raises(ValueError, match="same layers"):
        lora.mean([made(0), other])
    with pytest.raises(ValueError, match="no LoRA"):
        lora.mean([], made(0), 2.0)


@hypothesis_settings(deadline=None)
@given(st.integers(0, 99), st.integers(1, 6), st.integers(1, 6))
def test_a_smaller_rank_is_the_nearest_there_is(seed: int, rank: int, wanted: int) -> None:
    whole = made(seed, rank=rank, scale=0.5)
    found, off = lora.extract(whole, wanted)
    assert found[NAME].rank == (rank if rank <= wanted else min(wanted, 3))
    values = np.linalg.svd(change(whole).numpy().astype(np.float64), compute_uv=False)
    if rank <= wanted:
        assert found[NAME] is whole[NAME]
        assert off == 0
        return
    nearest = np.sqrt((values[wanted:] ** 2).sum())
    assert float((change(found) - change(whole)).norm()) == pytest.approx(nearest, abs=1e-5)
    assert off == pytest.approx(nearest / np.sqrt((values**2).sum()), abs=1e-6)


def test_from_a_start_to_its_rank_only_the_second_order_is_lost() -> None:
    start = made(0, rank=2)
    off = {}
    for step in (1e-2, 1e-3):
        near = {NAME: Layer(start[NAME].down + step, start[NAME].up - step, None, 1.0)}
        found, _ = lora.extract(lora.mean([near], start, 2.0), 2)
        off[step] = float((change(found) - 2 * change(near) + change(start)).norm())
    assert off[1e-2] < 1e-3
    assert off[1e-3] < off[1e-2] / 50


# ---------------------------------------------------------------------------------------------------------------------
# what peft's settings mean


def adapter(**how: Any) -> tuple[Any, Lora]:
    """A pipeline with a random adapter, and what this module reads of it."""
    from peft import LoraConfig

    pipe = tiny_wan.pipeline()
    torch.manual_seed(3)
    options = {"r": 2, "lora_alpha": 4, "target_modules": ["to_q", "to_k", "proj_out"], **how}
    pipe.transformer.add_adapter(LoraConfig(init_lora_weights=False, **options), adapter_name="a")
    return pipe, lora.of(*lora.adapter(pipe.transformer, "a"))


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"use_rslora": True},
        {"alpha_pattern": {"to_k": 16, r"vace_blocks\.0\.attn1\.to_q": 1}},
        {"rank_pattern": {"to_k": 3, "blocks.0.attn1.to_q": 1}, "alpha_pattern": {"to_q": 3}},
        {"lora_bias": True},
    ],
    ids=["plain", "rslora", "alphas", "ranks", "bias"],
)
def test_scales_are_those_that_peft_applies(how: dict[str, Any]) -> None:
    pipe, found = adapter(**how)
    assert len(found) > 6
    for name, layer in found.items():
        module = pipe.transformer.get_submodule(name)
        assert layer.scale == pytest.approx(module.scaling["a"], rel=1e-12), name
        assert layer.rank == module.r["a"]


def test_what_is_not_low_rank_is_refused_by_name() -> None:
    plain = lora.tensors(made(0))
    with pytest.raises(ValueError, match=r"to_q\.dora_scale is no part"):
        lora.of({**plain, f"{NAME}.dora_scale": torch.ones(3)}, {})
    with pytest.raises(ValueError, match="lacks one of its two"):
        lora.of({A: plain[A]}, {})
    with pytest.raises(ValueError, match="do not fit together"):
        lora.of({A: plain[A], B: torch.ones(3, 7)}, {})
    with pytest.raises(ValueError, match="its settings say 9"):
        lora.of(plain, {"r": 9, "lora_alpha": 9})
    with pytest.raises(ValueError, match="use_dora"):
        lora.of(plain, {"r": 2, "lora_alpha": 2, "use_dora": True})
    assert lora.of(plain, {})[NAME].scale == 1.0


# ---------------------------------------------------------------------------------------------------------------------
# files


def values(file: Path | None) -> dict[str, Tensor]:
    """The transformer's weights with a LoRA merged into them."""
    pipe = tiny_wan.pipeline()
    if file is not None:
        load_lora(pipe, file, "lora")
        pipe.fuse_lora()
        pipe.unload_lora_weights()
    return {name: p.detach().clone() for name, p in pipe.transformer.named_parameters()}


def write(folder: Path, how: Mapping[str, Any], seed: int = 3) -> Path:
    """A LoRA file with these settings of peft's."""
    from diffusers import WanVACEPipeline

    pipe, _ = adapter(**how)
    torch.manual_seed(seed)
    layers, told = lora.adapter(pipe.transformer, "a")
    layers = {name: 0.1 * torch.randn_like(tensor) for name, tensor in layers.items()}
    told = {key: sorted(value) if isinstance(value, set) else value for key, value in told.items()}
    WanVACEPipeline.save_lora_weights(
        str(folder), transformer_lora_layers=layers, transformer_lora_adapter_metadata=told
    )
    return folder / LORA_FILE


HOW: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "alphas": {"alpha_pattern": {"to_k": 16}},
    "ranks": {"rank_pattern": {"to_k": 3, "blocks.0.attn1.to_q": 1}},
    "bias": {"lora_bias": True},
}


@pytest.mark.parametrize("kind", HOW)
def test_files_of_every_setting_mean_what_loading_them_does(tmp_path: Path, kind: str) -> None:
    start, one = write(tmp_path / "start", HOW[kind], 1), write(tmp_path / "one", HOW[kind], 2)
    other = write(tmp_path / "other", {"lora_alpha": 1}, 4)
    out = tmp_path / "out.safetensors"
    (tmp_path / "out.cost.json").write_text("of another LoRA")
    told = lora.write_mean(out, [one, other], start=start, strength=1.5)
    assert told.left_out == 0
    assert not (tmp_path / "out.cost.json").exists()
    read = [values(file) for file in (start, one, other, out)]
    for name in read[0]:
        wanted = read[0][name] + 1.5 * ((read[1][name] + read[2][name]) / 2 - read[0][name])
        torch.testing.assert_close(read[3][name], wanted, rtol=0, atol=1e-5, msg=name)
    again = lora.write_strength(tmp_path / "again.safetensors", out, 1.0)
    assert again.rank == told.rank
    assert all(torch.equal(a, b) for a, b in zip(values(again.file).values(), read[3].values(), strict=True))


def test_a_smaller_rank_is_written_and_loads(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", {}, 1), write(tmp_path / "two", HOW["ranks"], 2)
    lora.write_mean(tmp_path / "mean.safetensors", [one, two])
    lora.write_extract(tmp_path / "whole.safetensors", tmp_path / "mean.safetensors", 9)
    told = lora.write_extract(tmp_path / "less.safetensors", tmp_path / "mean.safetensors", 2)
    assert told.rank == 2
    base, whole, mean, less = (
        values(file)
        for file in (
            None, tmp_path / "whole.safetensors", tmp_path / "mean.safetensors", tmp_path / "less.safetensors",
        )
    )  # fmt: skip
    assert all(torch.equal(whole[name], mean[name]) for name in mean)
    lost = sum(float((less[n] - mean[n]).double().square().sum()) for n in mean)
    moved = sum(float((mean[n] - base[n]).double().square().sum()) for n in mean)
    assert 0.01 < told.left_out < 0.9
    assert told.left_out == pytest.approx((lost / moved) ** 0.5, rel=1e-3)


def test_the_verbs_write_what_the_functions_do(tmp_path: Path, tool: Tool) -> None:
    one, two = write(tmp_path / "one", {}, 1), write(tmp_path / "two", {}, 2)
    told = tool("lora", "mean", tmp_path / "mean.safetensors", one, two)
    assert told.returncode == 0, told.stderr
    assert "mean.safetensors: rank 4, the mean of 2 runs" in told.stdout
    told = tool("lora", "extract", tmp_path / "less.safetensors", tmp_path / "mean.safetensors", 2)
    assert "less.safetensors: rank 2" in told.stdout
    assert "% of the change left out" in told.stdout
    lora.write_mean(tmp_path / "here.safetensors", [one, two], rank=2)
    assert (tmp_path / "here.safetensors").read_bytes() == (tmp_path / "less.safetensors").read_bytes()
    told = tool("lora", "strength", one, one, 2)
    assert (told.returncode, "is one of the LoRAs" in told.stderr) == (2, True)


def drawn(file: Path) -> Tensor:
    """What the model gives with the LoRA of a file."""
    pipe = tiny_wan.pipeline()
    load_lora(pipe, file, "mean")
    with torch.no_grad():
        return shown(FullPolicy(WanVace(pipe)))


def saved(folder: Path, seed: int, alpha: float = 6.0) -> Path:
    policy = LoraPolicy(tiny_wan.base(), AdapterConfig(rank=3, alpha=alpha), None, 0)
    perturb(policy, seed)
    return policy.save(folder)


def test_the_mean_of_one_lora_with_itself_is_that_lora_in_a_pipeline(tmp_path: Path) -> None:
    one, two = saved(tmp_path / "one", 1), saved(tmp_path / "two", 2)
    out = tmp_path / "mean.safetensors"
    assert lora.write_mean(out, [one, one]).rank == 6
    alone = drawn(one)
    torch.testing.assert_close(drawn(out), alone, rtol=1e-4, atol=1e-5)
    before = out.read_bytes()
    lora.write_mean(out, [one, two])
    assert not torch.allclose(drawn(out), alone, rtol=1e-3, atol=1e-4)
    lora.write_mean(out, [one, one])
    assert out.read_bytes() == before  # the same LoRA is the same file


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    one, other = saved(tmp_path / "one", 1), write(tmp_path / "other", {}, 2)
    out = tmp_path / "out.safetensors"
    with pytest.raises(UserError, match="same layers"):
        lora.write_mean(out, [one, other])
    with pytest.raises(UserError, match="is one of the LoRAs"):
        lora.write_mean(one, [one, other])
    for strength in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="no strength"):
            lora.write_strength(out, one, strength)
    with pytest.raises(UserError, match="rank 0"):
        lora.write_extract(out, one, 0)
    for name, held, why in (
        ("foreign", {"diffusion_model.x.lora_down.weight": torch.ones(1, 1)}, r"diffusion_model\.x\.lora_down"),
        ("norm", {**load_file(one), "transformer.norm_q.diff": torch.ones(4)}, r"norm_q\.diff is no part"),
        ("empty", {}, "is empty"),
    ):
        save_file(held, tmp_path / f"{name}.safetensors")
        with pytest.raises(UserError, match=why):
            lora.write_extract(out, tmp_path / f"{name}.safetensors", 1)
    (tmp_path / "torn.safetensors").write_bytes(one.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be read"):
        lora.write_mean(out, [tmp_path / "torn.safetensors"])
    assert not out.exists()


# ---------------------------------------------------------------------------------------------------------------------
# the strength of a training run


@pytest.mark.parametrize("continued", [False, True])
def test_a_lora_saved_with_strength_two_is_twice_as_far(tmp_path: Path, continued: bool) -> None:
    config = AdapterConfig(rank=3, alpha=6.0)
    start = saved(tmp_path / "start", 5) if continued else None
    once = LoraPolicy(tiny_wan.base(), config, start, 0)
    twice = LoraPolicy(tiny_wan.base(), config.model_copy(update={"strength": 2.0}), start, 0)
    for policy in (once, twice):
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, parameter in policy.parameters.items():
                if "lora_B" in name:
                    parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    files = once.save(tmp_path / "once"), twice.save(tmp_path / "twice")
    began, near, far = values(start), values(files[0]), values(files[1])
    # both have the start's lora_A: what is beyond has its rank, and nothing is left out
    for name in began:
        torch.testing.assert_close(far[name], 2 * near[name] - began[name], rtol=1e-4, atol=1e-5, msg=name)
    assert {t.shape[0] for name, t in load_file(files[1]).items() if "lora_A" in name} == {3}


@pytest.mark.parametrize("kind", HOW)
def test_going_on_beyond_a_lora_of_any_setting_keeps_its_ranks(tmp_path: Path, kind: str) -> None:
    file = write(tmp_path / "start", HOW[kind])
    moved = {}
    for strength in (1.0, 1.5):
        policy = LoraPolicy(tiny_wan.base(), AdapterConfig(strength=strength), file, 0)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in policy.parameters.values():
                parameter += 1e-3 * torch.randn(parameter.shape, generator=generator)
        moved[strength] = policy.save(tmp_path / f"{kind}{strength}")
        assert policy.adapter is not None
        assert policy.adapter["left_out"] < 1e-3
    began, near, far = values(file), values(moved[1.0]), values(moved[1.5])
    off = max(float((far[n] - began[n] - 1.5 * (near[n] - began[n])).abs().max()) for n in began)
    assert off < 2e-4
    assert max(float((near[n] - began[n]).abs().max()) for n in began) > 10 * off
    ranks = [{n: t.shape[0] for n, t in load_file(f).items() if "lora_A" in n} for f in (file, moved[1.5])]
    assert ranks[0] == ranks[1]


def test_the_shape_of_a_lora_that_is_continued_is_told(tmp_path: Path) -> None:
    file = write(tmp_path / "start", HOW["ranks"])
    policy = LoraPolicy(tiny_wan.base(), AdapterConfig(rank=7, dropout=0.5), file, 0)
    assert policy.adapter is not None
    assert policy.adapter["ranks"] == [1, 2, 3]
    assert policy.adapter["continues"] == LORA_FILE
    assert policy.adapter["dropout"] == 0.0
    assert policy.adapter["layers"] == sum(ADAPTER in n and "lora_A" in n for n in policy.parameters)
    assert LoraPolicy(tiny_wan.base(), AdapterConfig(), None, 0).adapter is None
