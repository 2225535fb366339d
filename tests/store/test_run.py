"""What was appended is read back, a run goes on, and two runs are not mixed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ipa_bench.errors import UserError
from ipa_bench.store import CaseEntry, FloorRecord, ModelEntry, RunHeader, RunStore, UnitRecord
from ipa_bench.types import Score
from tests.store.runs import HEADER, record, shards


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path / "run", HEADER)
    written = [record('wäve\u2028 "', seed, model) for seed in (1, 0) for model in ("B", "A")]
    for each in written:
        store.append(each)
    loaded = RunStore.load(tmp_path / "run")
    assert loaded.header == HEADER
    assert loaded.records() == {each.unit: each for each in written}
    assert list(loaded.records()) == sorted(each.unit for each in written)
    assert loaded.read().damaged == 0
    assert len(shards(tmp_path / "run")) == 1
    assert len(shards(tmp_path / "run")[0].read_bytes().splitlines()) == 4


def test_videos_that_a_run_made_move_with_its_folder(tmp_path: Path) -> None:
    made, given = tmp_path / "run" / "videos" / "A" / "wave_seed0.mp4", tmp_path / "theirs.mp4"
    made.parent.mkdir(parents=True)
    store = RunStore.open(tmp_path / "run", HEADER)
    for seed, video in enumerate((made, given)):
        video.write_bytes(b"clip")
        store.append(replace(record("wave", seed), video=str(video)))
    store.append(replace(record("wave", 2), video=str(made.with_name("deleted.mp4"))))
    store.close()
    (tmp_path / "run").rename(tmp_path / "moved")
    found = [each.video for each in RunStore.load(tmp_path / "moved").records().values()]
    there = tmp_path / "moved" / made.relative_to(tmp_path / "run")
    assert found == [str(there), str(given), str(made.with_name("deleted.mp4"))]


def test_scores_are_sorted_by_unit_and_the_headers_metric_order(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path, HEADER)
    for seed, case in ((1, "b"), (0, "b"), (0, "a")):
        store.append(record(case, seed))
    order = [(s.case, s.seed, s.metric) for s in store.scores()]
    pck, recall = "hand.pck@1", "hand.recall@1"
    assert order == [("a", 0, pck), ("a", 0, recall), ("b", 0, pck), ("b", 0, recall), ("b", 1, pck), ("b", 1, recall)]


def test_done_asks_for_every_metric_and_takes_a_reason_for_an_answer(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path, HEADER)
    store.append(record("a"))
    store.append(replace(record("b"), scores=record("b").scores[:1]))
    assert store.read().done(HEADER.metrics) == {("a", 0, "A")}
    assert store.read().done(["hand.recall@1"]) == {("a", 0, "A"), ("b", 0, "A")}
    assert store.read().done(["other@1"]) == set()


def test_records_refuse_scores_of_another_unit_and_repeated_metrics() -> None:
    with pytest.raises(ValueError, match="its own unit"):
        UnitRecord("a", 0, "A", scores=record("b").scores)
    with pytest.raises(ValueError, match="one score per metric"):
        UnitRecord("wave", 0, "A", scores=record().scores[:1] * 2)


def test_json_is_strict(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path, HEADER)
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.append(replace(record(), seconds=float("nan")))
    store.append(record())
    assert len(store.records()) == 1
    assert store.read().damaged == 0


def test_the_newest_of_two_records_of_a_unit_stays(tmp_path: Path) -> None:
    first = RunStore.open(tmp_path, HEADER)
    first.append(record(value=0.1))
    first.append(record(value=0.2))
    assert first.scores()[1].value == 0.2
    second = RunStore.open(tmp_path, HEADER)
    second.append(record(value=0.3))
    assert second.scores()[1].value == 0.3
    assert len(shards(tmp_path)) == 2


def test_opening_again_goes_on_and_keeps_the_first_environment(tmp_path: Path) -> None:
    RunStore.open(tmp_path, HEADER).append(record())
    later = replace(HEADER, created="2027-01-01", environment={}, seeds=(1, 0))
    store = RunStore.open(tmp_path, later)
    assert store.header == HEADER
    assert store.read().done(HEADER.metrics) == {("wave", 0, "A")}


def test_a_lifted_limit_and_one_more_model_resume(tmp_path: Path) -> None:
    RunStore.open(tmp_path, HEADER).append(record())
    more = replace(
        HEADER,
        cases=(*HEADER.cases, CaseEntry("nod", "bob", "test", "clips/nod.mp4")),
        models=(ModelEntry("B", "folder", "outB"),),
        primary="hand.pck@1",
    )
    header = RunStore.open(tmp_path, more).header
    assert [case.id for case in header.cases] == ["wave", "nod"]
    assert [model.name for model in header.models] == ["A", "B"]
    assert header.primary == "hand.pck@1"
    assert RunStore.load(tmp_path).header == header
    assert RunStore.open(tmp_path, HEADER).header.cases == header.cases


def test_a_run_by_metrics_of_an_earlier_version_goes_on_with_the_present_ones(tmp_path: Path) -> None:
    before = replace(HEADER, metrics=("hand.recall@1", "hand_quality@1"), environment={"hands": "hands@1"})
    store = RunStore.open(tmp_path, before)
    store.append(UnitRecord("wave", 0, "A", "out/wave.mp4", "f" * 64, 1.0, (), (
        Score("wave", 0, "A", "hand.recall@1", 0.5), Score("wave", 0, "A", "hand_quality@1", 0.4),
    )))  # fmt: skip
    store.close()
    now = replace(
        HEADER, metrics=("hand_quality@4", "hand.recall@1", "hand.offset@2"), environment={"hands": "hands@2"}
    )
    going_on = RunStore.open(tmp_path, now)
    assert (going_on.header.metrics, going_on.header.environment) == (now.metrics, now.environment)
    assert going_on.header.created == before.created
    assert going_on.read().done(now.metrics) == set()
    assert going_on.records()["wave", 0, "A"].scores[1].metric == "hand_quality@1"  # nothing says that eyes changed
    # fewer metrics that there still are is another run
    with pytest.raises(UserError, match=r"hand\.offset@2"):
        RunStore.open(tmp_path, replace(now, metrics=now.metrics[:2]))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (replace(HEADER, suite_hash="b" * 64), "the suite (its cases or their clips: aaaaaaaaaaaa, now bbbbbbbbbbbb)"),
        (replace(HEADER, seeds=(0,)), "the seeds (0, 1, now 0)"),
        (replace(HEADER, metrics=("hand.pck@2", "hand.recall@1")), "the metrics (−hand.pck@1, +hand.pck@2)"),
        (replace(HEADER, models=(ModelEntry("A", "folder", "else"),)), "model A (folder outA, now folder else)"),
    ],
)
def test_another_run_is_refused_and_what_differs_is_said(tmp_path: Path, other: RunHeader, said: str) -> None:
    RunStore.open(tmp_path, HEADER)
    with pytest.raises(UserError) as error:
        RunStore.open(tmp_path, other)
    assert said in error.value.problem
    assert error.value.fix == "use another folder or delete this one"
    assert RunStore.load(tmp_path).header == HEADER


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "is not a run"), ("{", "is damaged"), ('{"name": 3}', "is damaged"), ("header", "schema version 2")],
)
def test_a_folder_without_a_good_header_is_refused(tmp_path: Path, content: str | None, problem: str) -> None:
    if content == "header":
        RunStore.open(tmp_path, HEADER)
        content = json.dumps(json.loads((tmp_path / "run.json").read_text()) | {"schema_version": 2})
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match=problem):
        RunStore.load(tmp_path)


def test_scores_without_a_header_are_not_adopted(tmp_path: Path) -> None:
    RunStore.open(tmp_path, HEADER).append(record())
    (tmp_path / "run.json").unlink()
    with pytest.raises(UserError, match="has scores but no"):
        RunStore.open(tmp_path, HEADER)


EYES = {"hands": "hands@2", "pixels": "pixels@1"}


@pytest.mark.parametrize("known_by", ["observers", "environment"])
def test_what_other_observers_saw_does_not_count_beside_what_the_present_ones_see(
    tmp_path: Path, known_by: str
) -> None:
    """The ids of the metrics are the same; the landmarks that they are computed from are not."""
    old = {"hands": "hands@1", "pixels": "pixels@1"}
    before = replace(HEADER, **{known_by: old}, seeds=(0, 1))
    store = RunStore.open(tmp_path, before)
    for seed in (0, 1):
        store.append(record(seed=seed, value=0.1))
    store.append(FloorRecord("wave", {"hand.pck@1": 0.012}, {"hand.recall@1": "no value"}))
    store.close()
    now = replace(HEADER, environment=EYES, observers=EYES, tool_version="0.2")
    going_on = RunStore.open(tmp_path, now)
    assert (going_on.header.observers, going_on.header.environment, going_on.header.looked) == (EYES, EYES, 1)
    held = going_on.read()
    assert (held.records, held.floors, held.seen_otherwise) == ({}, {}, 2)
    assert held.floors_done(HEADER.metrics) == set()
    going_on.append(record(seed=1, value=0.9))
    going_on.append(FloorRecord("wave", {"hand.pck@1": 0.5}, {"hand.recall@1": "no value"}))
    held = RunStore.load(tmp_path).read()
    assert {unit: r.scores[0].value for unit, r in held.records.items()} == {("wave", 1, "A"): 0.9}
    assert held.floors["wave"].changes == {"hand.pck@1": 0.5}
    assert held.seen_otherwise == 1
    # opened again by the same observers it goes on, opened by others it begins again
    assert RunStore.open(tmp_path, now).read().records == held.records
    other = {**EYES, "hands": "hands@3"}
    later = RunStore.open(tmp_path, replace(now, environment=other, observers=other))
    assert (later.header.looked, later.read().records, later.read().seen_otherwise) == (2, {}, 2)


def test_observers_that_no_metric_of_the_run_looks_through_change_nothing(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path, replace(HEADER, observers={"hands": "hands@2"}, environment={"faces": "f@1"}))
    store.append(record())
    going_on = RunStore.open(tmp_path, replace(HEADER, observers={"hands": "hands@2"}, environment={"faces": "f@2"}))
    assert list(going_on.records()) == [("wave", 0, "A")]
    assert going_on.header.environment == {"faces": "f@1"}


def test_a_folder_that_one_version_looked_at_says_nothing_of_it_in_its_lines(tmp_path: Path) -> None:
    """Its lines are what other versions write and read."""
    RunStore.open(tmp_path, HEADER).append(record())
    assert not {"looked", "observers"} & json.loads((tmp_path / "run.json").read_text()).keys()
    assert "looked" not in json.loads(shards(tmp_path)[0].read_text())


FLOOR = FloorRecord("wave", {"hand.pck@1": 0.012}, {"hand.recall@1": "no value to compare"})


def test_the_floor_is_no_video(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path, HEADER)
    store.append(replace(FLOOR, changes={"hand.pck@1": 9.0}))
    store.append(record())
    store.append(FLOOR)
    store.append(FloorRecord("nod", reasons={"hand.pck@1": "too short"}))
    held = RunStore.load(tmp_path).read()
    assert list(held.records) == [("wave", 0, "A")]
    assert held.floors == {"nod": FloorRecord("nod", reasons={"hand.pck@1": "too short"}), "wave": FLOOR}
    assert held.floors_done(HEADER.metrics) == {"wave"}
    assert held.floors_done(["hand.pck@1"]) == {"wave", "nod"}
    assert all(score.model == "A" for score in store.scores())
    with pytest.raises(ValueError, match="a value or a reason"):
        FloorRecord("wave", {"m@1": 1.0}, {"m@1": "why"})


def test_the_floor_that_0_1_kept_among_the_scores_is_read(tmp_path: Path) -> None:
    """Version 0.1 wrote it as the scores of a model with an impossible name."""
    store = RunStore.open(tmp_path, HEADER)
    store.append(record())
    line = {
        "case": "wave", "seed": 0, "model": "re-encoded/floor", "video": None, "sha256": None, "seconds": None,
        "notes": [], "scores": [
            {"case": "wave", "seed": 0, "model": "re-encoded/floor", "metric": "hand.pck@1", "value": 0.012,
             "reason": None},
            {"case": "wave", "seed": 0, "model": "re-encoded/floor", "metric": "hand.recall@1", "value": None,
             "reason": "no value to compare"},
        ],
    }  # fmt: skip
    (tmp_path / "scores" / "00000000000000000001-1-0.jsonl").write_text(json.dumps(line) + "\n")
    held = RunStore.load(tmp_path).read()
    assert list(held.records) == [("wave", 0, "A")]
    assert held.floors == {"wave": FLOOR}
    newer = replace(FLOOR, changes={"hand.pck@1": 0.5})
    store.append(newer)
    assert store.read().floors == {"wave": newer}


def test_a_loaded_run_is_read_only(tmp_path: Path) -> None:
    RunStore.open(tmp_path, HEADER)
    with pytest.raises(RuntimeError, match="read-only"):
        RunStore.load(tmp_path).append(record())
