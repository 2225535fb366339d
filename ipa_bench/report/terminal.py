"""The run in a terminal: leaderboard, paired differences on the primary metric, floor, warnings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.table import Table
from rich.text import Text

from ipa_bench.report import costs, sets
from ipa_bench.report.text import NOTHING, arrow, interval_text, number, plain
from ipa_bench.report.view import (
    EVERY_PAIR,
    TRAINED,
    ReportView,
    base_name,
    correction,
    headline,
    primary_comparisons,
    rank_text,
    ranked_because,
    set_results,
    size_of_run,
    told,
    told_pairs,
    trained_on,
    warnings,
)
from ipa_bench.types import Comparison, Interval, LeaderboardRow

VERDICT_STYLES = {"better": "bold green", "worse": "bold red", "unclear": "yellow"}
MAX_HEADLINE = 6
#: of names, which are folded where they are longer
NAME_WIDTH = (8, 24)
CELL_WIDTH = 16
#: between columns
GAP = 2
#: head, side, width
Column = tuple[str | Text, JustifyMethod, int]
#: columns of the table of costs that are told here too
TOLD = ("s/clip", costs.CPU, "peak GB", "post-training h", "gain per h", "post-training price")


@dataclass(frozen=True)
class TerminalReport:
    """A rich renderable which shows as many headline metrics as the terminal has room for.

    Columns of numbers are as wide as their numbers: names are folded, and metrics left to the page, until all fits.
    Where one column of numbers is too much, lines are longer than the terminal: print with ``crop=False``.
    """

    view: ReportView

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Title, leaderboard, paired differences, warnings."""
        view, ascii_only, width = self.view, options.ascii_only, options.max_width
        yield Text(plain(view.header.name), style="bold")
        yield Text(f"{size_of_run(view)}; mean [95 % interval over identities]", style="dim")
        if view.leaderboard.rows:
            metrics = _fitting(view, width, ascii_only)
            yield Text()
            yield _leaderboard(view, metrics, width, ascii_only)
            yield from _captions(view, metrics)
        every = primary_comparisons(view)
        pairs = told(view, every)
        if pairs:
            yield Text()
            yield from _differences(view, pairs, width, ascii_only)
            if len(every) > 1:
                yield Text(correction(view), style="dim")
            if len(pairs) < len(every):
                yield Text(f"{len(every) - len(pairs)} more pairs are in report.html.", style="dim")
        if view.sets:
            yield Text()
            yield from _sets(view, told_pairs(view), width)
        yield from _costs(view)
        told_warnings = warnings(view)
        if told_warnings:
            yield Text()
        for warning in told_warnings:
            yield Text("warning: ", style="bold yellow").append(plain(warning), style="default not bold")


def render(view: ReportView) -> TerminalReport:
    """Something for ``Console.print(..., crop=False)``; fits any width from 80 columns up."""
    return TerminalReport(view)


def _table(columns: Sequence[Column], *, leading: int = 1) -> Table:
    """A table of columns (head, side, width) with :data:`GAP` between them: as wide as that, whatever the terminal."""
    width = sum(width for _, _, width in columns) + GAP * (len(columns) - 1)
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0), leading=leading, width=width
    )
    for head, justify, wide in columns:
        table.add_column(head, justify=justify, width=wide, overflow="fold")
    return table


def _width(*cells: Text | str) -> int:
    """Of the longest line."""
    return max((cell_len(line) for cell in cells for line in str(cell).split("\n")), default=0)


def _names_width(names: Iterable[str], room: int) -> int:
    """Of a column of names that should take no more than ``room``."""
    wanted = max((cell_len(name) for name in names), default=0)
    return max(min(wanted, NAME_WIDTH[1], room), NAME_WIDTH[0])


def _fitting(view: ReportView, width: int, ascii_only: bool) -> tuple[str, ...]:
    """As many headline metrics as fit beside rank and model, at least one."""
    names = _names_width((plain(row.model) for row in view.leaderboard.rows), NAME_WIDTH[1])
    left = width - _rank_width(view) - GAP - names
    found = headline(view, MAX_HEADLINE)
    for count, metric in enumerate(found):
        left -= GAP + _metric_width(view, metric, ascii_only)
        if left < 0:
            return found[: max(count, 1)]
    return found


