"""Costs in every format: figures worked out by hand, dashes with their reasons, names that stay text."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from ipa_bench.cost import Cost, PhaseCost
from ipa_bench.cost.amount import UNUSED, Amount
from ipa_bench.cost.ledger import Costs, PostTraining
from ipa_bench.report import costs, html, markdown, terminal
from ipa_bench.report import export_csv as csv_
from ipa_bench.report import export_json as json_
from ipa_bench.report.cost_plot import quality_against_cost
from ipa_bench.report.view import ReportView

HOSTILE = "<img src=x onerror=alert(1)>|`a`"


def made(seconds: float) -> Cost:
    none = Amount(reason=UNUSED)
    phase = PhaseCost(
        "generate", "clip", (HOSTILE,), seconds, seconds, 1, 0, Amount(20.0), Amount(1e6), Amount(10.0), Amount(6e12),
        Amount(1e13), none, none, Amount(2.5e9), none,
    )  # fmt: skip
    return Cost((phase,))


@pytest.fixture(scope="module")
def view(numbers: ReportView) -> ReportView:
    known = Costs(
        {"base": made(40.0), "tuned": made(50.0)},
        {"tuned": PostTraining(Amount(0.5), Amount(3e9), "measured on a laptop", "base")},
        ("x.json is no cost sheet",),
    )
    return replace(numbers, costs=known)


def test_every_figure_is_what_one_works_out(view: ReportView) -> None:
    by_model = {line[0].text: dict(zip(costs.head(view), line, strict=True)) for line in costs.lines(view)}
    tuned = by_model["tuned"]
    assert tuned["s/clip"].text == "2.50"
    assert tuned["video s/s"].text == "0.200"
    assert tuned["peak GB"].text == "2.50"
    assert tuned["of matmul peak"].text == "60 %"
    assert (tuned["J/clip"].text, tuned["J/clip"].reason) == ("–", UNUSED)
    assert (tuned["post-training h"].text, tuned["post-training h"].reason) == ("0.500", "measured on a laptop")
    assert costs.quality_metric(view) == "rest.psnr@1"  # the others look through the networks that chose
    (pair,) = [
        c for c in view.leaderboard.comparisons
        if c.metric == "rest.psnr@1" and {c.model, c.baseline} == {"tuned", "base"}
    ]  # fmt: skip
    assert pair.delta is not None
    gain = float(tuned["gain per h"].text.split()[0])
    assert gain == pytest.approx(abs(pair.delta) / 0.5, rel=0.05)
    assert tuned["gain per h"].text.endswith("over base")
    assert by_model["sixteen fps"]["s/clip"].reason == "its videos were not made here"


def test_prices_are_hours_by_the_rate(view: ReportView) -> None:
    priced = replace(view, price=4.0)
    by_model = {line[0].text: dict(zip(costs.head(priced), line, strict=True)) for line in costs.lines(priced)}
    assert by_model["tuned"]["post-training price"].text == "2.00"
    assert float(by_model["tuned"]["price of 1000 clips"].text) == pytest.approx(2.5 * 1000 / 3600 * 4, rel=0.01)
    assert by_model["base"]["post-training price"].text == "0.0"  # others were made from it
    assert by_model["sixteen fps"]["post-training price"].reason == "not known"
    assert "post-training price" not in costs.head(view)


def test_every_format_shows_them_and_none_runs_a_name(view: ReportView, tmp_path: Path) -> None:
    page = html.write(view, tmp_path, jobs=1).read_text()
    assert 'id="cost"' in page
    assert "device-hours of post-training" in page
    assert "<img src=x" not in page
    text = markdown.render(view)
    assert "## Cost" in text
    assert "<img" not in text
    assert "Costs are not complete: x.json is no cost sheet" in text
    by_model = {row["model"]: row for row in csv.DictReader(StringIO(csv_.costs(view) or ""))}
    assert float(by_model["tuned"]["device_seconds_per_clip"]) == 2.5
    assert float(by_model["tuned"]["post_training_device_hours"]) == 0.5
    assert by_model["sixteen fps"]["device_seconds_per_clip"] == ""
    content = json.loads(json_.render(view))["costs"]
    assert content["post_training"]["tuned"]["device_hours"]["value"] == 0.5
    assert content["sheets"]["base"]["phases"][0]["seconds"] == 40.0
    out = StringIO()
    Console(file=out, width=200).print(terminal.render(view))
    assert "tuned: 2.50 s/clip, 2.50 peak GB, 0.500 post-training h" in out.getvalue()


def test_the_picture_has_both_panels_and_every_model_that_was_measured(view: ReportView) -> None:
    svg = quality_against_cost(view)
    assert svg is not None
    for word in ("device-seconds a clip", "device-hours of post-training", "tuned"):
        assert word in svg
    assert "sixteen fps" not in svg  # nothing is known of its cost: that is not 0
    assert svg == quality_against_cost(view)
    only_made = replace(view, costs=Costs({"base": made(40.0)}))
    assert "post-training" not in (quality_against_cost(only_made) or "")


def test_a_run_that_knows_no_cost_says_nothing(numbers: ReportView) -> None:
    assert csv_.costs(numbers) is None
    assert costs.lines(numbers) == costs.phases(numbers) == ()
    assert quality_against_cost(numbers) is None
    assert "## Cost" not in markdown.render(numbers)
