"""Which numbers can be trusted on this footage? Each metric is asked whether it noticed known damage.

Damaged and clean versions are stored alike and measured against the original. A damaged window is *called worse* where
the metric's value is worse than the clean one's by more than the metric's noise floor on that clip: the 95th percentile
of the differences between harmless versions. A third harmless version, not used for the floor, tests it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ipa_bench.damage import DAMAGES, HARMLESS, STRENGTHS, Strength
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.ladder import VARIANTS, Losses, Variant, losses
from ipa_bench.metrics.base import Metric
from ipa_bench.observers.look import Looker
from ipa_bench.scorer import ALL
from ipa_bench.types import Float64, HandTracks

#: the two re-encodes that set the floor, and the one that tests it
FLOOR_STRENGTHS: tuple[Strength, ...] = ("mild", "strong")
TEST_STRENGTH: Strength = "medium"
FLOOR_QUANTILE = 0.95
#: a clip must show a hand in this many frames
MIN_FRAMES = 24

Work = tuple[Path, Variant, HandTracks]


@dataclass(frozen=True)
class Cell:
    """How often a metric called a damage worse, over the windows of all clips."""

    metric: str
    damage: str
    strength: Strength
    worse: int
    windows: int
    #: windows in which the metric has no value on one side
    unscored: int

    @property
    def share(self) -> float | None:
        """worse / windows; None where nothing could be tested."""
        return self.worse / self.windows if self.windows else None


@dataclass(frozen=True)
class Ordering:
    """How often the stronger of two neighbouring strengths scores worse, over windows and strengths; no floor."""

    metric: str
    damage: str
    ordered: int
    pairs: int


@dataclass(frozen=True)
class Clip:
    """What a clip contributed."""

    name: str
    windows: int
    #: windows in which the hand hardly moves; temporal damage is not tested there
    still: int
    #: metric id -> noise floor in the metric's unit
    floors: Mapping[str, float]


@dataclass(frozen=True)
class Validation:
    """What each metric sees of the damage, and what it does not."""

    clips: tuple[Clip, ...]
    cells: tuple[Cell, ...]
    orderings: tuple[Ordering, ...]
    #: clip name -> why it was left out
    skipped: Mapping[str, str]

    def share(self, metric: str, damages: Sequence[str], strengths: Sequence[Strength]) -> float | None:
        """Share of (original, damaged) pairs that a metric orders correctly, over damages and strengths."""
        cells = [c for c in self.cells if c.metric == metric and c.damage in damages and c.strength in strengths]
        windows = sum(c.windows for c in cells)
        return sum(c.worse for c in cells) / windows if windows else None


def validate(
    clips: Sequence[Path],
    looker: Looker,
    run: Callable[[Sequence[Work]], Iterator[dict[str, Any]]],
    metrics: Sequence[Metric] = ALL,
) -> Validation:
    """Damage every clip in every way and see what each metric makes of it.

    ``run`` maps :func:`ipa_bench.ladder.observe_variant` over its argument, in order: processes, cache and progress are
    the caller's. Raises UserError where no clip shows a hand for long enough.
    """
    tracks: dict[Path, HandTracks] = {}
    skipped: dict[str, str] = {}
    for clip in clips:
        try:
            hands = looker.hands(clip)
        except Unscorable as error:
            skipped[clip.name] = error.reason
            continue
        if hands.found.any(axis=1).sum() < MIN_FRAMES:
            skipped[clip.name] = f"shows a hand in fewer than {MIN_FRAMES} frames"
        else:
            tracks[clip] = hands
    if not tracks:
        why = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise UserError(f"no clip can be used: {why}", "give a clip that shows a hand for a second or more")
    work = [(clip, variant, hands) for clip, hands in tracks.items() for variant in VARIANTS]
    observed = {(clip, variant): arrays for (clip, variant, _), arrays in zip(work, run(work), strict=True)}
    table = {
        clip.name: losses(hands, {v: observed[clip, v] for v in VARIANTS}, metrics) for clip, hands in tracks.items()
    }
    return judge(table, [m.info.id for m in metrics], skipped)


def judge(table: Mapping[str, Losses], metrics: Sequence[str], skipped: Mapping[str, str]) -> Validation:
    """Losses of each clip by name -> what each metric sees. Pure arithmetic."""
    floors = {clip: {metric: _floor(entry, metric) for metric in metrics} for clip, entry in table.items()}
    cells, orderings = [], []
    for metric in metrics:
        for damage in (HARMLESS, *DAMAGES):
            strengths = STRENGTHS if damage in DAMAGES else (TEST_STRENGTH,)
            parts = {
                s: [_masked(entry, metric, (damage.name, s), damage.kind == "temporal") for entry in table.values()]
                for s in strengths
            }
            for strength, per_clip in parts.items():
                called = [
                    loss[np.isfinite(loss)] > floors[clip][metric] for clip, loss in zip(table, per_clip, strict=True)
                ]
                worse, windows = sum(int(c.sum()) for c in called), sum(len(c) for c in called)
                total = sum(len(loss) for loss in per_clip)
                cells.append(Cell(metric, damage.name, strength, worse, windows, total - windows))
            if damage in DAMAGES:
                orderings.append(_ordering(metric, damage.name, [np.concatenate(parts[s]) for s in STRENGTHS]))
    entries = tuple(Clip(clip, len(entry.still), int(entry.still.sum()), floors[clip]) for clip, entry in table.items())
    return Validation(entries, tuple(cells), tuple(orderings), skipped)


def _floor(entry: Losses, metric: str) -> float:
    values = np.concatenate([entry.loss[metric, ("reencode", s)] for s in FLOOR_STRENGTHS])
    values = np.abs(values[np.isfinite(values)])
    return float(np.quantile(values, FLOOR_QUANTILE)) if len(values) else 0.0


def _masked(entry: Losses, metric: str, variant: Variant, temporal: bool) -> Float64:
    """Losses of the windows in which the damage can show."""
    loss = entry.loss[metric, variant]
    return loss[~entry.still] if temporal else loss


def _ordering(metric: str, damage: str, by_strength: Sequence[Float64]) -> Ordering:
    ordered = pairs = 0
    for weaker, stronger in pairwise(by_strength):
        both = np.isfinite(weaker) & np.isfinite(stronger)
        ordered += int((stronger[both] > weaker[both]).sum())
        pairs += int(both.sum())
    return Ordering(metric, damage, ordered, pairs)
