"""What the README says is what the code does."""

import re
from pathlib import Path

from ipa_bench.metrics.set_table import SET_METRICS
from ipa_bench.scorer import (
    ALL,
    LAG_TOLERANCE,
    PLACE_TOLERANCE,
    RATIO_TOLERANCE,
    SHARPNESS_TOLERANCE,
    STALL_TOLERANCE,
    WEIGHTS,
)

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_table_of_metrics_is_that_of_the_code():
    rows = [line for line in README.splitlines() if line.startswith("| `") and "@" in line]
    expected = []
    for info in (*(metric.info for metric in ALL), *SET_METRICS):
        cells = (f"`{info.id}`", info.unit, info.better, info.needs, info.source, info.blind_spot)
        expected.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    assert rows == expected


def test_the_composite_is_stated_as_it_is_computed():
    (text,) = re.findall(r"\*\*hand_quality@1\*\*.*?\n\n", README, re.DOTALL)
    flat = " ".join(text.split())
    for words in (
        f"`place` ({WEIGHTS['place']:g}: exp(−e / {PLACE_TOLERANCE:g})",
        f"`sharpness` ({WEIGHTS['sharpness']:g}: exp(−|ln ratio| / {SHARPNESS_TOLERANCE:g}))",
        f"`motion` ({WEIGHTS['motion']:g}: exp(−(lag / {LAG_TOLERANCE:g} s + stall / {STALL_TOLERANCE:g}",
        f"(speed + jitter) / {RATIO_TOLERANCE:g})",
    ):
        assert words in flat, words


def test_the_example_for_trainers_runs(footage, cache_folder, tmp_path, monkeypatch, capsys):
    import shutil

    monkeypatch.setenv("IPA_BENCH_CACHE", str(cache_folder))
    monkeypatch.chdir(tmp_path)
    shutil.copy(footage.clips / "anna__wide.mp4", "wave.mp4")
    shutil.copy(footage.fine / "anna__wide.mp4", "sample.mp4")
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(code, {})
    quality, error = (float(word) for word in capsys.readouterr().out.split())
    assert 0.5 < quality < 1
    assert 0 < error < 0.2
