"""What guidance leads away from where nothing is said: Wan's own negative prompt, where a model reads Wan's prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from ipa_bench import video
from ipa_bench.models import checkpoint
from ipa_bench.models.checkpoint import NEGATIVE, Checkpoint, described, locate, negative_prompt, recipe_of
from ipa_bench.models.specs import WanVaceSpec
from ipa_bench.types import Case
from tests import tiny_wan
from tests.clips import noise
from tests.trainers import tiny_runs


def wide(folder: Path, text_dim: int) -> Path:
    (folder / "transformer").mkdir(parents=True)
    (folder / "transformer" / "config.json").write_text(json.dumps({"text_dim": text_dim}))
    return folder


def test_it_is_wans_own_for_models_with_wans_text_encoder_unless_another_is_asked_for(tmp_path: Path) -> None:
    wan, tiny, absent = wide(tmp_path / "wan", 4096), wide(tmp_path / "tiny", 32), tmp_path / "published"
    assert negative_prompt(None, 5.0, wan) == negative_prompt(None, 5.0, absent) == NEGATIVE
    assert negative_prompt(None, 5.0, tiny) == ""
    assert negative_prompt("", 5.0, wan) == ""
    assert negative_prompt("blur", 5.0, tiny) == "blur"
    assert negative_prompt("blur", 1.0, wan) == negative_prompt(None, 1.0, wan) == ""
    assert (len(NEGATIVE.split("，")), NEGATIVE.count("手")) == (28, 3)


def spec_of(model: Path, **settings: Any) -> WanVaceSpec:
    given = {"name": "tiny", "kind": "wan_vace", "model": str(model), "steps": 1, "dtype": "fp32", "keep_latents": True}
    return WanVaceSpec.model_validate({**given, "guidance": 3.0, **settings})


def test_a_recipe_says_it_and_clips_are_made_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_wan.save(tmp_path / "model")
    driving = tmp_path / "pose.mp4"
    video.encode(noise(5, 16, 16), driving, 10, crf=10)
    case = Case("anna", driving, driving, pose=driving, prompt="anna")

    def latents(name: str, **settings: Any) -> Any:
        made = tiny_wan.generator(spec_of(model, **settings), tmp_path / name, pipe=tiny_wan.pipeline())
        return load_file(made.generate(case, 0).with_suffix(".safetensors"))["latents"]

    nothing, silent = latents("nothing", negative_prompt=""), latents("silent")
    assert silent.equal(nothing)  # of a model that does not know Wan's prompt: as it always was
    monkeypatch.setattr(checkpoint, "_WAN_TEXT", 16)
    usual, told = latents("usual"), latents("told", negative_prompt=NEGATIVE)
    assert usual.equal(told)
    assert not usual.equal(nothing)
    spec = spec_of(model)
    recipe = recipe_of(spec, locate(spec))
    assert recipe["negative_prompt"] == NEGATIVE
    assert "Wan's own negative prompt" in described(spec, recipe)
    assert recipe_of(spec_of(model, guidance=1.0), Checkpoint(model, "x"))["negative_prompt"] == ""


def test_rounds_and_looks_of_a_training_have_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_runs.write(tmp_path / "material")
    monkeypatch.setattr(tiny_runs.rewards, "REWARDS", (*tiny_runs.rewards.REWARDS, tiny_runs.TOY))
    rounds = {**tiny_runs.ONLINE["rollouts"], "guidance": 2.0}
    asked: dict[str, Any] = {**tiny_runs.ONLINE, "rollouts": rounds, "watch": {"guidance": 2.0}}

    def prompts(changes: Any) -> tuple[str, str | None, str | None]:
        job = tiny_runs.job(folder, "grpo", changes)
        assert job.config.rollouts is not None
        return job.key, job.config.rollouts.negative_prompt, job.spec.negative_prompt

    key, *silent = prompts(asked)
    assert silent == ["", ""]
    assert prompts({**asked, "rollouts": {**rounds, "negative_prompt": ""}})[0] == key
    monkeypatch.setattr(checkpoint, "_WAN_TEXT", 16)
    other, *usual = prompts(asked)
    assert usual == [NEGATIVE, NEGATIVE]
    assert other != key
