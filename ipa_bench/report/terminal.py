"""The run in a terminal: leaderboard, paired differences on the primary metric, floor, warnings."""

from __future__ import annotations

from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from ipa_bench.report import costs, sets
from ipa_bench.report.text import NOTHING, arrow, interval_text, number, plain
from ipa_bench.report.view import (
    ReportView,
    base_name,
    headline,
    primary_comparisons,
    rank_text,
    set_results,
    size_of_run,
    warnings,
)
from ipa_bench.types import Comparison, Interval, LeaderboardRow

VERDICT_STYLES = {"better": "bold green", "worse": "bold red", "unclear": "yellow"}
MAX_PAIRS = 12
MAX_HEADLINE = 6
MODEL_WIDTH = (8, 24)
CELL_WIDTH = 16
#: columns of the table of costs that are told here too
TOLD = ("s/clip", "peak GB", "post-training h", "gain per h", "post-training price")


@dataclass(frozen=True)
class TerminalReport:
    """A rich renderable which shows as many headline metrics as the terminal has room for."""

    view: ReportView

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Title, leaderboard, paired differences, warnings."""
        view, ascii_only = self.view, options.ascii_only
        yield Text(plain(view.header.name), style="bold")
        yield Text(f"{size_of_run(view)}; mean [95 % interval over identities]", style="dim")
        if view.leaderboard.rows:
            metrics = headline(view, _room(view, options.max_width))
            yield _leaderboard(view, metrics, ascii_only)
            yield from _captions(view, metrics)
        pairs = primary_comparisons(view)
        if pairs:
            yield Text()
            yield _differences(view, pairs[:MAX_PAIRS], ascii_only)
            if len(pairs) > MAX_PAIRS:
                yield Text(f"{len(pairs) - MAX_PAIRS} more pairs are in report.html.", style="dim")
        if view.sets:
            yield Text()
            yield from _sets(view)
        yield from _costs(view)
        for warning in warnings(view):
            yield Text("warning: ", style="bold yellow").append(plain(warning), style="default not bold")


def render(view: ReportView) -> TerminalReport:
    """Something ``rich.print`` shows; fits any width from 80 columns up."""
    return TerminalReport(view)


def _model_width(view: ReportView) -> int:
    longest = max((len(plain(row.model)) for row in view.leaderboard.rows), default=0)
    return min(max(longest, MODEL_WIDTH[0]), MODEL_WIDTH[1])


def _room(view: ReportView, width: int) -> int:
    """How many metric columns fit beside rank and model."""
    left = width - 7 - (_model_width(view) + 2)
    return min(max(left // (CELL_WIDTH + 2), 1), MAX_HEADLINE)


def _leaderboard(view: ReportView, metrics: tuple[str, ...], ascii_only: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=False, leading=1)
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("model", min_width=_model_width(view), max_width=_model_width(view), overflow="fold")
    for metric in metrics:
        info = view.info(metric)
        name = plain(base_name(metric))
        head = Text(name if len(name) <= CELL_WIDTH else name.replace(".", ".\n", 1), style="bold")
        head.append(f"\n{arrow(info, ascii_only=ascii_only)} {plain(info.unit) if info else ''}", style="dim")
        if metric == view.leaderboard.primary:
            head.append("\nprimary", style="italic cyan")
        table.add_column(head, justify="right", width=CELL_WIDTH, overflow="fold")
    for row in view.leaderboard.rows:
        cells = [_cell(row, metric) for metric in metrics]
        table.add_row(rank_text(view, row), Text(plain(row.model), style="bold"), *cells)
    if any(metric in view.floors for metric in metrics):
        floors = [
            f"±{number(view.floors[metric], digits=2)}" if metric in view.floors else NOTHING for metric in metrics
        ]
        table.add_row("", Text("noise floor", "dim italic"), *[Text(floor, "dim") for floor in floors])
    return table


def _cell(row: LeaderboardRow, metric: str) -> Text:
    cell = row.cells.get(metric, Interval(None, None, None, 0, 0, 0))
    shown = interval_text(cell.mean, cell.low, cell.high)
    trained = metric in row.trained_on
    text = Text(shown.mean + ("*" if trained else ""), style="dim" if trained else "bold")
    text.append(f"\n{shown.bracket}" if shown.bracket else "", style="not bold")
    coverage = f"\n{cell.scored}/{cell.scored + cell.missing} videos"
    return text.append(coverage, style="not bold yellow" if cell.missing else "not bold dim")


def _captions(view: ReportView, metrics: tuple[str, ...]) -> list[Text]:
    captions = []
    if any(rank_text(view, row).endswith("=") for row in view.leaderboard.rows):
        captions.append("= shares its rank: the primary metric does not tell these models apart.")
    if any(metric in row.trained_on for row in view.leaderboard.rows for metric in metrics):
        captions.append("* the model was trained on this metric: not evidence for it.")
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
    return [Text(), *found] if found else []


def _sets(view: ReportView) -> list[Table | Text]:
    found: list[Table | Text] = []
    lines = sets.lines(set_results(view))
    if lines:
        table = Table(
            box=box.SIMPLE_HEAD, pad_edge=False, leading=1, title="distances between sets of videos, lower is better",
            title_justify="left", title_style="bold",
        )  # fmt: skip
        table.add_column("model", overflow="fold", min_width=18, max_width=28)
        for name in ("Fréchet", "corrected for size", "kernel"):
            table.add_column(f"{name}\n[95 % interval]", justify="right", no_wrap=True)
        metric = ""
        for line in lines:
            if line.metric != metric:
                metric = line.metric
                table.add_row(Text(plain(metric), style="italic cyan"))
            values = (line.frechet, line.corrected, line.kernel)
            table.add_row(Text(line.subject, style="bold"), *(Text(f"{v.mean}\n{v.bracket}") for v in values))
        found.append(table)
    noted = sum(bool(line.note) for line in lines)
    kept = len(sets.absent(view.sets))
    told = [
        f"{noted} remarks on sizes and trust" if noted else "",
        f"{kept} reasons for those not there" if kept else "",
    ]
    if any(told):
        found.append(Text(f"In report.html: {', '.join(filter(None, told))}.", style="dim"))
    return found


def _differences(view: ReportView, pairs: tuple[Comparison, ...], ascii_only: bool) -> Table:
    info = view.info(view.leaderboard.primary)
    better = f", {info.better} is better" if info else ""
    unit = f" in {plain(info.unit)}" if info and info.unit else ""
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        leading=1,
        title=f"paired differences of {plain(view.leaderboard.primary)}{unit}{better}",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("model\nminus baseline", overflow="fold", max_width=26)
    table.add_column("difference\n[95 % interval]", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("why", overflow="fold")
    table.add_column("smallest\nvisible", justify="right", no_wrap=True)
    table.add_column("pairs", justify="right", no_wrap=True)
    minus = "-" if ascii_only else "−"
    for pair in pairs:
        shown = interval_text(pair.delta, pair.low, pair.high, sign=True)
        table.add_row(
            Text(f"{plain(pair.model)}\n{minus} {plain(pair.baseline)}"),
            Text(f"{shown.mean}\n{shown.bracket}"),
            Text(pair.verdict, style=VERDICT_STYLES[pair.verdict]),
            Text(plain(pair.why)),
            number(pair.mde, digits=2),
            Text(f"{pair.scored}/{pair.scored + pair.missing}", style="yellow" if pair.missing else ""),
        )
    return table
