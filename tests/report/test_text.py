from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_bench.report.text import NOTHING, interval_text, number, plain


def test_the_width_of_the_interval_decides_the_decimals() -> None:
    assert str(interval_text(0.123456, 0.1, 0.147)) == "0.123 [0.100, 0.147]"
    assert str(interval_text(31.0042, 30.5, 31.5)) == "31.00 [30.50, 31.50]"
    assert str(interval_text(3704.2, 3000.0, 4400.0)) == "3704 [3000, 4400]"
    assert str(interval_text(0.312, -1.7, 2.3)) == "0.31 [-1.70, 2.30]"
    assert str(interval_text(0.0012, -1.7, 2.3)) == "0.00 [-1.70, 2.30]"
    assert str(interval_text(-0.02, -0.03, -0.01, sign=True)) == "-0.020 [-0.030, -0.010]"


def test_without_an_interval_there_are_no_brackets() -> None:
    assert str(interval_text(0.123456, None, None)) == "0.1235"
    assert str(interval_text(0.5, 0.5, 0.5)) == "0.5000 [0.5000, 0.5000]"


def test_unknown_is_a_dash_and_zero_is_zero() -> None:
    assert str(interval_text(None, None, None)) == NOTHING == number(None)
    assert number(0.0) == "0.0"


def test_a_rounded_away_negative_is_not_a_negative_zero() -> None:
    assert interval_text(-0.0001, -0.5, 0.5).mean == "0.000"
    assert interval_text(-0.0001, -0.5, 0.5, sign=True).mean == "+0.000"


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_the_shown_mean_is_within_a_twentieth_of_the_half_width(mean: float, half: float) -> None:
    shown = interval_text(mean, mean - half, mean + half)
    assert re.fullmatch(r"-?\d+(\.\d+)?", shown.mean)
    assert abs(float(shown.mean) - mean) <= 0.0501 * half + 1e-9


@given(st.floats(-1e300, 1e300), st.floats(0, 1e-9))
def test_any_number_is_short(mean: float, half: float) -> None:
    shown = interval_text(mean, mean - half, mean + half)
    assert len(shown.mean) <= 12
    assert float(shown.mean) == pytest.approx(mean, rel=6e-4)


def test_plain_spells_out_what_could_drive_a_terminal() -> None:
    assert plain("a\x1b[31mred\nb\u202ec") == "a\\x1b[31mred\\nb\\u202ec"
    assert plain("naïve 手 model") == "naïve 手 model"
