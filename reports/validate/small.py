"""What `hand_quality` sees of low resolution where hands are small: clips shrunk, some versions of each, in windows.

python reports/validate/small.py hand_640x360.mp4=96x54 gesture_1280x720.mp4=192x108 --work FOLDER \
    --out reports/validate/small.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from ipa_bench import video
from ipa_bench.cache import Cache
from ipa_bench.metrics.table import find
from ipa_bench.observers.looker import Looker
from ipa_bench.validate.judge import HARMLESS_VARIANTS, bound
from ipa_bench.validate.ladder import CLEAN, Variant, losses, observe_variant

METRIC = find("hand_quality")
DAMAGED = [
    "low_resolution/mild", "low_resolution/medium", "low_resolution/strong", "blur/mild", "blur/medium", "hue/strong",
]  # fmt: skip


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("clips", nargs="+", help="FILE, or FILE=WIDTHxHEIGHT to shrink it first")
    parser.add_argument("--versions", nargs="+", default=DAMAGED, help="DAMAGE/STRENGTH, beside the harmless ones")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    result = {clip: measured(clip, given.versions, given.work) for clip in given.clips}
    given.out.write_text(json.dumps({"metric": METRIC.info.id, "clips": result}, indent=1) + "\n")


def measured(clip: str, versions: list[str], work: Path) -> dict[str, object]:
    """Windows, the hand's size, the noise floor, and how many windows of each version are called worse."""
    path, cache = shrunk(clip, work), Cache()
    hands = Looker(cache).hands(path)
    chosen: list[Variant] = [(name, how) for name, _, how in (each.partition("/") for each in versions)]  # type: ignore[misc]
    observed = {v: observe_variant(path, v, hands, cache) for v in (CLEAN, *HARMLESS_VARIANTS, *chosen)}
    loss = {v: found for (_, v), found in losses(hands, observed, [METRIC]).loss.items()}
    harmless = {v: loss[v] for v in HARMLESS_VARIANTS}
    floor = bound(np.concatenate(list(harmless.values())))
    called = {f"{v[0]}/{v[1]}": int((loss[v] > floor).sum()) for v in chosen}
    for v in harmless:  # the floor that tests a harmless version is made without it
        own = bound(np.concatenate([each for other, each in harmless.items() if other != v]))
        called[f"{v[0]}/{v[1]}"] = int((loss[v] > own).sum())
    sides = np.ptp(hands.landmarks[hands.found], axis=1).max(axis=1)
    return {"windows": len(loss[CLEAN]), "hand_px": round(float(np.median(sides)), 1), "floor": floor, "worse": called}


def shrunk(clip: str, work: Path) -> Path:
    """The clip, or a copy of another size at CRF 12."""
    name, _, size = clip.partition("=")
    if not size:
        return Path(name)
    width, height = (int(side) for side in size.split("x"))
    path = work / f"{Path(name).stem.partition('_')[0]}_{width}.mp4"
    if not path.exists():
        video.encode((f.image for f in video.read_frames(Path(name), size=(width, height))), path, 25, crf=12)
    return path


if __name__ == "__main__":
    main()
