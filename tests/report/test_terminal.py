from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from ipa_bench.cost import Amount
from ipa_bench.cost.ledger import PostTraining
from ipa_bench.metrics.sets.intervals import SetDistance, SetDistances
from ipa_bench.report import terminal
from ipa_bench.report.text import interval_text
from ipa_bench.report.view import ReportView, told_pairs
from ipa_bench.store.sets import SetResult
from tests.report import build


def shown(view: ReportView, width: int = 100, **options: object) -> str:
    out = io.StringIO()
    Console(file=out, width=width, **options).print(terminal.render(view))  # type: ignore[arg-type]
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_it_fits_and_shows_as_many_metrics_as_there_is_room_for(numbers: ReportView, width: int) -> None:
    text = shown(numbers, width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert ("psnr" in text) == (width >= 120)
    for row in numbers.leaderboard.rows:
        assert row.model in text


def test_long_names_and_many_models_still_fit(tmp_path: Path) -> None:
    models = {f"checkpoint-{n}-" + "x" * 60: (25.0, 1.6, 0.03 + 0.01 * n) for n in range(7)}
    text = shown(build.make_run(tmp_path, models=models, videos=False), 80)
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    assert "15 more pairs are in report.html" in text


def test_every_number_has_its_interval_coverage_and_unit(numbers: ReportView) -> None:
    text = shown(numbers, 120)
    cell = numbers.leaderboard.rows[0].cells["rest.psnr@1"]
    assert cell.mean is not None
    assert cell.low is not None
    assert f"{cell.mean:.2f}" in text
    assert f"[{cell.low:.2f}, " in text
    assert "5/6 videos" in text
    assert "↑ dB" in text
    assert "↓ hand sizes" in text


def test_marks_for_training_floor_and_rest(numbers: ReportView) -> None:
    text = shown(numbers, 120)
    assert "* the model was trained on this metric, or on one" in text
    assert "±0.012" in text
    assert "3 more metrics are in report.html" in text


def test_ties_are_marked_and_explained(tmp_path: Path) -> None:
    twins = {"one": (25.0, 1.6, 0.05), "two": (25.0, 1.6, 0.0501)}
    text = shown(build.make_run(tmp_path, models=twins, videos=False))
    assert text.count("1=") == 2
    assert "= shares its rank" in text
    assert "unclear" in text


def test_ascii_terminals_get_words_instead_of_arrows(numbers: ReportView) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    lines = Console(file=out, width=100).render_lines(terminal.render(numbers))
    assert "(lower)" in "".join(segment.text for line in lines for segment in line)


def test_names_are_neither_markup_nor_escape_codes(tmp_path: Path) -> None:
    view = build.make_run(tmp_path, videos=False, names={"base": "[red]x[/red]\x1b[31m", "run": "a\nb[/]"})
    text = shown(view, 120)
    assert "[red]x[/red]\\x1b[31m" in text.replace("\n", "")
    assert "\x1b" not in text


def test_one_model_or_none_is_not_an_error(tmp_path: Path, numbers: ReportView) -> None:
    alone = build.make_run(tmp_path, models={"base": build.MODELS["base"]}, identities=1, videos=False)
    assert "One identity" in shown(alone)
    empty = replace(numbers, records={}, leaderboard=replace(numbers.leaderboard, rows=(), comparisons=()))
    assert "No model has a record yet" in shown(empty)


NAMES = {
    "short": list("abcdefghijkl"),
    "long": [f"checkpoint-{n}-{'x' * 90}" for n in range(12)],
    "wide": [f"{'模型' * 20}{n}" for n in range(12)],
    "words": [f"our system, as of week {n} with the new hands" for n in range(12)],
}


@pytest.mark.parametrize("count", [1, 2, 3, 4, 12])
@pytest.mark.parametrize("kind", NAMES)
def test_no_digit_is_lost_at_80_columns(tmp_path: Path, kind: str, count: int) -> None:
    models = {name: (25.0, 1.6, 0.03 + 0.02 * n) for n, name in enumerate(NAMES[kind][:count])}
    view = build.make_run(tmp_path, models=models, videos=False)
    view = replace(view, sets=distances(tuple(models)))
    text = shown(view, 80)
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    for row in view.leaderboard.rows:
        for metric in ("hand.keypoint_error@1", "hand.pck10@1"):
            cell = row.cells[metric]
            assert str(interval_text(cell.mean, cell.low, cell.high).bracket) in text
    assert "hand.pck10" in text
    told = told_pairs(view)
    for pair in view.leaderboard.comparisons:
        bracket = interval_text(pair.delta, pair.low, pair.high, sign=True).bracket
        if pair.metric == view.header.primary and frozenset((pair.model, pair.baseline)) in told:
            assert bracket in text
    assert text.count("[123450.1, 123463.9]") == count
    assert text.count("[") == text.count("]")


def distances(models: tuple[str, ...]) -> tuple[SetResult, ...]:
    """A distance of each model with a long interval, and every difference."""
    one = SetDistance(123456.7, 9, 9, 6, 5, None, 123450.12, 123463.91, "mean at these sizes", None, "made up")
    made = SetDistances(one, None, replace(one, value=0.5, low=0.25, high=0.75))
    alone = [SetResult("fvd@1", "as published", model, value=made) for model in models]
    other = replace(made.frechet, value=-12.5, low=-30.25, high=5.25)
    pairs = [(first, two) for index, first in enumerate(models) for two in models[index + 1 :]]
    apart = [SetResult("fvd@1", "d", *pair, value=replace(made, frechet=other)) for pair in pairs]
    return (*alone, *apart)


def test_one_column_that_is_too_wide_makes_lines_longer_and_loses_nothing(numbers: ReportView) -> None:
    row = numbers.leaderboard.rows[0]
    cell = replace(row.cells["hand.keypoint_error@1"], mean=1234567.0000005, low=1234567.0000001, high=1234567.0000009)
    rows = (replace(row, cells={**row.cells, "hand.keypoint_error@1": cell}), *numbers.leaderboard.rows[1:])
    out = io.StringIO()
    view = replace(numbers, leaderboard=replace(numbers.leaderboard, rows=rows))
    Console(file=out, width=40).print(terminal.render(view), crop=False)
    assert interval_text(cell.mean, cell.low, cell.high).bracket in out.getvalue()


def test_many_models_are_shown_against_the_best_and_their_base(tmp_path: Path) -> None:
    view = build.make_run(
        tmp_path, models={n: (25.0, 1.6, 0.02 + 0.02 * i) for i, n in enumerate("abcde")}, videos=False
    )
    made = PostTraining(Amount(1.0), Amount(reason="not measured"), "told", "d")
    view = replace(view, costs=replace(view.costs, post_training={"c": made}))
    best = {frozenset(("a", other)) for other in "bcde"}
    assert told_pairs(view) == best | {frozenset("cd")}
    # of few that were made from one base: what was aligned against its control
    both = replace(view, costs=replace(view.costs, post_training={"c": made, "e": made}))
    assert told_pairs(both) == best | {frozenset(pair) for pair in ("cd", "ed", "ce")}
    # the ground truth in disguise is nobody's best
    entries = tuple(replace(m, kind="reencode") if m.name == "a" else m for m in view.header.models)
    view = replace(view, header=replace(view.header, models=entries))
    assert told_pairs(view) == {frozenset(("b", other)) for other in "acde"} | {frozenset("cd")}
    assert "5 more pairs are in report.html" in shown(view)
    few = build.make_run(tmp_path / "few", videos=False)
    assert len(told_pairs(few)) == 3


def test_many_pairs_inside_the_floor_are_one_warning(tmp_path: Path) -> None:
    twins = {name: (25.0, 1.6, 0.05 + 0.0001 * n) for n, name in enumerate("abcd")}
    text = " ".join(shown(build.make_run(tmp_path, models=twins, videos=False)).split())
    assert "6 of 6 pairs of models differ on hand.keypoint_error@1 by less than a re-encode" in text
    assert text.count("by less than a re-encode") == 1


def test_the_terminal_says_what_the_primary_metric_is_corrected_for(tmp_path: Path) -> None:
    models = {f"m{n}": (25.0, 1.6, 0.03 + 0.02 * n) for n in range(4)}
    text = " ".join(shown(build.make_run(tmp_path, models=models, videos=False), 80).split())
    assert "Holm corrects the primary metric over its 6 pairs of models" in text
    two = dict(list(models.items())[:2])
    assert "Holm corrects" not in shown(build.make_run(tmp_path, models=two, videos=False), 80)