def _rank_width(view: ReportView) -> int:
    return _width("rank", *(rank_text(view, row) for row in view.leaderboard.rows))


def _metric_width(view: ReportView, metric: str, ascii_only: bool) -> int:
    cells = [_cell(row, metric) for row in view.leaderboard.rows]
    return max(CELL_WIDTH, _width(_floor(view, metric), *cells))


def _floor(view: ReportView, metric: str) -> str:
    return f"±{number(view.floors[metric], digits=2)}" if metric in view.floors else NOTHING


def _leaderboard(view: ReportView, metrics: tuple[str, ...], width: int, ascii_only: bool) -> Table:
    widths = [_metric_width(view, metric, ascii_only) for metric in metrics]
    rank, models = _rank_width(view), [plain(row.model) for row in view.leaderboard.rows]
    room = width - rank - sum(widths) - GAP * (len(metrics) + 1)
    columns: list[Column] = [("rank", "right", rank)]
    columns.append(("model", "left", _names_width([*models, "noise floor"], room)))
    for metric, wide in zip(metrics, widths, strict=True):
        info = view.info(metric)
        name = plain(base_name(metric))
        head = Text(name if len(name) <= wide else name.replace(".", ".\n", 1), style="bold")
        head.append(f"\n{arrow(info, ascii_only=ascii_only)} {plain(info.unit) if info else ''}", style="dim")
        if metric == view.leaderboard.primary:
            head.append("\nprimary", style="italic cyan")
        columns.append((head, "right", wide))
    table = _table(columns)
    for row, model in zip(view.leaderboard.rows, models, strict=True):
        table.add_row(rank_text(view, row), Text(model, style="bold"), *(_cell(row, metric) for metric in metrics))
    if any(metric in view.floors for metric in metrics):
        floors = [Text(_floor(view, metric), "dim") for metric in metrics]
        table.add_row("", Text("noise floor", "dim italic"), *floors)
    return table


def _cell(row: LeaderboardRow, metric: str) -> Text:
    cell = row.cells.get(metric, Interval(None, None, None, 0, 0, 0))
    shown = interval_text(cell.mean, cell.low, cell.high)
    trained = metric in row.no_evidence
    text = Text(shown.mean + ("*" if trained else ""), style="dim" if trained else "bold")
    text.append(f"\n{shown.bracket}" if shown.bracket else "", style="not bold")
    coverage = f"\n{cell.scored}/{cell.scored + cell.missing} videos"
    return text.append(coverage, style="not bold yellow" if cell.missing else "not bold dim")


def _captions(view: ReportView, metrics: tuple[str, ...]) -> list[Text]:
    captions = []
    if any(rank_text(view, row).endswith("=") for row in view.leaderboard.rows):
        captions.append("= shares its rank: the primary metric does not tell these models apart.")
    if any(metric in row.no_evidence for row in view.leaderboard.rows for metric in metrics):
        captions.append(f"* {TRAINED}: not evidence for it.")
    if why := ranked_because(view):
        captions.append(why)
    if any(metric in view.floors for metric in metrics):
        captions.append("noise floor: the difference that a re-encode of the same video makes.")
    rest = len(set(view.leaderboard.metrics) - set(metrics))
    if rest:
        captions.append(f"{rest} more metrics are in report.html and leaderboard.csv.")
    return [Text(caption, style="dim") for caption in captions]


def _costs(view: ReportView) -> list[Text]:
    """One line for each model whose cost is known; the table is in the page."""
    found = []
    for line in costs.lines(view):
        cells = dict(zip(costs.head(view), line, strict=True))
        named = [(name, cells[name].text) for name in TOLD if name in cells]
        told = [f"{text} {name}" for name, text in named if text != NOTHING]
        if told:
            found.append(Text("cost: ", style="bold").append(f"{cells['model'].text}: {', '.join(told)}", "not bold"))
    found += [Text("cost: ", style="bold").append(plain(remark), "not bold") for remark in costs.remarks(view)]
    return [Text(), *found] if found else []


