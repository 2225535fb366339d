"""Analytic FLOPs and bytes against torch's counter, real parameters and a real optimizer; the counter against 2mnk."""

import functools

import pytest
import torch
from diffusers import WanVACETransformer3DModel
from torch.nn import functional

from ipa_bench.errors import UserError
from ipa_bench.models.outline import Lora, Shape
from ipa_bench.models.wan.flops import (
    Flops,
    forward_flops,
    parameters,
    pass_flops,
    training_bytes,
    update_flops,
)
from ipa_bench.models.wan.outline import WanVaceOutline
from ipa_bench.models.wan.vace import WanVace
from tests import tiny_wan
from tests.models.wan.counting import count_flops
from trainers.config import AdapterConfig, LossConfig
from trainers.data.encode import Batch
from trainers.methods.draw import Draw
from trainers.methods.objective import Objective
from trainers.policy import LoraPolicy, checkpoint_but_attention

SMALL = {
    "num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4, "out_channels": 4, "text_dim": 20,
    "freq_dim": 16, "ffn_dim": 72, "num_layers": 3, "vace_layers": [0, 2], "vace_in_channels": 24,
    "rope_max_seq_len": 64,
}  # fmt: skip
#: other widths, other patches, no norm before cross-attention
OTHER = {
    **SMALL, "attention_head_dim": 24, "cross_attn_norm": False, "patch_size": (1, 1, 2), "num_layers": 4,
    "vace_layers": [0, 1, 3],
}  # fmt: skip
WAN_1_3B = {
    "num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "text_dim": 4096, "num_layers": 30,
    "vace_layers": list(range(0, 30, 2)),
}  # fmt: skip
SHAPES = (Shape(3, 8, 6, text=12), Shape(5, 4, 4, text=7, batch=3), Shape(1, 2, 2, text=1, batch=2))
LORAS = [Lora(3, layers, blocks) for layers in ("qkv", "attention", "linear") for blocks in ("all", "main", "vace")]


#: a pipeline to put other transformers into
around = functools.cache(tiny_wan.pipeline)


def model(config=SMALL, trained=None):
    """Random weights, with what is trained; an adapter as the trainers make it."""
    torch.manual_seed(0)
    made = WanVACETransformer3DModel(**config)
    made.requires_grad_(trained == "full")
    if isinstance(trained, Lora):
        pipe = around()
        pipe.transformer = made
        adapter = AdapterConfig(rank=trained.rank, layers=trained.layers, blocks=trained.blocks)
        LoraPolicy(WanVace(pipe), adapter, None, 0)
    return made.train()


def forward(made, shape, device="cpu"):
    config, size = made.config, (shape.frames, shape.height, shape.width)
    return made(
        hidden_states=torch.randn(shape.batch, config.in_channels, *size, device=device),
        timestep=torch.full((shape.batch,), 500.0, device=device),
        encoder_hidden_states=torch.randn(shape.batch, shape.text, config.text_dim, device=device),
        control_hidden_states=torch.randn(shape.batch, config.vace_in_channels, *size, device=device),
        return_dict=False,
    )[0]


def test_a_chain_of_products_is_2mnk():
    a, b, c = torch.randn(7, 11), torch.randn(11, 13), torch.randn(13, 5)
    counted = count_flops(lambda: a @ b @ c)
    assert counted.flops.value == 2 * 7 * 11 * 13 + 2 * 7 * 13 * 5
    assert torch.equal(counted.result, a @ b @ c)


def test_attention_on_a_cpu_is_counted_forward_and_backward():
    query, key, value = (torch.randn(2, 3, length, 8, requires_grad=True) for length in (5, 9, 9))
    products = 2 * (2 * 3 * 5 * 9 * 8)  # one of queries and keys, one of scores and values
    alone = count_flops(lambda: functional.scaled_dot_product_attention(query, key, value))
    assert alone.flops.value == 2 * products
    both = count_flops(lambda: functional.scaled_dot_product_attention(query, key, value).sum().backward())
    assert both.flops.value == 2 * products + 5 * products


def test_counting_changes_no_number():
    made, shape = model(), SHAPES[0]
    torch.manual_seed(1)
    counted = count_flops(lambda: forward(made, shape)).result
    torch.manual_seed(1)
    assert torch.equal(counted, forward(made, shape))


