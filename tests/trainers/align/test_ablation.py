"""Rows that differ in one thing: what each is trained on, and a small ablation from its file to its table."""

from __future__ import annotations

import json
import random
import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("diffusers")


from ipa_bench.errors import UserError
from ipa_bench.metrics import find
from ipa_bench.select import read_candidates, read_pairs, read_selection, select
from ipa_bench.store import CaseEntry, RunStore, UnitRecord
from ipa_bench.types import Score
from tests.forked import Server
from tests.trainers.align import tiny_align
from tests.verbs import verb
from trainers.align.ablation import Ablation
from trainers.align.control import as_they_come, dealt
from trainers.align.effects import effect
from trainers.align.rows import AblationConfig, Row, first
from trainers.align.stages import file_of

METRIC = "frame.psnr@1"
ROWS = """
[[row]]
name = "SFT, random"
method = "sft"
rule = "random"
top_k = 1
[[row]]
name = "IPA"
method = "ipa"
seeds = [0, 1]
top_k = 2
clips = 3
[row.changes.adapter]
rank = 3
[[row]]
name = "NFT, own clips"
method = "nft"
online = true
changes.train.steps = 2
[rollouts]
cases = 2
per_case = 2
steps = 1
decode_dtype = "fp32"
"""
#: beside the base, a model that every row is compared with too
OTHER = tiny_align.BASE.replace('"base"', '"pretrained"')


