"""What rounds take is counted as others counted it, and a dry run of the shipped settings says so without weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipa_bench.cli.train import describe
from ipa_bench.models.wan import outline as wan
from ipa_bench.suite import load_suite
from ipa_bench.types import Case
from tests.trainers import tiny_runs
from trainers import config as train_config
from trainers import rewards
from trainers import run as training
from trainers.cost_sheet.rounds import PEAK, SHARE, price, shape_of
from trainers.methods import find

SHIPPED = Path(train_config.__file__).parent / "configs" / "identity-grpo-wan-1.3b.toml"
MODEL = "Wan-AI/Wan2.1-VACE-1.3B-diffusers"
PEOPLE = tuple((name, Path(f"{name}.png")) for name in ("anna", "ben"))
CASE = Case("two", Path("driving.mp4"), references=PEOPLE, frames=33, size=(416, 240))


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewards, "REWARDS", (*rewards.REWARDS, tiny_runs.TOY))


def test_a_round_of_identity_grpo_by_hand() -> None:
    config, outline = train_config.load(SHIPPED), wan.named(MODEL, random_weights=True)
    shape = shape_of(CASE, outline, (81, (832, 480)))
    found = price(config, "grpo", outline, shape)
    # 9 latent frames and two references, 30 x 52 latents in patches of 2 x 2
    assert (found.tokens, found.clips, found.shown) == (11 * 15 * 26, 256, 24)
    forward = outline.forward_flops(shape)
    # 25 steps of two passes of a clip; the LoRA adds little
    assert 1.0 < found.sampling / (256 * 25 * 2 * forward) < 1.1
    # 24 steps: two passes of the policy, each forward, backward and forward again, and two of the reference. Others
    # counted 240 passes against 50, with a backward pass of two, which a LoRA's is not for short clips.
    assert 4.0 < found.learning / found.sampling < 5.0
    assert found.kept == 256 * 24 * 2 * 4 * 16 * 11 * 30 * 52
    assert found.hours == pytest.approx((found.sampling + found.learning) / (PEAK * SHARE) / 3600)
    window = train_config.changed(config, {"methods": {"grpo": {"window": 1}}})
    assert price(window, "grpo", outline, shape).learning == pytest.approx(found.learning / 24)
    one = train_config.changed(config, {"rollouts": {"guidance": 1.0}})
    assert price(one, "grpo", outline, shape).sampling == pytest.approx(found.sampling / 2)


def test_forward_methods_keep_no_steps() -> None:
    config, outline = train_config.load(SHIPPED), wan.named(MODEL, random_weights=True)
    found = price(config, "nft", outline, shape_of(CASE, outline, (81, (832, 480))))
    assert (found.shown, found.kept) == (1, 0)
    assert found.learning < found.sampling / 10


def test_the_shipped_settings_are_those_of_the_published_code() -> None:
    config = train_config.load(SHIPPED)
    asked, rollouts, train = config.options("grpo"), config.rollouts, config.train
    assert rollouts is not None
    assert config.reward is not None
    assert (asked.clip, asked.advantage, asked.kl, asked.noise, asked.scale) == (1e-3, 5.0, 0.004, "wan", 1.0)
    assert (rollouts.cases * rollouts.per_case, config.updates, train.batch) == (256, 2, 128)
    assert asked == find("grpo").options()  # they are the defaults


def test_a_dry_run_says_hours_and_memory_without_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    folder = tiny_runs.write(tmp_path)
    changes = {"rollouts": {"cases": 2}, "reward": tiny_runs.ONLINE["reward"], "watch": {"cases": 0}}
    config = train_config.changed(train_config.load(SHIPPED), {**changes, "train": {"batch": 16}})
    job = training.prepare(config, "grpo", load_suite(folder / "suite.toml"), dry=True)
    describe(job, Path("runs/mine"))
    said = " ".join(capsys.readouterr().out.split())
    for words in (
        f"{MODEL} (published, not read)",
        "226 rounds of 2 cases x 8 = 16 clips, 25 steps with guidance 4.5; 3 cases of 3 people",
        "rewarded: light@1, pixels",
        "226 of 16 clips, 1 a round, 24 steps of each",
        "on one H100",
        "which is assumed",
        "memory about",
    ):
        assert words in said, said
