"""Looking at a model while it is trained: held-out cases, and an alarm where a reward is gamed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.trainers import tiny_runs
from tests.trainers.tiny_runs import train
from trainers import run as training
from trainers.watch import alarm


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_runs.write(tmp_path_factory.mktemp("material"))


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPA_BENCH_CACHE", str(tmp_path / "cache"))


def looks(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "watch.jsonl").read_text().splitlines()]


def test_a_held_out_case_is_watched_and_training_is_none_the_wiser(
    plain: Path, tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPA_BENCH_CACHE", str(cache_folder))
    watch = {"watch": {"cases": 4, "every": 2, "steps": 1, "seeds": [0, 1]}, "adapter": {"dropout": 0.2}}
    train(plain, tmp_path / "watched", "ipa", watch)
    train(plain, tmp_path / "alone", "ipa", {"adapter": watch["adapter"]})
    tiny_runs.assert_same_state(tmp_path / "watched", tmp_path / "alone")
    found = looks(tmp_path / "watched")
    assert [line["step"] for line in found] == [0, 2, 4, 6]
    assert all(set(line["flow"]["frame"]) == {"0.1", "0.3", "0.5", "0.7", "0.9"} for line in found)
    assert found[0]["flow"]["hand"].keys() == found[0]["flow"]["frame"].keys()
    assert found[0]["flow"] != found[3]["flow"]
    assert [row[:2] for row in found[0]["scores"]["frame.psnr@1"]] == [["vera", 0], ["vera", 1]]
    assert found[0]["scores"]["frame.psnr@1"] != found[3]["scores"]["frame.psnr@1"]
    # stopped between two looks and gone on with: the same looks
    job = tiny_runs.job(plain, "ipa", watch)
    training.train(job, tmp_path / "parts", stop_after=2)
    with (tmp_path / "parts" / "watch.jsonl").open("a") as torn:
        torn.write('{"step": 4, "flo')
    assert training.train(job, tmp_path / "parts") is not None
    tiny_runs.assert_same_state(tmp_path / "watched", tmp_path / "parts")


def test_without_seeds_only_the_flow_is_watched(plain: Path, tmp_path: Path) -> None:
    train(plain, tmp_path, "sft", {"watch": {"cases": 1, "seeds": []}, "train": {"steps": 2, "precision": "bf16"}})
    assert [line["step"] for line in looks(tmp_path)] == [0, 2]
    assert looks(tmp_path)[0]["scores"] == {}
    assert not (tmp_path / "samples").exists()


def rows(change: float, spread: float = 0.01, people: int = 8) -> list[list[Any]]:
    """Scores of two seeds of each person, around 1 + ``change``."""
    return [
        [f"case{i}", seed, 1 + change + spread * ((i * 7 + seed * 3) % 5 - 2) * (1 if change else 0)]
        for i in range(people)
        for seed in range(2)
    ]


PEOPLE = {f"case{i}": f"person{i}" for i in range(8)}
BEFORE = {name: rows(0) for name in ("hand_quality@4", "rest.psnr@1", "hand.keypoint_error@1", "frame.psnr@1")}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hand_quality@4": 0.3, "rest.psnr@1": -0.3}, ["hand_quality", "rest.psnr"]),
        # lower is better: a rise of an error is a fall
        ({"hand_quality@4": 0.3, "hand.keypoint_error@1": 0.3}, ["hand_quality", "hand.keypoint_error"]),
        ({"hand_quality@4": 0.3, "hand.keypoint_error@1": -0.3}, []),
        ({"hand_quality@4": 0.3}, []),
        ({"rest.psnr@1": -0.3}, []),
        ({"hand_quality@4": -0.3, "rest.psnr@1": -0.3}, []),
        ({"frame.psnr@1": 0.3, "rest.psnr@1": -0.3}, []),  # what rose did not choose
        ({"hand_quality@4": 0.3, "rest.psnr@1": 0.3}, []),
        ({}, []),
    ],
)
def test_an_alarm_is_a_metric_that_chose_and_rose_while_others_fell(
    changes: dict[str, float], named: list[str]
) -> None:
    now = {**BEFORE, **{name: rows(change) for name, change in changes.items()}}
    found = alarm(BEFORE, now, {"hand_quality"}, PEOPLE)
    assert len(found) == bool(named)
    assert all(name in found[0] for name in named)


def test_an_alarm_says_who_looks_through_the_same_networks() -> None:
    changes = {"hand_quality@4": 0.3, "hand.keypoint_error@1": -0.3, "rest.psnr@1": -0.3}
    now = {**BEFORE, **{name: rows(change) for name, change in changes.items()}}
    (text,) = alarm(BEFORE, now, {"hand_quality"}, PEOPLE)
    assert text.startswith("hand_quality@4 (and hand.keypoint_error@1, through the same networks) rose while")
    assert "others fell: rest.psnr@1 -0.3" in text
    now = {**BEFORE, "hand_quality@4": rows(0.3), "hand.keypoint_error@1": rows(0.3)}
    (text,) = alarm(BEFORE, now, {"hand_quality"}, PEOPLE)
    assert text.startswith("hand_quality@4 rose while others fell: hand.keypoint_error@1 +0.")
    assert text.endswith(" (of the same networks)")


def test_a_change_within_the_noise_is_no_alarm() -> None:
    now = {**BEFORE, "hand_quality@4": rows(0.3), "rest.psnr@1": rows(-0.001, spread=0.5)}
    assert alarm(BEFORE, now, {"hand_quality"}, PEOPLE) == []
    # one person proves nothing, however many samples
    one = {name: [row for row in found if row[0] == "case0"] for name, found in now.items()}
    assert alarm(BEFORE, one, {"hand_quality"}, PEOPLE) == []
    assert alarm({}, now, {"hand_quality"}, PEOPLE) == []
