"""A sealed test set: each evaluation is written down once, and its report says how many there were."""

import json
from pathlib import Path

import pytest

from ipa_bench.errors import UserError
from ipa_bench.harness import sealed
from ipa_bench.store import ModelEntry, RunHeader
from ipa_bench.suite import load_suite


def header(*models: str, created: str = "2026-01-01T00:00:00+00:00") -> RunHeader:
    entries = tuple(ModelEntry(name, "folder", f"videos/{name}") for name in models)
    return RunHeader("run", "f" * 64, "hand_quality@4", (0,), (), (), entries, tool_version="1.0", created=created)


def test_each_evaluation_counts_once(tmp_path: Path) -> None:
    log, run, other = tmp_path / "suite.uses.jsonl", tmp_path / "run", tmp_path / "other"
    run.mkdir()
    other.mkdir()
    sealed.note_use(log, header("a", "b"), run)
    sealed.note_use(log, header("b", "a", created="later"), run)  # the same, gone on with
    assert len(sealed.read(log)) == 1
    sealed.note_use(log, header("a", "b", "c"), run)
    sealed.note_use(log, header("a", "b"), other)
    assert [len(use["models"]) for use in sealed.read(log)] == [2, 3, 2]
    assert len(sealed.uses_of(run)) == 2
    assert sealed.uses_of(other)[0] == "2026-01-01T00:00:00+00:00 (ipa-bench 1.0): 2 models"
    assert sealed.uses_of(tmp_path) == ()


def test_what_cannot_be_written_down_is_not_evaluated(tmp_path: Path) -> None:
    log = tmp_path / "suite.uses.jsonl"
    log.write_text("{broken\n")
    with pytest.raises(UserError, match="damaged"):
        sealed.note_use(log, header("a"), tmp_path)
    with pytest.raises(UserError):
        sealed.note_use(tmp_path / "missing" / "suite.uses.jsonl", header("a"), tmp_path)


def test_a_damaged_copy_says_so(tmp_path: Path) -> None:
    (tmp_path / sealed.COPY).write_text("[1]")
    assert sealed.uses_of(tmp_path) == ("not known: the run's copy is damaged",)


def test_a_suite_says_that_it_is_sealed_and_has_test_cases_alone(tmp_path: Path, media: Path) -> None:
    clip = next(media.glob("*.mp4"))
    text = f'[suite]\nsealed = true\n[[case]]\ndriving = "{clip}"\n'
    file = tmp_path / "suite.toml"
    file.write_text(text)
    assert load_suite(file).sealed == tmp_path / "suite.uses.jsonl"
    file.write_text(text.replace("sealed = true", "sealed = false"))
    assert load_suite(file).sealed is None
    file.write_text(text + 'split = "train"\n')
    with pytest.raises(UserError, match="train split in a sealed test set"):
        load_suite(file)


def test_a_run_of_it_is_written_down(tmp_path: Path) -> None:
    from ipa_bench.embedded import cases
    from ipa_bench.harness import run, view

    file = cases.write(tmp_path / "suite", "test", 1, 1, 1, first=1000, sealed=True)
    text = file.read_text().partition("[[model]]")
    file.write_text("".join(text[:2]) + '\nname = "copy"\nkind = "reencode"\ncrf = 18\n')
    suite = load_suite(file)
    assert [case.world for case in suite.cases] == ["person/test/1000/0"]
    for _ in range(2):
        store = run(suite, tmp_path / "run", jobs=1, sets=False)
    (use,) = [json.loads(line) for line in (tmp_path / "suite" / "suite.uses.jsonl").read_text().splitlines()]
    assert use["models"] == ["copy: reencode " + store.header.models[0].source]
    assert len(view(store).sealed_uses) == 1
    judged = next(s for s in store.scores() if s.metric == "truth.hand_error@1")
    assert judged.value is not None
    assert judged.value < 0.08
