"""Phantom: its sampling against its authors' loop written out, where references stand, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("diffusers")

import torch
from diffusers import UniPCMultistepScheduler
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from ipa_bench import video
from ipa_bench.errors import UserError
from ipa_bench.models import kinds
from ipa_bench.models.generator import Generator, denoise
from ipa_bench.models.outline import Lora, Shape
from ipa_bench.models.specs import PhantomSpec
from ipa_bench.models.wan import flops, phantom_outline
from ipa_bench.models.wan.conditioning import encode_video
from ipa_bench.models.wan.phantom import Phantom, fitted
from ipa_bench.models.wan.phantom_outline import PhantomOutline, of_folder
from ipa_bench.types import Case
from tests import tiny_wan
from tests.clips import noise, smooth
from tests.models.wan.counting import count_flops
from tests.models.wan.test_experts import original, same
from trainers.config import AdapterConfig
from trainers.policy import LoraPolicy


@pytest.fixture(scope="module")
def base() -> Phantom:
    return Phantom(tiny_wan.phantom())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_wan.phantom().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Two people, of whom one is wider than the clip and one higher."""
    folder = tmp_path_factory.mktemp("case")
    video.encode(noise(5, 32, 48), folder / "wave.mp4", 10, crf=10)
    for name, (high, wide) in {"anna": (20, 60), "ben": (60, 20)}.items():
        Image.fromarray(smooth(1, high, wide)[0]).save(folder / f"{name}.png")
    people = tuple((name, folder / f"{name}.png") for name in ("anna", "ben"))
    return Case("wave", folder / "wave.mp4", references=people, prompt="two people wave")


def authors(base: Phantom, start: Tensor, refs: Tensor, words: Tensor, wordless: Tensor, scheduler: Any) -> Tensor:
    """The authors' loop: the state has frames for the references too, whose place the clean ones take at each step."""
    n = refs.shape[2]
    state = torch.cat([start, torch.randn(1, 4, n, *start.shape[3:])], 2)
    scheduler.set_timesteps(3)

    def model(latents: Tensor, people: Tensor, text: Tensor, t: Tensor) -> Tensor:
        replaced = torch.cat([latents[:, :, :-n], people], 2)
        out: Tensor = base.transformer(
            hidden_states=replaced, timestep=t.reshape(1), encoder_hidden_states=text, return_dict=False
        )[0]
        return out

    for t in scheduler.timesteps:
        neg = model(state, torch.zeros_like(refs), wordless, t)
        pos_i, pos_it = model(state, refs, wordless, t), model(state, refs, words, t)
        state = scheduler.step(neg + 5.0 * (pos_i - neg) + 7.5 * (pos_it - pos_i), t, state, return_dict=False)[0]
    return state[:, :, :-n]


@torch.no_grad()
def test_a_clip_is_what_the_authors_loop_makes(base: Phantom, case: Case) -> None:
    given = base.given(case, None)
    words, wordless = base.texts(["two people wave"]), base.texts(["blur"])
    start = torch.randn(1, *base.flow_shape(given.condition), generator=torch.Generator().manual_seed(3))
    assert start.shape == (1, 4, 3, 8, 12)
    unipc = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0, num_train_timesteps=1000
    )
    for make in (lambda: base.scheduler(), lambda: UniPCMultistepScheduler.from_config(unipc.config)):
        ladder = base.ladder(base.condition(given.condition, words), wordless, 7.5)
        made = denoise(base, make(), start, ladder, 3)
        expected = authors(base, start, given.condition["people"], words, wordless, make())
        torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)
    assert [rung.scale for rung in base.ladder({"people": start, "prompt": words}, wordless, 2.0, 3.0)] == [1, 3, 2]
    assert len(base.ladder({"people": start, "prompt": words}, wordless, 1.0)) == 1


def test_references_are_fitted_on_white_in_their_order(base: Phantom, case: Case) -> None:
    wide = fitted(np.zeros((20, 60, 3), np.uint8), (48, 32))
    assert wide.shape == (32, 48, 3)
    assert (wide[8:24] == 0).all()
    assert (wide[:8] == 255).all()
    assert (wide[24:] == 255).all()
    high = fitted(np.zeros((60, 20, 3), np.uint8), (48, 32))  # 10.67 wide: 10, as the authors round
    assert (high[:, 19:29] == 0).all()
    assert (high[:, :19] == 255).all()
    assert (high[:, 29:] == 255).all()
    people = base.given(case, None).condition["people"]
    for place, (_, path) in enumerate(case.references):
        alone = encode_video(base.pipe, fitted(np.asarray(Image.open(path)), (48, 32))[None])
        assert torch.equal(people[:, :, place : place + 1], alone)


