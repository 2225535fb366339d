"""A reading of who is who that nothing was trained or chosen by: colours about people against their references.

    python reports/identity/colours.py SUITE EVALUATION [ROW ...]

EVALUATION is a folder of ``ipa-bench ablation`` (its videos are read), ROW the names of its models. One line a row: the
margin of :func:`trainers.reward_model.baselines.histogram` (overlap of coarse colours about each person with their own
reference, less the best other's) less the base's, with a 95 % interval over the groups; training seeds of a row are
averaged.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np

from ipa_bench.compare.intervals import difference
from ipa_bench.suite import load_suite
from trainers.reward_model import baselines
from trainers.reward_model.seen import look, wanted


def main(suite_file: str, folder: str, *rows: str) -> None:
    """Print the table."""
    cases = {case.id: case for case in load_suite(Path(suite_file)).cases}
    videos = Path(folder) / "evaluation" / "videos"
    found: dict[str, dict[tuple[str, int], list[float]]] = {}
    for model in sorted(path.name for path in videos.iterdir() if path.is_dir()):
        row = re.sub(r", seed \d+$", "", model)
        if rows and row not in rows:
            continue
        for file in sorted((videos / model).glob("*.mp4")):
            name, _, seed = file.stem.rpartition("_seed")
            case = cases[name]
            people = wanted(dict(case.people), dict(case.poses))
            seen = look(file, people, frames=case.frames or 17, shrunk=lambda size: size)
            found.setdefault(row, {}).setdefault((name, int(seed)), []).extend(baselines.histogram([seen]))
    means = {row: {key: float(np.mean(values)) for key, values in of.items()} for row, of in found.items()}
    identity_of = {case.id: case.identity or case.id for case in cases.values()}
    print("| | margin of colours | row − base | groups |\n|---|---:|---|---:|")
    for row, values in means.items():
        both = difference(values, means["base"], identity_of=identity_of)
        apart = "" if row == "base" else f"{both.delta:+.4f} [{both.low:+.4f}, {both.high:+.4f}]"
        print(f"| {row} | {np.mean(list(values.values())):.4f} | {apart} | {both.n} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
