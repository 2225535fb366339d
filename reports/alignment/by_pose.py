"""Where the error is: hands by what the pose map shows of them, for models of a run on the embedded test split.

    python reports/alignment/by_pose.py runs/ablation/evaluation --failings usual

Prints, for each model and for hands that the pose map shows whole, with fingers missing, not in this frame, or never
in the clip: hand-frames, recall, error of the hands found against the exact joints, and both together (a miss is 1).
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from ipa_bench.embedded import estimator, world
from ipa_bench.observers.looker import Looker
from ipa_bench.store import RunStore

HERE = Path(__file__).parent
FAILINGS = {"severe": estimator.SEVERE, "usual": estimator.USUAL}


def errors(looker: Looker, video: Path, clip: world.Clip) -> np.ndarray:
    """Distance of each exact hand ``[T, 2]`` to the nearest one found, in hand sizes; infinite where there is none."""
    tracks = looker.hands(video)
    joints = clip.joints[..., :2]
    size = np.median(np.ptp(joints, axis=2).max(-1), axis=0)
    distance = np.linalg.norm(tracks.landmarks[:, None] - joints[:, :, None], axis=-1).mean(-1) / size[None, :, None]
    return np.asarray(np.where(tracks.found[:, None], distance, np.inf).min(-1))


def kinds(seen: np.ndarray) -> np.ndarray:
    """What the pose map shows of each hand: names ``[T, 2]``. ``seen`` bool ``[T, 2, 21]``."""
    count = seen.sum(-1)
    named = np.where(count == 21, "whole", np.where(count > 0, "fingers missing", "not in this frame"))
    return np.where((count == 0).all(0)[None], "never", named)


def main() -> None:
    """Measure and print; ``--out`` also writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--failings", choices=FAILINGS, default="usual")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    looker = Looker()
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    shown = {}
    for record in RunStore.load(options.run).records().values():
        if record.video is None or not record.case.startswith("test"):
            continue
        identity, take = (int(part) for part in record.case.removeprefix("test").split("__take"))
        if record.case not in shown:
            clip = world.clip("test", identity, take)
            estimated = estimator.estimated_pose(clip, "test", identity, take, FAILINGS[options.failings])
            shown[record.case] = (clip, kinds(estimated.hands_found))
        clip, kind = shown[record.case]
        error = errors(looker, Path(record.video), clip)
        for name in np.unique(kind):
            found[record.model][name].extend(error[(kind == name) & clip.visible])
    table = {}
    for model, by_kind in found.items():
        for name, values in sorted(by_kind.items()):
            error = np.array(values)
            hit = error < 1
            table[f"{model}: {name}"] = {
                "hand-frames": len(error),
                "recall": float(hit.mean()),
                "error of found": float(error[hit].mean()) if hit.any() else None,
                "error, a miss is 1": float(np.where(hit, error, 1).mean()),
            }
            print(f"{model:40} {name:18}", *(f"{value:.3f}" for value in table[f"{model}: {name}"].values() if value))
    if options.out:
        options.out.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
