"""The run as pictures: SVG strings that are the same, byte for byte, whenever the run is the same."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text

from ipa_bench.report.text import arrow, plain
from ipa_bench.report.view import ReportView, headline, primary_comparisons, told
from ipa_bench.types import Comparison, Float64, MetricInfo

INK, FAINT, GRID = "#1c2024", "#697079", "#d5d9de"
#: Told apart by people with any of the common colour deficiencies, on white and on near-black.
SERIES = ("#2f7ed8", "#d9622b", "#1a9c78", "#a05ec9", "#b58900", "#c94f7c", "#4d8f1f", "#6b7785")
VERDICTS = {"better": "#1a9c78", "worse": "#d4483b", "unclear": "#8a929b"}
#: Colours that follow the page's scheme when the picture is part of one.
THEME = {INK: "var(--ink)", FAINT: "var(--faint)", GRID: "var(--line)"}
MAX_NAME = 28
MAX_PAIRS = 30


def forest(view: ReportView, metrics: Sequence[str] | None = None) -> str:
    """Means with their intervals, one panel per metric, one line per model in rank order."""
    metrics = metrics or headline(view, 6)
    rows = view.leaderboard.rows
    with drawing():
        columns = min(len(metrics), 3)
        lines = -(-len(metrics) // columns)
        figure = Figure(figsize=(10.4, lines * (0.75 + 0.3 * max(len(rows), 1))), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False, gridspec_kw={"hspace": 0.14}).ravel()
        for index, axes in enumerate(panels):
            if index >= len(metrics):
                axes.set_axis_off()
                continue
            for y, row in enumerate(rows):
                cell = row.cells.get(metrics[index])
                if cell is None or cell.mean is None:
                    axes.text(0.5, y, "not scored", transform=axes.get_yaxis_transform(), **_small())
                    continue
                colour = SERIES[y % len(SERIES)]
                if cell.low is not None and cell.high is not None:
                    axes.plot([cell.low, cell.high], [y, y], color=colour, linewidth=2.2, solid_capstyle="butt")
                hollow = metrics[index] in row.no_evidence
                axes.plot([cell.mean], [y], "o", color=colour, markersize=6, fillstyle="none" if hollow else "full")
            _names(axes, [row.model for row in rows] if index % columns == 0 else [""] * len(rows))
            _title(axes, metrics[index], view.info(metrics[index]))
        return to_svg(figure)


def differences(view: ReportView) -> str:
    """Paired differences on the primary metric: zero line, noise floor, interval, verdict by colour."""
    pairs = told(view, primary_comparisons(view))[:MAX_PAIRS]
    primary = view.leaderboard.primary
    with drawing():
        figure = Figure(figsize=(10.4, 1.0 + 0.34 * max(len(pairs), 1)), layout="constrained")
        axes = figure.subplots()
        floor = view.floors.get(primary)
        if floor:
            axes.axvspan(-floor, floor, color=GRID, alpha=0.55, linewidth=0)
        axes.axvline(0, color=FAINT, linewidth=1)
        for y, pair in enumerate(pairs):
            _difference(axes, y, pair)
        _names(axes, [f"{shortened(pair.model, 20)} − {shortened(pair.baseline, 20)}" for pair in pairs], limit=44)
        info = view.info(primary)
        better = f"{'right' if info.better == 'higher' else 'left'} of zero is better" if info else ""
        band = "band: noise floor" if floor else ""
        _title(axes, f"paired difference of {primary}", info, ", ".join(filter(None, [better, band])))
        return to_svg(figure)


def _difference(axes: Axes, y: int, pair: Comparison) -> None:
    if pair.delta is None:
        axes.text(0.5, y, "no pairs", transform=axes.get_yaxis_transform(), **_small())
        return
    colour = VERDICTS[pair.verdict]
    if pair.low is not None and pair.high is not None:
        axes.plot([pair.low, pair.high], [y, y], color=colour, linewidth=2.4, solid_capstyle="butt")
    axes.plot([pair.delta], [y], "o", color=colour, markersize=6.5)


def distribution(view: ReportView, metric: str) -> str:
    """Every video's value as a dot, one line per model, with the mean over identities as a bar."""
    values: dict[str, list[float]] = {}
    for score in view.scores():
        if score.metric == metric and score.value is not None:
            values.setdefault(score.model, []).append(score.value)
    rows = view.leaderboard.rows
    with drawing():
        figure = Figure(figsize=(4.3, 0.8 + 0.4 * max(len(rows), 1)), layout="constrained")
        axes = figure.subplots()
        for y, row in enumerate(rows):
            dots = np.array(sorted(values.get(row.model, [])))
            colour = SERIES[y % len(SERIES)]
            if dots.size:
                axes.plot(dots, y + _spread(dots.size), "o", color=colour, alpha=0.7, markersize=4, markeredgewidth=0)
            else:
                axes.text(0.5, y, "not scored", transform=axes.get_yaxis_transform(), **_small())
            cell = row.cells.get(metric)
            if cell is not None and cell.mean is not None:
                axes.plot([cell.mean, cell.mean], [y - 0.34, y + 0.34], color=INK, linewidth=1.6)
        _names(axes, [row.model for row in rows], limit=18)
        _title(axes, metric, view.info(metric))
        return to_svg(figure)


