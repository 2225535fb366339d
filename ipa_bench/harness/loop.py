"""The benchmark loop: a suite and a folder in, a scored run out.

Generate, observe, score, store; resume is the difference between what is wanted and what is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ipa_bench.cost import ledger as cost_ledger
from ipa_bench.cost.ledger import Ledger
from ipa_bench.engine import Engine, EngineName, opened
from ipa_bench.engine.processes import Progress
from ipa_bench.errors import Unscorable
from ipa_bench.files import file_sha256
from ipa_bench.harness import floor, generate, sealed
from ipa_bench.harness import sets as set_stage
from ipa_bench.harness import workers as work
from ipa_bench.harness.details import details
from ipa_bench.harness.header import Prepared, prepare
from ipa_bench.metrics.base import Metric
from ipa_bench.models import Model
from ipa_bench.models.clips import MadeModel
from ipa_bench.models.folder import FolderModel
from ipa_bench.store import Details, FloorRecord, RunStore, Unit, UnitRecord
from ipa_bench.suite import Suite
from ipa_bench.types import Case, Score, Video

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Job:
    """One video to score."""

    case: Case
    seed: int
    model: Model

    @property
    def unit(self) -> Unit:
        return (self.case.id, self.seed, self.model.name)

    def __str__(self) -> str:
        return "case {}, seed {}, model {}".format(*self.unit)


@dataclass(frozen=True)
class FloorJob:
    """The noise floor of one case."""

    case: Case

    def __str__(self) -> str:
        return f"noise floor of case {self.case.id}"


#: what a worker makes of a job: for the floor, and where nothing could be looked at, there is nothing to draw
Result = tuple[UnitRecord | FloorRecord, Details | None]


def run(
    suite: Suite,
    folder: Path,
    *,
    jobs: int = 0,
    sets: bool = True,
    progress: Progress = lambda *_: None,
    engine: Engine | EngineName = "processes",
) -> RunStore:
    """:func:`run_prepared` of what :func:`~ipa_bench.harness.header.prepare` finds. Raises UserError as both do."""
    return run_prepared(prepare(suite, folder), jobs=jobs, sets=sets, progress=progress, engine=engine)


def run_prepared(
    run: Prepared,
    *,
    jobs: int = 0,
    sets: bool = True,
    progress: Progress = lambda *_: None,
    engine: Engine | EngineName = "processes",
) -> RunStore:
    """Score every video of a run that its folder does not hold yet, on ``jobs`` workers (0: one a core).

    Workers are processes of this machine or of a Ray cluster; this process alone writes to the folder, each result
    once. Clips of generative models are made first, in this process: scoring sees files. Distances between sets of
    videos come last, in this process too; ``sets=False`` leaves them out. Raises UserError before anything expensive
    where the folder cannot be used or belongs to another suite, or where the engine cannot be had.
    """
    store = RunStore.open(run.folder, run.header)
    if run.suite.sealed is not None:
        sealed.note_use(run.suite.sealed, run.header, run.folder)
    cost_ledger.write_post_training(run.folder, run.post_training)
    with opened(engine, jobs) as workers:
        if run.plans:
            generate.generate(run.suite, run.folder, progress=progress, known=run.plans)
        todo = _unfinished(run, store)
        if todo:
            _score_all(todo, store, workers, run.metrics, progress)
    store.close()
    if sets:
        set_stage.measure(store, run.set_metrics, progress=progress)
    return store


def _score_all(
    todo: Sequence[Job | FloorJob], store: RunStore, workers: Engine, metrics: Sequence[Metric], progress: Progress
) -> None:
    """Score and store. What workers on other machines take is not in the run's sheet but for their wall time."""
    ledger = Ledger(store.folder)
    with ledger.phase("observe", unit="video") as phase:
        # Clips that many videos are compared with are observed first, or two workers would do the same one at once.
        clips = list(dict.fromkeys(p for job in todo for p in (job.case.driving, job.case.ground_truth) if p))
        for _ in _each("observe", work.observe, clips, workers, metrics, progress):
            ledger.tick()
        for record, drawn in _each("score", _score, todo, workers, metrics, progress):
            if isinstance(record, UnitRecord) and drawn is not None:
                store.write_details(record.unit, drawn)
            store.append(record)
            phase.add(1)
            ledger.tick()


def _each(
    stage: str,
    function: Callable[[T], R],
    items: Sequence[T],
    engine: Engine,
    metrics: Sequence[Metric],
    progress: Progress,
) -> Iterator[R]:
    workers, threads = engine.share(len(items))
    progress(stage, 0, len(items))
    names = [m.info.id for m in metrics]
    for count, result in enumerate(engine.imap(function, items, workers, work.start, (names, threads)), 1):
        yield result
        progress(stage, count, len(items))


def _unfinished(run: Prepared, store: RunStore) -> list[Job | FloorJob]:
    """Videos without a score in the store, those that are not the ones that were scored, and floors that are not known.

    A video that could not be scored is tried again: it may have been added or mended since.
    """
    suite, held = run.suite, store.read()
    metrics = [metric.info.id for metric in run.metrics]
    done, known = held.done(metrics), held.floors_done(metrics)

    def is_done(job: Job) -> bool:
        record = held.records.get(job.unit)
        if record is None or job.unit not in done:
            return False
        if not isinstance(job.model, FolderModel | MadeModel):
            return record.sha256 is not None
        try:
            return record.sha256 == file_sha256(job.model.generate(job.case, job.seed))
        except Unscorable as error:  # gone: a new record says so, unless one does already
            return record.sha256 is None and all(score.reason == error.reason for score in record.scores)

    videos = [Job(case, seed, model) for case in suite.cases for model in run.models for seed in suite.seeds]
    floors = [FloorJob(suite.cases[i]) for i in floor.cases_of(len(suite.cases))]
    return [*(job for job in videos if not is_done(job)), *(job for job in floors if job.case.id not in known)]


def _score(job: Job | FloorJob) -> Result:
    begin = time.monotonic()
    scorer = work.scorer()
    if isinstance(job, FloorJob):
        return floor.measure(job.case, scorer), None
    case, seed, model = job.unit
    try:
        made = job.model.generate(job.case, job.seed)
        result = scorer.score(made, job.case)
    except Unscorable as error:
        reasons = tuple(Score(case, seed, model, m.info.id, reason=error.reason) for m in scorer.metrics)
        return UnitRecord(case, seed, model, scores=reasons), None
    scores = tuple(Score(case, seed, model, m, v.value, v.reason) for m, v in result.measured.items())
    record = UnitRecord(
        case,
        seed,
        model,
        video=None if isinstance(made, Video) else str(made.absolute()),
        sha256=result.evidence.hands.sha256,
        seconds=round(time.monotonic() - begin, 3),
        notes=result.notes,
        scores=scores,
    )
    return record, details(result, job.case)
