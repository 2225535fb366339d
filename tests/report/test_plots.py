from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import matplotlib
import pytest

from ipa_bench.report import plots
from ipa_bench.report.view import ReportView
from tests.report import build


def words(svg: str) -> set[str]:
    return {
        "".join(node.itertext()).strip() for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")
    }


def test_a_plot_is_the_same_every_time_whatever_the_users_settings(numbers: ReportView) -> None:
    first = [plots.forest(numbers), plots.differences(numbers), plots.distribution(numbers, "hand.pck10@1")]
    with matplotlib.rc_context({"font.size": 31, "svg.hashsalt": "other", "axes.grid": True}):
        again = [plots.forest(numbers), plots.differences(numbers), plots.distribution(numbers, "hand.pck10@1")]
    assert first == again
    assert "dc:date" not in "".join(first)


def test_settings_are_given_back(numbers: ReportView) -> None:
    with matplotlib.rc_context({"font.size": 31}):
        plots.forest(numbers)
        assert matplotlib.rcParams["font.size"] == 31


def test_every_model_and_metric_is_named(numbers: ReportView) -> None:
    shown = words(plots.forest(numbers))
    assert {"tuned", "base", "sixteen fps"} <= shown
    assert any(text.startswith("hand.keypoint_error@1 ↓") for text in shown)
    assert "tuned − base" in words(plots.differences(numbers))


def test_a_metric_without_values_says_so(numbers: ReportView) -> None:
    assert "not scored" in words(plots.forest(numbers, ["frame.lpips@1"]))
    assert "not scored" in words(plots.distribution(numbers, "frame.lpips@1"))


@pytest.mark.parametrize(
    "name", ["</text><script>alert(1)</script>", "$\\frac{1}$ $x", "手の動き 🖐", "a\x00b\x1b\u202e", "x" * 200]
)
def test_any_name_is_drawn_as_text(tmp_path: Path, name: str) -> None:
    view = build.make_run(tmp_path, names={"base": name}, videos=False)
    for svg in (plots.forest(view), plots.differences(view), plots.distribution(view, "hand.pck10@1")):
        assert "<script" not in svg
        assert any(plots.shortened(name, 12)[:-1] in text for text in words(svg))


def test_one_model_one_identity_and_none_are_drawn(tmp_path: Path) -> None:
    view = build.make_run(tmp_path, models={"base": build.MODELS["base"]}, identities=1, videos=False)
    assert "base" in words(plots.forest(view))
    plots.differences(view)
    empty = replace(view, leaderboard=replace(view.leaderboard, rows=(), comparisons=()))
    assert ElementTree.fromstring(plots.forest(empty)) is not None


def test_a_plot_in_a_page_follows_its_colours_and_width(numbers: ReportView) -> None:
    svg = plots.themed(plots.forest(numbers))
    assert svg.startswith("<svg")
    assert plots.INK not in svg
    assert "var(--ink)" in svg
    opening = svg[: svg.index(">")]
    assert "viewBox" in opening
    assert " width=" not in opening
    assert " height=" not in opening
