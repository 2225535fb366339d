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


def timed(wall: float, cpu: float, waited: float, *, gpu: bool = False) -> Cost:
    """20 clips, in so many seconds."""
    none = Amount(reason=UNUSED)
    (phase,) = made(wall).phases
    memory = Amount(1e9) if gpu else none
    return Cost((replace(phase, cpu=Amount(cpu), waited=Amount(waited), device_allocated=memory),))


def busy_run(view: ReportView, **sheets: Cost) -> tuple[dict[str, dict[str, costs.Cell]], ReportView]:
    busy = replace(view, costs=Costs(sheets, view.costs.post_training))
    return {x[0].text: dict(zip(costs.head(busy), x, strict=True)) for x in costs.lines(busy)}, busy


def test_wall_time_on_a_busy_machine_is_marked_and_processor_time_stands_beside_it(view: ReportView) -> None:
    """The same work: 95.6 s on a quiet machine, and 1350 s while others ran."""
    cells, busy = busy_run(view, base=timed(95.6, 90.0, 0.5), tuned=timed(1350.0, 92.0, 1200.0))
    assert (cells["base"]["s/clip"].text, cells["base"][costs.CPU].text) == ("4.78", "4.50")
    assert (cells["tuned"]["s/clip"].text, cells["tuned"][costs.CPU].text) == ("67.5 busy", "4.60")
    assert "89 % of the time" in cells["tuned"]["s/clip"].reason
    (remark,) = costs.remarks(busy)
    by_model = {row["model"]: row for row in csv.DictReader(StringIO(csv_.costs(busy) or ""))}
    assert float(by_model["tuned"]["processor_seconds_per_clip"]) == 4.6
    assert float(by_model["tuned"]["share_of_time_in_line"]) == pytest.approx(1200 / 1350)
    assert by_model["sixteen fps"]["processor_seconds_per_clip"] == ""
    assert "tuned (89 %)" in remark
    assert "base" not in remark
    assert costs.comparable(costs.costs(busy)) == {"base": 4.5, "tuned": 4.6}
    assert "processor-seconds a clip" in (quality_against_cost(busy) or "")
    for text in (markdown.render(busy), _terminal(busy)):
        assert "67.5 busy" in text
        assert "stood in line for a core" in " ".join(text.split())


def test_a_lora_that_takes_other_time_than_its_base_is_pointed_out(view: ReportView) -> None:
    _, busy = busy_run(view, base=timed(95.6, 90.0, 0.5), tuned=timed(200.0, 190.0, 0.5))
    (remark,) = costs.remarks(busy)
    assert remark.startswith("A clip of tuned took 2.1 times the time of one of base, from which it was made")
    _, same = busy_run(view, base=timed(95.6, 90.0, 0.5), tuned=timed(99.0, 97.0, 0.5))
    assert costs.remarks(same) == ()
    _, on_gpu = busy_run(view, base=timed(20, 20.0, 0.0, gpu=True), tuned=timed(60, 20.0, 0.0, gpu=True))
    assert "took 3 times" in costs.remarks(on_gpu)[0]  # wall time counts there
    assert costs.CPU not in costs.head(on_gpu)


def test_sheets_without_processor_time_are_shown_as_they_were(view: ReportView) -> None:
    assert costs.CPU not in costs.head(view)
    assert "busy" not in markdown.render(view)
    assert "device-seconds a clip" in (quality_against_cost(view) or "")


def _terminal(view: ReportView) -> str:
    out = StringIO()
    Console(file=out, width=100).print(terminal.render(view))
    return out.getvalue()
