"""Two experts behind one base: the second is for low noise, each has a LoRA; weights of other people's files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers")

import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ipa_bench.errors import UserError
from ipa_bench.files import LORA_FILE
from ipa_bench.models import checkpoint
from ipa_bench.models.checkpoint import locate, lora_sha256
from ipa_bench.models.generator import denoise
from ipa_bench.models.outline import Lora
from ipa_bench.models.specs import WanVaceSpec
from ipa_bench.models.wan import conditioning, names
from ipa_bench.models.wan.outline import WanVaceOutline, of_folder, owns
from ipa_bench.models.wan.pipeline import load
from ipa_bench.models.wan.vace import WanVace
from tests import tiny_wan
from tests.clips import noise, smooth

SIDES = (1, 4, 4, 8, 12)


def spec_of(model: Path, **settings: Any) -> WanVaceSpec:
    return WanVaceSpec(name="two", kind="wan_vace", model=str(model), **{"dtype": "fp32", **settings})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_wan.save(tmp_path_factory.mktemp("model"), experts=2)


@pytest.fixture(scope="module")
def pipe(model: Path) -> Any:
    return load(spec_of(model), locate(spec_of(model)))


@pytest.fixture
def loras(tmp_path: Path) -> Path:
    """Of both experts, side by side."""
    first = tiny_wan.save_lora(tmp_path / "lora", seed=1) / LORA_FILE
    other = tiny_wan.save_lora(tmp_path / "other", seed=2) / LORA_FILE
    other.rename(checkpoint.second_lora(first))
    return first


def shown(pipe: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    control = conditioning.control_latents(pipe, noise(5, 32, 48), smooth(1, 40, 40)[0])
    start = torch.randn(SIDES, generator=torch.Generator().manual_seed(3))
    return start, {"control": control, "prompt": conditioning.Prompts(pipe).encode(["a woman waves"])}


@pytest.mark.parametrize("low", [None, 1.5])
def test_a_clip_is_what_the_pipeline_makes_with_a_scale_for_each_expert(pipe: Any, low: float | None) -> None:
    base = WanVace(pipe)
    start, condition = shown(pipe)
    ladder = base.ladder(condition, base.texts(["blur"]), 3.0, low)
    made = denoise(base, base.scheduler(), start, ladder, 4)
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        prompt="a woman waves", negative_prompt="blur", video=[Image.fromarray(f) for f in noise(5, 32, 48)],
        reference_images=[Image.fromarray(smooth(1, 40, 40)[0])], height=32, width=48, num_frames=5,
        num_inference_steps=4, guidance_scale=3.0, guidance_scale_2=low, latents=start, output_type="latent",
    ).frames  # fmt: skip
    assert torch.equal(made, expected)


def test_each_clip_of_a_batch_goes_through_the_expert_of_its_own_noise(pipe: Any) -> None:
    base = WanVace(pipe)
    start, condition = shown(pipe)
    t = torch.tensor([0.2, 0.9, 0.875, 0.874])  # the boundary itself is the first expert's
    assert base.late(t).tolist() == [True, False, False, True]  # type: ignore[union-attr]
    four = torch.cat([start + i for i in range(4)])
    batch = {name: tensor.repeat(4, *[1] * (tensor.ndim - 1)) for name, tensor in condition.items()}
    made = base.velocity(four, t, batch)
    for i, expert in enumerate((pipe.transformer_2, pipe.transformer, pipe.transformer, pipe.transformer_2)):
        alone = expert(
            hidden_states=four[i : i + 1], timestep=t[i : i + 1] * 1000, encoder_hidden_states=condition["prompt"],
            control_hidden_states=condition["control"], return_dict=False,
        )[0]  # fmt: skip
        torch.testing.assert_close(made[i : i + 1], alone, rtol=0, atol=1e-5)
    guided = base.guided(four, t, base.ladder(batch, base.texts(["blur"] * 4), 3.0, 1.5))
    for i, scale in enumerate((1.5, 3.0, 3.0, 1.5)):
        alone = base.guided(four[i : i + 1], t[i : i + 1], base.ladder(condition, base.texts(["blur"]), scale))
        torch.testing.assert_close(guided[i : i + 1], alone, rtol=0, atol=1e-4)


def test_gradients_reach_the_expert_that_was_asked_and_no_other(pipe: Any) -> None:
    base = WanVace(pipe)
    start, condition = shown(pipe)
    for t, mine, other in ((0.9, "transformer", "transformer_2"), (0.1, "transformer_2", "transformer")):
        for network in base.networks.values():
            network.zero_grad()
        base.velocity(start, torch.tensor([t]), condition).sum().backward()
        assert any(p.grad is not None for p in base.networks[mine].parameters())
        assert all(p.grad is None for p in base.networks[other].parameters())


def test_a_lora_for_each_is_applied_to_each(model: Path, pipe: Any, loras: Path) -> None:
    changed = load(spec_of(model, lora=loras), locate(spec_of(model)))
    for network, file in checkpoint.lora_parts(loras).items():
        tensors = load_file(file)
        for name in ("blocks.1.attn1.to_q", "vace_blocks.0.attn2.to_v"):
            up, down = (tensors[f"transformer.{name}.lora_{side}.weight"] for side in "BA")
            before, after = (getattr(p, network).get_submodule(name).weight for p in (pipe, changed))
            torch.testing.assert_close(after - before, up @ down, rtol=0, atol=1e-5)
    both = spec_of(model, lora=loras)
    alone = spec_of(model, lora=loras, lora_2=loras)
    low = spec_of(model, lora_2=loras)
    assert checkpoint.lora_files(low) == {"transformer_2": loras}
    assert len({checkpoint.recipe_of(spec, locate(spec))["lora"] for spec in (both, alone, low)}) == 3
    assert checkpoint.recipe_of(both, locate(both))["lora"] == f"sha256:{lora_sha256(loras)}"
    assert str(loras) in checkpoint.described(low, checkpoint.recipe_of(low, locate(low)))


def test_what_does_not_belong_to_the_number_of_experts_is_refused(model: Path, loras: Path, tmp_path: Path) -> None:
    one = tiny_wan.save(tmp_path / "one")
    for settings in ({"lora_2": loras}, {"guidance_2": 2.0}, {"weights_2": loras}):
        with pytest.raises(UserError, match=f"{next(iter(settings))} is for a second transformer"):
            locate(spec_of(one, **settings))
    with pytest.raises(UserError, match=r"beside .* lies a LoRA for a second transformer"):
        locate(spec_of(one, lora=loras))
    with pytest.raises(UserError, match=r"beside .* lies a LoRA for a second transformer"):
        tiny_wan.base().load_adapter(loras, "policy")
    checkpoint.second_lora(loras).unlink()
    with pytest.raises(UserError, match="is for one of the model's two transformers"):
        WanVace(tiny_wan.pipeline(experts=2)).load_adapter(loras, "policy")
    two = tiny_wan.save(tmp_path / "two", experts=2)
    index = json.loads((two / "model_index.json").read_text())
    (two / "model_index.json").write_text(json.dumps(index | {"boundary_ratio": None}))
    with pytest.raises(UserError, match="two transformers and no boundary"):
        locate(spec_of(two))


def test_its_outline_counts_both_and_a_pass_goes_through_one(model: Path) -> None:
    two, one = of_folder("two", model), of_folder("one", model)
    assert owns(str(model))
    assert two.boundary == 0.875
    one = WanVaceOutline("one", one.transformer, one.vae, one.text, None)
    shape = one.shape(5, (48, 32))
    assert two.forward_flops(shape) == one.forward_flops(shape)
    for trained in (None, "full", Lora(2)):
        a, b = (each.training_bytes("bf16", trained) for each in (one, two))  # type: ignore[arg-type]
        assert (b.weights, b.adapter, b.optimizer) == (2 * a.weights, 2 * a.adapter, 2 * a.optimizer)
    built = two.built("fp32", torch.device("cpu"), decodes=False)
    assert built.networks.keys() == {"transformer", "transformer_2"}
    assert built.late(torch.tensor([0.1])).all()  # type: ignore[union-attr]
    random = WanVaceOutline("two", two.transformer, two.vae, two.text, None, two.second, 0.5)
    a, b = random.built("fp32", torch.device("cpu")).networks.values()
    assert not torch.equal(a.proj_out.weight, b.proj_out.weight)


# ---------------------------------------------------------------------------------------------------------------------
# weights of other people's files


def original(transformer: Any, prefix: str = "") -> dict[str, torch.Tensor]:
    """The weights under the names of the authors."""
    found = {}
    for name, value in transformer.state_dict().items():
        layer, dot, leaf = name.rpartition(".")
        own = names.authors(name) or f"{names.authors(layer)}{dot}{leaf}"
        assert "None" not in own, name
        found[prefix + own] = value.clone()
    return found


def same(a: Any, b: Any) -> bool:
    mine, theirs = a.state_dict(), b.state_dict()
    return mine.keys() == theirs.keys() and all(
        torch.equal(mine[name], theirs[name]) and mine[name].dtype == theirs[name].dtype for name in mine
    )


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("authors", "fp32"), ("authors", "bf16"), ("comfyui", "fp32"), ("pickle", "bf16"), ("parts", "fp32"),
     ("diffusers", "bf16")],
)  # fmt: skip
def test_weights_with_the_names_of_their_authors_are_the_same_model(
    model: Path, tmp_path: Path, kind: str, dtype: str
) -> None:
    expected = load(spec_of(model, dtype=dtype), locate(spec_of(model)))
    state = original(expected.transformer_2, "model.diffusion_model." if kind == "comfyui" else "")
    file = tmp_path / "low.safetensors"
    if kind == "pickle":
        file = tmp_path / "low.pth"
        torch.save(state, file)
    elif kind == "parts":
        file = tmp_path / "low"
        file.mkdir()
        for index in range(2):
            part = {name: value for i, (name, value) in enumerate(state.items()) if i % 2 == index}
            save_file(part, file / f"low-{index}.safetensors")
    else:
        save_file(state if kind != "diffusers" else dict(expected.transformer_2.state_dict()), file)
    spec = spec_of(model, dtype=dtype, weights_2=file)
    found = load(spec, locate(spec))
    assert same(found.transformer_2, expected.transformer_2)
    assert same(found.transformer, expected.transformer)
    assert locate(spec).identity != locate(spec_of(model)).identity


def test_weights_that_do_not_fit_are_refused_by_name(model: Path, pipe: Any, tmp_path: Path) -> None:
    state = original(pipe.transformer)
    cases = {
        "lacks blocks.0.attn1.to_q.weight": {n: t for n, t in state.items() if n != "blocks.0.self_attn.q.weight"},
        "no place for scaled_fp8": state | {"scaled_fp8": torch.zeros(2)},
        r"proj_out.bias of .* is \[3\], not \[16\]": state | {"head.head.bias": torch.zeros(3)},
        "is float64": state | {"head.head.bias": torch.zeros(16, dtype=torch.float64)},
    }
    for says, content in cases.items():
        save_file(content, tmp_path / "w.safetensors")
        spec = spec_of(model, weights=tmp_path / "w.safetensors")
        with pytest.raises(UserError, match=says):
            load(spec, locate(spec))
    (tmp_path / "w.pth").write_bytes(b"no weights")
    for path, says in ((tmp_path / "w.pth", "cannot be read as weights"), (tmp_path / "nowhere", "holds no weights")):
        spec = spec_of(model, weights=path)
        with pytest.raises(UserError, match=says):
            load(spec, locate(spec))
