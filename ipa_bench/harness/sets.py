"""Distances between sets of videos: each model's against the ground truth, and every two models' difference.

Features of a file are made once and kept by content: a second model costs its own videos, a rerun costs nothing.
Intervals are over identities; the difference of two models is paired on the windows that both have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ipa_bench import video
from ipa_bench.cache import Cache, digest
from ipa_bench.cost.ledger import Ledger
from ipa_bench.engine.processes import Progress
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.files import located
from ipa_bench.metrics.set_table import HAND_FVMD
from ipa_bench.metrics.sets.hand_motion import hand_motion_features
from ipa_bench.metrics.sets.intervals import compare_sets, measure_sets
from ipa_bench.observers.hands import OBSERVER_ID
from ipa_bench.observers.looker import Looker
from ipa_bench.store import CaseEntry, RunStore
from ipa_bench.store import sets as set_results
from ipa_bench.store.sets import SetResult
from ipa_bench.types import Float64, MetricInfo

#: rates of two sets may differ by this share
RATE_SLACK = 0.01
#: one window of one video of one case: (case, seed, first frame); of the ground truth, the seed is -1
Key = tuple[str, int, int]


@dataclass(frozen=True)
class Clip:
    """One video of a set."""

    path: Path
    case: CaseEntry
    seed: int

    @property
    def identity(self) -> str:
        """Clips of one identity are not independent."""
        return self.case.identity or self.case.id


@dataclass(frozen=True, eq=False)
class Rows:
    """Features of a set of videos."""

    #: float64 ``[n, d]``
    values: Float64
    keys: tuple[Key, ...]
    #: of each row
    identities: tuple[str, ...]
    #: why videos were left out, one entry for each
    skipped: tuple[str, ...] = ()

    def only(self, keys: Sequence[Key]) -> Rows:
        """The rows of these keys, in their order."""
        place = {key: index for index, key in enumerate(self.keys)}
        index = [place[key] for key in keys]
        identities = tuple(self.identities[i] for i in index)
        return replace(self, values=self.values[index], keys=tuple(keys), identities=identities)


#: the videos of a set, and whether it is the ground truth, to features
Extract = Callable[[Sequence[Clip], Progress], Rows]


def measure(
    store: RunStore, metrics: Sequence[MetricInfo], *, cache: Cache | None = None, progress: Progress = lambda *_: None
) -> tuple[SetResult, ...]:
    """Distances of a scored run, kept in its folder; measured again only where a video or a definition has changed.

    A metric that cannot be had (absent weights, too few frames, fewer than two videos) has a reason instead. Raises
    UserError for a full disk.
    """
    opened: dict[str, tuple[str, Extract] | UserError] = {}
    for info in metrics:
        try:
            opened[info.id] = _open(info.id, cache or Cache())
        except UserError as error:
            opened[info.id] = error
    models = [model.name for model in store.header.models]
    sets = {name: _clips(store, name) for name in models}
    truth = _truth(store.header.cases)
    # why something is absent names a folder of this machine: that must not tell runs apart
    names = {m: found[0] if isinstance(found, tuple) else None for m, found in opened.items()}
    hashes = {unit: record.sha256 for unit, record in store.records().items() if unit[2] in sets}
    known = {str(clip.path): video.file_sha256(clip.path) for clip in truth if clip.path.is_file()}
    key = digest(names, sorted((*map(str, unit), sha) for unit, sha in hashes.items() if sha), sorted(known.items()))
    kept = set_results.load(store.folder, key)
    if kept is not None:
        return kept
    ledger, results = Ledger(store.folder), []
    with ledger.phase("evaluate", unit="evaluation") as phase:
        for info in metrics:
            results += _metric(info.id, opened[info.id], sets, truth, progress)
            ledger.tick()
        phase.add(1)
    set_results.save(store.folder, key, results)
    return tuple(results)


def _clips(store: RunStore, model: str) -> list[Clip]:
    cases = {case.id: case for case in store.header.cases}
    found = []
    for (case, seed, name), record in sorted(store.records().items()):
        if name == model and case in cases and (path := located(record.video, store.folder)) is not None:
            found.append(Clip(path, cases[case], seed))
    return found


def _truth(cases: Sequence[CaseEntry]) -> list[Clip]:
    """One clip for each ground truth: several cases may share one."""
    unique = {case.ground_truth: case for case in reversed(cases) if case.ground_truth}
    return [Clip(Path(path), case, -1) for path, case in reversed(unique.items())]


def _metric(
    metric: str,
    opened: tuple[str, Extract] | UserError,
    sets: Mapping[str, Sequence[Clip]],
    truth: Sequence[Clip],
    progress: Progress,
) -> list[SetResult]:
    """Every model's distance, then every two models' difference."""
    if isinstance(opened, UserError):
        return [SetResult(metric, "", model, reason=opened.reason) for model in sets]
    name, extract = opened
    if len(truth) < 2:
        reason = "fewer than two ground truths: no set to compare with"
        return [SetResult(metric, name, model, reason=reason) for model in sets]
    reference = extract(truth, progress)
    rows: dict[str, Rows] = {}
    results = []
    for model, clips in sets.items():
        mine = extract(clips, progress)
        result, usable = _distance(metric, name, model, mine, reference, clips, truth)
        results.append(result)
        if usable:
            rows[model] = mine
    order = list(rows)
    for i, baseline in enumerate(order):
        results += [_difference(metric, name, model, baseline, rows, reference) for model in order[i + 1 :]]
    return results


def _distance(
    metric: str, name: str, model: str, mine: Rows, reference: Rows, clips: Sequence[Clip], truth: Sequence[Clip]
) -> tuple[SetResult, bool]:
    skipped, why = len(mine.skipped) + len(reference.skipped), next(iter([*mine.skipped, *reference.skipped]), "")

    def without(reason: str) -> tuple[SetResult, bool]:
        return SetResult(metric, name, model, reason=reason, skipped=skipped, skipped_why=why), False

    if len(mine.values) < 2 or len(reference.values) < 2:
        few = "its videos" if len(mine.values) < 2 else "the ground truths"
        return without(f"fewer than two windows of {few} can be used" + (f": {why}" if why else ""))
    if metric != HAND_FVMD.id and (differ := _different_rates([*clips, *truth])) is not None:
        return without(differ)
    try:
        found = measure_sets(mine.values, reference.values, (mine.identities, reference.identities))
    except UserError as error:
        return without(error.problem)
    return SetResult(metric, name, model, value=found, skipped=skipped, skipped_why=why), True


def _different_rates(clips: Sequence[Clip]) -> str | None:
    """Why windows of these clips show other lengths of time, or None."""
    rates = []
    for clip in clips:
        with suppress(Unscorable):  # one that cannot be read has been left out, with this reason
            rates.append(video.probe(clip.path).fps)
    if not rates or max(rates) <= min(rates) * (1 + RATE_SLACK):
        return None
    return (
        f"clips of {min(rates):.4g} and of {max(rates):.4g} frames a second: windows of equally many frames would "
        "show other lengths of time; give ground truths at the models' rate"
    )


def _difference(
    metric: str, name: str, model: str, baseline: str, rows: Mapping[str, Rows], reference: Rows
) -> SetResult:
    shared = sorted(set(rows[model].keys) & set(rows[baseline].keys))
    if len(shared) < 2:
        return SetResult(metric, name, model, baseline, reason="fewer than two windows that both models have")
    a, b = (rows[which].only(shared) for which in (model, baseline))
    try:
        found = compare_sets(a.values, b.values, reference.values, (a.identities, reference.identities))
    except UserError as error:
        return SetResult(metric, name, model, baseline, reason=error.problem)
    return SetResult(metric, name, model, baseline, value=found)


# ---------------------------------------------------------------------------------------------------------------------
# what features are


def _open(metric: str, cache: Cache) -> tuple[str, Extract]:
    """What a metric's features are, in one line, and how to get them. Raises UserError where that cannot be."""
    return _hand_fvmd() if metric == HAND_FVMD.id else _by_network(metric, cache)


