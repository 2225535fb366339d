"""What each distance sees: rendered people, damaged more and more, against the same people and against others.

    python reports/distances/damage.py [--people 64] [--out reports/distances]

Writes ``damage.json`` and ``damage.png``. The first half of the people is damaged; the ground truth is the other half,
so that a distance is never 0. *Seen at n*: the fewest people of 8, 16, 32, 64 at which the 95 % interval of (damaged −
stored alike without damage) excludes 0. Everything is stored as H.264, CRF 12.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib
import numpy as np

from ipa_bench import video
from ipa_bench.embedded import world
from ipa_bench.metrics.set_table import FVD_EMBEDDED
from ipa_bench.metrics.sets.hand_motion import hand_motion_features
from ipa_bench.metrics.sets.intervals import compare_sets, measure_sets
from ipa_bench.nets.embedded import load_image
from ipa_bench.observers.features import networks as set_networks
from ipa_bench.observers.features.extract import extract
from ipa_bench.observers.looker import Looker
from ipa_bench.types import Float64, HandTracks, UInt8

COUNTS = (8, 16, 32, 64)


def blur(frames: UInt8, masks: Any, level: float, rng: np.random.Generator, other: UInt8) -> UInt8:
    """Gaussian blur of the whole frame, sigma in pixels."""
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(frames.astype(np.float32), (0, level, level, 0)).round(), np.uint8)


def hand_blur(frames: UInt8, masks: Any, level: float, rng: np.random.Generator, other: UInt8) -> UInt8:
    """The same where the hands are."""
    from scipy.ndimage import gaussian_filter

    where = np.clip(2 * gaussian_filter(masks.max(1), (0, 2, 2)), 0, 1)[..., None]
    return np.asarray(
        (frames + (blur(frames, masks, level, rng, other) - frames.astype(np.float32)) * where).round(), np.uint8
    )


def flicker(frames: UInt8, masks: Any, level: float, rng: np.random.Generator, other: UInt8) -> UInt8:
    """Another brightness in each frame: standard deviation in grey levels."""
    shift = rng.normal(0, level, (len(frames), 1, 1, 1))
    return np.asarray(np.clip(frames + shift, 0, 255).round(), np.uint8)


def shuffle(frames: UInt8, masks: Any, level: float, rng: np.random.Generator, other: UInt8) -> UInt8:
    """Frames in random order within blocks of this length."""
    order = np.arange(len(frames))
    for first in range(0, len(frames), int(level)):
        rng.shuffle(order[first : first + int(level)])
    return frames[order]


def freeze(frames: UInt8, masks: Any, level: float, rng: np.random.Generator, other: UInt8) -> UInt8:
    """The last share of the clip stands still."""
    last = round((1 - level) * (len(frames) - 1))
    return frames[np.minimum(np.arange(len(frames)), last)]


def leak(frames: UInt8, masks: Any, level: float, rng: np.random.Generator, other: UInt8) -> UInt8:
    """Another person shows through: their clip has this weight in the mean of both."""
    return np.asarray(((1 - level) * frames.astype(np.float32) + level * other).round(), np.uint8)


def cut(frames: UInt8, masks: Any, level: float, rng: np.random.Generator, other: UInt8) -> UInt8:
    """The last share of the clip shows somebody else."""
    first = round((1 - level) * len(frames))
    return np.concatenate([frames[:first], other[first:]])


#: name -> (what it does, levels, unit)
DAMAGES: Mapping[str, tuple[Callable[..., UInt8], tuple[float, ...], str]] = {
    "blur": (blur, (1.0, 2.0, 4.0), "sigma, pixels"),
    "hands blurred": (hand_blur, (1.0, 2.0, 4.0), "sigma, pixels"),
    "flicker": (flicker, (4.0, 12.0, 36.0), "grey levels"),
    "frames shuffled": (shuffle, (2.0, 4.0, 17.0), "length of a block"),
    "frozen": (freeze, (0.33, 0.67, 1.0), "share of the clip"),
    "another person mixed in": (leak, (0.12, 0.25, 0.5), "their weight"),
    "cut to another person": (cut, (0.12, 0.25, 0.5), "share of the clip"),
}


def main() -> None:
    """Make the clips, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=64, help="damaged people; as many others are the ground truth")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    count = options.people
    clips = [world.clip("val", i, 0) for i in range(2 * count)]
    with TemporaryDirectory() as folder:
        measured = _Measure(Path(folder))
        truth = measured.features("truth", [clip.frames for clip in clips[count:]])
        stored = [clip.frames for clip in clips[:count]]
        plain = measured.features("stored", stored)
        rows: dict[str, Any] = {}
        for name, (damage, levels, unit) in DAMAGES.items():
            rows[name] = {"unit": unit, "levels": []}
            for level in levels:
                made = [
                    damage(clip.frames, clip.masks, level, np.random.default_rng([7, i]), clips[(i + 1) % count].frames)
                    for i, clip in enumerate(clips[:count])
                ]
                found = measured.features(f"{name} {level}", made)
                rows[name]["levels"].append({"level": level, **_row(found, plain, truth, made, stored, count)})
                print(name, level, json.dumps(rows[name]["levels"][-1]), flush=True)
    rows = {"people": count, "undamaged": _distances(plain, truth), "damage": rows}
    (options.out / "damage.json").write_text(json.dumps(rows, indent=1) + "\n")
    _draw(rows, options.out / "damage.png")


