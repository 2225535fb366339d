"""The benchmark loop: a suite and a folder in, a scored run out.

Generate, observe, score, store; resume is the difference between what is wanted and what is there.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ipa_bench import __version__, video
from ipa_bench.cache import Cache
from ipa_bench.cost import ledger as cost_ledger
from ipa_bench.cost.ledger import Ledger
from ipa_bench.engine import Engine, EngineName, opened
from ipa_bench.engine.processes import Progress
from ipa_bench.errors import Unscorable
from ipa_bench.harness import generate
from ipa_bench.harness import sets as set_stage
from ipa_bench.harness import workers as work
from ipa_bench.harness.before import post_training
from ipa_bench.metrics.base import Evidence, Metric
from ipa_bench.metrics.set_table import SET_METRICS
from ipa_bench.models import Model, damage
from ipa_bench.models.clips import MadeModel
from ipa_bench.models.damaged import DamageModel
from ipa_bench.models.folder import FolderMatch, FolderModel
from ipa_bench.models.reencoded import ReencodeModel
from ipa_bench.observers import perceptual, pixels
from ipa_bench.observers.hands import OBSERVER_ID
from ipa_bench.report.view import ReportView
from ipa_bench.scorer import ALL, Scorer, Scores, find
from ipa_bench.store import CaseEntry, Details, ModelEntry, RunHeader, RunStore, Unit, UnitRecord
from ipa_bench.store import sets as set_results
from ipa_bench.suite import DamageSpec, FolderSpec, ModelSpec, ReencodeSpec, Suite
from ipa_bench.types import Case, Float32, HandTracks, MetricInfo, Score, Video
from ipa_bench.validate import ladder

#: what a harmless re-encode does to the metrics is measured on at most this many cases
FLOOR_CASES = 8
#: stands for the re-encoded driving clips in the store; no model can be called so, names have no slash
FLOOR_MODEL = "re-encoded/floor"
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Job:
    """One video to score, or with no model the noise floor of its case."""

    case: Case
    seed: int
    model: Model | None

    @property
    def unit(self) -> Unit:
        return (self.case.id, self.seed, self.model.name if self.model else FLOOR_MODEL)

    def __str__(self) -> str:
        return "case {}, seed {}, model {}".format(*self.unit)


def run(
    suite: Suite,
    folder: Path,
    *,
    jobs: int = 0,
    sets: bool = True,
    progress: Progress = lambda *_: None,
    engine: Engine | EngineName = "processes",
) -> RunStore:
    """Score every video of ``suite`` that ``folder`` does not hold yet, on ``jobs`` workers (0: one a core).

    Workers are processes of this machine or of a Ray cluster; this process alone writes to the folder, each result
    once. Clips of generative models are made first, in this process: scoring sees files. Distances between sets of
    videos come last, in this process too; ``sets=False`` leaves them out. Raises UserError before anything expensive
    where the folder cannot be used or belongs to another suite, or where the engine cannot be had.
    """
    metrics = metrics_of(suite)
    plans = generate.plans(suite, folder)
    store = RunStore.open(folder, header(suite, metrics, plans))
    cost_ledger.write_post_training(folder, post_training(suite))
    models = [plans[spec.name].model if spec.name in plans else build(spec, folder) for spec in suite.models]
    with opened(engine, jobs) as workers:
        if plans:
            generate.generate(suite, folder, progress=progress, known=plans)
        wanted = [Job(case, seed, model) for case in suite.cases for model in models for seed in suite.seeds]
        wanted += [Job(suite.cases[i], 0, None) for i in _floor_cases(len(suite.cases))]
        todo = _unfinished(wanted, store, metrics)
        if todo:
            _score_all(todo, store, workers, metrics, progress)
    store.close()
    if sets:
        set_stage.measure(store, set_metrics_of(suite), progress=progress)
    return store


def _score_all(
    todo: Sequence[Job], store: RunStore, workers: Engine, metrics: Sequence[Metric], progress: Progress
) -> None:
    """Score and store. What workers on other machines take is not in the run's sheet but for their wall time."""
    ledger = Ledger(store.folder)
    with ledger.phase("observe", unit="video") as phase:
        # Clips that many videos are compared with are observed first, or two workers would do the same one at once.
        clips = list(dict.fromkeys(p for job in todo for p in (job.case.driving, job.case.ground_truth) if p))
        for _ in _each("observe", work.observe, clips, workers, metrics, progress):
            ledger.tick()
        for record, details in _each("score", _score, todo, workers, metrics, progress):
            if details is not None:
                store.write_details(record.unit, details)
            store.append(record)
            phase.add(1)
            ledger.tick()