def test_the_flow_is_over_the_clip_alone_and_references_are_never_noised(base: Phantom, case: Case) -> None:
    given = base.given(case, None)
    latents = base.encode(noise(5, 32, 48))
    assert torch.equal(base.flow_input(latents, given.condition), latents)
    assert base.reference_frames(case) == 0
    seen: list[Tensor] = []
    hook = base.transformer.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["hidden_states"]), with_kwargs=True
    )
    condition = base.condition(given.condition, base.texts(["x"]))
    made = base.velocity(latents, torch.tensor([0.7]), condition)
    hook.remove()
    assert made.shape == latents.shape
    assert torch.equal(seen[0], torch.cat([latents, given.condition["people"]], 2))
    assert base.shape(latents, condition) == Shape(5, 8, 12, 512)
    assert base.pose_of(case, lambda _: pytest.fail("it takes no pose")) is None


def test_it_counts_what_a_pass_does(base: Phantom) -> None:
    outline = base.outline
    shape = outline.shape(5, (48, 32))
    assert (shape.frames, outline.flow(shape)) == (4, (4, 3, 8, 12))
    sides = outline.condition(shape)
    given = {name: torch.randn(1, *each) for name, each in sides.items()}
    counted = count_flops(lambda: base.velocity(torch.randn(1, *outline.flow(shape)), torch.tensor([0.5]), given))
    assert outline.forward_flops(shape) == counted.flops.value
    assert outline.sample_flops(shape, 2, 7.5) == 6 * outline.forward_flops(shape)
    assert flops.parameters(outline.transformer) == {n: tuple(p.shape) for n, p in base.transformer.named_parameters()}
    policy = LoraPolicy(Phantom(tiny_wan.phantom()), AdapterConfig(rank=3), None, 0)
    held = outline.training_bytes("fp32", Lora(3))
    assert held.adapter == 4 * sum(p.numel() for p in policy.parameters.values())
    with pytest.raises(UserError, match="no control branch"):
        LoraPolicy(Phantom(tiny_wan.phantom()), AdapterConfig(blocks="vace"), None, 0)
    random = PhantomOutline("random", outline.transformer, outline.vae, 7, None).built("fp32", torch.device("cpu"))
    assert isinstance(random, Phantom)


def test_its_own_weights_over_a_folder_of_text_to_video(model: Path, case: Case, tmp_path: Path) -> None:
    other = tiny_wan.phantom(seed=1)
    torch.save(original(other.transformer), tmp_path / "phantom.pth")
    spec = PhantomSpec(
        name="p",
        kind="phantom",
        model=str(model),
        weights=tmp_path / "phantom.pth",
        steps=2,
        guidance=7.5,
        dtype="fp32",
    )
    made = Generator(spec, tmp_path / "clips")
    assert same(made.base.transformer, other.transformer)  # type: ignore[attr-defined]
    clip = video.load(made.generate(case, 0)).frames
    assert clip.shape == (5, 32, 48, 3)
    plain = Generator(spec.model_copy(update={"weights": None}), tmp_path / "plain")
    assert not np.array_equal(video.load(plain.generate(case, 0)).frames, clip)
    save_file(original(other.transformer), tmp_path / "phantom.safetensors")
    assert kinds.base_of(str(model)) == "phantom"
    assert of_folder("p", model).transformer["num_layers"] == 2


def test_text_to_video_alone_is_no_phantom(tmp_path: Path) -> None:
    spec = PhantomSpec(name="p", kind="phantom", model="Wan-AI/Wan2.1-T2V-1.3B-Diffusers")
    with pytest.raises(UserError, match="and not Phantom"):
        kinds.base_kind(spec).locate(spec)
    two = tiny_wan.save(tmp_path / "vace")
    with pytest.raises(UserError, match="holds a WanVACEPipeline, not a WanPipeline"):
        phantom_outline.locate(spec.model_copy(update={"model": str(two)}))
    assert phantom_outline.named("phantom-wan-14b", True).layers == (40, 5120)
    with pytest.raises(UserError, match=r"phantom-wan-1\.3b"):
        phantom_outline.named("nothing", True)
