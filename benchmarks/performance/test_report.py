"""How long a report takes: comparing models, the texts, and the page with playable copies and stills.

pytest benchmarks/performance/test_report.py --benchmark-only
"""

import shutil

import pytest

from ipa_bench.report import export_json as json_
from ipa_bench.report import html, markdown
from tests.report import build


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of 3 models on 2 clips of each of 12 people, with its videos."""
    folder = tmp_path_factory.mktemp("run")
    return build.make_run(folder, identities=12), folder


def test_texts(benchmark, made):
    """Markdown and JSON."""
    view, _ = made
    text = benchmark(lambda: markdown.render(view) + json_.render(view))
    assert "Leaderboard" in text


def test_a_page_from_nothing(benchmark, made):
    """Every copy and still is made."""
    view, folder = made
    page = benchmark.pedantic(
        lambda: html.write(view, folder, jobs=2),
        setup=lambda: shutil.rmtree(folder / "report", ignore_errors=True),
        rounds=3,
    )
    assert page.stat().st_size > 10_000
    benchmark.extra_info["videos"] = len(view.records)


def test_a_page_again(benchmark, made):
    """Copies and stills are there."""
    view, folder = made
    html.write(view, folder, jobs=2)
    page = benchmark.pedantic(lambda: html.write(view, folder, jobs=2), rounds=3)
    assert page.stat().st_size > 10_000
