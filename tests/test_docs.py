"""What the documents say is what the code does, and what they show renders."""

import re
import shutil
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from ipa_bench.metrics import METRICS
from ipa_bench.metrics.alignment import MAX_LAG, MAX_OFFSET
from ipa_bench.metrics.document import table, updated
from ipa_bench.metrics.quality import (
    GAINED_TOLERANCE,
    LAG_TOLERANCE,
    LOST_TOLERANCE,
    OFFSET_TOLERANCE,
    RATIO_TOLERANCE,
    SHAPE_TOLERANCE,
    STALL_TOLERANCE,
    STORED,
    WEIGHTS,
)
from ipa_bench.metrics.table import SET_METRICS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
METRICS_DOC = (ROOT / "docs" / "metrics.md").read_text()


def _documents() -> list[Path]:
    folders = [(ROOT, "*.md"), *((ROOT / name, "**/*.md") for name in ("docs", "reports", "benchmarks"))]
    return sorted(path for folder, pattern in folders for path in folder.glob(pattern))


def test_the_readme_fits_two_screens():
    assert len(README.splitlines()) <= 150


def test_the_tables_of_metrics_are_those_of_the_code():
    tables = {"videos": table(metric.info for metric in METRICS), "sets": table(SET_METRICS)}
    assert updated(METRICS_DOC, tables) == METRICS_DOC, "run: ipa-bench metrics --write docs/metrics.md"
    assert len(METRICS) > 30  # the table is not empty
    with pytest.raises(ValueError, match="no place"):
        updated(METRICS_DOC, {"nowhere": ""})


@pytest.mark.parametrize("path", _documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_table_renders_as_a_table(path):
    text = path.read_text()
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inside: set[int] = set()
    for token in tokens:
        if token.type in ("table_open", "fence", "code_block") and token.map:
            inside |= set(range(*token.map))
    rows = {number for number, line in enumerate(text.splitlines()) if line.lstrip().startswith("|")}
    assert not {number + 1 for number in rows - inside}, "these lines show as raw pipes"


@pytest.mark.parametrize("path", _documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_links_and_pictures_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), target


def test_the_composite_is_stated_as_it_is_computed():
    (text,) = re.findall(r"\*\*hand_quality@4\*\*.*?\n\n", METRICS_DOC, re.DOTALL)
    flat = " ".join(text.split())
    for words in (
        f"`shape` ({WEIGHTS['shape']:g}: exp(−e / {SHAPE_TOLERANCE:g})",
        f"`sharpness` ({WEIGHTS['sharpness']:g}: of what |ln ratio| is beyond {STORED:g}, x, "
        f"1 / (1 + x / {LOST_TOLERANCE:g}) where the driving hand's detail is lost and exp(−x / {GAINED_TOLERANCE:g})",
        f"`motion` ({WEIGHTS['motion']:g}: exp(−(stall / {STALL_TOLERANCE:g}",
        f"(speed + jitter) / {RATIO_TOLERANCE:g})",
        f"`alignment` ({WEIGHTS['alignment']:g}: exp(−((offset / {OFFSET_TOLERANCE:g})² + (lag / {LAG_TOLERANCE:g} s)²",
        f"up to {MAX_OFFSET:g} of the frame's width",
        f"up to {MAX_LAG:g} s",
    ):
        assert words in flat, words


def test_the_example_for_trainers_runs(footage, cache_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IPA_BENCH_CACHE", str(cache_folder))
    monkeypatch.chdir(tmp_path)
    shutil.copy(footage.clips / "anna__wide.mp4", "wave.mp4")
    shutil.copy(footage.fine / "anna__wide.mp4", "sample.mp4")
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(code, {})
    quality, error = (float(word) for word in capsys.readouterr().out.split())
    assert 0.5 < quality < 1
    assert 0 < error < 0.2


def test_the_verb_writes_the_tables(tool, tmp_path):
    document = tmp_path / "metrics.md"
    document.write_text(re.sub(r"\| `hand\..*\n", "", METRICS_DOC))
    assert tool("metrics", "--write", document).returncode == 0
    assert document.read_text() == METRICS_DOC
    done = tool("metrics", "--write", ROOT / "CHANGELOG.md")
    assert done.returncode == 2
    assert "<!-- generated: videos -->" in done.stderr
