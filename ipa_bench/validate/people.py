"""Which metrics notice that people are not who they should be, on footage of two: faults of known amount, and who sees.

Two people who are tracked together through a clip are chosen, and the surest frame of each is the reference. Every
version of the clip is stored alike and its faces are looked at anew; in windows of a second a fault is *called worse*
where a metric is worse than on the clean version by more than harmless re-encodes ever differ, as
:mod:`ipa_bench.validate.judge` has it for hands. Beside the metrics stands what most evaluations do: faces matched to
references in each frame anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from ipa_bench import video
from ipa_bench.cache import Cache, digest
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.files import file_sha256
from ipa_bench.metrics import identity
from ipa_bench.metrics.assignment import matched
from ipa_bench.metrics.base import Measured
from ipa_bench.metrics.people import LEAST_HEIGHT, SFACE, People, beside
from ipa_bench.models.damage import STRENGTHS, Strength
from ipa_bench.observers import faces
from ipa_bench.types import Better, Float64, Observation, UInt8
from ipa_bench.validate.faces import FAULTS, Pair, faulty
from ipa_bench.validate.judge import bound

#: changes whenever the observation of a faulty clip may change
VERSION = f"people@1-faces.sface@1-{video.DECODER}"
#: frames of a clip that are looked at, and in how many of them both people have to be seen
MOST_FRAMES, LEAST_FRAMES = 48, 12
#: what is cut out around a face to be a reference, in shares of its box's longer side
AROUND = 0.35
CLEAN_CRF = 18
HARMLESS: Mapping[Strength, int] = {"mild": 17, "medium": 19, "strong": 21}
CLEAN = ("clean", "mild")
Variant = tuple[str, str]
VARIANTS: tuple[Variant, ...] = (
    CLEAN, *(("reencode", s) for s in STRENGTHS), *((fault.name, s) for fault in FAULTS for s in STRENGTHS),
)  # fmt: skip


def matched_anew(people: People) -> Measured:
    """Likeness of faces matched to references in each frame by itself, over those found: no swap can be seen by it."""
    values: list[float] = []
    for likeness, judged in zip(people.likeness, people.judged, strict=True):
        rows = likeness[judged]
        if len(rows):
            values += list(rows[matched(rows, maximize=True)])
    return Measured(float(np.mean(values))) if values else Measured(None, "no face is seen")


#: (name, better, measure): metrics by their ids, and the baseline
COLUMNS: tuple[tuple[str, Better, Callable[[People], Measured]], ...] = (
    ("matched anew", "higher", matched_anew),
    ("identity.similarity.sface@1", "higher", identity.similarity),
    ("identity.margin.sface@1", "higher", identity.margin),
    ("identity.top1.sface@1", "higher", identity.top1),
    ("identity.swap.sface@1", "lower", identity.swap),
    ("identity.duplicate.sface@1", "lower", identity.duplicate),
    ("identity.drift.sface@1", "lower", identity.drift),
    ("identity.gap.sface@1", "lower", identity.gap),
)


@dataclass(frozen=True)
class Seen:
    """How often a metric called a fault worse, over the windows of all clips."""

    metric: str
    fault: str
    strength: str
    worse: int
    windows: int

    @property
    def share(self) -> float | None:
        """worse / windows; None where nothing could be tested."""
        return self.worse / self.windows if self.windows else None


@dataclass(frozen=True)
class PeopleValidation:
    """What each metric sees of people who are not who they should be."""

    #: clip -> windows
    clips: Mapping[str, int]
    cells: tuple[Seen, ...]
    #: clip -> why it was left out
    skipped: Mapping[str, str]

    def share(self, metric: str, fault: str, strength: str) -> float | None:
        """Share of windows called worse."""
        return next((c.share for c in self.cells if (c.metric, c.fault, c.strength) == (metric, fault, strength)), None)


@dataclass(frozen=True, eq=False)
class Footage:
    """A clip with two people in it."""

    frames: tuple[UInt8, ...]
    fps: float
    seen: Observation
    pair: Pair
    #: one for each
    references: tuple[Observation, ...]

    @property
    def window(self) -> int:
        """Frames of a second."""
        return min(max(round(self.fps), LEAST_FRAMES), len(self.frames))


def footage(path: Path) -> Footage:
    """The first frames of a clip, and the two people who are seen together longest.

    Raises Unscorable where there are none whose faces can be judged, or the clip does not decode.
    """
    pictures, fps = video.read_at(path)
    frames = tuple(islice(pictures, MOST_FRAMES))
    watcher, looker = _observers()
    seen = _look(watcher, frames, fps)
    judged = seen["found"].astype(bool) & (seen["box"][..., 3] >= LEAST_HEIGHT)
    together = (judged[:, :, None] & judged[:, None]).sum(0) if judged.size else np.zeros((0, 0), int)
    together = np.triu(together, 1)
    if not together.size or together.max() < LEAST_FRAMES:
        raise Unscorable(f"no two people whose faces can be judged are seen together for {LEAST_FRAMES} frames")
    both = sorted(
        divmod(int(together.argmax()), together.shape[1]), key=lambda n: float(seen["box"][judged[:, n], n, 0].mean())
    )
    hidden = ~judged[:, both]
    points, boxes = seen["points"][:, both].copy(), seen["box"][:, both].copy()
    points[hidden], boxes[hidden] = np.nan, np.nan
    references = []
    for slot, track in enumerate(both):
        best = int(np.where(hidden[:, slot], -1.0, seen["score"][:, track]).argmax())
        references.append(_look(looker, [_cut(frames[best], boxes[best, slot])], fps))
    return Footage(frames, fps, seen, Pair(points, boxes), tuple(references))


def observe(work: tuple[Path, Variant]) -> dict[str, Any]:
    """The faces of one version of a clip, from the cache where it was looked at before. For worker processes."""
    path, (name, strength) = work
    cache, key = Cache(), digest(file_sha256(path), name, strength, MOST_FRAMES)
    known = cache.get(VERSION, key)
    if known is not None:
        return known
    clip = _footage(path)
    fault = next((fault for fault in FAULTS if fault.name == name), None)
    frames: Sequence[UInt8] = clip.frames
    crf = CLEAN_CRF if name != "reencode" else HARMLESS[strength]  # type: ignore[index]
    if fault is not None:
        frames = faulty(clip.frames, clip.pair, fault, strength, clip.window)  # type: ignore[arg-type]
    stored = [frame.image for frame in video.read_bytes(video.encode_bytes(iter(frames), clip.fps, crf=crf))]
    arrays = dict(_look(_observers()[0], stored, clip.fps).values)
    cache.put(VERSION, key, arrays)
    return arrays


_footage = lru_cache(maxsize=1)(footage)


def validate_people(
    clips: Sequence[Path], run: Callable[[Sequence[tuple[Path, Variant]]], Iterator[dict[str, Any]]]
) -> PeopleValidation:
    """Make every fault on every clip and see what each metric makes of it.

    ``run`` maps :func:`observe` over its argument, in order. Raises :class:`UserError` where no clip can be used.
    """
    found: dict[Path, Footage] = {}
    skipped: dict[str, str] = {}
    for clip in dict.fromkeys(clips):
        try:
            found[clip] = footage(clip)
        except Unscorable as error:
            skipped[clip.name] = error.reason
    if not found:
        why = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise UserError(f"no clip can be used: {why}", "give a clip in which two people's faces are seen together")
    work = [(clip, variant) for clip in found for variant in VARIANTS]
    observed = dict(zip(work, run(work), strict=True))
    losses = {clip: _losses(found[clip], {v: observed[clip, v] for v in VARIANTS}) for clip in found}
    windows = {clip.name: len(next(iter(table.values()))) for clip, table in losses.items()}
    return PeopleValidation(windows, tuple(_cells(list(losses.values()))), skipped)


def _losses(clip: Footage, observed: Mapping[Variant, Mapping[str, Any]]) -> dict[tuple[str, Variant], Float64]:
    """(metric, variant) -> how much worse than the clean version in each window, NaN where either has no value."""
    starts = range(0, len(clip.frames) - clip.window + 1, clip.window)
    values: dict[tuple[str, Variant], list[float]] = {(name, v): [] for name, _, _ in COLUMNS for v in observed}
    for start in starts:
        index = np.arange(start, start + clip.window)
        truth = clip.seen.at(index)
        for variant, arrays in observed.items():
            made = Observation(clip.seen.observer, "", arrays).at(index)
            people = beside(made, clip.references, SFACE, truth=truth)
            for name, _, measure in COLUMNS:
                value = measure(people).value
                values[name, variant].append(np.nan if value is None else value)
    sign = {name: 1.0 if better == "higher" else -1.0 for name, better, _ in COLUMNS}
    return {
        (name, variant): sign[name] * (np.array(values[name, CLEAN]) - np.array(row))
        for (name, variant), row in values.items()
    }


def _cells(tables: Sequence[Mapping[tuple[str, Variant], Float64]]) -> Iterator[Seen]:
    harmless = [variant for variant in VARIANTS if variant[0] == "reencode"]
    for name, _, _ in COLUMNS:
        for variant in VARIANTS[1:]:
            worse = windows = 0
            for table in tables:
                # The floor that tests a harmless version is made without it.
                others = [table[name, other] for other in harmless if other != variant]
                known = table[name, variant][np.isfinite(table[name, variant])]
                worse += int((known > max(bound(np.concatenate(others)), 1e-9)).sum())
                windows += len(known)
            yield Seen(name, *variant, worse, windows)


@lru_cache(maxsize=1)  # one pair per process: loading the networks takes as long as looking at seconds of video
def _observers() -> tuple[faces.FaceObserver, faces.ReferenceObserver]:
    both = faces.FaceObserver(faces.SFACE), faces.ReferenceObserver(faces.SFACE)
    for observer in both:
        if reason := observer.load():
            raise UserError(f"faces cannot be looked at: {reason}")
    return both


def _look(observer: faces.FaceObserver | faces.ReferenceObserver, frames: Sequence[UInt8], fps: float) -> Observation:
    session = observer.start()
    with observer.working():
        for index, frame in enumerate(frames):
            session.push(frame, index / fps)
        return Observation(observer.id, "", session.finish())


def _cut(frame: UInt8, box: np.ndarray) -> UInt8:
    """A face with a little around it: nobody else's."""
    left, top, width, height = (float(v) for v in box)
    reach = AROUND * max(width, height)
    tall, wide = frame.shape[:2]
    rows = slice(int(max(top - reach, 0)), int(min(top + height + reach, tall)))
    columns = slice(int(max(left - reach, 0)), int(min(left + width + reach, wide)))
    return np.ascontiguousarray(frame[rows, columns])


