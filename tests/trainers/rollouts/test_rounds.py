"""Rounds: which clips they have, what is learnt from them, what is left of them, and what is said before they begin."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from ipa_bench.errors import UserError
from ipa_bench.metrics import Measured
from ipa_bench.metrics.base import unknown
from ipa_bench.types import Case
from tests.trainers import tiny_runs
from tests.trainers.tiny_runs import ONLINE
from trainers import rewards
from trainers import run as training
from trainers.config import RolloutConfig
from trainers.methods import MethodName, find, grpo
from trainers.rollouts.rounds import Plan, Rewarded, Rounds
from trainers.rollouts.walk import Walk


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_runs.write(tmp_path_factory.mktemp("material"))


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPA_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(rewards, "REWARDS", (*rewards.REWARDS, tiny_runs.TOY))


def with_(**tables: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The tiny online configuration, with some values changed."""
    return {name: {**ONLINE.get(name, {}), **tables.get(name, {})} for name in {**ONLINE, **tables}}


def rounds_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "rounds.jsonl").read_text().splitlines()]


CASES = tuple(Case(f"case{i}", Path("driving.mp4")) for i in range(7))


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 7), st.integers(2, 4), st.integers(0, 3))
def test_a_round_has_every_case_once_and_seeds_of_its_own(cases: int, per_case: int, seed: int) -> None:
    plan = Plan(CASES, RolloutConfig(cases=cases, per_case=per_case, decode_dtype="fp32"), seed)
    turn = 7 // cases
    for first in (0, turn, 5 * turn):
        found = [case.id for number in range(first, first + turn) for case in plan.of(number)]
        assert len(found) == len(set(found)) == turn * cases
    seeds = [each for number in range(6) for each in plan.seeds(number)]
    assert len(seeds) == len(set(seeds)) == 6 * per_case
    assert plan.of(3) == Plan(CASES, plan.asked, seed).of(3)


