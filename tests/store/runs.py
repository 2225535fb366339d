"""A run's header and records, small and by hand."""

from __future__ import annotations

from pathlib import Path

from ipa_bench.store import CaseEntry, ModelEntry, RunHeader, UnitRecord
from ipa_bench.types import Score

HEADER = RunHeader(
    name="demo",
    suite_hash="a" * 64,
    primary="hand_quality@1",
    seeds=(0, 1),
    metrics=("hand.pck@1", "hand.recall@1"),
    cases=(CaseEntry("wave", "alice", "test", "clips/wave.mp4", "clips/wave.mp4", ("fast",)),),
    models=(ModelEntry("A", "folder", "outA"),),
    environment={"python": "3.11"},
    tool_version="0.1",
    created="2026-08-01T00:00:00+00:00",
)


def record(case: str = "wave", seed: int = 0, model: str = "A", value: float = 0.5) -> UnitRecord:
    scores = (
        Score(case, seed, model, "hand.recall@1", value),
        Score(case, seed, model, "hand.pck@1", reason="the driving video shows no hand"),
    )
    return UnitRecord(case, seed, model, f"out/{case}.mp4", "f" * 64, 1.25, ("a note",), scores)


def shards(folder: Path) -> list[Path]:
    return sorted((folder / "scores").glob("*.jsonl"))
