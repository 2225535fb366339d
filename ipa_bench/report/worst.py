"""The moments of a run that are worth a look, by what is wrong with them: one card a case and reason.

A hand that a tracker loses is one reason among others: by the error alone, in which a miss counts most, lost hands
would leave no room for hands that are there and wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ipa_bench.report.faces import reference_key
from ipa_bench.report.view import ReportView, base_name
from ipa_bench.store import Details, PeopleDetails, Unit
from ipa_bench.types import Bool, Float32, Float64

#: cards of a reason that are shown at first, and more of each model that its name brings up
MOST_CASES, MOST_OF_MODEL = 12, 2
#: seconds within which one finger's error is that of its hand
APART = 0.2

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Moment:
    """The worst frame of one video for one reason."""

    unit: Unit
    #: what the value is of, and its unit
    metric: str
    value: float
    measured: str
    time: float
    frame: int
    #: what to look at in both videos, x0, y0, x1, y1 in [0, 1]; None where nothing is known
    box: Box | None
    #: larger is worse
    badness: float
    #: whose face it is about, and where the reference shows it: the picture, and the face's box in its pixels
    person: str = ""
    reference: tuple[str, tuple[float, ...]] | None = None


@dataclass(frozen=True)
class Card:
    """A moment as the page shows it."""

    moment: Moment
    #: whether it is shown before a model is chosen: the worst of its case
    first: bool


@dataclass(frozen=True)
class Group:
    """The moments of one reason, the worst first."""

    title: str
    about: str
    cards: tuple[Card, ...]


Find = Callable[[ReportView, Unit, Details], Moment | None]
FindPerson = Callable[[Unit, Details, PeopleDetails, int], Moment | None]


@dataclass(frozen=True)
class Reason:
    """Something that can be wrong with a frame, and how it is found in a video."""

    title: str
    about: str
    find: Find


def _lost(view: ReportView, unit: Unit, details: Details) -> Moment | None:
    """The middle of the longest time in which a hand of the driving video is not found."""
    if details.driving_found is None or details.driving_landmarks is None or len(details.times) < 2:
        return None
    step = _step(details)
    slot, start, length = max(
        ((slot, *_longest(details.driving_found[:, slot] & ~details.generated_found[:, slot])) for slot in (0, 1)),
        key=lambda run: run[2],
    )
    if not length:
        return None
    frame = start + length // 2
    seconds = length * step
    box = _around([details.driving_landmarks[frame, slot]])
    return Moment(unit, "hand.recall", seconds, "s", float(details.times[frame]), frame, box, seconds)


def _longest(missing: Bool) -> tuple[int, int]:
    """(first frame, number of frames) of the longest run of True in ``[T]``; of length 0 where there is none."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], missing, [False]]).astype(np.int8)))
    runs = edges.reshape(-1, 2)
    if not len(runs):
        return 0, 0
    start, end = runs[int(np.argmax(runs[:, 1] - runs[:, 0]))]
    return int(start), int(end - start)


def _by_series(view: ReportView, unit: Unit, details: Details, names: tuple[str, ...]) -> Moment | None:
    """The worst frame by the first of the metrics that has values over time, of those in which no hand is lost."""
    by_name = {base_name(metric): metric for metric in details.series}
    metric = next((by_name[name] for name in names if name in by_name), None)
    return None if metric is None else _worst(view, unit, details, metric, ~_missed(details))


def _any(view: ReportView, unit: Unit, details: Details) -> Moment | None:
    """The worst frame by whatever has values over time."""
    return None if not details.series else _worst(view, unit, details, next(iter(details.series)), None)


def _one_finger(view: ReportView, unit: Unit, details: Details) -> Moment | None:
    """The worst frame by its worst finger, where that is not the frame in which the whole hand is worst."""
    found = _by_series(view, unit, details, ("hand.worst_finger",))
    whole = _by_series(view, unit, details, ("hand.keypoint_error",))
    return None if found and whole and abs(found.time - whole.time) < APART else found


