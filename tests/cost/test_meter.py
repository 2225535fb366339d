"""The meter and the sheet: times in brackets of another clock, parts that add up, and nothing unmeasured that is 0."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_bench.cost import PHASES, Amount, Cost, Meter, PhaseCost
from ipa_bench.cost.amount import UNUSED
from ipa_bench.errors import UserError

NOT_COUNTED = Amount(reason="not counted")
AMOUNTS = st.one_of(
    st.integers(0, 1000).map(lambda n: Amount(n / 4)),
    st.sampled_from([NOT_COUNTED, Amount(reason=UNUSED), Amount(reason="a counter failed")]),
)
COUNTS = st.one_of(st.integers(0, 10**15).map(lambda n: Amount(float(n))), st.just(NOT_COUNTED))


@st.composite
def parts(draw, name="train"):
    seconds = draw(st.integers(0, 1000)) / 8  # sums of eighths are exact
    entries = draw(st.integers(1, 5))
    return PhaseCost(
        name, "step", draw(st.sampled_from([("a",), ("b",), ("a", "b")])), seconds, seconds, entries,
        draw(st.integers(0, entries)), *[draw(COUNTS) for _ in range(4)], *[draw(AMOUNTS) for _ in range(5)],
    )  # fmt: skip


def part(name="train", **changes):
    none = Amount(reason=UNUSED)
    plain = PhaseCost(
        name, "step", ("a",), 2.0, 2.0, 1, 0, Amount(8.0), Amount(400.0), Amount(1.0), Amount(6e9), Amount(1e10),
        none, none, Amount(5e8), none,
    )  # fmt: skip
    return replace(plain, **changes)


def values(cost):
    """A sheet without its reasons: which of two reasons is told does not matter."""
    text = json.dumps(cost.to_json(), default=vars)
    return re.sub(r'"reason": "[^"]*"', '"reason": ""', text)


@given(*[st.lists(st.one_of(*map(parts, PHASES)), max_size=3, unique_by=lambda p: p.name)] * 3)
def test_parts_add_up_in_any_grouping(one, two, three):
    a, b, c = (Cost(tuple(sorted(p, key=lambda x: PHASES.index(x.name)))) for p in (one, two, three))
    assert values(a.merge(b).merge(c)) == values(a.merge(b.merge(c)))
    assert values(a.beside(b).beside(c)) == values(a.beside(b.beside(c)))
    assert a.merge(Cost()) == Cost().merge(a) == a


@given(parts(), parts())
def test_the_order_of_parts_changes_no_value(one, two):
    a, b = Cost((replace(one, devices=("a",)),)), Cost((replace(two, devices=("a",)),))
    assert values(a.merge(b)) == values(b.merge(a))
    assert values(a.beside(b)) == values(b.beside(a))


@given(st.lists(st.one_of(*map(parts, PHASES)), max_size=4, unique_by=lambda p: p.name))
def test_a_sheet_survives_json(found):
    cost = Cost(tuple(found), {"bf16 on a": 1e12})
    assert Cost.from_json(json.loads(json.dumps(cost.to_json(), allow_nan=False))) == cost


def test_later_parts_add_and_processes_side_by_side_share_the_time():
    early = part(host=Amount(3e8), energy=Amount(50.0), device_allocated=Amount(1e9))
    late = part(seconds=4.0, process_seconds=4.0, energy=Amount(70.0), device_allocated=Amount(2e9), unfinished=1)
    total = early.then(late)
    assert (total.seconds, total.process_seconds, total.entries, total.unfinished) == (6, 6, 2, 1)
    assert (total.items.value, total.flops.value, total.possible.value) == (16, 12e9, 2e10)
    assert (total.host.value, total.device_allocated.value, total.energy.value) == (5e8, 2e9, 120)
    both = early.beside(late)
    assert (both.seconds, both.process_seconds, both.items.value) == (4, 6, 16)
    assert (both.host.value, both.device_allocated.value, both.energy.value) == (8e8, 3e9, 120)


def test_rates_are_by_wall_time_and_the_share_of_the_peak_by_process_time():
    cost = part().beside(part())
    assert cost.items_per_second == Amount(16 / 2)
    assert cost.tokens_per_second == Amount(800 / 2)
    assert cost.video_per_second == Amount(2 / 2)
    assert cost.flops_per_second == Amount(12e9 / 2)
    assert cost.peak_share == Amount(12e9 / 2e10)


def test_what_was_not_measured_has_a_reason_and_is_never_zero():
    cost = part(flops=NOT_COUNTED, items=Amount(reason="lost"))
    assert cost.items_per_second == Amount(reason="lost")
    assert cost.peak_share == cost.flops_per_second == NOT_COUNTED
    assert part(seconds=0.0).items_per_second.value is None
    for wrong in ({}, {"value": 1.0, "reason": "both"}, {"value": float("nan")}, {"value": -1.0}):
        with pytest.raises(ValueError, match="Amount"):
            Amount(**wrong)


def test_a_count_that_one_part_lacks_is_unknown_unless_that_part_did_nothing():
    counted, other = part(), part(flops=NOT_COUNTED)
    assert counted.then(other).flops.value is None
    assert counted.then(other).items.value == 16
    idle = part(items=NOT_COUNTED, tokens=NOT_COUNTED, video_seconds=NOT_COUNTED, flops=NOT_COUNTED)
    assert counted.then(idle).flops == counted.flops
    assert counted.then(idle).seconds == 4
    assert idle.then(idle).flops == NOT_COUNTED


def test_a_part_without_a_gpu_leaves_the_others_energy_and_one_without_a_counter_does_not():
    with_gpu = part(energy=Amount(90.0), device_reserved=Amount(7e9))
    assert with_gpu.then(part()).energy == part().then(with_gpu).energy == Amount(90.0)
    assert part().then(with_gpu).device_reserved == Amount(7e9)
    blind = part(energy=Amount(reason="nvidia-ml-py is not installed"))
    assert with_gpu.then(blind).energy == blind.then(with_gpu).energy == blind.energy


def test_units_that_differ_do_not_add_up():
    with pytest.raises(ValueError, match="train by the step and train by the clip"):
        part().then(part(unit="clip"))
    with pytest.raises(ValueError, match="a phase is one of"):
        part("dream")


def busy(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_wall_time_is_that_of_another_clock():
    meter = Meter()
    outside = time.perf_counter()
    with meter.phase("train", unit="step") as phase:
        inside = time.perf_counter()
        busy(0.05)
        phase.add(3, tokens=30)
        phase.add(2)
        inside = time.perf_counter() - inside
    outside = time.perf_counter() - outside
    cost = meter.cost().phase("train")
    assert inside <= cost.seconds <= outside
    assert (cost.items, cost.tokens, cost.flops) == (Amount(5), Amount(30), NOT_COUNTED)
    assert cost.items_per_second.value == pytest.approx(5 / cost.seconds)


def test_nested_phases_share_no_time():
    meter = Meter()
    begin = time.perf_counter()
    with meter.phase("generate", unit="clip") as outer:
        busy(0.02)
        with meter.phase("encode", unit="clip", items=2):
            busy(0.05)
        with meter.phase("generate", unit="clip") as again:
            busy(0.03)
            again.add(1)
        outer.add(1)
    total = time.perf_counter() - begin
    cost = meter.cost()
    generate, encode = cost.phase("generate"), cost.phase("encode")
    assert generate.seconds >= 0.05
    assert encode.seconds >= 0.05
    assert cost.seconds == generate.seconds + encode.seconds <= total
    assert (generate.items, encode.items, generate.entries) == (Amount(2), Amount(2), 2)
    assert [p.name for p in cost.phases] == ["generate", "encode"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_was_done_before_an_error_is_recorded(error):
    meter = Meter()
    with pytest.raises(error), meter.phase("generate", items=9), meter.phase("observe", items=9) as phase:  # noqa: PT012
        busy(0.01)
        phase.add(4)
        raise error
    with meter.phase("observe", items=3):
        busy(0.01)
    observe, generate = meter.cost().phase("observe"), meter.cost().phase("generate")
    assert (observe.items, observe.entries, observe.unfinished) == (Amount(7), 2, 1)
    assert observe.seconds >= 0.02
    assert (generate.items, generate.unfinished) == (NOT_COUNTED, 1)


def test_a_sheet_in_the_middle_has_what_was_done_so_far():
    meter = Meter()
    with meter.phase("train") as phase:
        busy(0.02)
        phase.add(1)
        early = meter.cost().phase("train")
        phase.add(1)
    late = meter.cost().phase("train")
    assert (early.items, early.unfinished) == (Amount(1), 1)
    assert (late.items, late.unfinished, late.entries) == (Amount(2), 0, 1)
    assert 0.02 <= early.seconds <= late.seconds


def test_wrong_use_is_refused_before_the_work():
    meter = Meter(Cost((part(),)))
    for wrong in ({"name": "dream"}, {"name": "train"}, {"name": "encode", "dtype": "int4"}):
        with pytest.raises(ValueError, match=r"unknown phase|counted by the step"), meter.phase(**wrong):
            pytest.fail("entered")
    with meter.phase("encode") as phase, pytest.raises(ValueError, match="not negative"):
        phase.add(-1)
    assert meter.cost().phase("train") == part()


def test_phases_left_out_of_order_keep_their_counts():
    meter = Meter()
    outer, inner = meter.phase("generate"), meter.phase("encode")
    first, second = outer.__enter__(), inner.__enter__()
    first.add(1)
    outer.__exit__(None, None, None)
    second.add(2)
    inner.__exit__(None, None, None)
    cost = meter.cost()
    assert (cost.phase("generate").items, cost.phase("encode").items) == (Amount(1), Amount(2))


@pytest.mark.parametrize(
    "content", [None, [], {"phases": [{"name": "train"}]}, {"phases": [], "schema_version": 99}, "sheet"]
)
def test_what_is_no_sheet_is_refused(content):
    with pytest.raises(UserError, match="cost sheet"):
        Cost.from_json(content)


def test_a_number_that_is_none_is_refused():
    content = json.loads(json.dumps(Cost((part(),)).to_json()))
    content["phases"][0]["flops"] = {"value": None, "reason": None}
    with pytest.raises(UserError, match="Amount"):
        Cost.from_json(content)


RUN = """
import json, pathlib, sys, time
from ipa_bench.cost import Cost, Meter
file, steps, seconds = pathlib.Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
meter = Meter(Cost.from_json(json.loads(file.read_text())) if file.exists() else None)
def keep():
    part = file.with_suffix(".part")
    part.write_text(json.dumps(meter.cost().to_json()))
    part.replace(file)