def stream(takes: MethodName, chosen: int, batch: int, passes: int) -> Any:
    """A round of which so many clips teach something."""
    config = SimpleNamespace(train=SimpleNamespace(batch=batch, seed=0), updates=12 // batch)
    clips = [Rewarded(SimpleNamespace(case=CASES[i % 7]), i, 0.0) for i in range(chosen)]  # type: ignore[arg-type]
    sigmas = torch.ones(1) if find(takes).takes == "steps" else None
    made = SimpleNamespace(
        _config=config, _updates=config.updates, passes=passes, _number=1, _chosen=clips, _sigmas=sigmas,
        _key=lambda each: str(each.seed),
    )  # fmt: skip
    return [Rounds.at(made, 12 * passes + place) for place in range(12 * passes)]  # type: ignore[arg-type]


@pytest.mark.parametrize("takes", ["nft", "grpo"])
@pytest.mark.parametrize("batch", [2, 3, 12])
def test_every_clip_is_learnt_from_once_however_it_is_divided(takes: MethodName, batch: int) -> None:
    found = stream(takes, 12, batch, 3)
    assert Counter((index, draw.key, draw.number) for index, draw in found) == Counter(
        (index, str(index), part) for index in range(12) for part in range(3)
    )
    assert found == stream(takes, 12, 4, 3)


def test_clips_that_are_left_out_leave_their_place_to_others() -> None:
    steps, levels = stream("grpo", 5, 4, 2), stream("nft", 5, 4, 2)
    # of 24 places, each of 10 steps has two or three
    assert set(Counter((index, draw.number) for index, draw in steps).values()) == {2, 3}
    assert {draw.number for _, draw in steps} == {0, 1}
    # and a noise level is never the same again
    assert max(Counter(levels).values()) == 1


@pytest.mark.parametrize("method", ["nft", "grpo"])
def test_a_run_makes_its_own_clips_and_says_so(folder: Path, tmp_path: Path, method: MethodName) -> None:
    out = tmp_path / "out"
    job = tiny_runs.job(folder, method, with_(methods={"grpo": {"kl": 0.01}}))
    told: list[str] = []
    if method == "nft":  # Ctrl-C between two clips ends there, and they are kept

        def press(stage: str, done: int, *_: object) -> None:
            if (stage, done) == ("round 1", 2):
                os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            training.train(job, out, tell=press)
        assert len(list((out / "rounds/000000/clips").glob("*.mp4"))) == 2
        assert not (out / "log.jsonl").exists()
    assert training.train(job, out, tell=lambda stage, *_: told.append(stage)) is not None
    lines = tiny_runs.log(out)
    assert len(lines) == 4
    # at the beginning of a round policy and old policy are one, in GRPO; in NFT the old one stays behind
    moved = [line["moved"] for line in lines]
    assert moved[0] == 0
    assert (moved[2] == 0) == (method == "grpo")
    assert min(moved[1], moved[3]) > 0
    if method == "grpo":
        assert [lines[i]["ratio"] for i in (0, 2)] == pytest.approx([1, 1], abs=1e-12)
        assert [lines[i]["clipped"] for i in (0, 2)] == [0, 0]
        assert lines[0]["kl"] == 0 < lines[2]["kl"]
    about = rounds_of(out)
    assert [(line["round"], line["step"], line["clips"], line["learnt_from"]) for line in about] == [
        (0, 0, 4, 4), (1, 2, 4, 4),
    ]  # fmt: skip
    assert told.count("round 1") == told.count("round 2") == 4
    assert [path.name for path in sorted((out / "rounds").glob("0*"))] == ["000001"]
    card = json.loads((out / "lora" / "card.json").read_text())
    assert card["data"]["rollouts"]["clips"] == 8
    first, last = card["data"]["rollouts"]["rewards"]["light@1"]
    assert (first, last) == tuple(line["rewards"]["light@1"] for line in about)
    assert card["data"]["chosen_by"] == ["light@1", "pixels"]
    assert "rest.psnr@1" in card["data"]["no_evidence"]
    assert "truth.hand_error@1" not in card["data"]["no_evidence"]
    text = (out / "lora" / "README.md").read_text()
    assert "8 of its own in 2 rounds, of 3 identities" in text
    assert "| rewarded by | light@1, pixels (no evidence" in text
    # done is done, and another reward is another run
    assert training.train(job, out) == out / "lora" / "pytorch_lora_weights.safetensors"
    other = tiny_runs.job(folder, method, with_(reward={"term": [{"reward": "toy:light", "weight": 2.0}]}))
    assert other.key != job.key


class Walks:
    """Walks of one case in a tiny flow, without a model: its velocity is a function of the place."""

    device = torch.device("cpu")

    def guided(self, z: torch.Tensor, t: torch.Tensor, ladder: object) -> torch.Tensor:
        return torch.sin(3 * z) * t.view(-1, 1, 1, 1, 1).float()


def walk(folder: Path, **asked: Any) -> Walk:
    sigmas = torch.tensor([1, 0.8, 0.6, 0.4, 0.2, 0], dtype=torch.float64)
    return Walk(folder, sigmas, grpo.Options(**asked), seed=3, number=2, first_seed=16, autocast=nullcontext)


def test_steps_are_kept_to_the_bit_and_lead_to_one_another(tmp_path: Path) -> None:
    made = walk(tmp_path)
    jobs = [(CASES[0], 16), (CASES[1], 17)]
    start = torch.randn(2, 1, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    end = made(Walks(), jobs, start, ())  # type: ignore[arg-type]
    taken = [made.taken(jobs, [place, place], Walks.device, None, 1.0) for place in range(made.window)]
    assert made.window == 4
    assert torch.equal(taken[0].z, start)
    for one, other in pairwise(taken):
        assert torch.equal(one.after, other.z)
    assert torch.equal(taken[0].s, torch.ones(2, dtype=torch.float64))
    last = taken[-1].after
    expected = last + (0 - 0.2) * Walks().guided(last, torch.full((2,), 0.2), ())
    torch.testing.assert_close(end, expected)
    # one by one they are the same
    alone = walk(tmp_path / "alone")
    (tmp_path / "alone").mkdir()
    assert torch.equal(alone(Walks(), jobs[1:], start[1:], ()), end[1:])  # type: ignore[arg-type]
    with pytest.raises(UserError, match="cannot be read"):
        made.taken([(CASES[2], 0)], [0], Walks.device, None, 1.0)


def test_all_clips_of_a_case_share_a_drawn_step_and_where_asked_their_first_noise(tmp_path: Path) -> None:
    made = walk(tmp_path, window=1, drawn=True, shared_noise=True)
    jobs = [(CASES[0], 16), (CASES[0], 17), (CASES[1], 16)]
    made(Walks(), jobs, torch.zeros(3, 1, 2, 2, 2), ())  # type: ignore[arg-type]
    first, second, other = (load_file(made.file(*job)) for job in jobs)
    assert first["z"].shape == (1, 1, 2, 2, 2)
    assert torch.equal(first["z"], second["z"])
    assert not torch.equal(first["z"], other["z"])
    taken = made.taken(jobs, [0, 0, 0], Walks.device, None, 1.0)
    assert not torch.equal(taken.after[0], taken.after[1])
    windows = {replace(made, number=number).steps(case).start for number in range(9) for case in CASES}
    assert windows == {0, 1, 2, 3}
    assert {replace(made, number=number, asked=grpo.Options(window=2, first=1, drawn=True)).steps(CASES[0]).start
            for number in range(20)} == {1, 2}  # fmt: skip


@pytest.mark.parametrize(
    ("method", "changes", "why"),
    [
        ("grpo", {"data": {"selection": "candidates.json"}}, "learns from clips that it makes itself"),
        ("sft", ONLINE, "learns from clips that were selected .* wsft, nft, grpo"),
        ("nft", with_(rollouts={"cases": 4, "per_case": 2}), "takes 4 cases, and the suite has 3 of the train split"),
        ("grpo", with_(adapter={"dropout": 0.1}), "with dropout"),
        ("grpo", with_(methods={"grpo": {"window": 4}}), "4 steps from step 0 do not fit into the 2 of 3"),
        ("nft", with_(reward={"term": [{"reward": "truth.hand_error"}]}), "truth.hand_error@1 only judges"),
        ("nft", with_(train={"batch": 3}), "multiple of train.batch"),
        ("nft", {**ONLINE, "data": {"selection": "candidates.json"}}, "give one of the two"),
        ("nft", {key: ONLINE[key] for key in ("data", "rollouts")}, "go together"),
        ("nft", {"data": {"selection": None}}, "give one of the two"),
        ("nft", with_(rollouts={"per_case": 1}), "greater than or equal to 2"),
    ],
)
def test_what_cannot_be_is_said_before_a_model_is_loaded(
    folder: Path, method: MethodName, changes: dict[str, dict[str, Any]], why: str
) -> None:
    with pytest.raises(UserError, match=why):
        tiny_runs.job(folder, method, changes)


def test_rounds_that_teach_nothing_and_rewards_that_break_stop(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Any] = [Measured(1.0)]

    def look(case: Case, clips: Any) -> list[Any]:
        return [said[i % len(said)] for i in range(len(clips))]

    line = rewards.Kind("odd", "Odd.", lambda _: replace(rewards.find("toy:light"), look=look))
    monkeypatch.setattr(rewards, "REWARDS", (*rewards.REWARDS, line))
    asked = with_(
        reward={"term": [{"reward": "odd:one"}]}, train={"steps": 1, "batch": 4}, rollouts={"cases": 1, "per_case": 4}
    )
    job = tiny_runs.job(folder, "nft", asked)
    with pytest.raises(UserError, match="round 1 teaches nothing: rewards of its clips are equal"):
        training.train(job, tmp_path / "equal")
    said[:] = [unknown("blind")]
    with pytest.raises(UserError, match="light@1 says nothing"):
        tiny_runs.job(folder, "nft", asked)
    said[:] = [SimpleNamespace(value=float("nan"), reason=None)]
    with pytest.raises(UserError, match="light@1 gives no number for case"):
        training.train(job, tmp_path / "broken")
    # what the weights of before have made cannot be made again
    said[:] = [Measured(1.0), Measured(2.0)]
    longer = tiny_runs.job(folder, "nft", {**asked, "train": {"steps": 2, "batch": 2}})
    training.train(longer, tmp_path / "gone", stop_after=1)
    shutil.rmtree(tmp_path / "gone" / "rounds")
    with pytest.raises(UserError, match="000000 is not whole"):
        training.train(longer, tmp_path / "gone")
    # one clip that is not seen is left out, the others are learnt from
    said[:] = [Measured(1.0), unknown("blind"), Measured(3.0), Measured(2.0)]
    training.train(job, tmp_path / "some")
    (about,) = rounds_of(tmp_path / "some")
    assert (about["clips"], about["learnt_from"], about["rewards"]) == (4, 3, {"light@1": 2.0})
