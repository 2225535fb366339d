"""Scores become good samples and pairs, never from the test split, and never nothing without a way out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_bench.errors import UserError
from ipa_bench.select import (
    Pairs,
    Rule,
    Selection,
    candidates,
    choose,
    choose_candidates,
    choose_pairs,
    left_out,
    pairs,
    read_candidates,
    read_selection,
    select,
    splits_of,
    write_candidates,
    write_selection,
)
from ipa_bench.store import CaseEntry, FloorRecord, ModelEntry, RunHeader, RunStore, UnitRecord
from ipa_bench.types import Better, MetricInfo, Score

Q = "hand_quality@4"


def record(case: str, seed: int, value: float | None = None, *, video: bool = True, **more: float | None) -> UnitRecord:
    """A scored video; ``hand__pck`` stands for ``hand.pck@1``."""
    values = {Q: value} | {name.replace("__", ".") + "@1": v for name, v in more.items()}
    scores = tuple(Score(case, seed, "A", metric, v, "no hand" if v is None else None) for metric, v in values.items())
    path = f"{case}_{seed}.mp4" if video else None
    return UnitRecord(case, seed, "A", path, f"sha-{case}-{seed}" if video else None, scores=scores)


def entries(*ids: str, split: str = "train") -> dict[str, CaseEntry]:
    """Cases whose identity is their first letter."""
    return {id_: CaseEntry(id_, id_[0], split, f"{id_}.mp4") for id_ in ids}  # type: ignore[arg-type]


RECORDS = [
    record("a1", 0, 0.9), record("a1", 1, 0.5), record("a1", 2, 0.7), record("a2", 0, 0.8),
    record("b1", 0, 0.6), record("b1", 1, 0.6), record("b1", 2, None), record("b1", 3, 0.95, video=False),
]  # fmt: skip
CASES = entries("a1", "a2", "b1", "c1")


def chosen(records: Sequence[UnitRecord] = RECORDS, better: Better = "higher", **rule: float | int) -> list[str]:
    found = select(records, cases=CASES, metric=Q, better=better, **rule)  # type: ignore[arg-type]
    return [f"{row.case}_{row.seed}" for row in found.rows]


def test_the_best_of_each_case() -> None:
    assert chosen(top_k=1) == ["a1_0", "a2_0", "b1_0"]
    assert chosen(top_k=2) == ["a1_0", "a1_2", "a2_0", "b1_0", "b1_1"]
    assert chosen(top_k=1, better="lower") == ["a1_1", "a2_0", "b1_0"]


def test_a_threshold_counts_itself_in() -> None:
    assert chosen(threshold=0.7) == ["a1_0", "a1_2", "a2_0"]
    assert chosen(threshold=0.6, better="lower") == ["a1_1", "b1_0", "b1_1"]


def test_a_quota_takes_the_best_of_each_identity() -> None:
    assert chosen(per_identity=1) == ["a1_0", "b1_0"]
    assert chosen(per_identity=2) == ["a1_0", "a2_0", "b1_0", "b1_1"]


def test_the_rules_combine() -> None:
    assert chosen(threshold=0.6, top_k=2, per_identity=2) == ["a1_0", "a2_0", "b1_0", "b1_1"]
    assert chosen(threshold=0.7, top_k=1) == ["a1_0", "a2_0"]


def test_a_selection_says_how_it_was_made() -> None:
    found = select(RECORDS, cases=CASES, metric="hand_quality", better="higher", top_k=1, components=["hand.pck@1"])
    assert found.rule == Rule(Q, "higher", None, 1, None)
    assert found.by == (Q, "hand.pck@1")
    assert (found.candidates, found.unscored) == (8, 2)
    row = found.rows[0]
    assert (row.case, row.seed, row.model, row.video, row.sha256) == ("a1", 0, "A", "a1_0.mp4", "sha-a1-0")
    assert row.scores == {Q: 0.9}


@given(
    st.lists(
        st.tuples(st.sampled_from(["a1", "a2", "b1", "c1"]), st.integers(0, 9), st.integers(0, 20)),
        min_size=1, max_size=25, unique_by=lambda row: row[:2],
    ),
    st.integers(1, 4), st.integers(1, 4), st.integers(0, 20), st.randoms(use_true_random=False),
)  # fmt: skip
def test_every_rule_holds_and_order_does_not_matter(
    rows: list[tuple[str, int, int]], top_k: int, quota: int, threshold: int, shuffler: object
) -> None:
    records = [record(case, seed, float(value)) for case, seed, value in rows]
    rule = {"threshold": float(threshold), "top_k": top_k, "per_identity": quota}
    values = {f"{case}_{seed}": value for case, seed, value in rows}
    if max(values.values()) < threshold:
        with pytest.raises(UserError):
            chosen(records, **rule)
        return
    found = chosen(records, **rule)
    assert all(values[name] >= threshold for name in found)
    for group in ("a1", "a2", "b1", "c1"):
        inside = [name for name in found if name.startswith(group)]
        assert len(inside) <= top_k
        assert [values[name] for name in inside] == sorted((values[name] for name in inside), reverse=True)
    assert all(sum(name[0] == identity for name in found) <= quota for identity in "abc")
    assert (
        max(values, key=lambda name: (values[name], -int(name[3:]))) in found
        or list(values.values()).count(max(values.values())) > 1
    )
    shuffler.shuffle(records)  # type: ignore[attr-defined]
    assert chosen(records, **rule) == found


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        (entries("a1", split="train") | entries("a2", "b1", split="test"), "cases of the test split: a2, b1"),
        (entries("a1", "a2"), "cases of no known split: b1"),
    ],
)
def test_cases_of_the_test_split_are_refused(cases: dict[str, CaseEntry], said: str) -> None:
    info = MetricInfo(Q, "", "higher", "", "")
    for attempt in (
        lambda: select(RECORDS, cases=cases, metric=Q, better="higher", top_k=1),
        lambda: pairs(RECORDS, cases=cases, metric=info, metrics=[info], margin=0.1),
    ):
        with pytest.raises(UserError) as error:
            attempt()
        assert error.value.problem == f"samples cannot be selected from {said}"
        assert 'split = "train"' in error.value.fix


def test_val_cases_are_looked_at_only_when_asked_for() -> None:
    """Training watches them, and refuses to train on whom it watches."""
    cases = entries("a1", "a2") | entries("b1", split="val")
    rule = {"cases": cases, "metric": Q, "better": "higher", "top_k": 1}
    found = select(RECORDS, **rule)  # type: ignore[arg-type]
    assert [row.case for row in found.rows] == ["a1", "a2"]
    assert (found.candidates, found.unscored) == (4, 0)
    assert [row.case for row in select(RECORDS, splits=["val"], **rule).rows] == ["b1"]  # type: ignore[arg-type]
    both = select(RECORDS, splits=["train", "val"], **rule)  # type: ignore[arg-type]
    assert [row.case for row in both.rows] == ["a1", "a2", "b1"]
    info = MetricInfo(Q, "", "higher", "", "")
    assert pairs(RECORDS, cases=cases, metric=info, metrics=[info], margin=0.1).cases == 2
    with pytest.raises(UserError, match="none of 8 videos is of a case of the train split") as error:
        select(RECORDS, **rule | {"cases": entries("a1", "a2", "b1", split="val")})  # type: ignore[arg-type]
    assert "--split val" in error.value.fix
    assert splits_of(["val", "train", "val"]) == ("val", "train")
    with pytest.raises(UserError, match="nothing is selected from cases of split test"):
        splits_of(["train", "test"])


def test_a_run_is_selected_from_by_name(tmp_path: Path) -> None:
    head = RunHeader(
        "r", "0", Q, (0,), (Q,), (*entries("a1").values(), *entries("b1", split="val").values()),
        (ModelEntry("A", "folder", "a"),),
    )  # fmt: skip
    store = RunStore.open(tmp_path, head)
    for each in (record("a1", 0, 0.9), record("a1", 1, 0.5), record("b1", 0, 0.6)):
        store.append(each)
    store.append(FloorRecord("a1", {Q: 0.01}))
    found = choose(store, top_k=1)
    assert [(row.case, row.seed) for row in found.rows] == [("a1", 0)]
    assert found.by == (Q, *(Q.replace("@", f".{part}@") for part in ("shape", "sharpness", "motion", "alignment")))
    assert [row.seed for row in choose(store, top_k=1, records=[record("a1", 1, 0.5)]).rows] == [1]
    assert choose_pairs(store, margin=0.1).preferences[0].bad == "a1_1.mp4"
    assert [row.seed for row in choose_candidates(store).rows] == [0, 1]
    assert choose_candidates(store).by == found.by
    assert left_out(store) == {"val": 1}
    assert left_out(store, ["train", "val"]) == {}


def test_many_refused_cases_are_counted() -> None:
    records = [record(f"t{i}", 0, 0.5) for i in range(9)]
    with pytest.raises(UserError, match="t0, t1, t2, t3, t4 and 4 more"):
        select(records, cases=entries(*(f"t{i}" for i in range(9)), split="test"), metric=Q, better="higher", top_k=1)


@pytest.mark.parametrize(
    ("values", "better", "threshold", "nearest"),
    [
        ([0.712349, 0.5], "higher", 0.9, "0.7123"),
        ([0.712349, 0.5], "lower", 0.1, "0.5"),
        ([3.14159], "lower", 2.0, "3.142"),
        ([-3.14159], "higher", 0.0, "-3.142"),
        ([0.0], "higher", 1.0, "0.0"),
        ([0.7], "higher", 1.0, "0.7"),
        ([1e-310], "higher", 1.0, "1e-310"),
    ],
)
def test_an_empty_selection_names_the_nearest_threshold(
    values: list[float], better: Better, threshold: float, nearest: str
) -> None:
    records = [record("a1", seed, value) for seed, value in enumerate(values)]
    with pytest.raises(UserError) as error:
        chosen(records, better, threshold=threshold)
    assert error.value.fix == f"the nearest threshold that selects one is {nearest}"
    assert len(chosen(records, better, threshold=float(nearest))) == 1


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({}, "no rule to select by"),
        ({"top_k": 0}, "a top-k of 0"),
        ({"per_identity": -1}, "a quota per identity of -1"),
        ({"threshold": float("nan")}, "a threshold of nan"),
    ],
)
def test_rules_that_make_no_sense(rule: dict[str, float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        chosen(**rule)


def test_a_run_without_values_is_said_to_have_none() -> None:
    with pytest.raises(UserError, match="none of 1 videos has a file and a value of hand_quality@4"):
        chosen([record("a1", 0, None)], top_k=1)
    with pytest.raises(UserError, match="no scored video"):
        chosen([], top_k=1)


def test_metrics_are_found_by_name_and_misspelt_ones_corrected() -> None:
    two = [UnitRecord("a1", 0, "A", "x", scores=tuple(Score("a1", 0, "A", f"q@{v}", 1.0) for v in (1, 2)))]
    with pytest.raises(UserError, match="the run has q@1 and q@2"):
        select(two, cases=CASES, metric="q", better="higher", top_k=1)
    assert select(two, cases=CASES, metric="q@2", better="higher", top_k=1).by == ("q@2",)
    with pytest.raises(UserError) as error:
        select(RECORDS, cases=CASES, metric="hand_qualty@1", better="higher", top_k=1)
    assert error.value.fix == "did you mean hand_quality@4?"


def test_a_selection_is_read_back(tmp_path: Path) -> None:
    found = select(RECORDS, cases=CASES, metric=Q, better="higher", threshold=0.1, top_k=1)
    write_selection(found, tmp_path / "selection.json")
    assert read_selection(tmp_path / "selection.json") == found
    assert json.loads((tmp_path / "selection.json").read_text())["schema_version"] == 1


@pytest.mark.parametrize("content", [None, "{", '{"rows": []}', "newer"])
def test_what_is_not_a_selection_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "selection.json"
    if content == "newer":
        rule = Rule(Q, "higher")
        write_selection(Selection(rule, (Q,), (), 0, 0, schema_version=2), path)
    elif content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"selection\.json"):
        read_selection(path)


INFOS = [
    MetricInfo(Q, "", "higher", "", ""),
    MetricInfo("hand.pck@1", "", "higher", "", ""),
    MetricInfo("hand.jitter@1", "", "lower", "", ""),
    MetricInfo("rest.psnr@1", "dB", "higher", "", ""),
]


def paired(records: Sequence[UnitRecord], margin: float = 0.1, **tolerance: float) -> Pairs:
    allowed = {name.replace("__", ".") + "@1": value for name, value in tolerance.items()}
    return pairs(records, cases=CASES, metric=INFOS[0], metrics=INFOS, margin=margin, tolerance=allowed)


def test_pairs_are_the_best_and_the_worst_of_a_case() -> None:
    found = paired(RECORDS)
    assert [(p.case, p.good, p.bad, p.by) for p in found.preferences] == [("a1", "a1_0.mp4", "a1_1.mp4", (Q,))]
    assert found.preferences[0].scores == {Q: 0.9}
    assert found.cases == 3
    assert not paired(RECORDS, margin=0.41).preferences


def test_a_margin_counts_itself_in_and_is_above_0() -> None:
    records = [record("a1", 0, 0.75), record("a1", 1, 0.5)]
    assert len(paired(records, margin=0.25).preferences) == 1
    with pytest.raises(UserError, match="makes pairs of equals"):
        paired(records, margin=0.0)


GOOD = {"hand__pck": 0.9, "hand__jitter": 0.1, "rest__psnr": 30.0}
BAD = {"hand__pck": 0.5, "hand__jitter": 0.4, "rest__psnr": 29.0}


@pytest.mark.parametrize(
    ("change", "strict"),
    [
        ({}, 1),
        ({"hand__pck": 0.5}, 1),  # a tie speaks for nobody
        ({"hand__pck": 0.5, "hand__jitter": 0.4}, 0),  # but something must speak for it
        ({"hand__pck": 0.4}, 0),
        ({"hand__jitter": 0.5}, 0),
        ({"hand__jitter": None}, 0),
        ({"rest__psnr": 29.0}, 1),
        ({"rest__psnr": 28.9}, 0),
        ({"rest__psnr": None}, 0),
    ],
)
def test_a_strict_pair_is_contradicted_by_no_metric(change: dict[str, float | None], strict: int) -> None:
    found = paired([record("a1", 0, 0.9, **(GOOD | change)), record("a1", 1, 0.5, **BAD)])
    assert len(found.preferences) == 1
    assert len(found.strict) == strict


def test_a_tolerance_forgives_what_is_lost_elsewhere() -> None:
    records = [record("a1", 0, 0.9, **(GOOD | {"rest__psnr": 28.9})), record("a1", 1, 0.5, **BAD)]
    assert len(paired(records, rest__psnr=0.2).strict) == 1
    assert len(paired(records, rest__psnr=0.05).strict) == 0


def test_a_strict_pair_need_not_be_the_best_and_the_worst() -> None:
    best = record("a1", 0, 0.95, **(GOOD | {"rest__psnr": 20.0}))
    found = paired([best, record("a1", 1, 0.9, **GOOD), record("a1", 2, 0.5, **BAD)])
    assert found.preferences[0].good == "a1_0.mp4"
    assert [(p.good, p.bad) for p in found.strict] == [("a1_1.mp4", "a1_2.mp4")]
    assert found.strict[0].by == (Q, "hand.jitter@1", "hand.pck@1", "rest.psnr@1")


def test_the_message_says_how_many_strict_pairs_there_are() -> None:
    records = [record("a1", 0, 0.9, **GOOD), record("a1", 1, 0.5, **BAD), record("b1", 0, 0.9, **GOOD)]
    assert paired(records).message.startswith("1 of 2 cases have a good/bad pair, 1 a strict one")


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=6
    )
)
def test_strict_pairs_agree_with_their_definition(rows: list[tuple[int, int, int, int]]) -> None:
    records = [record("a1", i, q, hand__pck=p, hand__jitter=j, rest__psnr=r) for i, (q, p, j, r) in enumerate(rows)]
    expected = [
        a[0] - b[0]
        for a in rows
        for b in rows
        if a[0] - b[0] >= 1 and a[1] >= b[1] and a[2] <= b[2] and a[1:3] != b[1:3] and a[3] >= b[3]
    ]
    found = paired(records, margin=1.0)
    assert len(found.strict) == bool(expected)
    for pair in found.strict:
        good, bad = (rows[int(video[3:-4])] for video in (pair.good, str(pair.bad)))
        assert good[0] - bad[0] == max(expected)


def test_every_pair_that_differs_by_the_margin() -> None:
    found = pairs(RECORDS, cases=CASES, metric=INFOS[0], metrics=INFOS, margin=0.15, every=True)
    assert [(p.good, p.bad) for p in found.preferences] == [
        ("a1_0.mp4", "a1_1.mp4"), ("a1_0.mp4", "a1_2.mp4"), ("a1_2.mp4", "a1_1.mp4"),
    ]  # fmt: skip
    assert found.message.startswith("1 of 3 cases have a good/bad pair, 0 a strict one")
    assert found.message.endswith("; 3 pairs, 0 strict")
    (widest,) = pairs(RECORDS, cases=CASES, metric=INFOS[0], metrics=INFOS, margin=0.15).preferences
    assert widest == found.preferences[0]


def test_candidates_are_all_that_have_a_score_and_a_file(tmp_path: Path) -> None:
    kept = tmp_path / "a1_0.safetensors"
    kept.write_bytes(b"")
    records = [
        UnitRecord(r.case, r.seed, r.model, r.video and str(tmp_path / r.video), r.sha256, scores=r.scores)
        for r in RECORDS
    ]
    found = candidates(records, cases=CASES, metric="hand_quality", better="higher", components=("hand.pck@1",))
    assert [(row.case, row.seed, row.score) for row in found.rows] == [
        ("a1", 0, 0.9), ("a1", 1, 0.5), ("a1", 2, 0.7), ("a2", 0, 0.8), ("b1", 0, 0.6), ("b1", 1, 0.6),
    ]  # fmt: skip
    assert [row.latents for row in found.rows] == [str(kept), *[None] * 5]
    assert (found.metric, found.by, found.candidates, found.unscored) == (Q, (Q, "hand.pck@1"), 8, 2)
    assert found.message == "6 of 8 videos of 3 cases have a score, 1 their latents"
    write_candidates(found, tmp_path / "candidates.json")
    assert read_candidates(tmp_path / "candidates.json") == found
    with pytest.raises(UserError, match="holds no candidates"):
        read_candidates(kept)
    with pytest.raises(UserError, match="cannot read"):
        read_candidates(tmp_path / "none.json")
    (tmp_path / "candidates.json").write_text(
        (tmp_path / "candidates.json").read_text().replace('version": 1', 'version": 2')
    )
    with pytest.raises(UserError, match="schema version 2"):
        read_candidates(tmp_path / "candidates.json")
    with pytest.raises(UserError, match="none of 1 videos"):
        candidates([RECORDS[6]], cases=CASES, metric=Q, better="higher")
    with pytest.raises(UserError, match="test split"):
        candidates(RECORDS, cases=entries("a1", "a2", "b1", split="test"), metric=Q, better="higher")