def test_a_key_is_counted_once_and_its_work_always_done():
    done = []

    def work(side):
        done.append(side)
        return torch.ones(side, side) @ torch.ones(side, side)

    key = ("test_a_key_is_counted_once", 3)
    assert count_flops(lambda: work(3), key).flops.value == 54
    again = count_flops(lambda: work(4), key)  # a key that does not tell the shape has the first one's count
    assert (again.flops.value, again.result.shape) == (54, (4, 4))
    assert count_flops(lambda: work(4)).flops.value == 128
    assert done == [3, 4, 4]


def test_an_operation_without_a_formula_leaves_the_count_unknown():
    @torch.library.custom_op("ipa_bench_test::linear_of_somebody", mutates_args=())
    def linear_of_somebody(x: torch.Tensor) -> torch.Tensor:
        return x @ x

    flops = count_flops(lambda: linear_of_somebody(torch.ones(4, 4))).flops
    assert flops.value is None
    assert "ipa_bench_test.linear_of_somebody" in flops.reason


@pytest.mark.parametrize("config", [SMALL, OTHER], ids=["small", "other"])
def test_parameters_are_those_of_the_model(config):
    made = model(config)
    assert parameters(made.config) == {name: tuple(p.shape) for name, p in made.named_parameters()}


@pytest.mark.parametrize("config", [WAN_1_3B, {"text_dim": 4096}], ids=["1.3B", "14B"])
def test_parameters_of_the_published_models(config):
    with torch.device("meta"):
        made = WanVACETransformer3DModel(**config)
    assert parameters(made.config) == {name: tuple(p.shape) for name, p in made.named_parameters()}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("config", [SMALL, OTHER], ids=["small", "other"])
def test_forward_flops_are_those_counted(config, shape):
    made = model(config)
    assert forward_flops(made.config, shape) == count_flops(lambda: forward(made, shape)).flops.value


def test_forward_flops_at_the_width_of_wan():
    """Two layers of Wan 1.3B on the latents of 81 frames of 832x480 with a reference image, without computing them."""
    shape = Shape.of_video(81, (832, 480))
    assert shape == Shape(21 + 1, 60, 104, text=512)
    with torch.device("meta"), torch.no_grad():
        made = WanVACETransformer3DModel(**{**WAN_1_3B, "num_layers": 2, "vace_layers": [0]})
        counted = count_flops(lambda: forward(made, shape, "meta")).flops.value
    assert forward_flops(made.config, shape) == counted


@pytest.mark.parametrize(
    ("trained", "shape"),
    # what an adapter costs and what a shape costs are told apart: all adapters at the quicker of two shapes
    [*((trained, SHAPES[0]) for trained in ("full", *LORAS)), ("full", SHAPES[1]), (LORAS[3], SHAPES[1])],
    ids=str,
)
def test_training_flops_are_those_counted(trained, shape):
    made = model(trained=trained)

    def step():
        forward(made, shape).square().mean().backward()

    expected = pass_flops(made.config, shape, trained)
    ahead = count_flops(lambda: forward(made, shape))
    assert ahead.flops.value == expected.forward
    assert count_flops(ahead.result.square().mean().backward).flops.value == expected.backward
    made.enable_gradient_checkpointing()
    assert count_flops(step).flops.value == expected.forward + expected.backward + expected.repeated
    made.enable_gradient_checkpointing(checkpoint_but_attention)
    again = expected.again("attention")
    assert count_flops(step).flops.value == expected.forward + expected.backward + again
    assert again < expected.repeated


def test_a_frozen_layer_costs_half_of_a_trained_one():
    """On few tokens attention is little: backward is once the forward pass with a small LoRA, twice without."""
    wide = {**WAN_1_3B, "patch_size": (1, 2, 2), "in_channels": 16, "out_channels": 16, "freq_dim": 256,
            "vace_in_channels": 96, "cross_attn_norm": True}  # fmt: skip
    shape = Shape(1, 8, 8, text=8)
    lora, full = pass_flops(wide, shape, Lora(1)), pass_flops(wide, shape, "full")
    assert lora.backward == pytest.approx(lora.forward, rel=0.1)
    assert full.backward == pytest.approx(2 * full.forward, rel=0.02)
    assert lora.repeated == pytest.approx(lora.forward, rel=0.05)
    assert pass_flops(wide, shape) == Flops(forward_flops(wide, shape), 0, 0)


