"""What the report draws of a video: landmarks of both sides on one time grid, and metrics over time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ipa_bench.metrics import find, identity
from ipa_bench.metrics.base import Evidence, Measured
from ipa_bench.metrics.people import DLIB, SFACE, Network, People, assign, exchanges, standing
from ipa_bench.scorer import Scores
from ipa_bench.store import Details, PeopleDetails
from ipa_bench.types import Case, Float32, Float64, HandTracks


def details(result: Scores, case: Case) -> Details:
    """Landmarks of both videos in shares of the frame, values over time, and who is who, of the compared frames."""
    evidence, pair, hands = result.evidence, result.evidence.driving, result.evidence.hands
    index = np.arange(len(hands.times)) if pair is None else pair.generated_index
    series = {}
    for metric, measured in result.measured.items():
        if measured.series is not None:
            over_time = np.full(len(hands.times), np.nan, np.float32)
            over_time[evidence.frames(find(metric).frames)] = measured.series
            series[metric] = over_time[index]
    return Details(
        hands.times[index],
        _fps(hands),
        hands.size,
        _shares(hands.landmarks[index], hands.size),
        hands.found[index],
        None if pair is None else _shares(pair.reference, pair.reference_size),
        None if pair is None else pair.wanted,
        series,
        people_details(evidence, case, hands.times[index]),
    )


def people_details(evidence: Evidence, case: Case, times: Float64) -> PeopleDetails | None:
    """Who is who at ``times`` ``[T]``, s, by the first network that looked at faces; None where none did, or could."""
    for network in (SFACE, DLIB):
        people = identity.people_of(evidence, network)
        if not isinstance(people, Measured):
            references = evidence.seen_in_references[f"reference.{network.name}"]
            size = evidence.seen[f"faces.{network.name}"]["size"]
            return _people_at(people, network, case, times, size, [each["box"][0] for each in references])
    return None


def _people_at(
    people: People, network: Network, case: Case, times: Float64, size: NDArray[Any], faces: list[Float32]
) -> PeopleDetails:
    # the frame that is shown: the grids differ where the ground truth is not the driving video
    at = np.clip(np.searchsorted(people.times, times + 1e-3, side="right") - 1, 0, len(people.times) - 1)
    stand, chosen = standing(people), assign(people)
    there = stand.found[at]
    box, points = (_of_people(each, chosen)[at] for each in (people.box, people.points))
    corners = np.concatenate([box[..., :2], box[..., :2] + box[..., 2:]], axis=-1) / np.tile(size, 2)
    return PeopleDetails(
        names=tuple(name for name, _ in case.people),
        network=network.name,
        expected=people.expected[at],
        found=there,
        judged=stand.judged[at],
        whose=np.where(stand.judged, exchanges(stand), -1)[at].astype(np.int8),
        likeness=stand.own[at].astype(np.float32),
        same=people.same,
        box=np.where(there[..., None], corners, 0.0).astype(np.float32),
        points=np.where(there[..., None, None], points / size, 0.0).astype(np.float32),
        pictures=tuple(str(picture.absolute()) for _, picture in case.people),
        faces=np.array([[x, y, x + width, y + height] for x, y, width, height in faces], np.float32),
    )


def _of_people(values: NDArray[Any] | None, chosen: NDArray[np.int64]) -> NDArray[Any]:
    """What belongs to tracks ``[T, N, ...]`` for the people's tracks; 0 for those who have none (-1)."""
    assert values is not None
    return np.concatenate([values, np.zeros_like(values, shape=(len(values), 1, *values.shape[2:]))], axis=1)[:, chosen]


def _shares(landmarks: NDArray[Any], size: tuple[int, int]) -> Float32:
    return np.asarray(landmarks / np.array(size), np.float32)


def _fps(hands: HandTracks) -> float:
    return 1 / float(np.median(np.diff(hands.times))) if len(hands.times) > 1 else 1.0
