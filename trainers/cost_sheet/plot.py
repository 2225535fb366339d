"""A cost sheet as pictures: time and memory of every method over the size of the clip, panels for each model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ipa_bench.report.plots import FAINT, GRID, SERIES, drawing, shortened, to_svg
from trainers.cost_sheet.plan import WORKS, Cell
from trainers.cost_sheet.sheet import Estimate, Sheet
from trainers.cost_sheet.tables import ABOUT, options

#: (pixels of the clip in millions, value, measured)
Dot = tuple[float, float, bool]


def curves(sheet: Sheet, *, training: bool) -> str | None:
    """SVG of seconds and peak memory over the clip's pixels; None where there is nothing. Hollow dots are estimates."""
    times = _lines(sheet, training, _measured_seconds(sheet), _seconds)
    peaks = _lines(sheet, training, _measured_memory(sheet), lambda e: e.memory.value)
    kinds = list(dict.fromkeys(kind for kind, _ in times))
    if not kinds:
        return None
    with drawing():
        figure = Figure(figsize=(10.4, 0.7 + 2.9 * len(kinds)), layout="constrained")
        panels = figure.subplots(len(kinds), 2, squeeze=False)
        for (left, right), kind in zip(panels, kinds, strict=True):
            _panel(left, kind, times, "s/step" if training else "s/clip")
            _panel(right, kind, peaks, "peak memory, GB")
            left.set_title(shortened(kind, 90), loc="left", fontsize=9)
            for axes in (left, right):
                axes.set_xlabel("pixels of the clip, millions", fontsize=9, color=FAINT)
        shown = {
            label: handle
            for axes in panels[:, 0]
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
        return to_svg(figure)


def _seconds(estimate: Estimate) -> float | None:
    return (estimate.seconds if estimate.cell.trains else estimate.clip_seconds).value


def _measured_seconds(sheet: Sheet) -> Mapping[Cell, float | None]:
    return {
        r.cell: (r.step.median if r.step else None) if r.cell.trains else r.clip_seconds for r in sheet.results.values()
    }


def _measured_memory(sheet: Sheet) -> Mapping[Cell, float | None]:
    return {r.cell: r.memory.value for r in sheet.results.values() if r.state == "measured"}


def _lines(
    sheet: Sheet, training: bool, measured: Mapping[Cell, float | None], guessed: Callable[[Estimate], float | None]
) -> dict[tuple[str, str], list[Dot]]:
    """(what a panel holds, method) -> dots in the order of the clip's size."""
    found: dict[tuple[str, str], list[Dot]] = {}
    pairs: Sequence[tuple[Cell, float | None, bool]] = [
        *((cell, value, True) for cell, value in measured.items()),
        *((e.cell, guessed(e), False) for e in sheet.estimates),
    ]
    for cell, value, real in pairs:
        if value is not None and cell.trains == training:
            clip = cell.clip
            kind = f"{cell.model}, batch {cell.batch}: {options(cell)}"
            pixels = clip.height * clip.width * clip.frames / 1e6
            found.setdefault((kind, cell.work), []).append((pixels, value, real))
    return {key: sorted(dots) for key, dots in found.items()}


def _panel(axes: Axes, kind: str, lines: Mapping[tuple[str, str], Sequence[Dot]], name: str) -> None:
    scale = 1e9 if "GB" in name else 1.0
    for place, work in enumerate(WORKS):
        dots = lines.get((kind, work), ())
        if not dots:
            continue
        colour = SERIES[place % len(SERIES)]
        axes.plot([d[0] for d in dots], [d[1] / scale for d in dots], "-", color=colour, linewidth=1.4)
        for real in (True, False):
            chosen = [d for d in dots if d[2] == real]
            if chosen:
                label = ABOUT[work] if real else f"{ABOUT[work]}, estimate"
                fill = "full" if real else "none"
                axes.plot(
                    [d[0] for d in chosen], [d[1] / scale for d in chosen], "o", color=colour, markersize=5,
                    fillstyle=fill, label=label,
                )  # fmt: skip
    axes.margins(x=0.1, y=0.2)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.set_ylabel(name, fontsize=9)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