def _by_network(metric: str, cache: Cache) -> tuple[str, Extract]:
    from ipa_bench.observers.features import (
        networks as set_networks,  # brings in torch, which a run without such metrics does without
    )
    from ipa_bench.observers.features.extract import extract

    definition, backbone = set_networks.network(metric)

    def rows(clips: Sequence[Clip], progress: Progress) -> Rows:
        found = extract([clip.path for clip in clips], definition, backbone(), cache, progress=progress)
        owner = [clips[i] for i in found.owner]
        keys = tuple((c.case.id, c.seed, int(start)) for c, start in zip(owner, found.start, strict=True))
        skipped = tuple(entry.reason for entry in found.skipped)
        return Rows(found.values.astype(np.float64), keys, tuple(c.identity for c in owner), skipped)

    return definition.id, rows


def _hand_fvmd() -> tuple[str, Extract]:
    looker = Looker()

    def rows(clips: Sequence[Clip], progress: Progress) -> Rows:
        vectors, used, skipped = [], [], []
        for count, clip in enumerate(clips, 1):
            try:
                driving = None if clip.seed < 0 else looker.hands(Path(clip.case.driving))
                found = hand_motion_features(looker.hands(clip.path), driving)
            except Unscorable as error:
                skipped.append(error.reason)
                continue
            if found.value is None:
                skipped.append(f"{clip.path.name}: {found.reason}")
            else:
                vectors.append(found.value)
                used.append(clip)
            progress("hand motion", count, len(clips))
        values = np.array(vectors) if vectors else np.zeros((0, 1))
        return Rows(
            values, tuple((c.case.id, c.seed, 0) for c in used), tuple(c.identity for c in used), tuple(skipped)
        )

    return f"{HAND_FVMD.id}|{OBSERVER_ID}", rows
