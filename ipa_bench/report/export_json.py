"""The run as strict JSON: everything the other formats show, and everything they leave out."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from ipa_bench.report.costs import costs
from ipa_bench.report.view import ReportView, warnings
from ipa_bench.types import MetricInfo

#: Grows when a reader of an older report would misread a newer one.
SCHEMA_VERSION = 1


def render(view: ReportView) -> str:
    """Strict JSON (no NaN, no Infinity); ``null`` is "unknown" and stands beside a reason."""
    return json.dumps(as_dict(view), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def as_dict(view: ReportView) -> dict[str, Any]:
    """The report as plain data."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run": asdict(view.header),
        "leaderboard": {
            "primary": view.leaderboard.primary,
            "metrics": list(view.leaderboard.metrics),
            "rows": [asdict(row) for row in view.leaderboard.rows],
            "comparisons": [asdict(pair) for pair in view.leaderboard.comparisons],
        },
        "metrics": [_of_metric(info) for info in view.infos],
        "floors": dict(view.floors),
        "sets": [result.to_json() for result in view.sets],
        "costs": {
            "models": [asdict(cost) for cost in costs(view)],
            "sheets": {owner: cost.to_json() for owner, cost in view.costs.of.items()},
            "post_training": {model: asdict(entry) for model, entry in view.costs.post_training.items()},
            "price_per_device_hour": view.price,
        },
        "warnings": list(warnings(view)),
        "videos": [asdict(record) for _, record in sorted(view.records.items())],
    }


def _of_metric(info: MetricInfo) -> dict[str, Any]:
    """What is known of a metric; ``sealed`` where it is."""
    return {name: value for name, value in asdict(info).items() if name != "sealed" or value}
