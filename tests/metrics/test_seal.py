"""A metric that only judges is refused wherever something is chosen, rewarded or trained by it."""

from dataclasses import replace

import pytest

from ipa_bench.errors import UserError
from ipa_bench.files import write_atomic
from ipa_bench.metrics import table
from ipa_bench.metrics.document import table as as_table
from ipa_bench.metrics.frame import psnr
from ipa_bench.metrics.seal import check_open, sealed
from ipa_bench.metrics.table import find
from ipa_bench.select import candidates, choose, choose_pairs, pairs, select
from ipa_bench.store import CaseEntry, ModelEntry, RunHeader, RunStore, UnitRecord
from ipa_bench.suite import load_suite
from ipa_bench.types import Score
from tests.trainers import tiny_runs
from trainers.align import config as align_config
from trainers.data import clips

TRUTH, Q = "rest.truth@1", "hand_quality@4"
WHY = "it reads what the renderer drew"


@pytest.fixture(autouse=True)
def _toy(monkeypatch):
    """A sealed metric stands in the table. Its name is one that strict pairs would look at."""
    info = replace(find("rest.psnr").info, id=TRUTH, family=("truth",), sealed=WHY)
    monkeypatch.setattr(table, "METRICS", (*table.METRICS, table.Metric(info, psnr)))


def record(seed, quality, truth):
    scores = tuple(Score("a", seed, "A", name, value) for name, value in ((Q, quality), (TRUTH, truth)))
    return UnitRecord("a", seed, "A", f"a_{seed}.mp4", "sha", scores=scores)


RECORDS = [record(0, 0.9, 10.0), record(1, 0.5, 30.0)]
CASES = {"a": CaseEntry("a", "a", "train", "a.mp4")}


def test_no_metric_is_sealed_but_those_that_say_why():
    assert sealed(TRUTH) == sealed("rest.truth") == sealed("rest.truth@2") == WHY
    assert sealed(Q) == sealed("fvd") == sealed("known.to.nobody@1") == ""
    check_open([Q, "fvd@1", "known.to.nobody", find(Q).info])
    with pytest.raises(UserError, match=rf"^{TRUTH} only judges: {WHY} \(choose or reward by another metric\)$"):
        check_open([Q, TRUTH])


def test_nothing_is_selected_by_it(tmp_path):
    asked = {"cases": CASES, "better": "higher"}
    for attempt in (
        lambda: select(RECORDS, metric=TRUTH, top_k=1, **asked),
        lambda: select(RECORDS, metric="rest.truth", top_k=1, **asked),
        lambda: select(RECORDS, metric=Q, components=[TRUTH], top_k=1, **asked),
        lambda: candidates(RECORDS, metric=TRUTH, **asked),
        lambda: candidates(RECORDS, metric=Q, components=[TRUTH], **asked),
        lambda: pairs(RECORDS, cases=CASES, metric=find(TRUTH).info, metrics=[], margin=0.1),
    ):
        with pytest.raises(UserError, match=WHY):
            attempt()
    header = RunHeader("r", "0", Q, (0,), (Q, TRUTH), tuple(CASES.values()), (ModelEntry("A", "folder", "a"),))
    store = RunStore.open(tmp_path, header)
    for each in RECORDS:
        store.append(each)
    with pytest.raises(UserError, match=WHY):
        choose(store, "rest.truth", top_k=1)
    assert choose_pairs(store, margin=0.1).preferences[0].good == "a_0.mp4"


def test_it_has_no_say_in_a_strict_pair_and_its_values_are_not_passed_on():
    infos = [find(name).info for name in (Q, "hand.recall", TRUTH)]
    scored = [
        replace(each, scores=(*each.scores, Score("a", each.seed, "A", "hand.recall@1", 1.0 - each.seed)))
        for each in RECORDS
    ]
    found = pairs(scored, cases=CASES, metric=infos[0], metrics=infos, margin=0.1)
    assert found.strict[0].by == (Q, "hand.recall@1")
    assert found.preferences[0].scores == {Q: 0.9, "hand.recall@1": 1.0}
    assert select(RECORDS, cases=CASES, metric=Q, better="higher", top_k=1).rows[0].scores == {Q: 0.9}


def test_a_configuration_that_chooses_by_it_names_the_line(tmp_path):
    file = tmp_path / "align.toml"
    write_atomic(file, b'[choose]\ntop_k = 1\nmetric = "rest.truth"\n')
    with pytest.raises(UserError, match=rf"align\.toml:3: metric in \[choose\]: rest\.truth@1 only judges: {WHY}; "):
        align_config.load(file)


@pytest.mark.parametrize("method", ["ipa", "dpo", "nft"])
def test_nothing_is_trained_on_what_it_chose(tmp_path, monkeypatch, method):
    monkeypatch.setattr(tiny_runs, "CHOSEN_BY", (TRUTH,))
    tiny_runs.write(tmp_path)
    for make in (tiny_runs.pair, tiny_runs.score):
        make(tmp_path)
    tiny_runs.select(tmp_path, tiny_runs.PEOPLE)
    with pytest.raises(UserError, match=WHY):
        clips.clips(tiny_runs.config(tmp_path, method).data, load_suite(tmp_path / "suite.toml"), method)


def test_the_document_says_so():
    line = next(line for line in as_table([find(TRUTH).info]).splitlines() if TRUTH in line)
    assert line.endswith(f"; only judges: {WHY} |")
