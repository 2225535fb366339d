"""A run before it begins: one look at a suite and a folder gives everything that the stages need; none asks again."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ipa_bench import __version__
from ipa_bench.cost.ledger import PostTraining
from ipa_bench.harness import generate
from ipa_bench.harness import workers as work
from ipa_bench.harness.before import post_training
from ipa_bench.metrics.base import Metric
from ipa_bench.metrics.table import DEFAULT, METRICS, RANKED_ON, SET_METRICS, find, is_evidence, parts_of
from ipa_bench.models import Model, kinds
from ipa_bench.models.folder import FolderMatch
from ipa_bench.models.specs import ModelSpec
from ipa_bench.observers.table import OBSERVERS, versions
from ipa_bench.store import CaseEntry, ModelEntry, RunHeader
from ipa_bench.suite import Suite
from ipa_bench.types import Case, MetricInfo


@dataclass(frozen=True)
class Prepared:
    """A suite and the folder that its run goes into, looked at once: nothing loaded, nothing written."""

    suite: Suite
    folder: Path
    #: of the suite's generative models, by name
    plans: Mapping[str, generate.Plan]
    #: as the scorer asks them, in the suite's order
    models: tuple[Model, ...]
    #: of videos, and of sets of them, in report order
    metrics: tuple[Metric, ...]
    set_metrics: tuple[MetricInfo, ...]
    header: RunHeader
    #: model -> what it had cost before
    post_training: Mapping[str, PostTraining]


def prepare(suite: Suite, folder: Path) -> Prepared:
    """Everything that a run of ``suite`` in ``folder`` needs to know, found out once.

    Reads every clip and checkpoint file (their hashes); a checkpoint of the hub is downloaded where it is not here.
    Raises UserError for an unknown metric, a checkpoint that is not there, or a model that cannot be.
    """
    metrics = metrics_of(suite)
    plans = generate.plans(suite, folder)
    models = tuple(plans[spec.name].model if spec.name in plans else build(spec, folder) for spec in suite.models)
    head = header(suite, metrics, plans)
    return Prepared(suite, folder, plans, models, metrics, set_metrics_of(suite), head, post_training(suite))


def metrics_of(suite: Suite) -> tuple[Metric, ...]:
    """The metrics that a suite asks for, its primary one among them. Raises UserError for an unknown name.

    Where it names none: all that need not be asked for, who is who by SFace where cases have people by name, and what
    readers of the truth say where cases are scenes of the built-in world.
    """
    primary = primary_of(suite)
    if not suite.metrics:
        named = any(case.references for case in suite.cases)
        chosen = {m.info.id for m in DEFAULT} | {primary}
        chosen |= {m.info.id for m in METRICS if named and "faces.sface" in m.reads}
        chosen |= {m.info.id for m in METRICS if _staged(m) and any(_takes(m, case) for case in suite.cases)}
        return tuple(m for m in METRICS if m.info.id in chosen)
    of_sets = {name for info in SET_METRICS for name in _names(info)}
    of_videos = [name for name in suite.metrics if name not in of_sets]
    wanted = {find(name).info.id for name in (primary, *of_videos)}
    wanted |= {part for name in wanted for part in parts_of(name)}  # they say what a value of a composite rests on
    return tuple(m for m in METRICS if m.info.id in wanted)


def primary_of(suite: Suite) -> str:
    """Id of the metric that models are ranked on. Raises UserError for an unknown name.

    What the suite names; else the first of :data:`ipa_bench.metrics.table.RANKED_ON` that is evidence for each of its
    models and that each of its cases can be scored by; the first of all where there is none.
    """
    if suite.primary is not None:
        return find(suite.primary).info.id
    has_truth = all(case.ground_truth is not None for case in suite.cases)
    possible = [find(name) for name in RANKED_ON if has_truth or find(name).info.needs != "ground_truth"]
    scored = [metric.info.id for metric in possible if all(_takes(metric, case) for case in suite.cases)]
    fair = [name for name in scored if all(is_evidence(name, model.trained_on) for model in suite.models)]
    return (fair or scored)[0]


def _staged(metric: Metric) -> bool:
    """Whether it knows what the built-in world's scenes are."""
    return any(observer.stage for observer in OBSERVERS if observer.name in metric.reads)


def _takes(metric: Metric, case: Case) -> bool:
    """Whether its observers can look at clips of a case, as far as scenes of the built-in world go."""
    return all(observer.takes(case.world) for observer in OBSERVERS if observer.name in metric.reads)


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
    found = kinds.found(spec)
    if found is None:
        raise TypeError(f"{spec.kind} clips are made by ipa_bench.harness.generate")
    return found.build(spec, folder / "videos" / spec.name, work.hands)


def _source(spec: ModelSpec, plans: Mapping[str, generate.Plan]) -> str:
    """Where a model's videos come from, in one line; another source is another model."""
    found = kinds.found(spec)
    return plans[spec.name].source if found is None else found.source(spec)


def matches(suite: Suite) -> dict[str, FolderMatch]:
    """What each folder model has, lacks, and has too much of. Raises UserError where a match is ambiguous."""
    kept = [(spec, found) for spec in suite.models if (found := kinds.found(spec)) is not None]
    return {spec.name: each.match(spec, suite.cases, suite.seeds) for spec, each in kept if each.match is not None}


def header(suite: Suite, metrics: Sequence[Metric], plans: Mapping[str, generate.Plan]) -> RunHeader:
    """Everything that makes a run repeatable. ``plans`` of its generative models."""
    return RunHeader(
        name=suite.name,
        suite_hash=suite.hash(),
        primary=primary_of(suite),
        seeds=suite.seeds,
        metrics=tuple(m.info.id for m in metrics),
        cases=tuple(
            CaseEntry(c.id, c.identity, c.split, str(c.driving.absolute()), _absolute(c.ground_truth), c.tags)
            for c in suite.cases
        ),
        models=tuple(ModelEntry(m.name, m.kind, _source(m, plans), m.trained_on) for m in suite.models),
        environment=environment(dict.fromkeys(name for plan in plans.values() for name in plan.packages)),
        tool_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        observers=_observers(metrics),
    )


def _observers(metrics: Iterable[Metric]) -> dict[str, str]:
    """Ids of the observers that metrics look through; hands say when each frame of any video is shown."""
    read = {"hands", *(name for metric in metrics for name in metric.reads)}
    return {observer.name: observer.id for observer in OBSERVERS if observer.name in read}


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


def environment(packages: Iterable[str] = ()) -> dict[str, str]:
    """Versions that may change a number; ``packages`` beyond those of scoring."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    for name in ("numpy", "av", "ai-edge-litert", "pillow", "scipy", "torch", *packages):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found | versions()
