"""One made-up run, written once, for every test of the reports."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipa_bench.report import html
from ipa_bench.report.view import ReportView
from ipa_bench.store import UnitRecord
from ipa_bench.types import Score
from tests.browser import Tab, chromium, tab
from tests.conftest import once
from tests.report import build
from tests.report.pages import open_page

MISSING = ("wave_1", 0, "base")
REASON = "no video: the generator stopped (out of memory)"


@pytest.fixture(scope="session")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> ReportView:
    """A run without videos: enough for every format but the page."""
    view = build.make_run(tmp_path_factory.mktemp("numbers"), videos=False, trained_on={"tuned": ("hand.recall",)})
    return without(view, MISSING)


def without(view: ReportView, unit: tuple[str, int, str]) -> ReportView:
    """``view`` with the video of ``unit`` missing."""
    scores = tuple(Score(*unit, metric=info.id, reason=REASON) for info in view.infos)
    return build.with_records(view, {**view.records, unit: UnitRecord(*unit, notes=("tried twice",), scores=scores)})


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReportView, Path]:
    """A run with videos, one of them missing, and its page. They are not written to."""

    def make(folder: Path) -> None:
        out = folder.with_name("reported-run")  # whose files are named where they stay
        out.mkdir()
        view = without(build.make_run(out, identities=3, trained_on={"tuned": ("hand.recall",)}), MISSING)
        (folder / "view").write_bytes(pickle.dumps((view, html.write(view, out, jobs=1))))

    found: tuple[ReportView, Path] = pickle.loads((once(tmp_path_factory, "reported", make) / "view").read_bytes())
    return found


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def opened(browser: Any, written: tuple[ReportView, Path]) -> Iterator[Tab]:
    """The page; on the way out, that it had no troubles and asked for nothing but its own files."""
    with tab(browser) as found:
        open_page(found, written[1])
        yield found
        assert found.trouble == []
        folder = written[1].parent.as_uri()
        assert [url for url in found.requests if not url.startswith((folder, "data:,"))] == []
