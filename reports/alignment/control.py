"""What choosing is worth: a recipe on chosen clips beside the same recipe on clips that nobody chose.

    python reports/alignment/control.py OUT.json RUN [RUN ...] --recipe aligned --control "any clip"

Models called ``NAME, seed K`` are training runs; of each person the mean over these and over the samples that all runs
have. Differences with 95 % intervals over people alone (t), and each training seed's mean beside.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ipa_bench.files import write_atomic
from ipa_bench.store import RunStore

Unit = tuple[str, int]


def read(runs: Iterable[Path]) -> dict[str, dict[str, dict[Unit, float]]]:
    """Metric -> model -> (case, seed of the sample) -> value."""
    values: dict[str, dict[str, dict[Unit, float]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        for score in RunStore.load(run).scores():
            if score.value is not None:
                values[score.metric][score.model][score.case, score.seed] = score.value
    return values


def difference(ours: np.ndarray, theirs: np.ndarray) -> list[float]:
    """Mean, low and high of paired differences ``[n]`` of people."""
    apart = ours - theirs
    half = stats.t.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / np.sqrt(len(apart))
    return [round(float(v), 5) for v in (apart.mean(), apart.mean() - half, apart.mean() + half)]


def compared(of: dict[str, dict[Unit, float]], recipe: str, control: str, against: list[str]) -> dict[str, Any]:
    """One metric: means, training seeds, differences."""
    groups = {
        name: [model for model in sorted(of) if model == name or model.startswith(f"{name}, seed ")]
        for name in (*against, recipe, control)
    }
    shared = sorted(set.intersection(*(set(of[model]) for models in groups.values() for model in models)))
    people = sorted({case for case, _ in shared})

    def mean(models: list[str]) -> np.ndarray:
        return np.array([np.mean([of[m][u] for m in models for u in shared if u[0] == case]) for case in people])

    means = {name: mean(models) for name, models in groups.items()}
    pairs = [(one, two) for one in (recipe, control) for two in against] + [(recipe, control)]
    return {
        "people": len(people),
        "samples": len(shared),
        "mean": {name: round(float(value.mean()), 5) for name, value in means.items()},
        "seeds": {
            name: [round(float(mean([model]).mean()), 5) for model in models]
            for name, models in groups.items()
            if len(models) > 1
        },
        "difference": {f"{one} - {two}": difference(means[one], means[two]) for one, two in pairs},
    }


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("run", type=Path, nargs="+")
    parser.add_argument("--recipe", default="aligned")
    parser.add_argument("--control", default="any clip")
    parser.add_argument("--against", nargs="+", default=["base", "pretrained"])
    asked = parser.parse_args()
    values = read(asked.run)
    needed = {*asked.against, f"{asked.recipe}, seed 0", f"{asked.control}, seed 0"}
    found = {
        metric: compared(of, asked.recipe, asked.control, asked.against)
        for metric, of in sorted(values.items())
        if needed <= set(of)
    }
    write_atomic(asked.out, json.dumps(found, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
