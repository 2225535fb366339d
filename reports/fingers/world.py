"""The finger metrics against the judge of the built-in world, clip by clip: rank agreement on generated videos.

ipa-bench run --out runs/embedded
python reports/fingers/world.py runs/embedded --out reports/fingers/world.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from ipa_bench.errors import Unscorable
from ipa_bench.scorer import Scorer
from ipa_bench.types import Case

METRICS = ("hand.finger_count", "hand.anatomy_shift", "hand_quality", "hand.keypoint_error", "hand.confidence")
JUDGE = "truth.hand_error@1"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    cases = {each["id"]: each for each in json.loads((given.run / "run.json").read_text())["cases"]}
    scorer = Scorer(metrics=METRICS, pixels=False)
    rows: dict[str, list[dict[str, float | None]]] = {}
    for record in records(given.run):
        judged = next((s["value"] for s in record["scores"] if s["metric"] == JUDGE), None)
        if judged is None or not record["video"] or record["model"].startswith("ground truth"):
            continue
        case = Case(record["case"], Path(cases[record["case"]]["driving"]))
        try:
            measured = scorer.score(Path(record["video"]), case).measured
        except Unscorable:
            continue
        values: dict[str, float | None] = {name.partition("@")[0]: each.value for name, each in measured.items()}
        rows.setdefault(record["model"], []).append({JUDGE: judged, **values})
    result = {model: agreement(found) for model, found in rows.items()}
    every = [row for found in rows.values() for row in found]
    given.out.write_text(json.dumps(result | {"both": agreement(every)}, indent=1) + "\n")


def records(run: Path) -> list[dict]:  # type: ignore[type-arg]
    """The run's records of videos, the latest of each."""
    latest = {}
    for file in sorted((run / "scores").iterdir()):
        for line in file.read_text().splitlines():
            record = json.loads(line)
            latest[record["case"], record["seed"], record["model"]] = record
    return list(latest.values())


def agreement(rows: list[dict[str, float | None]]) -> dict[str, object]:
    """Of each metric: clips with a value, Spearman's correlation with the judge (worse with worse), and the mean."""
    result: dict[str, object] = {}
    for metric in METRICS:
        pairs = [(row[JUDGE], row[metric]) for row in rows if row[metric] is not None]
        sign = -1 if metric in ("hand_quality", "hand.confidence") else 1
        judged, values = np.array(pairs, float).T if pairs else (np.zeros(0), np.zeros(0))
        rank = float(spearmanr(judged, sign * values)[0]) if len(pairs) > 2 else None
        result[metric] = {
            "clips": len(pairs),
            "rank": None if rank is None else round(rank, 3),
            "mean": round(float(values.mean()), 3) if len(pairs) else None,
        }
    return result


if __name__ == "__main__":
    main()
