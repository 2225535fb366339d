"""Distances between sets in every format: what is said, what is left out, and that names stay text."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ipa_bench.metrics.sets.intervals import compare_sets, measure_sets
from ipa_bench.report import export_json as json_
from ipa_bench.report import html, markdown, sets, terminal
from ipa_bench.report.view import ReportView
from ipa_bench.store.sets import SetResult, load, save

HOSTILE = "<img src=x onerror=alert(1)>|`a`"


@pytest.fixture(scope="module")
def results() -> tuple[SetResult, ...]:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(24, 5))
    near, far = truth + 0.1 * rng.normal(size=truth.shape), truth + 1 + 0.1 * rng.normal(size=truth.shape)
    people = [f"p{i}" for i in range(24)]
    return (
        SetResult("fvd.embedded@1", "net|T16", "near", value=measure_sets(near, truth, (people, people))),
        SetResult("fvd.embedded@1", "net|T16", HOSTILE, value=measure_sets(far, truth, (people, people)), skipped=2,
                  skipped_why="a.mp4: truncated"),
        SetResult("fvd.embedded@1", "net|T16", HOSTILE, "near", compare_sets(far, near, truth, (people, people))),
        SetResult("fvd@1", "", "near", reason="no file; fetch it"),
        SetResult("fvd@1", "", HOSTILE, reason="no file; fetch it"),
        SetResult("fid_vid@1", "net", "near", reason="too short"),
    )  # fmt: skip


def test_lines_are_those_with_values_and_reasons_are_gathered(results: tuple[SetResult, ...]) -> None:
    lines = sets.lines(results)
    assert [(line.metric, line.is_difference) for line in lines] == [
        ("fvd.embedded@1", False), ("fvd.embedded@1", False), ("fvd.embedded@1", True),
    ]  # fmt: skip
    assert "24 and 24 windows of 24 identities" in lines[0].sizes
    assert "2 videos left out (a.mp4: truncated)" in lines[1].note
    assert lines[2].frechet.mean.startswith("+")
    assert sets.absent(results) == ("fvd@1: no file; fetch it", "fid_vid@1 of near: too short")


def test_a_distance_through_the_networks_of_training_is_marked(results: tuple[SetResult, ...]) -> None:
    moving = tuple(replace(result, metric="hand.fvmd@1") for result in results[:3])
    lines = sets.lines((*results[:3], *moving), {"near": ("hand_quality@1",)})
    assert ["trained on" in line.note for line in lines] == [False, False, False, True, False, True]
    assert "near trained on a metric of the same networks" in lines[3].note


def test_a_run_folder_keeps_them_under_their_key(results: tuple[SetResult, ...], tmp_path: Path) -> None:
    save(tmp_path, "key", results)
    assert load(tmp_path) == load(tmp_path, "key") == results
    assert load(tmp_path, "another") is None
    (tmp_path / "sets.json").write_text((tmp_path / "sets.json").read_text()[:-20])
    assert load(tmp_path) is None


def test_every_format_shows_them_and_none_runs_a_name(
    results: tuple[SetResult, ...], numbers: ReportView, tmp_path: Path
) -> None:
    view = replace(numbers, sets=results)
    assert len(json.loads(json_.render(view))["sets"]) == len(results)
    text = markdown.render(view)
    assert "## Distances between sets" in text
    assert "<img" not in text
    console = Console(width=100, record=True, file=StringIO())
    console.print(terminal.render(view))
    shown = console.export_text()
    assert "distances between sets of videos" in shown
    assert "2 reasons" in shown
    assert "remarks on sizes" in shown
    page = html.write(view, tmp_path, jobs=1).read_text()
    assert 'id="sets"' in page
    assert "<img src=x" not in page
    assert "Not scored: fvd@1: no file; fetch it." in page


def test_a_run_without_them_says_nothing(numbers: ReportView) -> None:
    assert "Distances between sets" not in markdown.render(numbers)


def test_a_result_is_a_distance_or_a_reason() -> None:
    with pytest.raises(ValueError, match="not both or neither"):
        SetResult("fvd@1", "", "near")
