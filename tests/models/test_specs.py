"""Tables of a suite file for models that make their clips, and pose videos of cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipa_bench.errors import UserError
from ipa_bench.models.specs import ReencodeSpec, WanVaceSpec
from ipa_bench.suite import Suite, load_suite

CASE = '[[case]]\ndriving = "wave.mp4"\n'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for file in ("wave.mp4", "pose.mp4", "lora/pytorch_lora_weights.safetensors", "model/model_index.json"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(file.encode())
    return tmp_path


def load(home: Path, text: str) -> Suite:
    (home / "demo.toml").write_text(CASE + text)
    return load_suite(home / "demo.toml")


def wan(model: str, more: str = "") -> str:
    return f'[[model]]\nname = "m"\nkind = "wan_vace"\nmodel = "{model}"\n{more}'


def test_everything_that_can_be_said_of_a_generative_model(home: Path) -> None:
    more = """lora = "lora"
steps = 30
guidance = 5.0
shift = 3.0
negative_prompt = "blur"
dtype = "fp32"
batch = 2
vae_tiling = true
offload = "model"
trained_on = ["hand_quality@1"]
"""
    (spec,) = load(home, wan("model", more)).models
    assert spec == WanVaceSpec(
        name="m", kind="wan_vace", model=str(home / "model"), lora=home / "lora", steps=30, guidance=5.0, shift=3.0,
        negative_prompt="blur", dtype="fp32", batch=2, vae_tiling=True, offload="model", trained_on=("hand_quality@1",),
    )  # fmt: skip


@pytest.mark.parametrize("model", ["embedded", "Wan-AI/Wan2.1-VACE-1.3B-diffusers"])
def test_checkpoints_that_are_no_folder_stay_names(home: Path, model: str) -> None:
    (spec,) = load(home, wan(model)).models
    assert isinstance(spec, WanVaceSpec)
    assert spec.model == model
    assert (spec.steps, spec.guidance, spec.dtype, spec.batch) == (20, 1.0, "bf16", 1)


def test_the_upper_bound(home: Path) -> None:
    bound = load(home, '[[model]]\nname = "bound"\nkind = "reencode"\n').models
    assert bound == (ReencodeSpec(name="bound", kind="reencode", crf=23),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (wan("nowhere"), "demo.toml:6: nowhere is not there"),
        (wan("../model"), "demo.toml:6: ../model leads out of the folder"),
        (wan("wave.mp4"), "demo.toml:6: wave.mp4 is not a folder"),
        (wan("model", 'lora = "x.safetensors"\n'), "demo.toml:7: x.safetensors is not there"),
        (wan("model", 'revision = "main"\n'), "demo.toml:7: model is a folder and has no revisions"),
        (wan("model", "guidance = 0.5\n"), "demo.toml:7: guidance in"),
        (wan("model", "step = 4\n"), 'unknown key "step" in [[model]]'),
        (wan("model", 'dtype = "fp16"\n'), 'dtype in [[model]] cannot be "fp16"'),
        ('[[model]]\nname = "m"\nkind = "reencode"\ncrf = 52\n', "demo.toml:6: crf in"),
        ('[[case]]\nid = "b"\ndriving = "wave.mp4"\npose = "none.mp4"\n', "demo.toml:6: none.mp4 is not there"),
    ],
)
def test_mistakes_name_their_line(home: Path, text: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        load(home, text)
    assert says in str(error.value)


def test_a_pose_is_part_of_the_suite_only_where_there_is_one(home: Path) -> None:
    bare = load(home, "")
    (home / "posed.toml").write_text(CASE + 'pose = "pose.mp4"\n')
    posed = load_suite(home / "posed.toml")
    assert posed.cases[0].pose == home / "pose.mp4"
    assert bare.hash() != posed.hash()
    before = posed.hash()
    (home / "pose.mp4").write_bytes(b"another")
    assert posed.hash() != before
