"""A recipe of alignment against what it began with: the table of a sealed set.

    python reports/alignment/sealed.py OUT.json RUN [RUN ...] --suite SUITE [--against base pretrained]

Models called ``NAME, seed K`` are training runs of one recipe; a recipe after ``--against`` stands for the mean of its
runs. Rows of the table are metrics: the mean of every model, and the recipe minus each model of ``--against``, paired
on cases and seeds of the sample, with 95 % intervals over people *and* the recipe's training seeds, both random
(``ipa_bench.compare.crossed``). ``keypoint_error, found in both`` counts hands alone that the detector finds in both
clips: what changes there is no hand that was found again; it is not computed against a recipe.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from ipa_bench.compare import crossed
from ipa_bench.files import write_atomic
from ipa_bench.store import RunStore
from ipa_bench.store.records import Details
from ipa_bench.suite import load_suite

BOTH = "keypoint_error, found in both"
#: (case, seed of the sample) -> value
Values = dict[tuple[str, int], float]


def looked_at(details: Details) -> tuple[np.ndarray, np.ndarray]:
    """Errors ``[T, 2]`` of the hands in hand sizes, and which of them are found in both clips."""
    assert details.driving_landmarks is not None
    assert details.driving_found is not None
    pixels = np.array(details.size, np.float64)
    ours, theirs = details.generated_landmarks * pixels, details.driving_landmarks * pixels
    sides = np.ptp(theirs, axis=2).max(axis=2)
    sizes = [np.median(s[f]) if f.any() else np.nan for s, f in zip(sides.T, details.driving_found.T, strict=True)]
    error = np.linalg.norm(ours - theirs, axis=-1).mean(-1) / np.array(sizes)
    return error, details.generated_found & details.driving_found & (error < 1)


def found_in_both(one: Details, two: Details) -> tuple[float, float] | None:
    """Mean errors over the hands that both clips show; None where there are none."""
    (a, seen_a), (b, seen_b) = looked_at(one), looked_at(two)
    both = seen_a & seen_b
    return (float(a[both].mean()), float(b[both].mean())) if both.any() else None


def read(runs: list[RunStore]) -> tuple[dict[str, dict[str, Values]], dict[str, dict[tuple[str, int], Details]]]:
    """Metric -> model -> values, and model -> what was seen."""
    values: dict[str, dict[str, Values]] = defaultdict(lambda: defaultdict(dict))
    details: dict[str, dict[tuple[str, int], Details]] = defaultdict(dict)
    for store in runs:
        for score in store.scores():
            if score.value is not None:
                values[score.metric][score.model][score.case, score.seed] = score.value
                seen = store.read_details(score.unit)
                if seen is not None and (score.case, score.seed) not in details[score.model]:
                    details[score.model][score.case, score.seed] = seen
    return values, details


def mean_of(each: list[Values]) -> Values:
    """The mean of some models where all have a value."""
    shared = set.intersection(*(set(values) for values in each)) if each else set()
    return {key: float(np.mean([values[key] for values in each])) for key in sorted(shared)}


def compared(rows: list[str], other: str, of: Any, identity_of: dict[str, str]) -> dict[str, Any]:
    """The recipe minus a model; ``of`` gives the paired values of two models."""
    pairs = [of(row, other) for row in rows]
    found = crossed(pairs, identity_of=identity_of)
    before = float(np.mean(list(pairs[0][1].values()))) if pairs[0][1] else None
    each = [crossed([pair], identity_of=identity_of).delta for pair in pairs]
    return {
        "delta": found.delta, "low": found.low, "high": found.high, "p": found.p, "people": found.n,
        "before": before, "seeds": each,
    }  # fmt: skip


def main() -> None:
    """Write the table as JSON and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--suite", type=Path, required=True)
    parser.add_argument("--against", nargs="+", default=["base", "pretrained"])
    options = parser.parse_args()
    identity_of = {case.id: case.identity or case.id for case in load_suite(options.suite).cases}
    values, details = read([RunStore.load(run) for run in options.runs])
    models = sorted({model for by_model in values.values() for model in by_model})
    recipes: dict[str, list[str]] = defaultdict(list)
    for model in models:
        if ", seed " in model:
            recipes[model.rsplit(", seed ", 1)[0]].append(model)

    def both(row: str, other: str) -> tuple[Values, Values]:
        ours: Values = {}
        theirs: Values = {}
        for key in sorted(details[row].keys() & details[other].keys()):
            pair = found_in_both(details[row][key], details[other][key])
            if pair is not None:
                ours[key], theirs[key] = pair
        return ours, theirs

    table: dict[str, Any] = {}
    for metric, by_model in sorted(values.items()):
        table[metric] = {"means": {model: float(np.mean(list(v.values()))) for model, v in by_model.items()}}
    ways = {
        metric: lambda row, other, v=v: (v[row], mean_of([v[model] for model in recipes.get(other, [other])]))
        for metric, v in values.items()
    } | {BOTH: both}
    for metric, of in ways.items():
        for name, rows in recipes.items():
            for other in options.against:
                if other == name:
                    continue
                found = compared(rows, other, of, identity_of)
                table.setdefault(metric, {})[f"{name} - {other}"] = found
                if found["delta"] is not None:
                    share = f" ({found['delta'] / found['before']:+.1%})" if found["before"] else ""
                    bounds = "" if found["low"] is None else f" [{found['low']:+.4f}, {found['high']:+.4f}]"
                    print(f"{metric:32} {name} - {other}: {found['delta']:+.4f}{share}{bounds} seeds {found['seeds']}")
    for metric, row in table.items():
        print(metric, {model: round(mean, 4) for model, mean in row.get("means", {}).items()})
    write_atomic(options.out, json.dumps(table, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
