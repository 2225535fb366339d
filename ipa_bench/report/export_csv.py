"""The run as two CSV files: every score in long form, and the leaderboard in long form.

A missing value is an empty cell beside its reason; 0 is only ever a measured 0. Text cells that a spreadsheet would
run as a formula get a leading apostrophe, as OWASP recommends; numbers are left alone.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from ipa_bench.report import costs as cost_lines
from ipa_bench.report.view import ReportView, metric_order

Cell = str | int | float | None
COST_HEAD = (
    *("model", "device_seconds_per_clip", "video_seconds_per_second", "peak_bytes", "joules_per_clip"),
    *("matmul_peak_share", "post_training_device_hours", "post_training_peak_bytes", "post_training_source"),
    *("gain_metric", "gain_base", "gain_per_device_hour", "gain_low", "gain_high"),
    *("processor_seconds_per_clip", "share_of_time_in_line"),
)


def scores(view: ReportView) -> str:
    """One line per (case, seed, model, metric), sorted by them."""
    rows = ((s.case, s.seed, s.model, s.metric, s.value, s.reason) for s in view.scores())
    return _write(("case", "seed", "model", "metric", "value", "reason"), rows)


def leaderboard(view: ReportView) -> str:
    """One line per (model, metric), in rank and report order."""
    head = ("rank", "model", "metric", "unit", "better", "mean", "low", "high")
    rows = []
    for row in view.leaderboard.rows:
        for metric in metric_order(view):
            cell, info = row.cells.get(metric), view.info(metric)
            about = (info.unit, info.better) if info else (None, None)
            numbers: tuple[Cell, ...] = (
                (cell.mean, cell.low, cell.high, cell.n, cell.scored, cell.missing) if cell else (None,) * 6
            )
            rows.append((row.rank, row.model, metric, *about, *numbers, int(metric in row.no_evidence)))
    return _write((*head, "identities", "scored", "missing", "trained_on"), rows)


def costs(view: ReportView) -> str | None:
    """One line per model in rank order, in SI units; None where no cost is known. An empty cell is not measured."""
    metric, rows = cost_lines.quality_metric(view), []
    for cost in cost_lines.costs(view):
        made = (cost.seconds, cost.realtime, cost.memory, cost.energy, cost.peak_share)
        trained, gain = cost.post_training, cost.gain
        before: tuple[Cell, ...] = (None,) * 3
        if trained is not None:
            before = (trained.device_hours.value, trained.memory.value, trained.source)
        gained: tuple[Cell, ...] = (None,) * 4
        if gain is not None:
            gained = (gain.base, gain.value, gain.low, gain.high)
        load = (cost.cpu.value, cost.crowded.value)
        rows.append((cost.model, *(amount.value for amount in made), *before, metric, *gained, *load))
    return _write(COST_HEAD, rows) if rows else None


def _write(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([_guard(cell) for cell in row] for row in rows)
    return out.getvalue()


def _guard(cell: Cell) -> Cell:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else cell