try:
    with meter.phase("train", unit="step") as phase:
        for step in range(steps):
            time.sleep(seconds)
            phase.add(1, video_seconds=0.5)
            keep()
            print(step, flush=True)
except KeyboardInterrupt:
    keep()
    sys.exit(130)
keep()
assert "torch" not in sys.modules
"""


def test_a_run_that_is_killed_interrupted_and_ended_adds_up(tmp_path):
    """Three real processes without torch: SIGKILL after a step, Ctrl-C after another, and the end."""
    file = tmp_path / "cost.json"
    began = time.perf_counter()
    for stop in (signal.SIGKILL, signal.SIGINT):
        # A background job of a shell ignores Ctrl-C, and children inherit that.
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, file, "1000", "0.01"], stdout=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        with process:
            for _ in range(2):
                assert process.stdout.readline()
            os.kill(process.pid, stop)
    before = Cost.from_json(json.loads(file.read_text())).phase("train")
    subprocess.run([sys.executable, "-c", RUN, file, "3", "0.01"], check=True, capture_output=True)
    cost = Cost.from_json(json.loads(file.read_text())).phase("train")
    assert (before.entries, before.unfinished) == (2, 2)
    assert (cost.entries, cost.unfinished) == (3, 2)
    assert before.items.value >= 4
    assert cost.items.value == before.items.value + 3
    assert cost.video_seconds.value == cost.items.value / 2
    assert before.seconds + 0.03 <= cost.seconds <= time.perf_counter() - began
    assert cost.seconds >= 0.01 * cost.items.value
    assert {cost.flops, cost.tokens} == {NOT_COUNTED}
    assert cost.energy == cost.device_allocated == Amount(reason=UNUSED)
