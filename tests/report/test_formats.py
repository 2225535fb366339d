from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from ipa_bench.report import export_csv as csv_
from ipa_bench.report import export_json as json_
from ipa_bench.report import markdown
from ipa_bench.report.view import ReportView
from tests.report import build
from tests.report.conftest import MISSING, REASON

HOSTILE = {
    "base": '=cmd|"/c calc"!A1',
    "tuned": "<img src=x onerror=alert(1)>",
    "wave_0": "a|b\n*c* `d` [e](javascript:f) https://x.y @someone",
}


@pytest.fixture
def hostile(tmp_path: Path) -> ReportView:
    return build.make_run(tmp_path, names=HOSTILE, videos=False)


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def refuse(word: str) -> Any:
    raise ValueError(word)


def test_json_is_strict_complete_and_says_its_version(numbers: ReportView) -> None:
    data = json.loads(json_.render(numbers), parse_constant=refuse)
    assert data["schema_version"] == json_.SCHEMA_VERSION
    assert data["run"]["suite_hash"] == numbers.header.suite_hash
    assert len(data["videos"]) == len(numbers.records)
    assert len(data["leaderboard"]["comparisons"]) == len(numbers.leaderboard.comparisons)
    assert data["floors"] == build.FLOORS
    absent = next(v for v in data["videos"] if (v["case"], v["seed"], v["model"]) == MISSING)
    assert absent["video"] is None
    assert {(score["value"], score["reason"]) for score in absent["scores"]} == {(None, REASON)}


def test_scores_csv_has_every_score_sorted_and_exact(numbers: ReportView) -> None:
    rows = read(csv_.scores(numbers))
    keys = [(row["case"], int(row["seed"]), row["model"], row["metric"]) for row in rows]
    assert keys == sorted(keys)
    exact = {(s.case, s.seed, s.model, s.metric): s.value for record in numbers.records.values() for s in record.scores}
    assert {key: float(row["value"]) if row["value"] else None for key, row in zip(keys, rows, strict=True)} == exact


def test_a_missing_value_is_an_empty_cell_with_a_reason(numbers: ReportView) -> None:
    for row in read(csv_.scores(numbers)):
        assert (row["value"] == "") == (row["reason"] != "")
    (silent,) = [r for r in read(csv_.leaderboard(numbers)) if (r["model"], r["metric"]) == ("base", "frame.lpips@1")]
    assert (silent["mean"], silent["low"], silent["high"]) == ("", "", "")
    assert (silent["identities"], silent["scored"], silent["missing"]) == ("0", "0", "6")


def test_the_leaderboard_csv_marks_what_a_model_was_trained_on(numbers: ReportView) -> None:
    marked = {(r["model"], r["metric"]) for r in read(csv_.leaderboard(numbers)) if r["trained_on"] == "1"}
    hands = ("keypoint_error", "pck10", "recall", "jitter", "sharpness")
    assert marked == {("tuned", f"hand.{name}@1") for name in hands}


def test_a_spreadsheet_does_not_run_a_name_but_keeps_negative_numbers(hostile: ReportView) -> None:
    models = {row["model"] for row in read(csv_.scores(hostile))}
    assert "'" + HOSTILE["base"] in models
    assert csv_._guard("-x") == "'-x"
    assert csv_._guard(-1.5) == -1.5


def test_markdown_names_are_text(hostile: ReportView) -> None:
    text = markdown.render(hostile)
    assert "<img" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert markdown.escape("a|b\n[e](f) https://x @me") == "a\\|b\\\\n\\[e\\](f) https:&#8203;//x @&#8203;me"
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") in (3, 5, 6, 8, 9)


def test_markdown_tables_are_rectangular(numbers: ReportView) -> None:
    blocks = [block for block in markdown.render(numbers).split("\n\n") if block.startswith("|")]
    assert len(blocks) == 5
    for block in blocks:
        # the log ratio's own bars are escaped
        assert len({line.replace("\\|", "").count("|") for line in block.splitlines()}) == 1


def test_markdown_shows_coverage_training_and_warnings(numbers: ReportView) -> None:
    text = markdown.render(numbers)
    assert "<br>5/6" in text
    assert " †<br>6/6" in text
    assert text.count("> **Warning:**") == 3
    assert "tuned was trained on a metric that looks through the same networks as hand.keypoint\\_error" in text


def test_the_same_run_gives_the_same_text(numbers: ReportView) -> None:
    for render in (markdown.render, json_.render, csv_.scores, csv_.leaderboard):
        assert render(numbers) == render(numbers)


def test_markdown_of_twelve_models_can_be_read(tmp_path: Path) -> None:
    """Each against the best (its base would come with costs), on the headline metrics; every digit is elsewhere."""
    models = {f"system {n}": (25.0, 1.6, 0.03 + 0.01 * n) for n in range(12)}
    view = build.make_run(tmp_path, models=models, videos=False)
    text = markdown.render(view)
    assert len(text) < 30_000
    assert max(map(len, text.splitlines())) < 700
    (differences,) = [block for block in text.split("\n\n") if block.startswith("| model − baseline")]
    assert len(differences.splitlines()) == 2 + 11 * markdown.HEADLINE
    assert "Holm corrects the primary metric over its 66 pairs of models" in text
    assert f"{66 * 8 - 11 * markdown.HEADLINE} more differences are in report.html." in text
