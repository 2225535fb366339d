"""What the page's drill-down reads: one index of the run, one small script per video, and the worst moments."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ipa_bench.files import located
from ipa_bench.report.media import Copy
from ipa_bench.report.view import ReportView, base_name, metric_order
from ipa_bench.store import CaseEntry, Details, Unit, UnitRecord
from ipa_bench.types import Bool, Float32

#: Landmarks are whole numbers in the data files: this many steps across the frame.
STEPS = 10_000
WORST_PER_MODEL = 8
#: Per-frame series worth a gallery, most telling first.
WORST_BY = ("hand.keypoint_error", "hand.worst_finger")

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Moment:
    """The worst frame of one video."""

    unit: Unit
    metric: str
    value: float
    time: float
    frame: int
    #: around the hand that is furthest off, in both videos, x0, y0, x1, y1 in [0, 1]; None where no hand was found
    box: Box | None
    #: whether no hand was found where the driving video shows one
    missed: bool = False


def to_script(value: Any) -> str:
    """``value`` as JSON that is safe inside a script element and inside a JavaScript file."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def data_name(unit: Unit) -> str:
    """A file name for a unit's data that says nothing and cannot be hostile."""
    return hashlib.sha256(json.dumps(list(unit)).encode()).hexdigest()[:20]


def sources(view: ReportView, folder: Path) -> Iterator[Path]:
    """Every video that the page plays."""
    for case in view.header.cases:
        for text in (case.driving, case.ground_truth):
            if (path := located(text, folder)) is not None:
                yield path
    for _, record in view.units():
        if record is not None and (path := located(record.video, folder)) is not None:
            yield path


def index(view: ReportView, folder: Path, copies: Mapping[Path, Copy | str]) -> dict[str, Any]:
    """The run in the page's terms. ``units`` is flat: ``(case * seeds + seed) * models + model``."""
    board, header = view.leaderboard, view.header
    place = {row.model: position for position, row in enumerate(board.rows)}
    models = sorted((model.name for model in header.models), key=lambda name: place.get(name, len(place)))
    units = [
        _unit_entry(view, (case.id, seed, model), folder, copies)
        for case in header.cases
        for seed in header.seeds
        for model in models
    ]
    return {
        "primary": board.primary,
        "metrics": {
            metric: {"unit": info.unit, "better": info.better}
            for metric in metric_order(view)
            if (info := view.info(metric)) is not None
        },
        "cases": [_case_entry(case, folder, copies) for case in header.cases],
        "seeds": list(header.seeds),
        "models": models,
        "units": units,
    }


def _case_entry(case: CaseEntry, folder: Path, copies: Mapping[Path, Copy | str]) -> dict[str, Any]:
    same = case.ground_truth is None or case.ground_truth == case.driving
    return {
        "id": case.id,
        "identity": case.identity,
        "driving": _playable(case.driving, folder, copies),
        "truth": None if same else _playable(case.ground_truth, folder, copies),
    }


def _unit_entry(view: ReportView, unit: Unit, folder: Path, copies: Mapping[Path, Copy | str]) -> dict[str, Any]:
    record = view.records.get(unit)
    if record is None:
        return {"video": {"note": "not run yet"}, "data": None, "primary": None}
    score = next((s for s in record.scores if s.metric == view.leaderboard.primary), None)
    if record.video is None:
        shown = {"note": next((s.reason for s in record.scores if s.reason is not None), "there is no video")}
    else:
        shown = _playable(record.video, folder, copies)
    return {
        "video": shown,
        "data": data_name(unit),
        "primary": score.value if score is not None else None,
    }


def _playable(text: str | None, folder: Path, copies: Mapping[Path, Copy | str]) -> dict[str, Any]:
    path = located(text, folder)
    copy = copies.get(path, "no copy was made") if path is not None else "there is no video"
    if isinstance(copy, str):
        return {"note": copy}
    return {"src": f"report/media/{copy.name}", "w": copy.width, "h": copy.height, "fps": round(copy.fps, 4)}


def clip_script(view: ReportView, unit: Unit, record: UnitRecord) -> str:
    """The data file of one video: a call that the page answers, since pages opened from disk may not fetch."""
    return f"ipaBenchClip({to_script(data_name(unit))},{to_script(clip_data(view, unit, record))});\n"


