"""Files of rows that ship, and what a file must not leave out."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("diffusers")

from ipa_bench.config.toml import read_toml
from ipa_bench.errors import UserError
from ipa_bench.metrics import find
from trainers.align import config as align_config
from trainers.align import stages
from trainers.align.config import placed
from trainers.align.rows import REWARD, AblationConfig, Row
from trainers.config import TrainConfig, changed
from trainers.rewards import RewardConfig

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "benchmarks").glob("embedded-*/*.toml"))
FILES = [file for file in FILES if "[[row]]" in file.read_text()]


def training(config: AblationConfig, row: Row) -> TrainConfig:
    common = config.common
    if row.makes:
        reward = RewardConfig.model_validate({"scale": "raw", "term": ({"reward": common.choose.metric},)})
        made = common.training({"model": "embedded"}, Path("s.toml"), None, None, config.rollouts, reward)
    else:
        made = common.training({"model": "embedded"}, Path("s.toml"), Path("c.json"), None)
    return changed(made, row.changes)


def test_there_are_files() -> None:
    assert {file.name for file in FILES} >= {"ablation.toml", "hands.toml", "identity.toml", "gate.toml"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_that_ships_can_be_trained_by(file: Path) -> None:
    config = read_toml(file, AblationConfig).value
    config = config.model_copy(update={"common": placed(config.common, file.parent)})
    for name in config.metrics:
        assert name == REWARD or find(name).info.id.startswith(name)
    assert stages.rewarded_by(config.common).info.better == "higher"
    clips = []
    for row in config.row:
        made = training(config, row)
        assert (made.rollouts is None) == (not row.makes)
        if row.makes and made.rollouts is not None:
            rounds = made.train.steps / made.updates
            assert rounds == int(rounds)
            clips.append(int(rounds) * made.rollouts.cases * made.rollouts.per_case)
    # rows that make their own clips make equally many
    assert len(set(clips)) <= 1


def test_a_row_that_makes_its_own_clips_needs_rounds(tmp_path: Path) -> None:
    file = tmp_path / "rows.toml"
    file.write_text('suite = "s.toml"\n[[row]]\nname = "own"\nmethod = "grpo"\n')
    with pytest.raises(UserError, match=r"row 'own' makes its own clips: give \[rollouts\]"):
        read_toml(file, AblationConfig)


def test_the_configuration_of_rounds_of_who_is_who_loads() -> None:
    shipped = align_config.load(Path(align_config.__file__).parents[1] / "configs" / "align-identity.toml")
    assert (shipped.method, shipped.rounds, shipped.candidates.per_case) == ("nft", 2, 8)
    assert stages.rewarded_by(shipped).info.id.startswith("reward.people")
