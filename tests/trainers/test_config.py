"""The configuration of post-training: defaults as published, mistakes named, paths placed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ipa_bench.config.toml import read_toml
from ipa_bench.errors import UserError
from trainers import config as train_config
from trainers.config import DataConfig, LossConfig, ModelConfig, TrainConfig

LEAST = """
[data]
suite = "suite.toml"
selection = "selection.json"
[model]
model = "embedded"
"""


def load(folder: Path, text: str) -> TrainConfig:
    path = folder / "train.toml"
    path.write_text(text)
    return train_config.load(path)


def test_what_is_not_said_is_as_published(tmp_path: Path) -> None:
    config = load(tmp_path, LEAST)
    assert (config.adapter.rank, config.adapter.layers, config.adapter.full) == (128, "qkv", False)
    loss = config.loss
    assert (loss.beta, loss.time_weight, loss.hand_weight, loss.hand_form) == (600, "squared", 10, "authors")
    assert (loss.t, loss.shift) == ("uniform", 1)
    assert config.data.pairs == "strict"


def test_what_ships_for_wan_is_what_the_ablation_found_and_beside_it_what_the_paper_says() -> None:
    folder = Path(train_config.__file__).parent / "configs"
    ours, paper = (read_toml(folder / f"ipa-wan-1.3b{name}.toml", TrainConfig).value for name in ("", "-paper"))
    assert (ours.loss.beta, ours.loss.time_weight, ours.loss.shift) == (60, "constant", 3)
    assert paper.loss == LossConfig()
    assert paper.model_copy(update={"loss": ours.loss}) == ours


@pytest.mark.parametrize(
    ("text", "problem", "fix"),
    [
        (LEAST + "[train]\nmicro_bach = 1", r"train.toml:8: .*micro_bach", "micro_batch"),
        (LEAST + "[los]\nbeta = 1.0", r"train.toml:7: .*los", "loss"),
        (LEAST.replace("selection =", "selektion ="), r"train.toml:4: .*selektion", "selection"),
        (LEAST + "[adapter]\nlayers = 'qkvv'", r"train.toml:8: .*qkvv", "qkv"),
        (LEAST + "[loss]\nhand_form = 'author'", r"train.toml:8: .*author", "authors"),
        (LEAST.replace('model = "embedded"', ""), "lacks model", "model"),
    ],
)
def test_a_wrong_key_or_word_names_the_line_and_the_nearest(tmp_path: Path, text: str, problem: str, fix: str) -> None:
    with pytest.raises(UserError, match=problem) as error:
        load(tmp_path, text)
    assert fix in error.value.fix


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("train", "steps = 0"),
        ("train", 'steps = "10"'),
        ("train", "steps = 10.5"),
        ("train", "seed = -1"),
        ("train", "lr = 0.0"),
        ("train", "lr = nan"),
        ("train", "ema = 1.0"),
        ("train", "save_every = 0"),
        ("train", "clip = 0.0"),
        ("train", "gradient_checkpointing = 1"),
        ("train", "batch = 3\nmicro_batch = 2"),
        ("loss", "beta = 0.0"),
        ("loss", "beta = inf"),
        ("loss", "shift = 0.0"),
        ("loss", "hand_weight = -1.0\nhand_form = 'paper'"),
        ("loss", "hand_weight = 0.5"),
        ("adapter", "rank = 0"),
        ("adapter", "dropout = 1.0"),
        ("watch", "guidance = 0.5"),
        ("watch", "seeds = [-1]"),
    ],
)
def test_a_value_out_of_range_is_an_error_that_names_the_line(tmp_path: Path, table: str, line: str) -> None:
    with pytest.raises(UserError, match=r"train.toml:[789]: ") as error:
        load(tmp_path, LEAST + f"[{table}]\n{line}\n")
    assert any(word in error.value.problem for word in (line.split(" ")[0], table))


def test_every_weight_and_a_lora_to_continue_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be continued"):
        load(tmp_path, LEAST + 'lora = "lora"\n[adapter]\nfull = true\n')


def test_paths_start_at_the_file_and_names_stay(tmp_path: Path) -> None:
    here = load(tmp_path, LEAST + 'lora = "before"\n[watch]\nsuite = "/other/suite.toml"\n')
    assert here.data.suite == str(tmp_path / "suite.toml")
    assert here.data.selection == str(tmp_path / "selection.json")
    assert here.model.lora == str(tmp_path / "before")
    assert here.watch.suite == "/other/suite.toml"
    assert here.model.model == "embedded"
    hub = LEAST.replace("embedded", "Wan-AI/Wan2.1-VACE-1.3B-diffusers")
    assert load(tmp_path, hub).model.model == "Wan-AI/Wan2.1-VACE-1.3B-diffusers"
    (tmp_path / "mine").mkdir()
    assert load(tmp_path, LEAST.replace("embedded", "mine")).model.model == str(tmp_path / "mine")


def config(mask: str, **loss: Any) -> TrainConfig:
    data = DataConfig.model_validate({"suite": "s", "selection": "t", "mask": mask})
    return TrainConfig(data=data, model=ModelConfig(model="embedded"), loss=LossConfig(**loss))


def test_hands_weigh_more_unless_nothing_says_so() -> None:
    assert config("driving").weighted
    assert not config("none").weighted
    assert not config("driving", hand_weight=1.0).weighted
    assert config("driving", hand_weight=1.0, hand_form="paper").weighted
    assert not config("driving", hand_weight=0.0, hand_form="paper").weighted


def test_values_can_be_replaced_and_are_checked_again() -> None:
    before = config("driving")
    after = train_config.changed(before, {"train": {"steps": 5, "trackers": ["tensorboard"]}, "loss": {"beta": 3}})
    assert (after.train.steps, after.train.trackers, after.loss.beta) == (5, ("tensorboard",), 3)
    assert after.train.batch == before.train.batch
    assert after.data == before.data
    for changes in ({"train": {"stepps": 5}}, {"trian": {"steps": 5}}, {"train": {"batch": 3, "micro_batch": 2}}):
        with pytest.raises(UserError, match=r"train|trian"):
            train_config.changed(before, changes)