@pytest.fixture(autouse=True)
def _own_cache(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPA_BENCH_CACHE", str(cache_folder))


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_align.write(tmp_path_factory.mktemp("material"))
    common = tiny_align.CONFIG.replace("[", "[common.").replace('method = "ipa"', "").replace("cases = 1", "cases = 0")
    with (folder / "suite.toml").open("a") as file:
        file.write(OTHER)
    head = (
        'suite = "suite.toml"\nmetrics = ["frame.psnr", "rest.psnr", "reward"]\nbest_of = 2\n[common]\nbase = "base"\n'
    )
    (folder / "ablation.toml").write_text(head + common + ROWS)
    return folder


def records(values: Mapping[tuple[str, int], float]) -> list[UnitRecord]:
    return [
        UnitRecord(case, seed, "m", f"{case}_{seed}.mp4", "0", scores=(Score(case, seed, "m", METRIC, value),))
        for (case, seed), value in values.items()
    ]


CASES = {name: CaseEntry(name, name, "train", "d.mp4") for name in "abc"}
VALUES = {(case, seed): float(10 * seed + place) for place, case in enumerate("abc") for seed in range(4)}


def written(row: Row, values: Mapping[tuple[str, int], float], folder: Path) -> Path:
    """The file of what a row takes from candidates with these values."""
    store: Any = SimpleNamespace(
        header=SimpleNamespace(cases=list(CASES.values()), metrics=(METRIC,)),
        records=lambda: {record.unit: record for record in records(values)},
    )
    config = AblationConfig.model_validate(
        {"suite": "s.toml", "common": {"choose": {"metric": METRIC, "every": True}}, "row": (row.model_dump(),)}
    )
    work: Any = SimpleNamespace(out=folder, config=config.common, suite=SimpleNamespace(cases=()))
    made = Ablation(config, work)
    made.choose(row, store)
    return made.folder(row) / file_of(row.method)


def chosen(row: Row, values: Mapping[tuple[str, int], float], folder: Path) -> list[tuple[str, int]]:
    """(case, seed) of the clips that a row takes from candidates with these values."""
    return [(each.case, each.seed) for each in read_selection(written(row, values, folder)).rows]


def test_the_first_clips_are_the_best_of_every_case_then_the_second_best() -> None:
    every = select(records(VALUES), cases=CASES, metric=METRIC, better="higher", top_k=4)

    def of(count: int | None) -> list[tuple[str, int]]:
        return [(row.case, row.seed) for row in first(every, count).rows]

    assert of(2) == [("a", 3), ("b", 3)]
    assert of(3) == [("a", 3), ("b", 3), ("c", 3)]
    assert of(5) == [("a", 3), ("a", 2), ("b", 3), ("b", 2), ("c", 3)]
    assert of(12) == of(None)
    with pytest.raises(UserError, match="13 clips are asked for, 12 can be chosen"):
        of(13)


@settings(max_examples=12)  # files are written
@given(st.permutations(sorted(VALUES.values())), st.integers(1, 4), st.integers(1, 12))
def test_clips_that_come_as_they_come_depend_on_no_score(values: list[float], top_k: int, count: int) -> None:
    row = Row(name="r", method="sft", rule="random", top_k=top_k, clips=min(count, 3 * top_k))
    other = dict(zip(VALUES, values, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        assert chosen(row, other, Path(folder)) == chosen(row, VALUES, Path(folder))


def test_random_clips_are_any_and_as_many_as_asked_for(tmp_path: Path) -> None:
    row = Row(name="r", method="sft", rule="random", top_k=2)
    found = chosen(row, VALUES, tmp_path)
    assert [case for case, _ in found] == ["a", "a", "b", "b", "c", "c"]
    best = chosen(Row(name="b", method="sft", top_k=2), VALUES, tmp_path)
    assert best == [(case, seed) for case in "abc" for seed in (3, 2)]
    assert set(found) != set(best)
    assert chosen(row.model_copy(update={"clips": 3}), VALUES, tmp_path) == found[::2]
    assert read_selection(tmp_path / "rows" / "r" / "selection.json").by == ()
    assert read_selection(tmp_path / "rows" / "b" / "selection.json").by == (METRIC,)
    seeds = {each.seed for each in as_they_come(records({("a", seed): 0.0 for seed in range(50)}), {"a": 25})}
    assert seeds != set(range(25))
    assert seeds != set(range(25, 50))


def test_random_rows_of_methods_that_take_all_candidates_have_scores_dealt_out_anew(tmp_path: Path) -> None:
    best, dealt = (
        read_candidates(written(Row(name=rule, method="nft", rule=rule), VALUES, tmp_path))
        for rule in ("best", "random")
    )
    true, false = ({(row.case, row.seed): row.score for row in found.rows} for found in (best, dealt))
    assert true == VALUES
    assert false != true
    assert false.keys() == true.keys()
    for case in "abc":
        assert {false[case, seed] for seed in range(4)} == {VALUES[case, seed] for seed in range(4)}
    assert [(row.case, row.seed, row.video) for row in best.rows] == [(r.case, r.seed, r.video) for r in dealt.rows]
    assert (best.by, dealt.by) == ((METRIC,), ())


def test_random_pairs_are_the_same_clips_and_some_the_other_way_round(tmp_path: Path) -> None:
    best, dealt = (
        read_pairs(written(Row(name=rule, method="dpo", rule=rule), VALUES, tmp_path)).preferences
        for rule in ("best", "random")
    )
    true, false = ({(pair.good, pair.bad) for pair in found} for found in (best, dealt))
    assert {frozenset(pair) for pair in true} == {frozenset(pair) for pair in false}
    assert 0 < len(true & false) < len(true)
    assert {pair.by for pair in dealt} == {()}


def test_what_has_no_video_is_dealt_no_score() -> None:
    every = [*records(VALUES), UnitRecord("a", 9, "m", None, scores=(Score("a", 9, "m", METRIC, 99.0),))]
    again = dealt(every)
    assert len(again) == len(VALUES)
    assert all(score.value != 99.0 for record in again for score in record.scores)


def test_only_the_first_candidates_of_a_case_are_looked_at(tmp_path: Path) -> None:
    row = Row(name="few", method="ipa", per_case=2)
    assert chosen(row, VALUES, tmp_path) == [("a", 1), ("b", 1), ("c", 1)]


def test_what_is_wrong_in_the_file_is_said_before_the_work(material: Path, tmp_path: Path) -> None:
    text = (material / "ablation.toml").read_text()
    file = material / "wrong.toml"
    for change, says in (
        (("rank = 3", "rnak = 3"), "adapter.rnak"),
        (('name = "IPA"', 'name = "SFT, random"'), "two rows named 'SFT, random'"),
        (('name = "IPA"', 'name = "SFT random"'), "'SFT, random' and 'SFT random' share a folder"),
        (("top_k = 2", "topk = 2"), r'unknown key "topk" in \[\[row\]\]'),
    ):
        file.write_text(text.replace(*change))
        with pytest.raises(UserError, match=says):
            Ablation.load(file, tmp_path)
    assert not list(tmp_path.iterdir())


def best_of_two(run: Path) -> dict[str, float]:
    """Case -> the larger value of its two samples."""
    of_case: dict[str, list[float]] = {}
    for score in RunStore.load(run).scores():
        if score.metric == METRIC and score.value is not None:
            of_case.setdefault(score.case, []).append(score.value)
    assert [len(each) for each in of_case.values()] == [2, 2]
    return {case: max(each) for case, each in of_case.items()}


def test_a_small_ablation_killed_and_resumed_is_the_uninterrupted_one(
    training_server: Server, material: Path, cache_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["ablation", str(material / "ablation.toml"), "--jobs", "1", "--out"]
    assert verb(*arguments, tmp_path / "whole") == 0
    whole = tmp_path / "whole"
    written = json.loads((whole / "ablation.json").read_bytes())
    assert list(written) == ["SFT, random", "IPA", "NFT, own clips", "pretrained", "best of 2"]
    assert [len(entry["seeds"]) for entry in written["IPA"]] == [2] * len(written["IPA"])
    # against the base, then against the other model; the reward is a metric that the table has already, once
    assert [(e["metric"], e["against"]) for e in written["IPA"]] == [
        (metric, against) for against in ("base", "pretrained") for metric in (METRIC, "rest.psnr@1")
    ]
    assert {entry["against"] for entry in written["pretrained"]} == {"base"}
    text = (whole / "ablation.md").read_text()
    assert text.count("\n| ") == 2 + 5 + 4
    assert "## Against pretrained" in text
    assert (whole / "ablation.png").stat().st_size > 1000
    # the numbers are those of the evaluation
    store = RunStore.load(whole / "evaluation")
    assert [m.name for m in store.header.models][:2] == ["base", "pretrained"]
    assert [m.trained_on for m in store.header.models][2:] == [(), (METRIC,), (METRIC,), (METRIC,)]

    def values(model: str) -> dict[tuple[str, int], float]:
        found = [s for s in store.scores() if (s.model, s.metric) == (model, METRIC)]
        return {(s.case, s.seed): s.value for s in found if s.value is not None}

    identities = {case.id: case.identity for case in store.header.cases}
    expected = effect(find(METRIC).info, values("base"), [values("IPA, seed 0"), values("IPA, seed 1")], identities)
    assert expected is not None
    found = next(entry for entry in written["IPA"] if entry["metric"] == METRIC)
    assert found["delta"] == expected.delta == pytest.approx(sum(found["seeds"]) / 2)
    assert len(set(found["seeds"])) == 2
    # what each row was trained on
    chosen = {name: read_selection(whole / "rows" / name / "selection.json") for name in ("sft-random", "ipa")}
    assert [len(selection.rows) for selection in chosen.values()] == [2, 3]
    cards = [json.loads(path.read_bytes()) for path in sorted((whole / "rows").glob("*/*/lora/card.json"))]
    assert [(card["method"], card["config"]["adapter"]["rank"], card["config"]["train"]["seed"]) for card in cards] == [
        ("ipa", 3, 0), ("ipa", 3, 1), ("nft", 2, 0), ("sft", 2, 0),
    ]  # fmt: skip
    best = next(entry for entry in written["best of 2"] if entry["metric"] == METRIC)
    better = [found - values("base")[case, 0] for case, found in best_of_two(whole / "best").items()]
    assert best["delta"] == pytest.approx(sum(better) / 2)
    # the same, of the same candidates, in a process that is killed while it trains, and then goes on
    rng = random.Random(0)
    for done in ("round1", "best", "rows/sft-random", "rows/nft-own-clips"):  # what is done is found done
        shutil.copytree(whole / done, tmp_path / "killed" / done)
    cache = tiny_align.own_cache(tmp_path / "cache", cache_folder)
    process = tiny_align.start(training_server, [*arguments, tmp_path / "killed"], cache, tmp_path / "said")
    tiny_align.wait_for(process, rf"^IPA, seed {rng.randrange(2)}: train: {rng.randrange(1, 5)}/4")
    process.signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    monkeypatch.setenv("IPA_BENCH_CACHE", str(cache))
    assert verb(*arguments, tmp_path / "killed") == 0
    assert (tmp_path / "killed" / "ablation.json").read_bytes() == (whole / "ablation.json").read_bytes()
    for lora in sorted((whole / "rows").rglob("*.safetensors")):
        assert lora.read_bytes() == (tmp_path / "killed" / lora.relative_to(whole)).read_bytes()


def test_changes_of_a_row_are_in_its_training_alone(material: Path, tmp_path: Path) -> None:
    made = Ablation.load(material / "ablation.toml", tmp_path)
    sft, ipa, _ = made.config.row
    assert made.training(sft, 0).adapter.rank == 2
    assert made.training(ipa, 1).adapter.rank == 3
    assert made.training(ipa, 1).train == made.training(sft, 0).train.model_copy(update={"seed": 1})
