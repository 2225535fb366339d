"""What is kept elsewhere than in version 0.1: a record of either version, as if this one had made it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

#: version 0.1 kept the noise floor among the scores, as a model of this name; now it has a shard of its own
FLOOR = "re-encoded/floor"

Files = Mapping[str, Mapping[str, Any]]


def as_now(files: Files) -> dict[str, Mapping[str, Any]]:
    """File -> path inside it -> value, with the noise floor in ``floor/*.jsonl`` beside ``scores``."""
    found: dict[str, Mapping[str, Any]] = {}
    numbers: Counter[str] = Counter()
    for name, values in files.items():
        run, scores, _ = name.rpartition("scores/")
        lines = list(_lines(values)) if scores and name.endswith(".jsonl") else []
        floors = [line for line in lines if line.get("/model") == FLOOR]
        if not floors:
            found[name] = values
            continue
        numbers[run] += 1
        found[name] = _joined(line for line in lines if line.get("/model") != FLOOR)
        found[f"{run}floor/{numbers[run]}.jsonl"] = _joined(map(_floor, floors))
    return found


def _lines(values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each line's values by their paths in it."""
    by_line: dict[int, dict[str, Any]] = {}
    for at, value in values.items():
        number, path = re.fullmatch(r"/(\d+)(.*)", at).groups()  # type: ignore[union-attr]
        by_line.setdefault(int(number), {})[path] = value
    return iter(by_line.values())


def _joined(lines: Iterator[dict[str, Any]]) -> dict[str, Any]:
    return {f"/{number}{path}": value for number, line in enumerate(lines) for path, value in line.items()}


def _floor(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the fake model's scores as a record of the floor: changes and reasons, by metric."""
    kept: dict[str, dict[str, Any]] = {"/changes": {}, "/reasons": {}}
    for at, metric in line.items():
        if re.fullmatch(r"/scores/\d+/metric", at):
            score = at.removesuffix("metric")
            value = line[score + "value"]
            kind, known = ("/reasons", line[score + "reason"]) if value is None else ("/changes", value)
            kept[kind][f"{kind}/{metric}"] = known
    whole = {"/case": line["/case"]}
    for kind, found in kept.items():
        whole |= found or {kind: {}}  # an empty mapping is a value of its own
    return whole
