"""Models of a run beside the driving clip, large enough to count fingers: a contact sheet.

    python reports/alignment/sheet.py SUITE RUN SHEET.png [--cases 8] [--moments 2] [--scale 3] [--models A B ...]

A row for each case, a column for the driving clip and each model, at the same moments; under each frame both hands, cut
out where the exact world says they are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ipa_bench import video
from ipa_bench.embedded import crop, world
from ipa_bench.store import RunStore
from ipa_bench.suite import load_suite
from ipa_bench.types import Case, UInt8

#: height of the line of names
HEAD = 24


def cell(file: Path, case: Case, moments: list[int], scale: int) -> UInt8:
    """Frames at the moments, ``scale`` times as large, each above its two hands: ``[h, w, 3]``."""
    joints = world.rig_of(*world.scene_of(case.world or "")).hands[..., :2]
    frames = [frame.image for frame in video.read_frames(file)]
    parts = []
    for t in moments:
        image = frames[min(t, len(frames) - 1)]
        height, width = image.shape[:2]
        side = width * scale // 2
        large = np.asarray(Image.fromarray(image).resize((2 * side, height * scale), Image.Resampling.LANCZOS))
        ratio = np.array([width, height, (width + height) / 2]) / world.SIZE
        hands = [crop.crop(image, crop.squares(joints[t, slot]) * ratio, side, False) for slot in range(2)]
        below = np.concatenate(hands, 1).round().clip(0, 255).astype(np.uint8)
        parts.append(np.concatenate([large, below]))
    return np.concatenate(parts, 1)


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--moments", type=int, default=2)
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--models", nargs="+")
    options = parser.parse_args()
    cases = [case for case in load_suite(options.suite).cases if case.split == "test"][: options.cases]
    files: dict[str, dict[str, Path]] = {}
    for record in RunStore.load(options.run).records().values():
        if record.video and record.seed == 0:
            files.setdefault(record.model, {})[record.case] = Path(record.video)
    names = ["driving", *(options.models or files)]
    rows = []
    for case in cases:
        moments = [*np.linspace(0, (case.frames or 17) - 1, options.moments + 2)[1:-1].round().astype(int)]
        own = [case.driving, *(files[name][case.id] for name in names[1:])]
        rows.append(np.concatenate([cell(file, case, moments, options.scale) for file in own], 1))
    picture = Image.fromarray(np.pad(np.concatenate(rows), ((HEAD, 0), (0, 0), (0, 0))))
    draw, width = ImageDraw.Draw(picture), picture.width // len(names)
    for number, name in enumerate(names):
        draw.text((number * width + 4, 6), name, fill=(255, 255, 255))
    picture.save(options.sheet)


if __name__ == "__main__":
    main()
