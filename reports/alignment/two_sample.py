"""How far generated hands are from rendered ones: can a classifier tell them apart on people it has not seen?

    python reports/alignment/two_sample.py SUITE RUN

Hands are cut out where the exact world says they are, from the driving clips and from every model's videos, and
described by the shipped picture network (mean and deviation of each channel of each of its maps). A linear classifier,
fitted on four fifths of the people, judges the others (``ipa_bench.compare.two_sample``). One line a model: the chance
that a generated hand looks more generated than a rendered one of the same person, with its 95 % interval over people;
0.5 is not to be told apart. The re-encoded truth is the control.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from ipa_bench import video
from ipa_bench.compare.intervals import interval
from ipa_bench.compare.two_sample import told_apart
from ipa_bench.embedded import crop, world
from ipa_bench.nets.embedded import EmbeddedLpips, load_image
from ipa_bench.store import RunStore
from ipa_bench.suite import load_suite
from ipa_bench.types import Case

#: side of a crop as the network sees it; every third frame: neighbours say the same
SIDE, EVERY = 96, 3


def hands(file: Path, case: Case) -> np.ndarray:
    """Crops uint8 ``[n, SIDE, SIDE, 3]`` of both hands in every third frame."""
    scene = world.scene_of(case.world or "")
    joints = world.rig_of(*scene).hands[..., :2]
    found = []
    for t, frame in enumerate(video.read_frames(file)):
        if t % EVERY or t >= len(joints):
            continue
        height, width = frame.image.shape[:2]
        scale = np.array([width, height, (width + height) / 2]) / world.SIZE
        for slot in range(2):
            cut = crop.crop(frame.image, crop.squares(joints[t, slot]) * scale, SIDE, slot == 0)
            found.append(cut.round().clip(0, 255).astype(np.uint8))
    return np.stack(found)


@torch.inference_mode()
def described(net: EmbeddedLpips, crops: np.ndarray) -> np.ndarray:
    """Features ``[n, d]``."""
    rows = []
    for part in np.array_split(crops, -(-len(crops) // 64)):
        maps = net.features(part)
        rows.append(torch.cat([torch.cat([m.mean((2, 3)), m.std((2, 3))], 1) for m in maps], 1))
    return torch.cat(rows).double().numpy()


def main(suite_file: str, folder: str) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    net = load_image()
    cases = {case.id: case for case in load_suite(Path(suite_file)).cases}
    store = RunStore.load(Path(folder))
    real = {case.id: described(net, hands(case.driving, case)) for case in cases.values()}
    print("| model | told apart | 95 % interval | people |\n|---|---|---|---|")
    for model in store.header.models:
        made: dict[str, list[np.ndarray]] = {}
        for record in store.records().values():
            if record.model == model.name and record.video is not None:
                made.setdefault(record.case, []).append(described(net, hands(Path(record.video), cases[record.case])))
        both = [name for name in made if name in real]
        if len(both) < 2:
            print(f"| {model.name} | no videos | | |")
            continue
        ours = np.concatenate([np.concatenate(made[name]) for name in both])
        who_ours = [cases[name].identity for name in both for part in made[name] for _ in part]
        theirs, who_theirs = np.concatenate([real[n] for n in both]), [cases[n].identity for n in both for _ in real[n]]
        found = interval(
            {who: [value] for who, value in told_apart(theirs, ours, who_theirs, who_ours).items()}, bounds=(0.0, 1.0)
        )
        print(f"| {model.name} | {found.mean:.3f} | [{found.low:.3f}, {found.high:.3f}] | {found.n} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
