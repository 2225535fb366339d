from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ipa_bench.report import markdown
from ipa_bench.report.view import (
    ReportView,
    headline,
    inside_floor,
    metric_order,
    primary_comparisons,
    ranked_because,
    warnings,
)
from tests.report import build


def test_headline_metrics_begin_with_the_primary_then_the_preferred(numbers: ReportView) -> None:
    board = replace(numbers.leaderboard, primary="rest.psnr@1")
    view = replace(numbers, leaderboard=board)
    assert headline(view, 3) == ("rest.psnr@1", "hand.keypoint_error@1", "hand.pck10@1")
    assert sorted(metric_order(view)) == sorted(board.metrics)


def test_a_metric_without_any_value_is_named_with_its_reason(numbers: ReportView) -> None:
    (found,) = [text for text in warnings(numbers) if "frame.lpips@1" in text]
    assert "ipa-bench weights fetch alexnet" in found


def test_missing_videos_are_counted_per_model(numbers: ReportView) -> None:
    assert [text for text in warnings(numbers) if "are missing" in text and "base: 1 of 6" in text]
    assert not [text for text in warnings(numbers) if text.startswith("tuned: ")]


def test_few_identities_are_warned_about_and_many_are_not(tmp_path: Path, numbers: ReportView) -> None:
    for count, words in ((1, "One identity"), (3, "Only 3 identities")):
        view = build.make_run(tmp_path / str(count), identities=count, videos=False)
        assert any(words in text for text in warnings(view))
    assert not any("identities:" in text for text in warnings(numbers))


def test_a_model_trained_on_the_primary_metric_is_named(tmp_path: Path) -> None:
    view = build.make_run(tmp_path, videos=False, trained_on={"tuned": ("hand.keypoint_error",)})
    assert any(text.startswith("tuned was trained on hand.keypoint_error@1") for text in warnings(view))


def test_a_model_trained_through_the_networks_of_the_primary_metric_is_named(tmp_path: Path) -> None:
    view = build.make_run(tmp_path, videos=False, trained_on={"tuned": ("hand.recall",)})
    assert any(
        text.startswith("tuned was trained on a metric that looks through the same networks as hand.keypoint_error@1")
        for text in warnings(view)
    )
    assert ranked_because(view) == ""


def test_why_the_primary_metric_can_rank_trained_models_is_said(tmp_path: Path) -> None:
    view = build.make_run(tmp_path, videos=False, trained_on={"tuned": ("rest.psnr", "frame.ssim@1")})
    assert not any("was trained on" in text for text in warnings(view))
    assert ranked_because(view) == (
        "Ranked on hand.keypoint_error@1, which looks through other networks than what tuned was trained on: "
        "rest.psnr@1, frame.ssim@1."
    )
    assert ranked_because(build.make_run(tmp_path / "plain", videos=False)) == ""
    assert "looks through other networks" in markdown.render(view)


def test_a_difference_inside_the_floor_is_warned_about(tmp_path: Path) -> None:
    twins = {"one": (25.0, 1.6, 0.05), "two": (25.0, 1.6, 0.0501)}
    view = build.make_run(tmp_path, models=twins, videos=False)
    view = build.with_records(replace(view, floors={"hand.keypoint_error@1": 10.0}))
    assert inside_floor(primary_comparisons(view)[0])
    assert any("less than a re-encode" in text for text in warnings(view))


def test_a_run_without_records_says_what_to_do(numbers: ReportView) -> None:
    empty = replace(numbers, records={}, leaderboard=replace(numbers.leaderboard, rows=(), comparisons=()))
    assert any("run the suite" in text for text in warnings(empty))


def test_damaged_lines_are_told_where_a_video_lacks_its_record(tmp_path: Path) -> None:
    whole = replace(build.make_run(tmp_path, videos=False), damaged=2)
    assert not any("damaged" in text for text in warnings(whole))  # what they held was scored again
    some = dict(list(whole.records.items())[1:])
    (told,) = [text for text in warnings(replace(whole, records=some)) if "damaged" in text]
    assert "2 lines of its scores are not readable" in told
    assert not any("damaged" in text for text in warnings(replace(whole, records=some, damaged=0)))


def test_videos_that_other_observers_looked_at_are_told(numbers: ReportView) -> None:
    told = [text for text in warnings(replace(numbers, seen_otherwise=3)) if "earlier version" in text]
    assert told == [
        "3 videos were last looked at by observers of an earlier version: what they say is left out. "
        "Run the suite again."
    ]
    assert not any("earlier version" in text for text in warnings(numbers))