def clip_data(view: ReportView, unit: Unit, record: UnitRecord) -> dict[str, Any]:
    """Scores with their reasons, and what was seen frame by frame."""
    place = {metric: position for position, metric in enumerate(metric_order(view))}
    scores = sorted(record.scores, key=lambda score: (place.get(score.metric, len(place)), score.metric))
    data: dict[str, Any] = {
        "scores": [[score.metric, score.value, score.reason] for score in scores],
        "notes": list(record.notes),
        "seconds": record.seconds,
        "frames": None,
    }
    details = view.details(unit)
    if details is not None:
        data["frames"] = {
            "times": [round(float(time), 4) for time in details.times],
            "generated": _hands(details.generated_landmarks, details.generated_found),
            "driving": _driving(details),
            "series": {metric: _series(values) for metric, values in details.series.items()},
        }
    return data


def _driving(details: Details) -> list[list[list[int] | None]] | None:
    if details.driving_landmarks is None or details.driving_found is None:
        return None
    return _hands(details.driving_landmarks, details.driving_found)


def _hands(landmarks: Float32, found: Bool) -> list[list[list[int] | None]]:
    """Per frame and slot, 42 whole numbers x, y, x, y, … or None where no hand was found."""
    usable = found & np.isfinite(landmarks).all(axis=(2, 3))
    whole = np.rint(np.nan_to_num(landmarks) * STEPS).astype(np.int64).reshape(*found.shape, -1)
    frames = zip(whole, usable, strict=True)
    return [[slot.tolist() if ok else None for slot, ok in zip(*frame, strict=True)] for frame in frames]


def _series(values: Float32) -> list[float | None]:
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values.tolist()]


def worst_moments(view: ReportView) -> tuple[Moment, ...]:
    """The worst frame of the worst videos of each model, worst first."""
    found: dict[str, list[Moment]] = {}
    metric = _worst_metric(view)
    if metric is None:
        return ()
    info = view.info(metric)
    sign = -1.0 if info is not None and info.better == "higher" else 1.0
    for unit, record in view.units():
        details = view.details(unit) if record is not None and record.video else None
        moment = _worst(unit, metric, sign, details) if details is not None else None
        if moment is not None:
            found.setdefault(unit[2], []).append(moment)

    def badness(moment: Moment) -> tuple[float, Unit]:
        return (-sign * moment.value, moment.unit)

    kept = [moment for moments in found.values() for moment in sorted(moments, key=badness)[:WORST_PER_MODEL]]
    return tuple(sorted(kept, key=badness))


def _worst_metric(view: ReportView) -> str | None:
    """The series that the gallery goes by: the most telling one that any video has."""
    for unit, record in view.units():
        details = view.details(unit) if record is not None else None
        if details is None or not details.series:
            continue
        by_name = {base_name(metric): metric for metric in details.series}
        return next((by_name[name] for name in WORST_BY if name in by_name), next(iter(details.series)))
    return None


def _worst(unit: Unit, metric: str, sign: float, details: Details) -> Moment | None:
    values = details.series.get(metric)
    if values is None or not np.isfinite(values).any():
        return None
    frame = int(np.argmax(np.where(np.isfinite(values), sign * values, -np.inf)))
    missed = details.driving_found is not None and bool((details.driving_found & ~details.generated_found)[frame].any())
    box = _focus(details, frame)
    return Moment(unit, metric, float(values[frame]), float(details.times[frame]), frame, box, missed)


def _focus(details: Details, frame: int) -> Box | None:
    """A box about one hand as both videos have it: the hand that is missing or furthest off."""
    made, there = details.generated_landmarks[frame], details.generated_found[frame]
    if details.driving_landmarks is None or details.driving_found is None:
        return _around([made[slot] for slot in (0, 1) if there[slot]])
    asked, wanted = details.driving_landmarks[frame], details.driving_found[frame]

    def off(slot: int) -> float:
        if not wanted[slot]:
            return -1.0
        return float(np.linalg.norm(asked[slot] - made[slot], axis=-1).mean()) if there[slot] else math.inf

    slot = max((0, 1), key=off)
    return _around([hands[slot] for hands, found in ((asked, wanted), (made, there)) if found[slot]])


def _around(hands: Sequence[Float32]) -> Box | None:
    if not hands or not np.isfinite(hands).all():
        return None
    points = np.concatenate(hands)
    x0, y0, x1, y1 = (float(end) for ends in (points.min(axis=0), points.max(axis=0)) for end in ends)
    return (x0, y0, x1, y1)