def themed(svg: str) -> str:
    """``svg`` for use inside a page: no XML prologue, and the page's ink, so that it follows light and dark."""
    inner = svg[svg.index("<svg") :]
    for colour, variable in THEME.items():
        inner = inner.replace(colour, variable)
    # the viewBox keeps the shape; the page decides the width
    return re.sub(r'(<svg[^>]*?) width="[^"]*"| height="[^"]*"(?=[^>]*?viewBox)', r"\1", inner, count=2)


def _spread(n: int) -> Float64:
    """A fixed pattern of offsets, so that equal values do not hide each other and no chance is involved."""
    return ((np.arange(n, dtype=np.float64) * 0.618034) % 1.0 - 0.5) * 0.5


def _small() -> dict[str, Any]:
    return {"ha": "center", "va": "center", "fontsize": 9, "color": FAINT}


def shortened(name: str, limit: int) -> str:
    """A name for a picture: at most ``limit`` characters, an ellipsis the last of them."""
    name = plain(name)
    return name if len(name) <= limit else name[: limit - 1] + "…"


def _names(axes: Axes, names: Sequence[str], limit: int = MAX_NAME) -> None:
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), [shortened(name, limit) for name in names])
    axes.tick_params(length=0)
    axes.margins(x=0.08)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.locator_params(axis="x", nbins=5)


def _title(axes: Axes, metric: str, info: MetricInfo | None, note: str = "") -> None:
    unit = f"  [{plain(info.unit)}]" if info and info.unit else ""
    way = "" if note else arrow(info)
    axes.set_title(f"{plain(metric)} {way}{unit}", loc="left", fontsize=10.5, color=INK)
    if note:
        axes.set_xlabel(note, fontsize=9, color=FAINT, loc="left")


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib's own defaults and fixed ids, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        # a name in a script that the measuring font lacks is still drawn by the reader's fonts
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.hashsalt": "ipa-bench",
                "svg.fonttype": "none",
                "font.size": 10,
                "text.color": INK,
                "axes.edgecolor": GRID,
                "xtick.color": FAINT,
                "ytick.color": INK,
                "xtick.labelsize": 9,
                "ytick.labelsize": 10,
                "axes.unicode_minus": True,
            }
        )
        yield


def to_svg(figure: Figure) -> str:
    """A figure as SVG without date, background or formulas in names."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # "$" in a name is a dollar sign
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    engine = figure.get_layout_engine()
    if engine is not None:
        # Laid out once, at the resolution of SVG: by itself savefig draws everything for that, and then once more.
        FigureCanvasSVG(figure)
        figure.dpi = 72
        engine.execute(figure)
        figure.set_layout_engine("none")
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()
