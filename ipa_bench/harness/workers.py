"""What worker processes do with one clip. Light to import: workers wait for nothing that only reports need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipa_bench.cache import Cache
from ipa_bench.engine import processes as pool
from ipa_bench.engine.processes import Progress
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.metrics.table import DEFAULT
from ipa_bench.observers.looker import Looker
from ipa_bench.scorer import Scorer
from ipa_bench.types import Case, HandTracks
from ipa_bench.validate import ladder

if TYPE_CHECKING:
    from ipa_bench.validate import Validation
    from ipa_bench.validate.people import PeopleValidation

#: the scorer of this process, once :func:`start` has run
_scorers: list[Scorer] = []


def start(metrics: Sequence[str], threads: int, observer: str = "litert") -> None:
    """Once in each worker: models are loaded when first needed and kept."""
    _scorers[:] = [Scorer(Looker(threads=threads, backend=observer), metrics)]


def scorer() -> Scorer:
    """The scorer of this worker."""
    return _scorers[0]


def stop() -> None:
    """Free what the scorer of this process holds."""
    for each in _scorers:
        each.looker.close()
    _scorers.clear()


def hands(clip: Path) -> HandTracks:
    """The hands of a clip. Raises Unscorable."""
    return scorer().looker.hands(clip)


def observe(clip: Path) -> None:
    """Look at a clip, so that it is in the cache. What is wrong with it is recorded where it is used."""
    with suppress(Unscorable):
        scorer().observe(clip)


def observe_variant(work: tuple[Path, ladder.Variant, HandTracks]) -> dict[str, Any]:
    """A damaged version of a clip: :func:`ipa_bench.validate.ladder.observe_variant` with the user's cache."""
    clip, variant, tracks = work
    return ladder.observe_variant(clip, variant, tracks, Cache())


def score_file(work: tuple[Path, Case | None]) -> dict[str, Any]:
    """Scores of a clip, or the reason why there are none; values JSON can hold."""
    clip, case = work
    try:
        result = scorer().score(clip, case)
    except Unscorable as error:
        return {"video": str(clip), "reason": error.reason}
    scores = {m: {"value": v.value, "reason": v.reason} for m, v in result.measured.items()}
    return {"video": str(clip), "sha256": result.evidence.hands.sha256, "notes": list(result.notes), "scores": scores}


def score_files(
    clips: Sequence[Path], driving: Path | None, cross_identity: bool, observer: str, jobs: int, progress: Progress
) -> Iterator[dict[str, Any]]:
    """Score clips without a suite, each as :func:`score_file` does, on ``jobs`` processes (0: every core).

    With ``driving``, every clip is a video of that one case. Raises UserError for a driving clip that is not there.
    """
    case = None
    if driving is not None:
        if not driving.is_file():
            raise UserError(f"{driving} is not a file", "give the video that drove the clips")
        case = Case(driving.stem, driving, None if cross_identity else driving)
    truth = case.ground_truth if case else None
    looker = Looker(backend=observer)
    # What the cache holds is faster read here than sent to a worker.
    new = {clip for clip in clips if not (looker.knows(clip, truth) and (case is None or looker.knows(case.driving)))}
    processes, threads = pool.share_cores(jobs or pool.cores(), len(new))
    needs = {"free"} if case is None else {"free", "driving"} if cross_identity else {"free", "driving", "ground_truth"}
    names = [m.info.id for m in DEFAULT if m.info.needs in needs]
    progress("score", 0, len(clips))
    arguments = (names, threads, observer)
    start(*arguments)
    # One process is this one, which has started already.
    begin = start if processes > 1 else None
    scored = pool.imap(score_file, [(clip, case) for clip in clips if clip in new], processes, begin, arguments)
    try:
        if case is not None and new and processes > 1:  # or every worker would look at it
            observe(case.driving)
        for count, clip in enumerate(clips, 1):
            yield next(scored) if clip in new else score_file((clip, case))
            progress("score", count, len(clips))
    finally:
        stop()


def validate_people_files(clips: Sequence[Path], jobs: int, progress: Progress) -> PeopleValidation:
    """Known faults of who is who on every clip with two people. Raises UserError where no clip can be used."""
    from ipa_bench.validate import people

    def run(items: Sequence[tuple[Path, people.Variant]]) -> Iterator[dict[str, Any]]:
        progress("faults", 0, len(items))
        for count, arrays in enumerate(pool.imap(people.observe, items, min(jobs or pool.cores(), len(items))), 1):
            yield arrays
            progress("faults", count, len(items))

    return people.validate_people(clips, run)


def validate_files(clips: Sequence[Path], jobs: int, progress: Progress) -> Validation:
    """The ladder of damage on every clip, on ``jobs`` processes. Raises UserError where no clip can be used."""
    from ipa_bench.validate import validate

    cores = jobs or pool.cores()

    def run(items: Sequence[tuple[Path, ladder.Variant, HandTracks]]) -> Iterator[dict[str, Any]]:
        progress("damage", 0, len(items))
        for count, arrays in enumerate(pool.imap(observe_variant, items, min(cores, len(items))), 1):
            yield arrays
            progress("damage", count, len(items))

    return validate(clips, Looker(threads=cores), run)
