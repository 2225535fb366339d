"""A record names what differs and nothing else. Nothing of the program runs here."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.behaviour import comparing, left_out, reading, steps

#: a time in the section on cost, a number in the next
TABLE = "## Cost\n\n| a | {} |\n\n## Run\n\n{}\n"


def write(folder: Path, files: dict[str, Any]) -> Path:
    """Text as it is, arrays as .npz, everything else as JSON; each a nanosecond younger than the one before."""
    for index, (name, content) in enumerate(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npz":
            np.savez(path, **content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        os.utime(path, ns=(index, index))
    return folder


def found(tmp_path: Path, one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What differs between two folders."""
    sides = []
    for name, files in (("one", one), ("two", other)):
        folder = write(tmp_path / name, files)
        sides.append(reading.read(folder, {str(folder): "WORK"}))
    return list(comparing.differences(*sides))


def test_every_value_that_differs_is_named(tmp_path: Path) -> None:
    array = np.arange(100, dtype=np.float32)
    one = {
        "run.json": {"seeds": [0, 1], "n": 1},
        "said/run.out.txt": "a\nb\nc\n",
        "scores.csv": "case,value\nanna,0.5\nbert,0.25\n",
        "details/a.npz": {"big": array, "fps": np.float64(25)},
        "gone.md": "x",
    }
    two = {
        "run.json": {"seeds": [0, 2], "n": 1.0},
        "said/run.out.txt": "a\nB\nc\nd\n",
        "scores.csv": "case,value\nanna,0.5\nbert,0.26\n",
        "details/a.npz": {"big": array + np.eye(1, 100, 7, dtype=np.float32)[0], "fps": np.float64(24)},
    }
    lines = found(tmp_path, one, two)
    assert "run.json /seeds/1: 1 → 2" in lines
    assert "run.json /n: 1 → 1.0" in lines
    assert "said/run.out.txt, line 2: b → B" in lines
    assert "said/run.out.txt, line 4: (nothing) → d" in lines
    assert 'scores.csv /1/value: "0.25" → "0.26"' in lines
    assert "details/a.npz /fps: 25.0 → 24.0" in lines
    assert "gone.md: only in the first record" in lines
    assert any(line.startswith('details/a.npz /big: "float32 [100] ') for line in lines)
    assert len(lines) == 8


def test_places_and_names_that_hold_a_time_are_not_compared(tmp_path: Path) -> None:
    def files(root: str, *names: str) -> dict[str, Any]:
        sheets = {f"run/costs/{name}.json": {"owner": name[-1]} for name in names}
        return {"a.json": {"video": f"{tmp_path / root}/videos/a.mp4"}, **sheets}

    # by the time at which they were written, not by name
    one = files("one", "9999-12-a", "1111-7-a", "5-5-b")
    assert found(tmp_path, one, files("two", "333-12-a", "444-13-a", "7-5-b")) == []


@pytest.mark.parametrize(
    ("name", "one", "two", "differs"),
    [
        ("run/scores/1-2-a.jsonl", '{"seconds": 1.5}\n', '{"seconds": 2.5}\n', False),
        ("run/scores/1-2-a.jsonl", '{"seconds": 1.5}\n', '{"seconds": null}\n', True),
        ("run/scores/1-2-a.jsonl", '{"value": 1.5}\n', '{"value": 1.6}\n', True),
        ("run/costs/1-2-a.json", {"flops": {"value": 3}}, {"flops": {"value": 4}}, True),
        ("run/costs/1-2-a.json", {"host": {"value": 3}}, {"host": {"value": 4}}, False),
        ("three/costs.csv", "model,gain_low\na,0.1\n", "model,gain_low\na,0.2\n", True),
        ("align/evaluation/costs.csv", "model,gain_low\na,0.1\n", "model,gain_low\na,0.2\n", False),
        ("said/run.out.txt", "cost: a: 3.7 s/clip, 0.9 peak GB\n", "cost: a: 12 s/clip, 1 peak GB\n", False),
        ("said/run.out.txt", "cost: a: 3.7 s/clip, –\n", "cost: a: 12 s/clip, 1\n", True),
        ("said/run.out.txt", "mean 0.85\n", "mean 0.86\n", True),
        ("run/leaderboard.md", TABLE.format(3.7, 7), TABLE.format(12, 7), False),
        ("run/leaderboard.md", TABLE.format(3.7, 7), TABLE.format(3.7, 8), True),
        ("cost/cost.md", "| LoRA 4 | 0.12 | 8 % |\n", "| LoRA 4 | 0.13 | 11 % |\n", False),
        ("cost/cost.md", "| LoRA 4 | 0.12 |\n", "| LoRA 8 | 0.12 |\n", True),
    ],
)
def test_times_are_not_compared_and_numbers_beside_them_are(
    tmp_path: Path, name: str, one: Any, two: Any, differs: bool
) -> None:
    assert bool(found(tmp_path, {name: one}, {name: two})) == differs


def test_plots_of_times_are_not_compared() -> None:
    page = '<svg>a</svg><section id="cost"><svg>\n{}\n</svg></section><svg>{}</svg>'
    one, two, three = (page.format(*values) for values in ((1, 3), (2, 3), (1, 4)))
    kept = [left_out.compared("run/report.html", {"text": text}) for text in (one, two, three)]
    assert kept[0] == kept[1] != kept[2]


def test_steps_come_with_what_they_need_and_in_order() -> None:
    assert steps.chosen(["train"]) == ["align", "select", "train"]
    assert steps.chosen([]) == list(steps.STEPS)
    assert all(need in steps.chosen([name]) for name, needs in steps.NEEDS.items() for need in needs)


def test_the_noise_floor_of_0_1_is_where_it_is_now() -> None:
    score = {"case": "c", "seed": 0, "model": "re-encoded/floor", "metric": "a@1", "value": 0.5, "reason": None}
    floor = {"case": "c", "seed": 0, "model": "re-encoded/floor", "notes": [], "scores": [
        score, {**score, "metric": "b@1", "value": None, "reason": "why"},
    ]}  # fmt: skip
    video = {"case": "c", "seed": 0, "model": "A", "notes": [], "scores": []}
    now = {"case": "c", "changes": {"a@1": 0.5}, "reasons": {"b@1": "why"}}

    def files(**lines: list[object]) -> dict[str, dict[str, object]]:
        return {f"run/{name}/1.jsonl": dict(reading._flat(found)) for name, found in lines.items()}

    old = files(scores=[floor, video])
    assert list(comparing.differences(old, files(scores=[video], floor=[now]))) == []
    other = files(scores=[video], floor=[{**now, "changes": {"a@1": 0.25}}])
    assert list(comparing.differences(old, other)) == ["run/floor/1.jsonl /0/changes/a@1: 0.5 → 0.25"]
    assert list(comparing.differences(old, files(scores=[video]))) == ["run/floor/1.jsonl: only in the first record"]
