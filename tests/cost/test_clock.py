"""Time in line for a core, against work of known size beside other work; laps taken again where others disturb."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_bench.cost import clock
from ipa_bench.cost.amount import CROWDED, Amount
from ipa_bench.cost.clock import NOT_TOLD, Lap, Stopwatch, crowded, quiet

ROOT = Path(__file__).parents[2]

#: this process and as many others on one core, each busy; and once this one alone with it
LINE = """
import json, os, subprocess, sys, time
from ipa_bench.cost.clock import Stopwatch
core = sorted(os.sched_getaffinity(0))[-1]
os.sched_setaffinity(0, {core})
burn = "while True: pass"
others = [subprocess.Popen([sys.executable, "-c", burn]) for _ in range(int(sys.argv[1]))]
time.sleep(0.3 * bool(others))
watch, begin = Stopwatch(), time.process_time()
while time.process_time() < begin + 0.4: pass
lap = watch.lap()
for each in others: each.kill()
print(json.dumps([lap.seconds, lap.cpu, lap.waited.value]))
"""


def line(others: int) -> Lap:
    ended = subprocess.run(
        [sys.executable, "-c", LINE, str(others)], cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    assert ended.returncode == 0, ended.stderr
    seconds, cpu, waited = json.loads(ended.stdout)
    return Lap(seconds, cpu, NOT_TOLD if waited is None else Amount(waited))


@pytest.mark.skipif(not clock._waits(), reason="this system does not tell how long threads wait")
def test_time_in_line_is_what_processor_time_leaves_of_wall_time() -> None:
    lap = line(2)
    assert lap.waited.value is not None
    assert lap.waited.value == pytest.approx(lap.seconds - lap.cpu, rel=0.1, abs=0.05)
    assert lap.crowded > 0.4  # a third of the core, or less


def test_a_system_that_does_not_tell_gives_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(clock, "_TASKS", tmp_path / "none")
    lap = Stopwatch().lap()
    assert lap.waited == NOT_TOLD
    assert lap.crowded == 0
    assert crowded([lap]) == NOT_TOLD


def laps(shares: list[float]) -> list[Lap]:
    return [Lap(1.0 + place / 1000, 1.0, Amount(share)) for place, share in enumerate(shares)]


@given(st.lists(st.sampled_from([0.0, 0.05, 0.3, 0.9]), min_size=12, max_size=12), st.integers(1, 4))
def test_laps_are_taken_again_until_enough_are_quiet(shares: list[float], count: int) -> None:
    every = laps(shares)
    left = iter(every)
    found = quiet(lambda: [next(left)], count)
    taken = len(every) - len(list(left))
    assert len(found) == count
    assert list(found) == sorted(found, key=every.index)
    free = [lap for lap in every[:taken] if lap.crowded <= CROWDED]
    assert count <= taken <= clock.PATIENCE * count
    if len(free) >= count:
        assert list(found) == free[:count]
        assert taken == count or len(free) == count
    else:
        assert taken == clock.PATIENCE * count
        assert set(free) <= set(found)
        worst = max(lap.crowded for lap in found)
        assert sum(lap.crowded < worst for lap in every[:taken]) <= count


def test_the_share_is_of_all_laps() -> None:
    assert crowded([Lap(1.0, 1.0, Amount(0.5)), Lap(3.0, 1.0, Amount(0.5))]).value == pytest.approx(0.25)
    assert crowded([]) == NOT_TOLD


def test_forked_workers_have_times_of_their_own() -> None:
    """What a worker takes is not this process's processor time: the sheet says so."""
    watch = Stopwatch()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.map(sum, [range(200_000)])
    assert watch.lap().cpu < watch.lap().seconds + 1