def _of_both_hands(view: ReportView, unit: Unit, details: Details, name: str) -> Moment | None:
    """The worst frame by a metric that does not say which hand it is about: every hand of that frame is shown."""
    found = _by_series(view, unit, details, (name,))
    if found is None or details.driving_landmarks is None or details.driving_found is None:
        return found
    sides = ((details.driving_landmarks, details.driving_found), (details.generated_landmarks, details.generated_found))
    hands = [marks[found.frame, slot] for marks, there in sides for slot in (0, 1) if there[found.frame, slot]]
    return replace(found, box=_around(hands))


def _worst(view: ReportView, unit: Unit, details: Details, metric: str, frames: Bool | None) -> Moment | None:
    info = view.info(metric)
    sign = -1.0 if info is not None and info.better == "higher" else 1.0
    values = details.series[metric]
    usable = np.isfinite(values) if frames is None else np.isfinite(values) & frames
    if not usable.any():
        return None
    frame = int(np.argmax(np.where(usable, sign * values, -np.inf)))
    value = float(values[frame])
    time, unit_of = float(details.times[frame]), info.unit if info else ""
    return Moment(unit, metric, value, unit_of, time, frame, _focus(details, frame), sign * value)


def _missed(details: Details) -> Bool:
    """Frames ``[T]`` in which a hand of the driving video is not found."""
    if details.driving_found is None:
        return np.zeros(len(details.times), bool)
    return np.asarray((details.driving_found & ~details.generated_found).any(axis=1), bool)


def _of_people(view: ReportView, unit: Unit, details: Details, find: FindPerson) -> Moment | None:
    """The worst moment of any person of a video."""
    if details.people is None:
        return None
    people = details.people
    found = [moment for person in range(len(people.names)) if (moment := find(unit, details, people, person))]
    return max(found, key=lambda moment: moment.badness, default=None)


def _unlike(unit: Unit, details: Details, people: PeopleDetails, person: int) -> Moment | None:
    """The frame in which a face that counts as the person's own is least like the reference."""
    own = people.expected[:, person] & (people.whose[:, person] == person)
    if not own.any():
        return None
    frame = int(np.argmin(np.where(own, people.likeness[:, person], np.inf)))
    value = float(people.likeness[frame, person])
    return _face(unit, details, people, person, frame, "identity.similarity", value, "likeness", -value)


def _another(unit: Unit, details: Details, people: PeopleDetails, person: int) -> Moment | None:
    """The middle of the longest time in which the person has another's face."""
    whose = people.whose[:, person]
    start, length = _longest((whose >= 0) & (whose != person))
    if not length:
        return None
    frame, seconds = start + length // 2, length * _step(details)
    measured = f"s with the face of {people.names[whose[frame]]}"
    return _face(unit, details, people, person, frame, "identity.swap", seconds, measured, seconds)


