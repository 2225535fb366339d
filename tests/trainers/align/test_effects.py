from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from ipa_bench.types import MetricInfo
from trainers.align.effects import Effect, as_json, effect, plot, table

INFO = MetricInfo("rest.psnr@1", "dB", "higher", "", "")
IDENTITY = {"a1": "a", "a2": "a", "b": "b", "c": "c"}
BASE = {("a1", 0): 1.0, ("a2", 0): 2.0, ("b", 0): 3.0, ("c", 0): 4.0}
ROWS = [
    {("a1", 0): 2.0, ("a2", 0): 4.0, ("b", 0): 5.0, ("c", 0): 4.5},
    {("a1", 0): 1.5, ("a2", 0): 2.5, ("b", 0): 4.0, ("c", 0): 6.0},
]
#: 97.5 % of Student's t with 2 degrees of freedom
T = 4.302652729911275
SURE = Effect("hand.pck10@1", 0.5, 0.05, 0.01, 0.09, 24, (0.04, 0.06))


def test_an_effect_is_what_a_hand_computes() -> None:
    found = effect(INFO, BASE, ROWS, IDENTITY)
    assert found is not None
    # differences of a: 1, 2, 0.5, 0.5; of b: 2, 1; of c: 0.5, 2
    assert found.delta == pytest.approx((1.0 + 1.5 + 1.25) / 3)
    half = T * 0.25 / math.sqrt(3)  # the two runs differ by less than people do: the interval over people
    assert (found.low, found.high) == pytest.approx((1.25 - half, 1.25 + half))
    assert found.n == 3
    assert found.base == pytest.approx((1.5 + 3 + 4) / 3)
    assert found.share == pytest.approx(1.25 / (8.5 / 3))
    assert found.seeds == pytest.approx(((1.5 + 2 + 0.5) / 3, (0.5 + 1 + 2) / 3))


def test_what_only_one_of_the_two_has_is_left_out() -> None:
    without = [ROWS[0], {pair: value for pair, value in ROWS[1].items() if pair[0] != "c"}]
    found = effect(INFO, BASE, without, IDENTITY)
    assert found is not None
    assert found.delta == pytest.approx((1.0 + 1.5) / 2)  # of a and b, whom both runs show
    assert found.seeds == pytest.approx((4 / 3, (0.5 + 1) / 2))
    assert effect(INFO, BASE, [{("d", 0): 1.0}], IDENTITY) is None
    assert effect(INFO, {}, ROWS, IDENTITY) is None
    alone = effect(INFO, BASE, [{("b", 0): 5.0}], IDENTITY)
    assert alone is not None
    assert (alone.delta, alone.low, alone.high, alone.n) == (2.0, None, None, 1)


def test_the_table_marks_intervals_that_exclude_0() -> None:
    for low, high, sure in ((0.01, 0.09, True), (-0.09, -0.01, True), (-0.01, 0.11, False), (0.0, 0.1, False)):
        found = table({"row": [replace(SURE, low=low, high=high)]})
        assert ("**+0.050 (+10.0%)**" in found) is sure
        assert f"+0.050 (+10.0%){'**' if sure else ''} [{low:+.3f}, {high:+.3f}]; seeds +0.040 to +0.060" in found
    assert "**" not in table({"row": [replace(SURE, low=None, high=None)]})


def test_a_cell_says_no_more_than_is_known() -> None:
    decibels = replace(SURE, metric="rest.psnr@2", base=20.0, seeds=(0.05,))
    text = table({"one": [SURE], "two": [decibels]}, {"rest.psnr@2": "rest, dB"})
    head, _, one, two = text.splitlines()
    assert head == "| | hand.pck10 | rest, dB |"
    assert one.endswith("| not scored |")
    assert two == "| two | not scored | **+0.050** [+0.010, +0.090] |"


def test_a_base_of_0_has_no_share_and_is_still_json() -> None:
    nothing = replace(SURE, base=0.0)
    assert nothing.share is None
    assert "%" not in table({"row": [nothing]})
    written = json.loads(json.dumps(as_json({"row": [nothing, SURE]}), allow_nan=False))
    assert [entry["share"] for entry in written["row"]] == [None, pytest.approx(0.1)]
    assert written["row"][1]["seeds"] == [0.04, 0.06]


def test_the_plot_shows_what_it_is_given_and_leaves_nothing_open(tmp_path: Path) -> None:
    from matplotlib import pyplot as plt

    metrics = ("hand.pck10", "rest.psnr")
    plot({"one": [SURE], "none": []}, metrics, tmp_path / "a.png")
    plot({"one": [replace(SURE, delta=0.02)], "none": []}, metrics, tmp_path / "b.png")
    pictures = [(tmp_path / name).read_bytes() for name in ("a.png", "b.png")]
    assert pictures[0] != pictures[1]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert not plt.get_fignums()
