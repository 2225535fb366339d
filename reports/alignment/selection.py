"""Does the score choose what is better? hand_quality of self-generated clips against the renderer's exact joints.

    python reports/alignment/selection.py runs/ablation/round1/candidates

Writes selection.json and selection.png beside this file. The exact error of a clip is the mean, over hands that are in
the frame, of the distance between the joints that the observer finds and those that the renderer drew, in hand sizes,
at most 1; a hand that is not found counts 1.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from ipa_bench.compare.two_sample import auc
from ipa_bench.embedded import world
from ipa_bench.observers.looker import Looker
from ipa_bench.scorer import Scorer
from ipa_bench.store import RunStore
from ipa_bench.types import Case

HERE = Path(__file__).parent


def exact_error(looker: Looker, video: Path, clip: world.Clip) -> float:
    """Mean distance to the exact joints, in hand sizes, 1 where a hand is missing or farther."""
    tracks = looker.hands(video)
    joints, visible = clip.joints[..., :2], clip.visible
    size = np.median(np.ptp(joints, axis=2).max(-1), axis=0)
    distance = np.linalg.norm(tracks.landmarks[:, None] - joints[:, :, None], axis=-1).mean(-1) / size[None, :, None]
    nearest = np.where(tracks.found[:, None], distance, np.inf).min(-1).clip(0, 1)
    return float(nearest[visible].mean())


def agreement(quality: np.ndarray, error: np.ndarray, case: np.ndarray) -> dict[str, float]:
    """Rank agreement over all clips, and within cases, where selection happens."""
    third = len(error) // 3
    order = np.argsort(error)
    inside, taus = [], []
    for each in np.unique(case):
        q, e = quality[case == each], error[case == each]
        rank = np.argsort(e)
        inside.append(auc(q[rank[: len(e) // 3]], q[rank[-(len(e) // 3) :]]))
        taus.append(kendalltau(q, -e).statistic)
    return {
        "clips": len(error),
        "auc, good against bad third": auc(quality[order[:third]], quality[order[-third:]]),
        "kendall": float(kendalltau(quality, -error).statistic),
        "auc within cases": float(np.mean(inside)),
        "kendall within cases": float(np.nanmean(taus)),
    }


def ceiling(values: np.ndarray, quality: np.ndarray, case: np.ndarray, seed: np.ndarray) -> dict[str, float]:
    """Mean of a value over all candidates, and over the best by score of the first 4, 8 and 16 of each case."""
    found = {"all": float(np.mean([values[case == each].mean() for each in np.unique(case)]))}
    for count in (4, 8, 16):
        best = []
        for each in np.unique(case):
            some = np.flatnonzero((case == each) & (seed < count))
            best.append(values[some[np.argmax(quality[some])]])
        found[f"best of {count}"] = float(np.mean(best))
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    options = parser.parse_args()
    store, looker = RunStore.load(options.run), Looker()
    entries = {case.id: case for case in store.header.cases}
    clips: dict[str, world.Clip] = {}
    alone = Scorer(looker, ["hand_quality"])
    rows: list[dict[str, Any]] = []
    for record in store.records().values():
        values = {s.metric.partition("@")[0]: s.value for s in record.scores}
        if record.video is None or values["hand_quality"] is None:
            continue
        if record.case not in clips:
            identity, take = record.case.removeprefix("train").split("__take")
            clips[record.case] = world.clip("train", int(identity), int(take))
        case = Case(record.case, Path(entries[record.case].driving))
        rows.append(
            {
                "case": record.case,
                "seed": record.seed,
                "quality": values["hand_quality"],
                "driving only": alone.score(Path(record.video), replace(case, ground_truth=None)).hand_quality,
                "error": exact_error(looker, Path(record.video), clips[record.case]),
                **{name: values[name] for name in ("hand.keypoint_error", "hand.pck10", "hand.psnr", "rest.psnr")},
            }
        )
    column = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    truth = np.where(np.equal(column["hand.psnr"], None), np.nan, column["hand.psnr"]).astype(float)
    whole = ~np.isnan(truth)
    figures = {
        "with ground truth": agreement(column["quality"], column["error"], column["case"]),
        "driving video only": agreement(column["driving only"].astype(float), column["error"], column["case"]),
        "against hand.psnr": agreement(column["quality"][whole], -truth[whole], column["case"][whole]),
        "ceiling": {
            name: ceiling(column[name].astype(float), column["quality"], column["case"], column["seed"])
            for name in ("error", "hand.keypoint_error", "hand.pck10", "quality", "rest.psnr")
            if not np.equal(column[name], None).any()
        },
    }
    (HERE / "selection.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))
    draw(column["quality"], column["error"])


def draw(quality: np.ndarray, error: np.ndarray) -> None:
    """Score against exact error, a point for each clip."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(5, 3.6), layout="constrained")
    axis.plot(error, quality, ".", markersize=3, alpha=0.5)
    axis.set(xlabel="error against exact joints, hand sizes (a missing hand is 1)", ylabel="hand_quality")
    axis.grid(alpha=0.3)
    figure.savefig(HERE / "selection.png", dpi=100)


if __name__ == "__main__":
    main()