def _floor_cases(count: int) -> list[int]:
    """Which of ``count`` cases the noise floor is measured on: at most ``FLOOR_CASES``, spread evenly."""
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(FLOOR_CASES, count)).round())]


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


def _unfinished(jobs: Sequence[Job], store: RunStore, metrics: Sequence[Metric]) -> list[Job]:
    """Jobs without a score in the store, and those whose video is not the one that was scored.

    A video that could not be scored is tried again: it may have been added or mended since.
    """
    done, records = store.done(m.info.id for m in metrics), store.records()

    def is_done(job: Job) -> bool:
        record = records.get(job.unit)
        if record is None or job.unit not in done:
            return False
        if not isinstance(job.model, FolderModel | MadeModel):
            return job.model is None or record.sha256 is not None
        try:
            return record.sha256 == video.file_sha256(job.model.generate(job.case, job.seed))
        except Unscorable as error:  # gone: a new record says so, unless one does already
            return record.sha256 is None and all(score.reason == error.reason for score in record.scores)

    return [job for job in jobs if not is_done(job)]


def _score(job: Job) -> tuple[UnitRecord, Details | None]:
    begin = time.monotonic()
    scorer = work.scorer()
    case, seed, model = job.unit
    try:
        if job.model is None:
            return _floor(job, scorer), None
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
    return record, _details(result)


def _floor(job: Job, scorer: Scorer) -> UnitRecord:
    """What a harmless re-encode of a case's clip does to each metric, as the scores of a model that nobody sees."""
    case, seed, model = job.unit
    clip = job.case.ground_truth or job.case.driving
    hands = scorer.looker.hands(clip)
    if len(hands.times) < 2:
        raise Unscorable("one frame is too few to re-encode")
    observed = {v: ladder.observe_variant(clip, v, hands, Cache()) for v in (ladder.CLEAN, ladder.FLOOR)}
    floors = ladder.noise_floor(hands, observed, scorer.metrics)
    scores = (
        Score(case, seed, model, m, value, None if value is not None else "no value to compare")
        for m, value in floors.items()
    )
    return UnitRecord(case, seed, model, scores=tuple(scores))


def _details(result: Scores) -> Details:
    """What the report draws: landmarks of both videos in shares of the frame, and values over time."""
    evidence, pair, hands = result.evidence, result.evidence.driving, result.evidence.hands
    index = np.arange(len(hands.times)) if pair is None else pair.generated_index
    series = {}
    for metric, measured in result.measured.items():
        if measured.series is not None:
            over_time = np.full(len(hands.times), np.nan, np.float32)
            over_time[_frames_of(metric, evidence)] = measured.series
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
    )


def _frames_of(metric: str, evidence: Evidence) -> NDArray[np.int64]:
    """The generated frames that a metric's series is about."""
    needs = find(metric).info.needs
    if needs == "free":
        return np.arange(len(evidence.hands.times))
    of_truth = needs == "ground_truth" or metric.startswith("hand.sharpness")
    pair = evidence.truth if of_truth and evidence.truth else evidence.driving
    return np.arange(0) if pair is None else pair.generated_index


def _shares(landmarks: NDArray[Any], size: tuple[int, int]) -> Float32:
    return np.asarray(landmarks / np.array(size), np.float32)


def _fps(hands: HandTracks) -> float:
    return 1 / float(np.median(np.diff(hands.times))) if len(hands.times) > 1 else 1.0


def metrics_of(suite: Suite) -> tuple[Metric, ...]:
    """The metrics that a suite asks for, its primary one among them. Raises UserError for an unknown name."""
    if not suite.metrics:
        find(suite.primary)
        return ALL
    of_sets = {name for info in SET_METRICS for name in _names(info)}
    of_videos = [name for name in suite.metrics if name not in of_sets]
    wanted = {find(name).info.id for name in (suite.primary, *of_videos)}
    return tuple(m for m in ALL if m.info.id in wanted)


def set_metrics_of(suite: Suite) -> tuple[MetricInfo, ...]:
    """The metrics of sets of videos that a suite asks for; all where it names no metric at all."""
    if not suite.metrics:
        return SET_METRICS
    return tuple(info for info in SET_METRICS if _names(info) & set(suite.metrics))


