"""The published recipe against ours: the same losses and weights; what each holds; random weights made in place."""

import pytest
import torch

from ipa_bench.models.outline import Lora
from ipa_bench.models.wan import build
from ipa_bench.models.wan.flops import parameters, training_bytes
from ipa_bench.models.wan.outline import WanVaceOutline
from trainers.config import AdapterConfig, LossConfig
from trainers.cost_sheet.plan import Clip
from trainers.cost_sheet.recipes import Recipe, Training, bytes_of
from trainers.cost_sheet.subject import Subject

CONFIG = {
    "patch_size": [1, 2, 2], "num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4, "out_channels": 4,
    "text_dim": 20, "freq_dim": 16, "ffn_dim": 72, "num_layers": 3, "vace_layers": [0, 2], "vace_in_channels": 24,
    "rope_max_seq_len": 64, "cross_attn_norm": True, "qk_norm": "rms_norm_across_heads", "eps": 1e-6,
}  # fmt: skip
OUTLINE = WanVaceOutline("small", CONFIG, {"temperal_downsample": [False, True]}, 12, None)
SMALL = Subject("small", OUTLINE)
ADAPTER = AdapterConfig(rank=3)
CPU = torch.device("cpu")


@pytest.fixture
def train(tmp_path):
    """A training of the small model; every one begins with the same weights."""
    made = []

    def of(work, dtype="fp32", **values):
        folder = tmp_path / f"{work}{len(made)}"
        recipe = Recipe(work, ADAPTER, 2, dtype, **values)
        made.append(
            Training(recipe, OUTLINE.built(dtype, CPU, decodes=False), SMALL.shape(Clip(16, 16, 5), 2), folder)
        )  # fmt: skip
        return made[-1]

    yield of
    for training in made:
        training.close()


def losses(training, count=4):
    return [update.metrics["loss"] for update in training.take(count)]


def weights(training):
    return torch.cat([p.detach().flatten() for p in training.policy.parameters.values()])


def test_published_and_ours_are_one_training(train):
    """Loss by loss and weight by weight, however the reference is had."""
    published, ours, known = (train(work) for work in ("published", "ipa", "ipa-cached"))
    expected = losses(published)
    assert expected[0] == pytest.approx(torch.log(torch.tensor(2.0)).item())  # the policy begins as the reference
    assert len(set(expected)) == 4  # it learns, so that the losses say something
    assert losses(ours) == pytest.approx(expected, rel=1e-6)
    assert losses(known) == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(weights(ours), weights(published), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(weights(known), weights(ours), rtol=0, atol=0)


def test_the_loss_of_the_published_recipe_is_the_one_described(train):
    """Written out: −log σ(β/2 (1 − t)² (e_ref − e)), errors means of W (v − target)² with W = 1 + 9 M."""
    training = train("published", loss=LossConfig(beta=30.0))
    training.take(2)
    policy, objective, clips = training.policy, training._objective, training._good
    from trainers.data.encode import Batch
    from trainers.methods.draw import Draw, drawn

    batch, draws = Batch.of(clips), [Draw("clip0", 0), Draw("clip1", 0)]
    noise, t = drawn(draws, clips[0].latents.shape, 0, objective.config)
    terms = []
    with torch.no_grad():
        for i in range(2):
            one = Batch.of([clips[i]])
            z = (1 - t[i]) * clips[i].latents + t[i] * noise[i]
            weight = torch.ones_like(clips[i].latents)
            weight[:, 1:] += 9 * clips[i].mask
            errors = []
            for model in (policy.copy, policy.transformer):
                policy.transformer, mine = model, policy.transformer
                v = policy.predict(one, z[None], t[i : i + 1])[0]
                policy.transformer = mine
                errors.append((weight * (v - (noise[i] - clips[i].latents)) ** 2).mean())
            terms.append(torch.log1p(torch.exp(-15.0 * (1 - t[i]) ** 2 * (errors[0] - errors[1]))))
        found, _ = objective.loss(batch, None, draws)
    assert found.item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-4)


def test_what_is_held(train):
    """Ours holds model and adapter, as worked out; the published recipe holds both twice."""
    held = training_bytes(CONFIG, "bf16", Lora(3))
    assert train("ipa-cached", "bf16").held == held.weights + held.adapter
    assert train("published", "bf16").held == 2 * (held.weights + held.adapter)


def test_a_known_reference_is_read_and_not_computed(train):
    training = train("ipa-cached")
    passes = []
    training.policy.transformer.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    training.take(1)
    assert passes == [False, True]  # computed once
    training.take(3)
    assert passes == [False] + 4 * [True]


@pytest.mark.parametrize(("work", "expected"), [("sft", 1), ("ipa", 2), ("dpo", 4), ("published", 1)])
def test_passes_of_each_method(train, work, expected):
    """Of the trained model: the published reference is another one."""
    training, passes = train(work), []
    training.policy.transformer.register_forward_hook(lambda *_: passes.append(1))
    training.take(2)
    assert len(passes) == 2 * expected


def test_checkpointing_changes_no_loss(train):
    assert losses(train("ipa", checkpointing=True)) == pytest.approx(losses(train("ipa")), rel=1e-5)


def test_generating_is_no_step():
    with pytest.raises(ValueError, match="no training step"):
        Recipe("generate", ADAPTER)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_random_weights_are_whole(dtype):
    made = build.transformer(OUTLINE, dtype, CPU)
    assert {name: tuple(p.shape) for name, p in made.named_parameters()} == parameters(CONFIG)
    assert bytes_of(made) == training_bytes(CONFIG, dtype, None).weights
    assert not any(t.is_meta for t in [*made.parameters(), *made.buffers()])
    kept = {p.dtype for name, p in made.named_parameters() if "norm2" in name or "time_embedder" in name}
    assert kept == {torch.float32}
    again = build.transformer(OUTLINE, dtype, CPU)
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), again.parameters(), strict=True))


def test_the_rotary_tables_are_those_of_a_model_made_in_place():
    from diffusers import WanVACETransformer3DModel

    made, plain = build.transformer(OUTLINE, "fp32", CPU), WanVACETransformer3DModel.from_config(dict(CONFIG))
    assert dict(plain.named_buffers()).keys() == dict(made.named_buffers()).keys()
    for name, buffer in plain.named_buffers():
        assert torch.equal(dict(made.named_buffers())[name], buffer)
