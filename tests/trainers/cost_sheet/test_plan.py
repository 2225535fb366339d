"""What a sweep is made of, and which ones are refused; FLOPs and grids of the models, without loading any."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_bench.errors import UserError
from ipa_bench.models.outline import Lora, Shape
from ipa_bench.models.wan.flops import pass_flops
from ipa_bench.models.wan.outline import PUBLISHED
from ipa_bench.models.wan.published import VACE_14B
from trainers.cost_sheet.plan import WORKS, Cell, Clip, sweep
from trainers.cost_sheet.run import subjects
from trainers.cost_sheet.subject import subject

WAN = subject("wan2.1-vace-1.3b", random_weights=True)


@given(st.tuples(*[st.integers(1, 9999)] * 3))
def test_a_shape_is_read_as_it_is_written(sides):
    clip = Clip(*sides)
    assert Clip.parse(str(clip)) == clip


@pytest.mark.parametrize("text", ["480x832", "480x832x", "0x832x17", "480×832×17", "480x832x17x1", "-4x8x1", ""])
def test_what_is_no_shape_is_refused(text):
    with pytest.raises(UserError, match="is no shape"):
        Clip.parse(text)


def test_cells_are_every_combination_once():
    found = sweep(
        models=("a", "b"), clips=(Clip(16, 16, 5), Clip(8, 8, 1)), works=("sft", "generate"), batches=(1, 2),
        checkpointing=(False, True),
    ).cells()  # fmt: skip
    assert len(found) == len({cell.key for cell in found})
    # per model, clip and batch: sft with and without checkpointing, and generating, which has none
    assert len(found) == 2 * 2 * 2 * 3
    assert [cell.clip for cell in found[:3]] == [Clip(8, 8, 1)] * 3  # small clips first
    generating = [cell for cell in found if cell.work == "generate"]
    assert all(not cell.checkpointing and cell.rank == 0 and cell.steps == 50 for cell in generating)
    assert all(cell.steps == 0 for cell in found if cell.trains)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"repeats": 4}, "repeats"),
        ({"warmup": 1}, "warmup"),
        ({"works": ("ppo",)}, "works"),
        ({"works": ()}, "works"),
        ({"works": ("sft", "sft")}, "works"),
        ({"dtypes": ("int8",)}, "dtypes"),
        ({"attention": ("fastest",)}, "attention"),
        ({"batches": (0,)}, "batches"),
        ({"guidance": 0.5}, "guidance"),
        ({"memory": 0.0}, "memory"),
        ({"models": ()}, "models"),
        ({"speed": 3}, "speed"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(values, where):
    with pytest.raises(UserError, match=where):
        sweep(**{"models": ("embedded",), **values})


def test_a_key_changes_with_everything_and_with_nothing_else():
    cell = Cell("m", True, "sft", Clip(8, 8, 1), 1, "bf16")
    assert cell.key == Cell("m", True, "sft", Clip(8, 8, 1), 1, "bf16").key
    others = [
        Cell("n", True, "sft", Clip(8, 8, 1), 1, "bf16"), Cell("m", False, "sft", Clip(8, 8, 1), 1, "bf16"),
        Cell("m", True, "ipa", Clip(8, 8, 1), 1, "bf16"), Cell("m", True, "sft", Clip(8, 8, 5), 1, "bf16"),
        Cell("m", True, "sft", Clip(8, 8, 1), 2, "bf16"), Cell("m", True, "sft", Clip(8, 8, 1), 1, "fp32"),
        Cell("m", True, "sft", Clip(8, 8, 1), 1, "bf16", memory=8.0),
        Cell("m", True, "sft", Clip(8, 8, 1), 1, "bf16", compile=True),
        Cell("m", True, "sft", Clip(8, 8, 1), 1, "bf16", fp8=True),
        Cell("m", True, "sft", Clip(8, 8, 1), 1, "bf16", optimizer="adamw8bit"),
        Cell("m", True, "sft", Clip(8, 8, 1), 1, "bf16", checkpointing="attention"),
    ]  # fmt: skip
    assert len({cell.key, *(other.key for other in others)}) == 1 + len(others)
    assert cell.key == "bed82830d33620045953e78e"  # of a sheet of before there were as many options


def test_options_that_cannot_be_are_refused_before_the_first_measurement(monkeypatch):
    monkeypatch.setattr("ipa_bench.models.hasten.find_spec", lambda name: None)
    monkeypatch.setattr("trainers.optimizer.find_spec", lambda name: None)
    for values, problem in (
        ({"attention": ("sage",)}, "needs sageattention"),
        ({"optimizers": ("adamw8bit",)}, "neither bitsandbytes nor torchao"),
    ):
        with pytest.raises(UserError, match=problem):
            subjects(sweep(models=("wan2.1-vace-1.3b",), random_weights=True, **values))
    monkeypatch.setattr("ipa_bench.models.hasten.check", lambda *_: None)
    with pytest.raises(UserError, match="sage has no backward pass"):
        subjects(sweep(models=("wan2.1-vace-1.3b",), random_weights=True, attention=("sage",)))


def test_the_published_grid():
    assert (WAN.outline.time, WAN.outline.space, WAN.outline.text) == (4, 8, 512)
    # 81 frames are 21 latent frames, the reference image is one more: 22 x 30 x 52 tokens
    assert WAN.tokens(Clip(480, 832, 81), 1) == 22 * 30 * 52
    WAN.check(Clip(480, 832, 81))
    with pytest.raises(UserError, match=r"cannot make clips of 480x833x80") as caught:
        WAN.check(Clip(480, 833, 80))
    assert "480x848x81" in caught.value.fix


def test_the_built_in_grid():
    tiny = subject("embedded", random_weights=False)
    assert (tiny.outline.time, tiny.outline.space, tiny.outline.text) == (2, 8, 64)
    assert tiny.tokens(Clip(128, 128, 17), 2) == 2 * (9 + 1) * 16 * 8
    assert tiny.outline.folder is not None
    assert subject("embedded", random_weights=True).outline.folder is None


def test_short_and_long_names_are_one_model():
    assert subject(VACE_14B.name, random_weights=True).outline.transformer == PUBLISHED["wan2.1-vace-14b"].transformer
    with pytest.raises(UserError, match="not a folder with a configuration"):
        subject("wan9", random_weights=True)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_flops_of_a_step_by_hand(checkpointing):
    """Policy forward and backward; the reference a forward more; the copy's with its adapter; DPO two of everything."""
    clip, lora = Clip(64, 64, 5), Lora(8, "qkv")
    shape = Shape(2 + 1, 8, 8, 512)
    policy, base = pass_flops(WAN.outline.transformer, shape, lora), pass_flops(WAN.outline.transformer, shape)
    step = policy.forward + policy.backward + (policy.repeated if checkpointing else 0)
    expected = {
        "sft": step, "ipa-cached": step, "ipa": step + base.forward, "published": step + policy.forward,
        "dpo": 2 * (step + base.forward),
    }  # fmt: skip
    cells = {
        work: Cell("m", True, work, clip, 1, "bf16", checkpointing=checkpointing, rank=8, layers="qkv")
        for work in WORKS
        if work != "generate"
    }
    assert {work: WAN.flops(cell) for work, cell in cells.items()} == expected
    guided = Cell("m", True, "generate", clip, 1, "bf16", guidance=5.0, steps=50)
    assert WAN.flops(guided) == 2 * base.forward
