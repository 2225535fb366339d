"""Numbers and names as text: the same digits in every format, and nothing that a name could smuggle in."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ipa_bench.types import MetricInfo

#: What stands where there is no number. Never "0".
NOTHING = "–"


@dataclass(frozen=True)
class IntervalText:
    """An interval with as many decimals as its width deserves. ``low``/``high`` are empty where there is none."""

    mean: str
    low: str
    high: str

    @property
    def bracket(self) -> str:
        """``[0.10, 0.14]`` or nothing."""
        return f"[{self.low}, {self.high}]" if self.low else ""

    def __str__(self) -> str:
        return f"{self.mean} {self.bracket}".rstrip()


def interval_text(mean: float | None, low: float | None, high: float | None, *, sign: bool = False) -> IntervalText:
    """Two significant digits of the half-width decide the decimals (one more where they would leave the mean with one);
    without an interval, four of the mean do."""
    if mean is None:
        return IntervalText(NOTHING, "", "")
    if low is None or high is None:
        return IntervalText(number(mean, sign=sign), "", "")
    half = (high - low) / 2
    digits = min(max(_decimals(half, 2), _decimals(mean, 2)), _decimals(half, 3)) if half > 0 else _decimals(mean, 4)
    return IntervalText(_fixed(mean, digits, sign), _fixed(low, digits, sign), _fixed(high, digits, sign))


def number(value: float | None, *, sign: bool = False, digits: int = 4) -> str:
    """``digits`` significant digits; a dash for None."""
    return NOTHING if value is None else _fixed(value, _decimals(value, digits), sign)


def _decimals(size: float, significant: int) -> int:
    if size == 0:
        return 1
    return significant - 1 - math.floor(math.log10(abs(size)))


def _fixed(value: float, decimals: int, sign: bool) -> str:
    if decimals > 9 or abs(value) >= 1e7:
        return f"{value:+.4g}" if sign else f"{value:.4g}"
    text = f"{value:+.{max(decimals, 0)}f}" if sign else f"{value:.{max(decimals, 0)}f}"
    # -0.00 reads as a tiny negative number, which it need not be
    return text if any(digit in text for digit in "123456789") else text.replace("-", "+" if sign else "")


def arrow(info: MetricInfo | None, *, ascii_only: bool = False) -> str:
    """Which way is better."""
    if info is None:
        return ""
    if ascii_only:
        return "(higher)" if info.better == "higher" else "(lower)"
    return "↑" if info.better == "higher" else "↓"


def plain(text: str) -> str:
    """``text`` with control and formatting characters spelled out, so that no name can drive a terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