class _Measure:
    """Features of sets of clips, and the picture distance."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._looker = folder, Looker(threads=2)
        self._due: list[HandTracks] = []
        self._definition, self._backbone = set_networks.network(FVD_EMBEDDED.id)

    def features(self, name: str, made: list[UInt8]) -> dict[str, Float64]:
        """By metric, ``[n, d]``."""
        paths = [self._folder / f"{name}_{i}.mp4" for i in range(len(made))]
        for path, frames in zip(paths, made, strict=True):
            video.encode(frames, path, world.FPS, crf=12)
        tracks = [self._looker.hands(path) for path in paths]
        due = self._due if len(self._due) == len(tracks) and name != "truth" else tracks
        motion = [hand_motion_features(seen, wanted).value for seen, wanted in zip(tracks, due, strict=True)]
        if name == "stored":
            self._due = tracks  # hands of the undamaged clips are due in the damaged ones
        # a clip that shows no hand long enough has no vector, damaged or not
        return {
            "fvd.embedded": extract(paths, self._definition, self._backbone(), None).values.astype(np.float64),
            "hand.fvmd": np.array([np.full(200, np.nan) if v is None else v for v in motion]),
        }


def _row(found: Any, plain: Any, truth: Any, made: list[UInt8], stored: list[UInt8], count: int) -> dict[str, Any]:
    row: dict[str, Any] = _distances(found, truth)
    for metric in found:
        row[metric]["seen_at"] = next((n for n in COUNTS if n <= count and _seen(found, plain, truth, metric, n)), None)
    net = load_image()
    values = [float(net.distance(net.features(a), net.features(b)).mean()) for a, b in zip(made, stored, strict=True)]
    row["lpips.embedded"] = {"value": float(np.mean(values))}
    return row


def _usable(*sets: Float64) -> Any:
    return np.logical_and.reduce([np.isfinite(values).all(1) for values in sets])


def _distances(found: Any, truth: Any) -> dict[str, Any]:
    row = {}
    for metric, values in found.items():
        mine, theirs = values[_usable(values)], truth[metric][_usable(truth[metric])]
        distances = measure_sets(mine, theirs)
        row[metric] = {
            "n": len(mine),
            "frechet": [distances.frechet.value, distances.frechet.low, distances.frechet.high],
            "kernel": [distances.kernel.value, distances.kernel.low, distances.kernel.high],
        }
    return row


def _seen(found: Any, plain: Any, truth: Any, metric: str, n: int) -> bool:
    a, b, reference = found[metric][:n], plain[metric][:n], truth[metric][:n]
    both, known = _usable(a, b), _usable(reference)
    distance = compare_sets(a[both], b[both], reference[known]).frechet
    return distance.low is not None and distance.low > 0


def _draw(rows: Any, path: Path) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot

    metrics = ("fvd.embedded", "hand.fvmd", "lpips.embedded")
    figure, axes = pyplot.subplots(len(metrics), len(DAMAGES), figsize=(17, 7), sharex="col", squeeze=False)
    for column, (name, entry) in enumerate(rows["damage"].items()):
        levels = [0.0, *(level["level"] for level in entry["levels"])]
        axes[0][column].set_title(name, fontsize=10)
        axes[-1][column].set_xlabel(entry["unit"])
        for row, metric in enumerate(metrics):
            axis = axes[row][column]
            if metric == "lpips.embedded":
                axis.plot(levels, [0.0, *(level[metric]["value"] for level in entry["levels"])], "o-")
            else:
                values = [rows["undamaged"][metric], *(level[metric] for level in entry["levels"])]
                middle, low, high = np.array([value["frechet"] for value in values], float).T
                axis.fill_between(levels, low, high, alpha=0.25)
                axis.plot(levels, middle, "o-")
            axis.set_ylim(bottom=0)
            if column == 0:
                axis.set_ylabel(metric)
    figure.tight_layout()
    figure.savefig(path, dpi=60)


if __name__ == "__main__":
    main()
