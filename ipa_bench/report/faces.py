"""Who is who in a video, as the page draws it, and the faces of the reference pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ipa_bench import video
from ipa_bench.errors import Unscorable
from ipa_bench.files import located
from ipa_bench.report.media import Part, StillJob, make_stills
from ipa_bench.report.view import ReportView
from ipa_bench.store import PeopleDetails
from ipa_bench.types import Float32

#: side of a reference's face on the page, px
SIDE = 160
#: what a frame of a person is where it is nobody's face: too small to say, missing, not due
SMALL, MISSING, NOT_DUE = -1, -2, -3

#: (picture, box of the face in it) -> file in the page's stills, or None where it cannot be read
Pictures = Mapping[tuple[str, tuple[float, ...]], str | None]


def reference_key(people: PeopleDetails, person: int) -> tuple[str, tuple[float, ...]]:
    """Which picture shows a person, and where: the key of :data:`Pictures`."""
    return people.pictures[person], tuple(round(float(end), 1) for end in people.faces[person])


def reference_part(folder: Path, picture: str, box: Sequence[float]) -> Part | None:
    """The face of a reference picture, for a still; None where the picture is not there. ``box`` in its pixels."""
    path = located(picture, folder)
    if path is None or not path.is_file():
        return None
    try:
        info = video.probe(path)
    except Unscorable:
        return None
    x0, y0, x1, y1 = box
    return Part(path, 0.0, (x0 / info.width, y0 / info.height, x1 / info.width, y1 / info.height))


def make_pictures(view: ReportView, folder: Path, stills: Path, *, jobs: int) -> Pictures:
    """Cut every person's face out of the reference picture, into the folder ``stills``."""
    wanted: dict[tuple[str, tuple[float, ...]], StillJob | None] = {}
    for unit in view.records:
        details = view.details(unit)
        people = None if details is None else details.people
        for person in range(0 if people is None else len(people.names)):
            assert people is not None
            key = reference_key(people, person)
            if key not in wanted:
                part = reference_part(folder, *key)
                name = f"{hashlib.sha256(repr(key).encode()).hexdigest()[:24]}.jpg"
                wanted[key] = None if part is None else StillJob(stills / name, (part,), SIDE)
    work = {key: job for key, job in wanted.items() if job is not None}
    failed = dict(zip(work, make_stills(list(work.values()), jobs=jobs), strict=True))
    return {k: None if job is None or failed[k] is not None else job.out.name for k, job in wanted.items()}


def people_data(people: PeopleDetails, pictures: Pictures, steps: int) -> dict[str, Any]:
    """Who is who as JSON. ``who``: for each person and frame the number of the person whose face it is, or why none;
    places are whole numbers, ``steps`` across the frame."""
    who = np.where(people.judged, people.whose, np.where(people.found, SMALL, MISSING))
    who = np.where(people.expected | people.found, who, NOT_DUE)
    names = [pictures.get(reference_key(people, person)) for person in range(len(people.names))]
    return {
        "names": list(people.names),
        "network": people.network,
        "same": people.same,
        "who": who.T.tolist(),
        "likeness": [
            [round(float(value), 3) if judged else None for value, judged in zip(*column, strict=True)]
            for column in zip(people.likeness.T, people.judged.T, strict=True)
        ],
        "box": _whole(people.box, people, steps),
        "points": _whole(people.points.reshape(*people.found.shape, -1), people, steps),
        "pictures": [None if name is None else f"report/stills/{name}" for name in names],
    }


def _whole(values: Float32, people: PeopleDetails, steps: int) -> list[list[list[int] | None]]:
    """Per frame and person, whole numbers or None where no face is."""
    rounded = np.rint(values * steps).astype(np.int64)
    return [
        [row.tolist() if there else None for row, there in zip(*frame, strict=True)]
        for frame in zip(rounded, people.found, strict=True)
    ]
