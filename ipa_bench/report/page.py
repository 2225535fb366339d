"""The page's tables as plain data: what the template shows, already in words and percentages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ipa_bench.report.text import arrow, interval_text, number, plain
from ipa_bench.report.view import ReportView, base_name, comparisons, headline, metric_order, rank_text
from ipa_bench.types import Comparison, Interval

HEADLINE = 6
ABSENT = Interval(None, None, None, 0, 0, 0)


@dataclass(frozen=True)
class Column:
    """A metric as a column head."""

    id: str
    name: str
    unit: str
    arrow: str
    better: str
    primary: bool
    #: shown only when all metrics are asked for
    extra: bool
    source: str
    blind_spot: str
    floor: str


@dataclass(frozen=True)
class Bar:
    """An interval on a track, in percent of the track. ``width`` may be 0."""

    left: float
    width: float
    dot: float
    #: half-width of the band around the middle in which a re-encode lies
    floor: float = 0.0


@dataclass(frozen=True)
class CellView:
    """One number of the leaderboard with everything that belongs beside it."""

    #: for sorting; empty where there is no number
    sort: str
    mean: str
    bracket: str
    scored: int
    expected: int
    bar: Bar | None
    trained: bool
    extra: bool
    #: why there is no number, where one reason is known
    reason: str


@dataclass(frozen=True)
class RowView:
    """One model."""

    rank: int
    rank_text: str
    model: str
    kind: str
    source: str
    cells: tuple[CellView, ...]


@dataclass(frozen=True)
class PairRow:
    """One paired difference."""

    pair: int
    metric: str
    name: str
    arrow: str
    unit: str
    primary: bool
    delta: str
    bracket: str
    sort: str
    bar: Bar | None
    verdict: str
    why: str
    mde: str
    p_holm: str
    n: int
    scored: int
    expected: int


def columns(view: ReportView) -> tuple[Column, ...]:
    """Every metric in report order, the headline ones first."""
    shown = set(headline(view, HEADLINE))
    found = []
    for metric in metric_order(view):
        info = view.info(metric)
        found.append(
            Column(
                id=metric,
                name=base_name(metric),
                unit=info.unit if info else "",
                arrow=arrow(info),
                better=info.better if info else "",
                primary=metric == view.leaderboard.primary,
                extra=metric not in shown,
                source=info.source if info else "",
                blind_spot=info.blind_spot if info else "",
                floor=number(view.floors.get(metric), digits=2),
            )
        )
    return tuple(found)


def rows(view: ReportView) -> tuple[RowView, ...]:
    """The leaderboard, best first."""
    heads = columns(view)
    about = {model.name: (model.kind, model.source) for model in view.header.models}
    reasons = _reasons(view)
    spans = {head.id: _span(view, head.id) for head in heads}
    found = []
    for row in view.leaderboard.rows:
        cells = tuple(
            _cell(
                row.cells.get(head.id, ABSENT),
                spans[head.id],
                trained=head.id in row.no_evidence,
                extra=head.extra,
                reason=reasons.get((row.model, head.id), ""),
            )
            for head in heads
        )
        kind, source = about.get(row.model, ("", ""))
        found.append(RowView(row.rank, rank_text(view, row), row.model, kind, source, cells))
    return tuple(found)


def _cell(cell: Interval, span: tuple[float, float] | None, *, trained: bool, extra: bool, reason: str) -> CellView:
    shown = _typeset(cell.mean, cell.low, cell.high)
    return CellView(
        sort="" if cell.mean is None else repr(cell.mean),
        mean=shown[0],
        bracket=shown[1],
        scored=cell.scored,
        expected=cell.scored + cell.missing,
        bar=_bar(cell.mean, cell.low, cell.high, span),
        trained=trained,
        extra=extra,
        reason=reason,
    )


def _reasons(view: ReportView) -> dict[tuple[str, str], str]:
    """(model, metric) -> a reason why one of its videos has no score."""
    found: dict[tuple[str, str], str] = {}
    for score in view.scores():
        if score.reason is not None:
            found.setdefault((score.model, score.metric), score.reason)
    return found


def _span(view: ReportView, metric: str) -> tuple[float, float] | None:
    """The smallest and the largest number that the metric's bars have to show."""
    ends = [
        end
        for row in view.leaderboard.rows
        for cell in [row.cells.get(metric, ABSENT)]
        for end in (cell.low, cell.mean, cell.high)
        if end is not None
    ]
    return (min(ends), max(ends)) if ends else None


