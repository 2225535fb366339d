from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from ipa_bench.report import terminal
from ipa_bench.report.view import ReportView
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
    assert "9 more pairs are in report.html" in text


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
    assert "* the model was trained on this metric" in text
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
