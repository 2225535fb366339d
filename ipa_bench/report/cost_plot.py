"""Quality against cost as a picture: one panel for making clips, one for post-training, each with its Pareto front."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ipa_bench.cost.gain import front
from ipa_bench.report.costs import by_processor, comparable, costs, quality_metric
from ipa_bench.report.plots import FAINT, GRID, SERIES, drawing, shortened, to_svg
from ipa_bench.report.text import arrow
from ipa_bench.report.view import ReportView, base_name
from ipa_bench.types import Better, Interval

#: name -> (cost, quality)
Points = Mapping[str, tuple[float, float]]


def quality_against_cost(view: ReportView) -> str | None:
    """SVG; None where no model has both a cost and a score."""
    info = view.info(quality_metric(view))
    if info is None:
        return None
    cells = {row.model: row.cells.get(info.id) for row in view.leaderboard.rows}
    making: dict[str, tuple[float, float]] = {}
    training: dict[str, tuple[float, float]] = {}
    found = costs(view)
    seconds = comparable(found)
    for cost in found:
        cell = cells[cost.model]
        if cell is None or cell.mean is None:
            continue
        if cost.model in seconds:
            making[cost.model] = (seconds[cost.model], cell.mean)
        if cost.device_hours.value is not None:
            training[cost.model] = (cost.device_hours.value, cell.mean)
    trained = any(hours for hours, _ in training.values())
    kind = "processor" if by_processor(found) else "device"
    panels = [(f"{kind}-seconds a clip", making)] if making else []
    panels += [("device-hours of post-training", training)] if trained else []
    if not panels:
        return None
    order = [row.model for row in view.leaderboard.rows]
    with drawing():
        figure = Figure(figsize=(5.2 * len(panels), 3.6), layout="constrained")
        for axes, (label, points) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            _panel(axes, label, points, info.better, cells, order)
        figure.axes[0].set_ylabel(f"{base_name(info.id)} {arrow(info)}", fontsize=9, color=FAINT)
        return to_svg(figure)


def _panel(
    axes: Axes, label: str, points: Points, better: Better, cells: Mapping[str, Interval | None], order: list[str]
) -> None:
    best = front(points, better)
    axes.plot(*zip(*(points[name] for name in best), strict=True), color=GRID, linewidth=1.6, drawstyle="steps-post")
    for name, (cost, quality) in points.items():
        colour, cell = SERIES[order.index(name) % len(SERIES)], cells[name]
        if cell is not None and cell.low is not None and cell.high is not None:
            axes.plot([cost, cost], [cell.low, cell.high], color=colour, linewidth=1.8, solid_capstyle="butt")
        axes.plot([cost], [quality], "o", color=colour, markersize=7, fillstyle="full" if name in best else "none")
        axes.annotate(
            shortened(name, 24), (cost, quality), xytext=(8, 4), textcoords="offset points", fontsize=9, color=FAINT
        )
    axes.set_title(label, loc="left", fontsize=10)
    axes.margins(y=0.15)
    most = max(cost for cost, _ in points.values()) or 1.0
    axes.set_xlim(-0.05 * most, 1.35 * most)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("filled: on the Pareto front", fontsize=8, color=FAINT, loc="left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
