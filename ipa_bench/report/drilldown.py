"""What the page's drill-down reads: one index of the run, and one small script per video."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ipa_bench.files import located
from ipa_bench.report.closeups import Camera, Closeup, Closeups
from ipa_bench.report.faces import Pictures, people_data
from ipa_bench.report.media import Copy
from ipa_bench.report.view import ReportView, metric_order
from ipa_bench.store import CaseEntry, Details, Unit, UnitRecord
from ipa_bench.types import Bool, Float32

#: Landmarks are whole numbers in the data files: this many steps across the frame.
STEPS = 10_000
#: of references whose faces were not cut out
NO_PICTURES: Pictures = {}


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


@dataclass(frozen=True)
class Media:
    """What the page plays of the run's videos."""

    #: of the run, which paths may be relative to
    folder: Path
    copies: Mapping[Path, Copy | str]
    closeups: Closeups
    cameras: Mapping[Unit, Camera]


def index(view: ReportView, media: Media) -> dict[str, Any]:
    """The run in the page's terms. ``units`` is flat: ``(case * seeds + seed) * models + model``."""
    board, header = view.leaderboard, view.header
    place = {row.model: position for position, row in enumerate(board.rows)}
    models = sorted((model.name for model in header.models), key=lambda name: place.get(name, len(place)))
    units = [
        _unit_entry(view, (case.id, seed, model), media)
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
        "cases": [_case_entry(case, media) for case in header.cases],
        "seeds": list(header.seeds),
        "models": models,
        "units": units,
    }


def _case_entry(case: CaseEntry, media: Media) -> dict[str, Any]:
    same = case.ground_truth is None or case.ground_truth == case.driving
    camera = next((camera for unit, camera in media.cameras.items() if unit[0] == case.id), None)
    return {
        "id": case.id,
        "identity": case.identity,
        "driving": _playable(case.driving, media, camera),
        "truth": None if same else _playable(case.ground_truth, media, camera),
    }


def _unit_entry(view: ReportView, unit: Unit, media: Media) -> dict[str, Any]:
    record = view.records.get(unit)
    if record is None:
        return {"video": {"note": "not run yet"}, "data": None, "primary": None}
    score = next((s for s in record.scores if s.metric == view.leaderboard.primary), None)
    if record.video is None:
        shown = {"note": next((s.reason for s in record.scores if s.reason is not None), "there is no video")}
    else:
        shown = _playable(record.video, media, media.cameras.get(unit))
    return {
        "video": shown,
        "data": data_name(unit),
        "primary": score.value if score is not None else None,
    }


def _playable(text: str | None, media: Media, camera: Camera | None) -> dict[str, Any]:
    path = located(text, media.folder)
    copy = media.copies.get(path, "no copy was made") if path is not None else "there is no video"
    if isinstance(copy, str):
        return {"note": copy}
    found: dict[str, Any] = {"src": f"report/media/{copy.name}", "w": copy.width, "h": copy.height}
    found["fps"] = round(copy.fps, 4)
    closeup = None if path is None or camera is None else media.closeups.get((path, camera))
    if isinstance(closeup, Closeup):
        found["hands"] = {"src": f"report/media/{closeup.name}", "slots": list(closeup.slots)}
    return found


def clip_script(view: ReportView, unit: Unit, record: UnitRecord, pictures: Pictures = NO_PICTURES) -> str:
    """The data file of one video: a call that the page answers, since pages opened from disk may not fetch."""
    return f"ipaBenchClip({to_script(data_name(unit))},{to_script(clip_data(view, unit, record, pictures))});\n"


def clip_data(view: ReportView, unit: Unit, record: UnitRecord, pictures: Pictures = NO_PICTURES) -> dict[str, Any]:
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
            "people": None if details.people is None else people_data(details.people, pictures, STEPS),
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