def _sets(view: ReportView, pairs: frozenset[frozenset[str]], width: int) -> Iterator[Table | Text]:
    results = set_results(view)
    shown = [r for r in results if not r.baseline or frozenset((r.model, r.baseline)) in pairs]
    lines = sets.lines(shown, trained_on(view))
    if lines:
        cells = [[f"{v.mean}\n{v.bracket}" for v in (line.frechet, line.corrected, line.kernel)] for line in lines]
        widths = [max(len("[95 % interval]"), _width(*column)) for column in zip(*cells, strict=True)]
        names = [line.subject for line in lines] + [plain(line.metric) for line in lines]
        heads = ("Fréchet", "corrected\nfor size", "kernel")
        columns: list[Column] = [("model", "left", _names_width(names, width - sum(widths) - 3 * GAP))]
        columns += [(f"{head}\n[95 % interval]", "right", wide) for head, wide in zip(heads, widths, strict=True)]
        table = _table(columns)
        metric = ""
        for line, values in zip(lines, cells, strict=True):
            if line.metric != metric:
                metric = line.metric
                table.add_row(Text(plain(metric), style="italic cyan"))
            table.add_row(Text(line.subject, style="bold"), *map(Text, values))
        yield Text("distances between sets of videos, lower is better\n", style="bold")
        yield table
    noted = sum(bool(line.note) for line in lines)
    kept = len(sets.absent(view.sets))
    remarks = [
        f"{len(results) - len(shown)} differences of other pairs" if len(shown) < len(results) else "",
        f"{noted} remarks on sizes and trust" if noted else "",
        f"{kept} reasons for those not there" if kept else "",
    ]
    if any(remarks):
        yield Text(f"In report.html: {', '.join(filter(None, remarks))}.", style="dim")


def _differences(
    view: ReportView, pairs: tuple[Comparison, ...], width: int, ascii_only: bool
) -> Iterator[Table | Text]:
    info = view.info(view.leaderboard.primary)
    better = f", {info.better} is better" if info else ""
    unit = f" in {plain(info.unit)}" if info and info.unit else ""
    minus = "-" if ascii_only else "−"
    names = [(plain(pair.model), f"{minus} {plain(pair.baseline)}") for pair in pairs]
    shown = [interval_text(pair.delta, pair.low, pair.high, sign=True) for pair in pairs]
    cells = [
        (
            Text(f"{value.mean}\n{value.bracket}"),
            Text(pair.verdict, style=VERDICT_STYLES[pair.verdict]),
            Text(number(pair.mde, digits=2)),
            Text(f"{pair.scored}/{pair.scored + pair.missing}", style="yellow" if pair.missing else ""),
        )
        for pair, value in zip(pairs, shown, strict=True)
    ]
    heads = ("difference\n[95 % interval]", "verdict", "smallest\nvisible", "pairs")
    widths = [_width(head, *column) for head, column in zip(heads, zip(*cells, strict=True), strict=True)]
    whys = [plain(pair.why) for pair in pairs]
    room = width - sum(widths) - GAP * len(widths)
    reasons = min(max(map(len, whys)), max(room // 2, NAME_WIDTH[0]))
    both = [name for pair in names for name in pair]
    wide = _names_width([*both, "minus baseline"], room - reasons - GAP)
    sides: tuple[JustifyMethod, ...] = ("right", "left", "right", "right")
    columns: list[Column] = [("model\nminus baseline", "left", wide), *zip(heads, sides, widths, strict=True)]
    if any(whys):
        columns.append(("why", "left", reasons))
    table = _table(columns, leading=1 if len(view.leaderboard.rows) <= EVERY_PAIR else 0)
    for name, values, why in zip(names, cells, whys, strict=True):
        table.add_row("\n".join(name), *values, *([Text(why)] if any(whys) else []))
    yield Text(f"paired differences of {plain(view.leaderboard.primary)}{unit}{better}\n", style="bold")
    yield table
