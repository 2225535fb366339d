"""The noise floor of a run: what a harmless re-encode of its clips does to each metric. Nothing inside it is ranked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ipa_bench import video
from ipa_bench.cache import Cache
from ipa_bench.errors import Unscorable
from ipa_bench.metrics.pairing import period
from ipa_bench.scorer import Scorer
from ipa_bench.store import FloorRecord, RunHeader
from ipa_bench.types import Case, MetricInfo
from ipa_bench.validate import ladder

#: it is measured on at most this many cases
FLOOR_CASES = 8


def cases_of(count: int) -> list[int]:
    """Which of ``count`` cases the floor is measured on: at most ``FLOOR_CASES``, spread evenly."""
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(FLOOR_CASES, count)).round())]


def measure(case: Case, scorer: Scorer) -> FloorRecord:
    """What a re-encode of a case's ground truth (or its driving clip) does to each metric of ``scorer``."""
    clip = case.ground_truth or case.driving
    try:
        hands = scorer.looker.hands(clip)
        if len(hands.times) < 2:
            raise Unscorable("one frame is too few to re-encode")
        observed = {v: ladder.observe_variant(clip, v, hands, Cache()) for v in (ladder.CLEAN, ladder.FLOOR)}
    except Unscorable as error:
        return FloorRecord(case.id, reasons={m.info.id: error.reason for m in scorer.metrics})
    found = ladder.noise_floor(hands, observed, scorer.metrics) | _of_files(case, clip, scorer)
    return FloorRecord(
        case.id,
        {metric: value for metric, value in found.items() if value is not None},
        {metric: "no value to compare" for metric, value in found.items() if value is None},
    )


def _of_files(case: Case, clip: Path, scorer: Scorer) -> dict[str, float | None]:
    """The same for the metrics that only a suite asks for: they look through observers that the ladder has not, so
    both harmless versions are written as files and scored as a model's are."""
    names = [metric.info.id for metric in scorer.metrics if metric.asked and metric.info.has_floor]
    if not names:
        return {}
    asked = Scorer(scorer.looker, names)
    fps = 1 / period(scorer.looker.hands(clip).times)
    values: list[dict[str, float | None]] = []
    with TemporaryDirectory() as folder:
        for variant in (ladder.CLEAN, ladder.FLOOR):
            made = Path(folder) / f"{variant[0]}.mp4"
            frames = (frame.image for frame in video.read_frames(clip))
            video.encode(frames, made, fps, crf=ladder.quality(variant), preset="veryfast")
            try:
                measured = asked.score(made, case).measured
            except Unscorable:
                return dict.fromkeys(names)
            values.append({name: each.value for name, each in measured.items()})
    one, other = values
    pairs = {name: (one[name], other[name]) for name in names}
    return {name: None if a is None or b is None else abs(a - b) for name, (a, b) in pairs.items()}


def of_run(header: RunHeader, records: Mapping[str, FloorRecord], infos: Iterable[MetricInfo]) -> dict[str, float]:
    """metric id -> mean over cases of what is known, for metrics that have a floor.

    A run that began with a limit holds the floor of more cases than its present ones would be measured on: those do
    not count.
    """
    spread = {header.cases[i].id for i in cases_of(len(header.cases))}
    with_floor = {info.id for info in infos if info.has_floor}
    values: dict[str, list[float]] = {}
    for record in records.values():
        for metric, change in record.changes.items() if record.case in spread else ():
            values.setdefault(metric, []).append(change)
    return {metric: float(np.mean(found)) for metric, found in values.items() if metric in with_floor}
