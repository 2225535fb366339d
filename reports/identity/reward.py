"""The tables of reward.md, from the cards of trained reward models.

    python reports/identity/reward.py NAME=FOLDER ... > reports/identity/reward.md

A FOLDER holds reward.json, as ``ipa-bench reward train`` writes it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ipa_bench.embedded.group.faults import FAULTS

HEAD = """\
# The video reward model of the built-in world

`ipa-bench reward train trainers/configs/reward-embedded.toml`: {comparisons} pairs of {groups} groups of two people,
measured on {held_out} other groups, a pair of every kind each. *Colours* is the baseline: overlap of coarse colours
about each person with their reference's, less the best other's. Accuracy: the better clip has the higher score. Of what
must tie, *preferred* is the mean chance that the clean clip wins, of those in which a clip wins (.50 is right),
*higher* the share in which its score is higher. Columns beside the model that ships: other weights (`train.even`) of
the squared difference of what is tied; *before*, none, and no tie that is worse or jumps on one side alone. The weight
was chosen on these people.
"""


def read(argument: str) -> tuple[str, dict[str, Any]]:
    """NAME=FOLDER -> name, card."""
    name, _, folder = argument.partition("=")
    found: dict[str, Any] = json.loads((Path(folder) / "reward.json").read_text())
    return name, found["trained"]


def kinds_of(trained: dict[str, Any], row: str) -> dict[str, dict[str, Any]]:
    return {kind["name"]: kind for kind in trained["held_out"][row]["kinds"]}


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def cell(kind: dict[str, Any]) -> str:
    preferred = "-" if kind["preferred"] is None else f"{kind['preferred']:.2f}"
    return f"{preferred} / {kind['higher']:.2f}"


def main(arguments: list[str]) -> None:
    models = dict(map(read, arguments))
    first = next(iter(models.values()))
    synthetic = first["config"]["synthetic"]
    print(HEAD.format(comparisons=first["comparisons"], groups=synthetic["groups"], held_out=synthetic["held_out"]))
    rows = {name: kinds_of(trained, "model") for name, trained in models.items()} | {
        "colours": kinds_of(first, "colours")
    }
    faults = [fault for fault in FAULTS if fault.family != "nuisance"]
    for title, held_out in (("Kinds that it was trained on", False), ("Kinds that it never saw", True)):
        names = [fault.name for fault in faults if fault.held_out == held_out]
        body = [[f"`{name}`", *(f"{kinds[name]['accuracy']:.2f}" for kinds in rows.values())] for name in names]
        means = [sum(kinds[name]["accuracy"] for name in names) / len(names) for kinds in rows.values()]
        print(f"\n## {title}\n\n" + table(["accuracy", *rows], [*body, ["**mean**", *(f"**{m:.3f}**" for m in means)]]))
    names = [fault.name for fault in FAULTS if fault.family == "nuisance"]
    body = []
    for name in names:
        mark = " (never seen)" if next(f for f in FAULTS if f.name == name).held_out else ""
        cells = [cell(kinds[name]) for kinds in rows.values()]
        body.append([f"`{name}`{mark}", *cells])
    print("\n## What must tie\n\n" + table(["preferred / higher", *rows], body))
    ties = [[name, f"{trained['held_out']['model']['calibration']:.3f}"] for name, trained in models.items()]
    print("\n## Calibration\n\nMean distance of foretold chances from what came true, over all three outcomes.\n")
    print(table(["model", "distance"], ties))


if __name__ == "__main__":
    main(sys.argv[1:])
