"""What the temperature of ``truth.likelihood`` does to nuisances and to faults, on scenes that no report is made of.

    python reports/identity/temperature.py [TRAIN [VAL]]

The scenes of ``ladder.py`` with people of the first groups of the train and val splits; the reader's errors are looked
at once and kept beside those of the ladder. *weighted*: a place counts by its pixels, as ``truth.likelihood@2`` has it;
*equal*: all places alike, as version 1 had it with a temperature of 100.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

import numpy as np
from ladder import CLEAN, EQUAL, FLOOR, PARTS, kept_errors, readings, variants

from ipa_bench.embedded.group.setting import Key
from ipa_bench.metrics.truth import Reading

TEMPERATURES = (25.0, 50.0, 75.0, 100.0, 150.0)
#: a temperature may also grow with the least error of a place: by these factors
GROWTHS = (0.1, 0.2, 0.3)


def likelihood(found: Reading, temperature: float, growth: float = 0.0, weighted: bool = True) -> float:
    """Written out anew: mean over people of the mean over frames of the own candidate's share of a softmax."""
    error = np.concatenate([found.people, found.strangers], -1)
    people = []
    for slot in range(found.people.shape[1]):
        total = weights = 0.0
        for row, parts, pixels in zip(error[:, slot], found.parts[:, slot], found.pixels[:, slot], strict=True):
            if not np.isfinite(row[0]):
                continue
            weight = float(pixels[np.isfinite(parts[:, 0])].sum()) if weighted else 1.0
            score = np.exp((row.min() - row) / max(temperature, growth * row.min()))
            total, weights = total + weight * float(score[slot] / score.sum()), weights + weight
        if weights:
            people.append(total / weights)
    return float(np.mean(people))


def row(scenes: list[dict[str, Reading]], measure: Callable[[Reading], float]) -> str:
    """Cells of a table: nuisances called worse, their two largest losses, mean separation of faults and of twins."""
    values: list[Mapping[str, float]] = [{name: measure(one[name]) for name in one} for one in scenes]
    floor = max(EQUAL, float(np.quantile([one[CLEAN.name] - one[FLOOR.name] for one in values], 0.95)))
    harmless: list[float] = []
    told: dict[bool, list[float]] = {False: [], True: []}
    for variant in variants()[2:]:
        assert variant.fault is not None
        losses = np.array([one[CLEAN.name] - one[variant.name] for one in values])
        if variant.fault.family == "nuisance":
            harmless += losses.tolist()
        else:
            told[variant.fault.held_out] += ((losses > EQUAL) + 0.5 * (np.abs(losses) <= EQUAL)).tolist()
    worse = sum(loss > floor for loss in harmless)
    means = " | ".join(f"{np.mean(told[held_out]):.3f}" for held_out in (False, True))
    second, largest = sorted(harmless)[-2:]
    return f"{worse} of {len(harmless)} | {largest:.4f} | {second:.4f} | {means} |"


def main(train: int = 6, val: int = 3) -> None:
    """Print the table."""
    PARTS.mkdir(exist_ok=True)
    keys = [Key(2, "train", group) for group in range(train)] + [Key(2, "val", group) for group in range(val)]
    scenes = [readings(kept_errors(key)) for key in keys]
    print("| temperature | nuisances called worse | largest loss | second largest | faults | twins |")
    print("|---|---:|---:|---:|---:|---:|")
    print(f"| 100, equal (version 1) | {row(scenes, lambda f: likelihood(f, 100.0, weighted=False))}")
    for temperature in TEMPERATURES:
        print(f"| {temperature:.0f}, weighted | {row(scenes, lambda f, t=temperature: likelihood(f, t))}")  # type: ignore[misc]
    for growth in GROWTHS:
        print(f"| 50, weighted, at least {growth} of the least error | "
              f"{row(scenes, lambda f, g=growth: likelihood(f, 50.0, g))}")  # type: ignore[misc]  # fmt: skip


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
