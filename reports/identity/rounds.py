"""Models that were aligned on who is who, on the test groups of a suite, against its base.

    python reports/identity/rounds.py SUITE OUT "NFT, round 1, seed 0=runs/rounds/round1/train/lora" ...

Each NAME=LORA is a model; those whose names differ in ", seed K" alone are training runs of one recipe. OUT gets the
run (``evaluation/``, which resumes), ``rounds.json`` and ``rounds.md``: recipe − base with 95 % intervals over groups
*and*, where there are several, training seeds (``ipa_bench.compare.crossed``), by what share the errors of
``truth.top1`` change, and ``truth.top1`` by what the people do.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from ipa_bench import harness
from ipa_bench.files import write_atomic
from ipa_bench.metrics import find
from ipa_bench.models.specs import BaseSpec, base_spec
from ipa_bench.suite import load_suite
from ipa_bench.types import Case
from trainers import rewards
from trainers.align.effects import Effect, Values, as_json, effect, table

BASE = "base"
REWARD = rewards.find("video:embedded")
METRICS = (
    "truth.top1", "truth.swap", "truth.leak", "truth.duplicate", "truth.blend", "identity.margin.sface", "rest.psnr",
    "frame.psnr",
)  # fmt: skip


def recipe_of(model: str) -> str:
    """What a training seed is one of."""
    return re.sub(r", seed \d+$", "", model)


def evaluated(
    suite_file: Path, out: Path, loras: dict[str, Path]
) -> tuple[dict[str, Case], dict[str, dict[str, Values]]]:
    """The test cases, and metric -> model -> values."""
    suite = load_suite(suite_file)
    known = {spec.name: spec for each in suite.models if (spec := base_spec(each)) is not None}
    base: BaseSpec = known[BASE]
    by = REWARD.chooser.by
    trained = [
        base.model_copy(update={"name": n, "lora": lora.resolve(), "trained_on": by}) for n, lora in loras.items()
    ]
    cases = tuple(case for case in suite.cases if case.split == "test")
    asked = replace(suite, cases=cases, models=(*known.values(), *trained), seeds=(0,), whole=(), metrics=METRICS)
    store = harness.run(asked, out / "evaluation")
    by_id = {case.id: case for case in cases}
    values: dict[str, dict[str, dict[tuple[str, int], float]]] = defaultdict(lambda: defaultdict(dict))
    for record in rewards.rewarded(store.records().values(), by_id, REWARD):
        for score in record.scores:
            if score.value is not None:
                values[score.metric][score.model][score.case, score.seed] = score.value
    return by_id, {metric: dict(of) for metric, of in values.items()}


def compared(cases: dict[str, Case], values: dict[str, dict[str, Values]]) -> dict[str, list[Effect]]:
    """Recipe -> its difference from the base in every metric."""
    identity_of = {case.id: case.identity or case.id for case in cases.values()}
    infos = {info.id: info for info in (*(find(name).info for name in METRICS), REWARD.info)}
    recipes: dict[str, list[str]] = defaultdict(list)
    for model in next(iter(values.values())):
        if model != BASE:
            recipes[recipe_of(model)].append(model)
    found: dict[str, list[Effect]] = {}
    for recipe, models in recipes.items():
        rows = [(info, values[metric]) for metric, info in infos.items() if metric in values]
        each = [effect(info, of[BASE], [of[model] for model in models], identity_of) for info, of in rows]
        found[recipe] = [e for e in each if e is not None]
    return found


def by_arrangement(cases: dict[str, Case], top1: dict[str, Values]) -> dict[str, dict[str, float]]:
    """Recipe -> what the people do -> mean ``truth.top1``."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for model, values in top1.items():
        for (case, _), value in values.items():
            found[recipe_of(model)][cases[case].tags[0]].append(value)
    return {recipe: {tag: float(np.mean(v)) for tag, v in sorted(of.items())} for recipe, of in found.items()}


def main(suite: str, out: str, *models: str) -> None:
    """Evaluate what is not there yet, and write the table."""
    folder = Path(out)
    loras = {name: Path(lora) for name, _, lora in (each.rpartition("=") for each in models)}
    cases, values = evaluated(Path(suite), folder, loras)
    effects = compared(cases, values)
    arrangements = by_arrangement(cases, values[find("truth.top1").info.id])
    errors = {
        recipe: -e.delta / (1 - e.base)
        for recipe, each in effects.items()
        for e in each
        if e.metric.startswith("truth.top1@")
    }
    written = {"effects": as_json(effects), "errors": errors, "truth.top1": arrangements}
    write_atomic(folder / "rounds.json", json.dumps(written, indent=1, allow_nan=False).encode() + b"\n")
    lines = [f"- {recipe}: errors of truth.top1 {share:+.0%}" for recipe, share in errors.items()]
    lines += [f"- {r}: " + ", ".join(f"{tag} {v:.3f}" for tag, v in of.items()) for r, of in arrangements.items()]
    write_atomic(folder / "rounds.md", (table(effects) + "\n" + "\n".join(lines) + "\n").encode())
    print((folder / "rounds.md").read_text())


if __name__ == "__main__":
    main(*sys.argv[1:])