@pytest.mark.parametrize("checkpointing", [False, True, "attention"])
@pytest.mark.parametrize("method", ["sft", "ipa", "dpo", "nft"])
def test_updates_are_those_of_the_trainers(method, checkpointing):
    pipe = tiny_wan.pipeline()
    policy = LoraPolicy(WanVace(pipe), AdapterConfig(rank=2), None, 0)
    if checkpointing:
        policy.checkpoint_gradients(checkpointing)
    pipe.transformer.train()
    config = pipe.transformer.config
    shape = Shape(4, 8, 8, text=6, batch=2)
    latents, control = torch.randn(2, 4, 4, 8, 8), torch.randn(2, config.vace_in_channels, 4, 8, 8)
    condition = {"control": control, "prompt": torch.randn(2, 6, config.text_dim)}
    batch = Batch(latents, condition, torch.zeros(2, 3, 8, 8), ("a", "b"))
    objective = Objective(method, LossConfig(), True, 0, policy)

    policy.keep_old()

    def step():
        bad, values = batch if method == "dpo" else None, torch.ones(2) if method == "nft" else None
        loss, _ = objective.loss(batch, bad, [Draw("a", 0), Draw("b", 0)], values)
        loss.backward()

    clips, reference = {"sft": (1, False), "ipa": (1, True), "dpo": (2, True), "nft": (1, False)}[method]
    expected = update_flops(
        config, shape, Lora(2), clips=clips, checkpointing=checkpointing, reference=reference, old=method == "nft"
    )
    assert count_flops(step).flops.value == expected


def test_a_known_reference_and_a_frozen_adapter():
    shape, one = SHAPES[0], pass_flops(model().config, SHAPES[0], Lora(4))
    config = model().config
    step = one.forward + one.backward
    assert update_flops(config, shape, Lora(4)) == step
    assert update_flops(config, shape, Lora(4), reference=Lora(4)) == step + one.forward
    assert update_flops(config, shape, Lora(4), clips=2, reference=True) == 2 * (step + forward_flops(config, shape))


def test_sampling_is_forward_passes():
    config, shape = model().config, SHAPES[0]
    once = forward_flops(config, shape)
    outline = WanVaceOutline("model", config, {}, 0, None)
    assert outline.sample_flops(shape, steps=7, guidance=1.0) == 7 * once
    assert outline.sample_flops(shape, steps=7, guidance=5.0) == 14 * once


def test_bytes_are_those_of_a_trained_adapter():
    pipe = tiny_wan.pipeline()
    policy = LoraPolicy(WanVace(pipe), AdapterConfig(rank=2, layers="attention"), None, 0)
    mine = list(policy.parameters.values())
    optimizer = torch.optim.AdamW(mine, lr=1e-4)
    forward(pipe.transformer, SHAPES[0]).square().mean().backward()
    optimizer.step()
    states = [t for state in optimizer.state.values() for t in state.values()]
    found = training_bytes(pipe.transformer.config, "fp32", Lora(2, "attention"), average=True)
    assert found.adapter == found.average == sum(p.nbytes for p in mine)
    assert found.gradients == sum(p.grad.nbytes for p in mine)
    assert found.optimizer == sum(t.nbytes for t in states)
    assert found.weights == sum(p.nbytes for name, p in pipe.transformer.named_parameters() if ".lora_" not in name)
    assert found.device == found.weights + 2 * found.adapter + found.gradients + found.optimizer
    assert found.host == 0


def test_bytes_of_full_fine_tuning():
    made = model(trained="full")
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-4)
    forward(made, SHAPES[0]).square().mean().backward()
    optimizer.step()
    found = training_bytes(made.config, "fp32", "full")
    assert found.weights == found.gradients == found.host == sum(p.nbytes for p in made.parameters())
    assert found.optimizer == sum(t.nbytes for state in optimizer.state.values() for t in state.values())
    assert (found.adapter, found.average) == (0, 0)


def test_bytes_of_half_precision_are_those_that_diffusers_loads(tmp_path):
    model().save_pretrained(tmp_path)
    loaded = WanVACETransformer3DModel.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    found = training_bytes(loaded.config, "bf16", None)
    assert found.weights == sum(p.nbytes for p in loaded.parameters())
    assert found.device == found.weights
    assert found.weights > sum(p.numel() for p in loaded.parameters()) * 2  # some parts stay fp32


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(UserError, match="image encoder"):
        parameters({**SMALL, "image_dim": 1280})
    for frames, size in ((80, (832, 480)), (0, (832, 480)), (81, (830, 480))):
        with pytest.raises(ValueError, match="no multiples"):
            Shape.of_video(frames, size)
    with pytest.raises(ValueError, match="patches"):
        forward_flops(model().config, Shape(3, 7, 6, text=4))
