"""Faces of a video joined to tracks: by where they are, and between faces that are equally near, by whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ipa_bench.metrics.assignment import matched
from ipa_bench.types import Float32, Float64

Int64 = NDArray[np.int64]

#: how far a face may be from where its track was last seen, in face heights: at once, more for each second since, most
REACH, REACH_PER_SECOND, MOST_REACH = 1.0, 2.0, 3.0
#: the larger of two heights of a track over the smaller, at most
GROWTH = 2.0
#: what a wholly different face costs, in face heights of distance: less than a step to a neighbour, so that two people
#: who exchange their faces where they stand keep their tracks
UNLIKE = 0.5


@dataclass
class _Track:
    """Where a face was last seen."""

    centre: Float64
    height: float
    time: float
    #: mean of its numbers so far, of no set length; zeros before any are known
    numbers: Float64


def join(
    boxes: Sequence[Float32], numbers: Sequence[Float32 | None], times: Sequence[float], unlike: float = UNLIKE
) -> list[Int64]:
    """The track, from 0, of each face of each frame; ``unlike``: what a wholly different one costs.

    ``boxes`` [n, 4] (left, top, width, height) and ``numbers`` [n, D] (zeros: not known) of each frame's faces, None
    where it has none; ``times`` in seconds. A track that was lost goes on where a face appears near enough.
    """
    tracks: list[_Track] = []
    owners = []
    for box, number, time in zip(boxes, numbers, times, strict=True):
        owner = np.full(len(box), -1, np.int64)
        centres = (box[:, :2] + box[:, 2:] / 2).astype(np.float64)
        if number is not None and len(box):
            faces = list(zip(centres, box[:, 3], number, strict=True))
            cost = np.array([[_cost(track, *face, time, unlike) for track in tracks] for face in faces])
            if tracks:
                rows, columns = matched(np.where(np.isfinite(cost), cost, 1e3))
                near = np.isfinite(cost[rows, columns])
                owner[rows[near]] = columns[near]
            for index in range(len(box)):
                if owner[index] < 0:
                    owner[index] = len(tracks)
                    tracks.append(_Track(centres[index], float(box[index, 3]), time, np.zeros(number.shape[1])))
                _follow(tracks[owner[index]], centres[index], float(box[index, 3]), number[index], time)
        owners.append(owner)
    return owners


def _cost(track: _Track, centre: Float64, height: float, number: Float32, time: float, unlike: float) -> float:
    """Distance in face heights and unlikeness; infinite where the face cannot be the track's."""
    size = (track.height + height) / 2
    distance = float(np.linalg.norm(centre - track.centre)) / size
    reach = min(REACH + REACH_PER_SECOND * (time - track.time), MOST_REACH)
    if distance > reach or max(track.height, height) > GROWTH * min(track.height, height):
        return float("inf")
    length = float(np.linalg.norm(track.numbers) * np.linalg.norm(number))
    return distance + (unlike * (1 - float(track.numbers @ number) / length) if length > 0 else unlike / 2)


def _follow(track: _Track, centre: Float64, height: float, number: Float32, time: float) -> None:
    track.centre, track.height, track.time = centre, height, time
    track.numbers = track.numbers + number
