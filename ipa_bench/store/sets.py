"""Distances between sets of videos as a run keeps them: values with intervals, or the reason why there are none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ipa_bench.files import read_json, write_atomic
from ipa_bench.metrics.sets.intervals import SetDistances
from ipa_bench.types import Finding

FILE = "sets.json"
#: Grows when a reader of an older file would misread a newer one, or when values change.
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class SetResult(Finding[SetDistances]):
    """One metric of one model's videos against the ground truth, or of two models' difference."""

    #: id of a metric of :data:`ipa_bench.metrics.table.SET_METRICS`
    metric: str
    #: everything that moves the value: network, weights, preprocessing, windows, precision
    definition: str
    model: str
    #: of a difference ``model − baseline``; empty for a distance from the ground truth
    baseline: str = ""
    value: SetDistances | None = None
    reason: str | None = None
    #: videos that were left out, and why the first was
    skipped: int = 0
    skipped_why: str = ""

    def to_json(self) -> dict[str, Any]:
        """As files have it, where the value is called ``distances``."""
        return {"distances" if name == "value" else name: content for name, content in asdict(self).items()}


def save(folder: Path, key: str, results: Sequence[SetResult]) -> None:
    """Keep results in a run folder under a key of what they were measured on. Raises UserError for a full disk."""
    content = {"schema_version": SCHEMA_VERSION, "key": key, "results": [result.to_json() for result in results]}
    write_atomic(folder / FILE, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def load(folder: Path, key: str | None = None) -> tuple[SetResult, ...] | None:
    """What :func:`save` kept, or None where there is nothing, nothing readable, or something of another key."""
    from pydantic import TypeAdapter, ValidationError

    content = read_json(folder / FILE)
    try:
        if content["schema_version"] != SCHEMA_VERSION or key not in (None, content["key"]):
            return None
        results = [{**each, "value": each.get("distances")} for each in content["results"]]
        return TypeAdapter(tuple[SetResult, ...]).validate_python(results)
    except (KeyError, TypeError, ValidationError):
        return None
