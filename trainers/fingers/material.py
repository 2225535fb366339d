"""What the head learns from: maps of hands, clean, as controls and edited, with what was done to each.

Made once and kept: looking at a hand takes far longer than learning from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ipa_bench.engine.processes import Progress
from ipa_bench.observers.mediapipe.litert import Roi
from ipa_bench.observers.mediapipe.maps import CHANNELS, GRID, MapNet
from ipa_bench.types import Float32
from trainers.fingers.edits import CONTROL_SHARES, CONTROLS, EDIT_SHARES, EDITS, Edited, drawn
from trainers.fingers.nuisance import SIDE, cropped, spoiled
from trainers.fingers.sources import WIDER, Source

#: pictures made of a hand: as it is (hardly spoiled), as it is, controls, edits
PICTURES = ("clean", "clean", "control", "edit", "edit", "edit")
#: chances of nuisances of the first picture
HARDLY = 0.3


@dataclass(frozen=True, eq=False)
class Material:
    """N pictures: ``maps`` float16 ``[N, 14, 14, 344]``, and of each what it is."""

    maps: NDArray[np.float16]
    #: number of the hand: pictures of one hand are compared with each other
    group: NDArray[np.int64]
    #: 1 edited, 0 not
    wrong: Float32
    #: fingers that are seen, NaN where nobody knows; and by how many an edit changed them, likewise
    count: Float32
    change: Float32
    #: of a hand of people who are held out
    held_out: NDArray[np.bool_]
    #: name of the edit or the control, and of what the hand was cut from
    kind: NDArray[np.str_]
    origin: NDArray[np.str_]

    def __len__(self) -> int:
        """Pictures."""
        return len(self.group)

    def of(self, chosen: NDArray[np.bool_]) -> Material:
        """Some of the pictures."""
        return Material(**{name: getattr(self, name)[chosen] for name in self.__dataclass_fields__})


def pictures(source: Source, seed: int) -> Iterable[tuple[str, Edited, float]]:
    """(kind, canvas, how much it is spoiled) of a hand."""
    for place, what in enumerate(PICTURES):
        rng = np.random.default_rng([seed, source.number, place, len(source.origin)])
        if what == "clean":
            yield "unchanged", Edited(source.hand.pixels, 0.0), 1.0 if place else HARDLY
        else:
            edits, shares = (CONTROLS, CONTROL_SHARES) if what == "control" else (EDITS, EDIT_SHARES)
            yield *drawn(source.hand, source.standing, edits, shares, rng), 1.0


def make(name: str, sources: Iterable[Source], folder: Path, seed: int, progress: Progress | None = None) -> Material:
    """The pictures of some hands, kept in ``folder`` under a name."""
    if (folder / f"{name}.json").exists():
        return read(name, folder)
    folder.mkdir(parents=True, exist_ok=True)
    net = MapNet()
    whole = Roi(SIDE / 2, SIDE / 2, float(SIDE))
    rows: list[dict[str, object]] = []
    with open(folder / f"{name}.maps", "wb") as file:
        for number, source in enumerate(sources):
            for place, (kind, edited, much) in enumerate(pictures(source, seed)):
                rng = np.random.default_rng([seed, source.number, place, len(source.origin), 7])
                image = spoiled(cropped(edited.pixels, 1 / WIDER, rng), rng, much)
                file.write(net.of_region(Image.fromarray(image), whole).astype(np.float16).tobytes())
                known = source.count is not None and edited.change is not None
                rows.append({
                    "group": number, "wrong": float(kind in EDITS), "held_out": source.held_out, "kind": kind,
                    "origin": source.origin, "change": edited.change,
                    "count": source.count + edited.change if known else None,  # type: ignore[operator]
                })  # fmt: skip
            if progress is not None:
                progress(name, number + 1, 0)
    (folder / f"{name}.json").write_text(json.dumps(rows))
    return read(name, folder)


def read(name: str, folder: Path) -> Material:
    """What was kept under a name."""
    rows = json.loads((folder / f"{name}.json").read_text())
    maps = np.memmap(folder / f"{name}.maps", np.float16, "r", shape=(len(rows), GRID, GRID, CHANNELS))

    def column(key: str) -> list[float]:
        return [np.nan if row[key] is None else row[key] for row in rows]

    return Material(
        maps,
        np.array(column("group"), np.int64),
        np.array(column("wrong"), np.float32),
        np.array(column("count"), np.float32),
        np.array(column("change"), np.float32),
        np.array(column("held_out"), bool),
        np.array([row["kind"] for row in rows]),
        np.array([row["origin"] for row in rows]),
    )