def _names(info: MetricInfo) -> set[str]:
    """What a suite may call a metric: with its version or without."""
    return {info.id, info.id.partition("@")[0]}


def build(spec: ModelSpec, folder: Path) -> Model:
    """The model that a suite's entry describes; what it makes goes into the run folder.

    Generative models are not built here: see :func:`ipa_bench.harness.generate.plans`.
    """
    if isinstance(spec, FolderSpec):
        return FolderModel(spec.name, spec.path)
    videos = folder / "videos" / spec.name
    if isinstance(spec, ReencodeSpec):
        return ReencodeModel(spec.name, spec.crf, videos)
    if isinstance(spec, DamageSpec):
        damage.find(spec.damage)
        return DamageModel(spec.name, spec.damage, spec.strength, videos, work.hands)
    raise TypeError(f"{spec.kind} clips are made by ipa_bench.harness.generate")


def _source(spec: ModelSpec, plans: Mapping[str, generate.Plan]) -> str:
    """Where a model's videos come from, in one line; another source is another model."""
    if isinstance(spec, FolderSpec):
        return str(spec.path.absolute())
    if isinstance(spec, ReencodeSpec):
        return f"ground truth at CRF {spec.crf}"
    return f"{spec.damage}:{spec.strength}" if isinstance(spec, DamageSpec) else plans[spec.name].source


def matches(suite: Suite) -> dict[str, FolderMatch]:
    """What each folder model has, lacks, and has too much of. Raises UserError where a match is ambiguous."""
    return {
        spec.name: FolderModel(spec.name, spec.path).match(suite.cases, suite.seeds)
        for spec in suite.models
        if isinstance(spec, FolderSpec)
    }


def header(suite: Suite, metrics: Iterable[Metric], plans: Mapping[str, generate.Plan]) -> RunHeader:
    """Everything that makes a run repeatable. ``plans`` of its generative models."""
    return RunHeader(
        name=suite.name,
        suite_hash=suite.hash(),
        primary=find(suite.primary).info.id,
        seeds=suite.seeds,
        metrics=tuple(m.info.id for m in metrics),
        cases=tuple(
            CaseEntry(c.id, c.identity, c.split, str(c.driving.absolute()), _absolute(c.ground_truth), c.tags)
            for c in suite.cases
        ),
        models=tuple(ModelEntry(m.name, m.kind, _source(m, plans), m.trained_on) for m in suite.models),
        environment=environment(generate.PACKAGES if plans else ()),
        tool_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


def environment(packages: Iterable[str] = ()) -> dict[str, str]:
    """Versions that may change a number; ``packages`` beyond those of scoring."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    for name in ("numpy", "av", "ai-edge-litert", "pillow", "scipy", "torch", *packages):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    observers = {"hands": OBSERVER_ID, "pixels": pixels.OBSERVER_ID, "lpips": perceptual.OBSERVER_ID}
    return found | observers | {"models": "mediapipe 0.10.21"}


def view(store: RunStore, price: float | None = None) -> ReportView:
    """Compare the models of a run: what every report is made from. ``price``: money for an hour of a device."""
    from ipa_bench.compare import leaderboard  # brings in scipy, which workers do without

    head = store.header
    records = store.records()
    infos = tuple(m.info for m in ALL if m.info.id in head.metrics)
    models = [m.name for m in head.models]
    floors: dict[str, list[float]] = {}
    # A run that began with a limit holds the floor of more cases than are asked for now.
    spread = {head.cases[i].id for i in _floor_cases(len(head.cases))}
    for (case, _, model), record in records.items():
        for score in record.scores if model == FLOOR_MODEL and case in spread else ():
            if score.value is not None:
                floors.setdefault(score.metric, []).append(score.value)
    with_floor = {i.id for i in infos if i.has_floor}
    measured = {metric: float(np.mean(values)) for metric, values in floors.items() if metric in with_floor}
    board = leaderboard(
        [score for score in store.scores() if score.model != FLOOR_MODEL],
        identity_of={case.id: case.identity for case in head.cases},
        units=[(case.id, seed) for case in head.cases for seed in head.seeds],
        models=models,
        metrics=infos,
        primary=head.primary,
        floors=measured,
        trained_on={m.name: m.trained_on for m in head.models},
    )
    shown = {unit: record for unit, record in records.items() if unit[2] != FLOOR_MODEL}
    sets, costs = set_results.load(store.folder) or (), cost_ledger.read(store.folder)
    return ReportView(head, board, shown, infos, measured, store.read_details, sets, costs, price)
