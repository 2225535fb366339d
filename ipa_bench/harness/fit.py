"""What does not fit in the cases of a suite that asks who is who, said before anything is made or scored.

Nothing here stops a run: a metric that cannot be computed says so, and the others go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ipa_bench import video, weights
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.files import file_sha256
from ipa_bench.harness.header import metrics_of
from ipa_bench.observers.detector import Detector, detector
from ipa_bench.observers.looker import Looker
from ipa_bench.pose import read_track
from ipa_bench.suite import Suite
from ipa_bench.types import Case, UInt8

#: moments of a clip at which its faces are counted
MOMENTS = 5
_REFERENCE = "reference."


def misfits(suite: Suite, looker: Looker | None = None) -> Iterator[str]:
    """One line for each thing that does not fit, with the case's id in front.

    A reference without a face or with two, one picture for two people, a pose track that is none, a clip that shows
    more or fewer faces than the case names people. Raises :class:`UserError` for an unknown metric.
    """
    observers = [name for metric in metrics_of(suite) for name in metric.reads if name.startswith(_REFERENCE)]
    if not observers:
        return
    looker = looker or Looker()
    counter, why = _counter()
    if why:
        yield f"faces cannot be looked for: {why}"
    seen: dict[Path, str | None] = {}
    observer: str | None = observers[0]
    for case in suite.cases:
        if not case.people:
            yield f"{case.id}: it has no reference picture: nobody can be told apart"
            continue
        if observer is not None and counter is not None:
            unable = _unable(case.people[0][1], looker, observer, seen)
            if unable is not None:
                yield f"faces cannot be told apart: {unable}"
                observer = None
        yield from (f"{case.id}: {line}" for line in _of_case(case, looker, observer, counter, seen))


def _unable(picture: Path, looker: Looker, observer: str, seen: dict[Path, str | None]) -> str | None:
    """Why the network that tells people apart is not there: said once, not of each picture."""
    reason = seen[picture] = _reason(looker, picture, observer)
    return reason if reason is not None and reason == looker.unable(observer) else None


def _of_case(
    case: Case, looker: Looker, observer: str | None, counter: Detector | None, seen: dict[Path, str | None]
) -> Iterator[str]:
    named: dict[str, str] = {}
    for person, picture in case.people:
        if counter is not None and observer is not None:
            if picture not in seen:
                seen[picture] = _reason(looker, picture, observer)
            if reason := seen[picture]:
                yield f"{person}: {reason}"
        first = named.setdefault(file_sha256(picture), person)
        if first != person:
            yield f"{first} and {person} have one picture: they cannot be told apart"
    for person, track in case.poses:
        try:
            read_track(track)
        except UserError as error:
            yield f"{person}: {error.problem}"
    if counter is not None and case.references:
        yield from _faces(case, counter)


def _faces(case: Case, counter: Detector) -> Iterator[str]:
    """Of the clip that shows who should be where."""
    clip, people = case.ground_truth or case.driving, len(case.references)
    try:
        most = max(len(counter.faces(image)) for image in _moments(clip))
    except Unscorable as error:
        yield f"{clip.name}: {error.reason}"
        return
    if most > people:
        yield f"{clip.name} shows {most} faces at once, and the case names {people} people"
    elif most < people:
        yield f"{clip.name} shows no more than {most} of {people} faces at {MOMENTS} moments"


def _moments(clip: Path) -> Sequence[UInt8]:
    """Pictures of a clip, evenly apart; each one a face detector's work."""
    count = sum(1 for _ in video.read_frames(clip))
    wanted = {round(count * (2 * i + 1) / (2 * MOMENTS) - 0.5) for i in range(MOMENTS)}
    return [frame.image for index, frame in enumerate(video.read_frames(clip)) if index in wanted]


def _reason(looker: Looker, picture: Path, observer: str) -> str | None:
    try:
        return looker.look(picture, (observer,)).reasons.get(observer)
    except Unscorable as error:
        return f"{picture.name}: {error.reason}"


def _counter() -> tuple[Detector | None, str]:
    try:
        return detector(weights.path("yunet")), ""
    except UserError as error:
        return None, error.reason
