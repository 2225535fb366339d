"""The noise floor: which cases it is measured on, and its mean, by hand."""

from __future__ import annotations

import pytest

from ipa_bench.harness import floor
from ipa_bench.store import CaseEntry, FloorRecord, RunHeader
from ipa_bench.types import MetricInfo

INFOS = (
    MetricInfo("a@1", "", "lower", "", "", has_floor=True),
    MetricInfo("b@1", "", "lower", "", "", has_floor=True),
    MetricInfo("plain@1", "", "lower", "", ""),
)


def header(*cases: str) -> RunHeader:
    entries = tuple(CaseEntry(case, case, "test", f"{case}.mp4") for case in cases)
    return RunHeader("r", "0", "a@1", (0,), tuple(info.id for info in INFOS), entries, ())


@pytest.mark.parametrize(
    ("count", "measured"),
    [
        (1, [0]),
        (3, [0, 1, 2]),
        (8, list(range(8))),
        (9, [0, 1, 2, 3, 5, 6, 7, 8]),
        (71, [0, 10, 20, 30, 40, 50, 60, 70]),
    ],
)
def test_it_is_measured_on_at_most_eight_cases_spread_evenly(count: int, measured: list[int]) -> None:
    assert floor.cases_of(count) == measured


def test_it_is_the_mean_of_what_is_known() -> None:
    records = {
        "x": FloorRecord("x", {"a@1": 0.25, "plain@1": 7.0}, {"b@1": "no value to compare"}),
        "y": FloorRecord("y", {"a@1": 0.75}, {"b@1": "no value to compare"}),
        "z": FloorRecord("z", reasons={"a@1": "does not decode"}),
    }
    assert floor.of_run(header("x", "y", "z"), records, INFOS) == {"a@1": 0.5}
    assert floor.of_run(header("x"), {}, INFOS) == {}


def test_cases_that_it_would_not_be_measured_on_do_not_count() -> None:
    """A run that began with a limit holds the floor of its first cases."""
    cases = [f"c{i}" for i in range(9)]
    records = {case: FloorRecord(case, {"a@1": 1.0 if case == "c4" else 0.5}) for case in cases}
    assert floor.cases_of(9).count(4) == 0
    assert floor.of_run(header(*cases), records, INFOS) == {"a@1": 0.5}