def _faceless(unit: Unit, details: Details, people: PeopleDetails, person: int) -> Moment | None:
    """The middle of the longest time in which the person's face is due and is not found."""
    start, length = _longest(people.expected[:, person] & ~people.found[:, person])
    if not length:
        return None
    seconds = length * _step(details)
    return _face(unit, details, people, person, start + length // 2, "identity.coverage", seconds, "s", seconds)


def _face(
    unit: Unit, details: Details, people: PeopleDetails, person: int, frame: int, metric: str, value: float,
    measured: str, badness: float,
) -> Moment:  # fmt: skip
    x0, y0, x1, y1 = (float(end) for end in people.box[frame, person])
    box = (x0, y0, x1, y1) if people.found[frame, person] else None
    time = float(details.times[frame])
    return Moment(
        unit, metric, value, measured, time, frame, box, badness, people.names[person], reference_key(people, person)
    )


def _step(details: Details) -> float:
    return float(np.median(np.diff(details.times))) if len(details.times) > 1 else 1 / details.fps


REASONS = (
    Reason(
        "A face is somebody else's",
        "The longest time in which a person has the face of another; the person's reference left.",
        partial(_of_people, find=_another),
    ),
    Reason(
        "A face is not found",
        "The longest time in which a person's face is due and none is found; the person's reference left.",
        partial(_of_people, find=_faceless),
    ),
    Reason(
        "A face is unlike its reference",
        "The frame in which a person's own face is least like the reference, which stands left.",
        partial(_of_people, find=_unlike),
    ),
    Reason(
        "A hand is not found",
        "The longest time in which the driving video shows a hand and the tracker sees none.",
        _lost,
    ),
    Reason(
        "A hand is not as it should be",
        "The frame with the largest keypoint error, of those in which every hand is found.",
        partial(_by_series, names=("hand.keypoint_error",)),
    ),
    Reason("One finger is off", "The frame with the worst finger, where the rest of the hand is better.", _one_finger),
    Reason(
        "A finger too many or too few",
        "The frame that differs most from the driving hands in fingers seen. Experimental: look yourself.",
        partial(_of_both_hands, name="hand.finger_count"),
    ),
    Reason(
        "A hand looks malformed",
        "The frame in which the hands look most edited beside the driving ones. Experimental: look yourself.",
        partial(_of_both_hands, name="hand.anatomy_shift"),
    ),
    Reason(
        "A hand's pixels differ",
        "The frame in which the hand's picture is least like that of the ground truth.",
        partial(_by_series, names=("hand.lpips", "hand.lpips.embedded", "hand.ssim", "hand.sharpness")),
    ),
)
ELSE = Reason("The worst frame", "By the first metric that has values over time.", _any)


def worst_moments(view: ReportView) -> tuple[Group, ...]:
    """The moments of each reason that any video of the run has."""
    found: dict[str, list[Moment]] = {}
    for unit, details in _detailed(view):
        for reason in REASONS:
            moment = reason.find(view, unit, details)
            if moment is not None:
                found.setdefault(reason.title, []).append(moment)
    if not found:
        moments = [m for unit, details in _detailed(view) if (m := _any(view, unit, details)) is not None]
        return (_group(ELSE, moments),) if moments else ()
    return tuple(_group(reason, found[reason.title]) for reason in REASONS if reason.title in found)


def _detailed(view: ReportView) -> Iterator[tuple[Unit, Details]]:
    for unit, record in view.units():
        details = view.details(unit) if record is not None and record.video else None
        if details is not None:
            yield unit, details


def _group(reason: Reason, moments: list[Moment]) -> Group:
    """The worst moment of each case, of the worst cases, and the worst few of each model."""
    order = sorted(moments, key=lambda moment: (-moment.badness, moment.unit))
    of_case: dict[str, Moment] = {}
    of_model: dict[str, list[Moment]] = {}
    for moment in order:
        of_case.setdefault(moment.unit[0], moment)
        kept = of_model.setdefault(moment.unit[2], [])
        if len(kept) < MOST_OF_MODEL:
            kept.append(moment)
    first = [*of_case.values()][:MOST_CASES]
    wanted = [*first, *(moment for kept in of_model.values() for moment in kept)]
    return Group(reason.title, reason.about, tuple(Card(m, m in first) for m in order if m in wanted))


def _focus(details: Details, frame: int) -> Box | None:
    """A box about one hand as both videos have it: the hand that is furthest off."""
    made, there = details.generated_landmarks[frame], details.generated_found[frame]
    if details.driving_landmarks is None or details.driving_found is None:
        return _around([made[slot] for slot in (0, 1) if there[slot]])
    asked, wanted = details.driving_landmarks[frame], details.driving_found[frame]

    def off(slot: int) -> float:
        if not wanted[slot]:
            return -1.0
        return float(np.linalg.norm(asked[slot] - made[slot], axis=-1).mean()) if there[slot] else np.inf

    slot = max((0, 1), key=off)
    return _around([hands[slot] for hands, found in ((asked, wanted), (made, there)) if found[slot]])


def _around(hands: list[Float32]) -> Box | None:
    if not hands or not np.isfinite(hands).all():
        return None
    points: NDArray[np.float32] | Float64 = np.concatenate(hands)
    x0, y0, x1, y1 = (float(end) for ends in (points.min(axis=0), points.max(axis=0)) for end in ends)
    return (x0, y0, x1, y1)