def _bar(mean: float | None, low: float | None, high: float | None, span: tuple[float, float] | None) -> Bar | None:
    if mean is None or span is None or span[1] <= span[0]:
        return None

    def percent(value: float) -> float:
        return round(100 * (value - span[0]) / (span[1] - span[0]), 2)

    left, right = (mean if low is None else low), (mean if high is None else high)
    return Bar(percent(left), round(percent(right) - percent(left), 2), percent(mean))


def pair_names(view: ReportView) -> tuple[tuple[str, str], ...]:
    """(model, baseline), each pair once, in order."""
    return tuple(dict.fromkeys((pair.model, pair.baseline) for pair in comparisons(view)))


def pair_rows(view: ReportView) -> tuple[PairRow, ...]:
    """Every paired difference, the metrics of a pair in report order."""
    numbers = {names: number for number, names in enumerate(pair_names(view))}
    order = {metric: place for place, metric in enumerate(metric_order(view))}
    every = sorted(
        view.leaderboard.comparisons,
        key=lambda pair: (numbers[pair.model, pair.baseline], order.get(pair.metric, len(order))),
    )
    return tuple(_pair_row(view, pair, numbers[pair.model, pair.baseline]) for pair in every)


def _pair_row(view: ReportView, pair: Comparison, position: int) -> PairRow:
    info = view.info(pair.metric)
    shown = _typeset(pair.delta, pair.low, pair.high, sign=True)
    return PairRow(
        pair=position,
        metric=pair.metric,
        name=base_name(pair.metric),
        arrow=arrow(info),
        unit=info.unit if info else "",
        primary=pair.metric == view.leaderboard.primary,
        delta=shown[0],
        bracket=shown[1],
        sort="" if pair.delta is None else repr(pair.delta),
        bar=_zero_bar(pair),
        verdict=pair.verdict,
        why=pair.why,
        mde=number(pair.mde, digits=2),
        p_holm=_p_text(pair.p_holm),
        n=pair.n,
        scored=pair.scored,
        expected=pair.scored + pair.missing,
    )


def _zero_bar(pair: Comparison) -> Bar | None:
    """The difference on a track whose middle is zero."""
    if pair.delta is None:
        return None
    low, high = (pair.delta if pair.low is None else pair.low), (pair.delta if pair.high is None else pair.high)
    reach = 1.08 * max(abs(low), abs(high), pair.floor or 0.0)
    if reach == 0:
        return Bar(50.0, 0.0, 50.0)
    left, right = 50 + 50 * low / reach, 50 + 50 * high / reach
    dot, floor = 50 + 50 * pair.delta / reach, 50 * (pair.floor or 0.0) / reach
    return Bar(round(left, 2), round(right - left, 2), round(dot, 2), round(floor, 2))


def _p_text(p: float | None) -> str:
    if p is None:
        return number(None)
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _typeset(mean: float | None, low: float | None, high: float | None, *, sign: bool = False) -> tuple[str, str]:
    shown = interval_text(mean, low, high, sign=sign)
    return shown.mean.replace("-", "−"), shown.bracket.replace("-", "−")


def facts(view: ReportView) -> list[tuple[str, str]]:
    """The run header as (name, value)."""
    header = view.header
    found: list[tuple[str, Any]] = [
        ("run", header.name),
        ("created", header.created),
        ("ipa-bench", header.tool_version),
        ("suite hash", header.suite_hash),
        ("primary metric", header.primary),
        ("seeds", ", ".join(str(seed) for seed in header.seeds)),
    ]
    if view.sealed_uses:
        found.append(("sealed test set", f"use {len(view.sealed_uses)} of it: {'; '.join(view.sealed_uses)}"))
    for model in header.models:
        taught = f", trained on {', '.join(model.trained_on)}" if model.trained_on else ""
        found.append((f"model {model.name}", f"{model.kind}, {model.source}{taught}"))
    found += list(header.environment.items())
    return [(plain(name), plain(str(value))) for name, value in found if value != ""]
