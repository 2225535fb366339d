"""Made-up metrics, scores and leaderboards."""

from __future__ import annotations

from ipa_bench.compare import leaderboard
from ipa_bench.types import Better, Leaderboard, MetricInfo, Score


def info(metric: str, better: Better = "higher", **more: object) -> MetricInfo:
    return MetricInfo(id=metric, unit="", better=better, source="", blind_spot="", **more)  # type: ignore[arg-type]


A = [0.71, 0.64, 0.80, 0.55, 0.62, 0.90]
B = [0.65, 0.60, 0.77, 0.56, 0.50, 0.81]


def board(scores: list[Score], models: list[str], **more: object) -> Leaderboard:
    arguments: dict[str, object] = {
        "identity_of": {}, "units": {(s.case, s.seed) for s in scores}, "metrics": [info("m@1")], "primary": "m",
    }  # fmt: skip
    return leaderboard(scores, models=models, **(arguments | more))  # type: ignore[arg-type]


def scored(model: str, values: list[float | None], metric: str = "m@1") -> list[Score]:
    return [
        Score(f"c{i}", 0, model, metric, value, None if value is not None else "no hand")
        for i, value in enumerate(values)
    ]


def ranks(found: Leaderboard) -> dict[str, int]:
    return {row.model: row.rank for row in found.rows}


NOISE = [0.03, -0.05, 0.01, 0.04, -0.02, -0.01]