# ---------------------------------------------------------------------------------------------------------------------


def terminal(validation: PeopleValidation, width: int) -> Table:
    """The table for a terminal of so many columns: at medium strength alone where it is narrow."""
    wide = width >= WIDE
    title = f"{_TITLE} {'mild/medium/strong' if wide else 'medium'} strength"
    table = Table(title=title, box=None, pad_edge=False, title_justify="left", header_style="bold")
    head, *rows = _rows(validation, STRENGTHS if wide else STRENGTHS[1:2])
    for column in head:
        table.add_column(column.replace("_", "\n"), justify="left" if column == "metric" else "right", no_wrap=True)
    for name, *cells in rows:
        table.add_row(name.removeprefix("identity.").partition("@")[0], *cells)
    return table


def markdown(validation: PeopleValidation) -> str:
    """The same as a page, with what the strengths mean."""
    head, *rows = _rows(validation)
    lines = [
        "# What the metrics see of people who are not who they should be",
        "",
        f"{_TITLE} mild/medium/strong strength.",
        "",
    ]
    lines += ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    lines += ["", "| fault | mild, medium, strong | what the number is |", "|---|---|---|"]
    lines += [f"| {f.name} | {', '.join(f'{v:g}' for v in f.levels)} | {f.meaning} |" for f in FAULTS]
    lines += ["", *(f"- {name}: {count} windows" for name, count in validation.clips.items())]
    lines += [f"- {name} was left out: {why}" for name, why in validation.skipped.items()]
    return "\n".join([*lines, ""])


def _rows(validation: PeopleValidation, strengths: Sequence[Strength] = STRENGTHS) -> list[list[str]]:
    names = [*(fault.name for fault in FAULTS), "reencode"]
    rows = [["metric", *names]]
    for metric, _, _ in COLUMNS:
        shares = [[validation.share(metric, name, s) for s in strengths] for name in names]
        rows.append([metric, *("/".join("-" if v is None else f"{100 * v:.0f}" for v in each) for each in shares)])
    return rows


_TITLE = "share of windows of a second called worse, in %, at"
#: columns that the whole table needs
WIDE = 110
