"""Which numbers can be trusted on this footage? Each metric is asked whether it noticed known damage.

Damaged and clean versions are stored alike and measured against the original. A damaged window is *called worse* where
the metric's value is worse than the clean one's by more than the metric's noise floor on that clip: the 99 % prediction
bound for the difference between two harmless versions. Each harmless version is tested against a floor made without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ipa_bench.errors import Unscorable, UserError
from ipa_bench.metrics.base import Metric
from ipa_bench.metrics.table import DEFAULT
from ipa_bench.models.damage import DAMAGES, HARMLESS, STRENGTHS, UNSEEN, Strength
from ipa_bench.observers.looker import Looker
from ipa_bench.types import Float64, HandTracks
from ipa_bench.validate.ladder import BELOW_SIGHT, VARIANTS, Losses, Variant, losses

HARMLESS_VARIANTS: tuple[Variant, ...] = tuple((damage.name, strength) for damage in HARMLESS for strength in STRENGTHS)
#: noise is heavier-tailed than the normal distribution: a 99 % bound is passed in 1 to 5 % of windows
FLOOR_QUANTILE = 0.99
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
class Sight:
    """Whether a metric puts what nobody sees above what anybody sees, over a whole clip."""

    metric: str
    clip: str
    #: pairs of an unseen and a seen change of which the unseen one scores better, of all pairs
    right: int
    pairs: int
    #: name and strength of the unseen change that scores worst and of the seen one that scores best, with their losses
    unseen: tuple[str, Strength, float]
    seen: tuple[str, Strength, float]


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
    sights: tuple[Sight, ...] = ()

    def share(self, metric: str, damages: Sequence[str], strengths: Sequence[Strength]) -> float | None:
        """Share of (original, damaged) pairs that a metric orders correctly, over damages and strengths."""
        cells = [c for c in self.cells if c.metric == metric and c.damage in damages and c.strength in strengths]
        windows = sum(c.windows for c in cells)
        return sum(c.worse for c in cells) / windows if windows else None


def validate(
    clips: Sequence[Path],
    looker: Looker,
    run: Callable[[Sequence[Work]], Iterator[dict[str, Any]]],
    metrics: Sequence[Metric] = DEFAULT,
) -> Validation:
    """Damage every clip in every way and see what each metric makes of it.

    ``run`` maps :func:`ipa_bench.validate.ladder.observe_variant` over its argument, in order: processes, cache and
    progress are the caller's. Raises UserError where no clip shows a hand for long enough.
    """
    tracks: dict[Path, HandTracks] = {}
    skipped: dict[str, str] = {}
    names = _names(list(dict.fromkeys(clips)))
    for clip in names:
        try:
            hands = looker.hands(clip)
        except Unscorable as error:
            skipped[names[clip]] = error.reason
            continue
        if hands.found.any(axis=1).sum() < MIN_FRAMES:
            skipped[names[clip]] = f"shows a hand in fewer than {MIN_FRAMES} frames"
        else:
            tracks[clip] = hands
    if not tracks:
        why = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise UserError(f"no clip can be used: {why}", "give a clip that shows a hand for a second or more")
    work = [(clip, variant, hands) for clip, hands in tracks.items() for variant in VARIANTS]
    observed = {(clip, variant): arrays for (clip, variant, _), arrays in zip(work, run(work), strict=True)}
    table = {
        names[clip]: losses(hands, {v: observed[clip, v] for v in VARIANTS}, metrics) for clip, hands in tracks.items()
    }
    return judge(table, [m.info.id for m in metrics], skipped)


def _names(clips: Sequence[Path]) -> dict[Path, str]:
    """What each clip is called: its file name, or its path where two share one."""
    names = [clip.name for clip in clips]
    return {clip: clip.name if names.count(clip.name) == 1 else str(clip) for clip in clips}


def judge(table: Mapping[str, Losses], metrics: Sequence[str], skipped: Mapping[str, str]) -> Validation:
    """Losses of each clip by name -> what each metric sees. Pure arithmetic."""
    floors = {clip: {m: _floor(entry, m, HARMLESS_VARIANTS) for m in metrics} for clip, entry in table.items()}
    cells, orderings = [], []
    for metric in metrics:
        for variant in HARMLESS_VARIANTS:
            # The floor that tests a harmless version is made without it.
            others = [other for other in HARMLESS_VARIANTS if other != variant]
            own = {clip: _floor(entry, metric, others) for clip, entry in table.items()}
            cells.append(_cell(metric, variant, {c: (e.loss[metric, variant], own[c]) for c, e in table.items()}))
        for damage in (*UNSEEN, *DAMAGES):
            by_strength = []
            for strength in STRENGTHS:
                variant = (damage.name, strength)
                losses = {c: _masked(e, metric, variant, damage.kind == "temporal") for c, e in table.items()}
                cells.append(_cell(metric, variant, {c: (loss, floors[c][metric]) for c, loss in losses.items()}))
                by_strength.append(np.concatenate(list(losses.values())))
            orderings.append(_ordering(metric, damage.name, by_strength))
    entries = tuple(Clip(clip, len(entry.still), int(entry.still.sum()), floors[clip]) for clip, entry in table.items())
    sights = (_sight(metric, clip, entry) for metric in metrics for clip, entry in table.items())
    return Validation(entries, tuple(cells), tuple(orderings), skipped, tuple(filter(None, sights)))


def _sight(metric: str, clip: str, entry: Losses) -> Sight | None:
    """None where the metric has no value of one of the two kinds."""
    unseen, seen = (
        sorted((entry.whole[metric, v], v) for v in variants if (metric, v) in entry.whole)
        for variants in (BELOW_SIGHT, entry.in_sight)
    )
    if not unseen or not seen:
        return None
    right = sum(low < high for low, _ in unseen for high, _ in seen)
    (worst, (a, how)), (best, (b, much)) = unseen[-1], seen[0]
    return Sight(metric, clip, right, len(unseen) * len(seen), (a, how, worst), (b, much, best))


def _cell(metric: str, variant: Variant, clips: Mapping[str, tuple[Float64, float]]) -> Cell:
    """Count over clips, each with its losses and its floor."""
    worse = windows = total = 0
    for loss, floor in clips.values():
        known = loss[np.isfinite(loss)]
        worse, windows, total = worse + int((known > floor).sum()), windows + len(known), total + len(loss)
    return Cell(metric, variant[0], variant[1], worse, windows, total - windows)


def _floor(entry: Losses, metric: str, variants: Sequence[Variant]) -> float:
    """:func:`bound` of the differences between harmless versions."""
    return bound(np.concatenate([entry.loss[metric, variant] for variant in variants]))


def bound(values: Float64) -> float:
    """One-sided 99 % prediction bound for one more of such differences, Student-t; NaN does not count; at least 0."""
    from scipy.special import stdtrit  # slow to import, and workers import this room for the ladder alone

    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float(np.abs(values).sum())
    spread = float(values.std(ddof=1)) * np.sqrt(1 + 1 / len(values))
    return max(float(values.mean() + stdtrit(len(values) - 1, FLOOR_QUANTILE) * spread), 0.0)


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
