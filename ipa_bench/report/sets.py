"""Distances between sets of videos as lines of a table: the same words in every format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ipa_bench.metrics.sets.intervals import SetDistance
from ipa_bench.metrics.table import is_evidence
from ipa_bench.report.text import IntervalText, interval_text, plain
from ipa_bench.store.sets import SetResult

EXPLAINED = (
    "Squared distance of a model's videos from the ground truth as two sets, lower is better, with 95 % intervals over "
    "identities. Fréchet: as published; it grows as sets get smaller, so it compares only at equal sizes. Corrected: "
    "estimate for infinite sets. Kernel: unbiased MMD², another unit. Differences are paired on identities; below 0 "
    "the first model is nearer to the ground truth."
)


@dataclass(frozen=True)
class SetLine:
    """One distance or difference."""

    metric: str
    #: ``model``, or ``model − baseline``
    subject: str
    is_difference: bool
    frechet: IntervalText
    corrected: IntervalText
    kernel: IntervalText
    #: windows of the model and of the ground truth, and identities; of them the fewest that intervals are trusted from
    sizes: str
    #: what part of the plain value the sets' sizes make, and doubts
    note: str
    definition: str


def lines(results: Sequence[SetResult], trained_on: Mapping[str, Sequence[str]] = {}) -> tuple[SetLine, ...]:
    """What has values, metric by metric: distances, then differences. ``trained_on``: model -> metric ids."""
    return tuple(_line(result, trained_on) for result in results if result.value is not None)


def absent(results: Sequence[SetResult]) -> tuple[str, ...]:
    """Metrics and models without a value, by reason: ``fvd: no file ...``."""
    found: dict[str, dict[str, list[str]]] = {}
    for result in results:
        if result.reason is not None:
            found.setdefault(result.reason, {}).setdefault(result.metric, []).append(_subject(result))
    models = {result.model for result in results}
    told = []
    for reason, metrics in found.items():
        names = [
            metric if set(subjects) >= models else f"{metric} of {', '.join(subjects)}"
            for metric, subjects in metrics.items()
        ]
        told.append(plain(f"{', '.join(names)}: {reason}"))
    return tuple(told)


def _line(result: SetResult, trained_on: Mapping[str, Sequence[str]]) -> SetLine:
    found = result.value
    assert found is not None
    difference = bool(result.baseline)
    plain_one = found.frechet

    def text(estimate: SetDistance | None) -> IntervalText:
        if estimate is None:
            return interval_text(None, None, None)
        return interval_text(estimate.value, estimate.low, estimate.high, sign=difference)

    return SetLine(
        result.metric,
        plain(_subject(result)),
        difference,
        text(plain_one),
        text(found.corrected),
        text(found.kernel),
        f"{plain_one.n} and {plain_one.m} windows of {plain_one.identities} identities (≥ {plain_one.minimum_n})",
        plain("; ".join([*_notes(result), *_taught(result, trained_on)])),
        result.definition,
    )


def _taught(result: SetResult, trained_on: Mapping[str, Sequence[str]]) -> list[str]:
    """A note where a distance is no evidence for one of its models."""
    models = [
        name for name in (result.model, result.baseline) if not is_evidence(result.metric, trained_on.get(name, ()))
    ]
    return [f"{' and '.join(models)} trained on a metric of the same networks"] if models else []


def _notes(result: SetResult) -> list[str]:
    found = result.value
    assert found is not None
    notes = []
    if result.skipped:
        notes.append(f"{result.skipped} videos left out ({result.skipped_why})")
    estimates = (("Fréchet", found.frechet), ("corrected", found.corrected), ("kernel", found.kernel))
    doubts: dict[str, list[str]] = {}
    for name, estimate in estimates:
        if estimate is not None and estimate.trust is not None:
            doubts.setdefault(estimate.trust, []).append(name)
    notes += [f"{', '.join(names)}: {doubt}" if len(names) < 3 else doubt for doubt, names in doubts.items()]
    if found.corrected is None:
        notes.append("too few identities to correct for the sets' sizes")
    return notes


def _subject(result: SetResult) -> str:
    return f"{result.model} − {result.baseline}" if result.baseline else result.model
