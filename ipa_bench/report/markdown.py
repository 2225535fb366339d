"""The run as Markdown, for a pull request or a model card."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ipa_bench.report import costs, sets
from ipa_bench.report.text import NOTHING, arrow, interval_text, number, plain
from ipa_bench.report.view import (
    EVERY_PAIR,
    TRAINED,
    ReportView,
    comparisons,
    correction,
    headline,
    metric_order,
    rank_text,
    ranked_because,
    set_results,
    size_of_run,
    told,
    told_pairs,
    trained_on,
    warnings,
)
from ipa_bench.types import Interval, LeaderboardRow

HEADLINE = 6
_SPECIAL = re.compile(r"([\\`*_{}\[\]|#~$])")


def render(view: ReportView) -> str:
    """The whole report as GitHub-flavoured Markdown."""
    parts = [
        f"# {escape(view.header.name)}",
        _intro(view),
        *[f"> **Warning:** {escape(warning)}" for warning in warnings(view)],
        "## Leaderboard",
        _leaderboard(view),
        "## Every metric",
        _every_metric(view),
        "## Paired differences",
        _differences(view),
        *_sets(view),
        *_costs(view),
        "## Metrics",
        _glossary(view),
        "## Run",
        _run(view),
    ]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """``text`` so that Markdown and the HTML inside it show it letter by letter."""
    text = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # a name is not a link and calls nobody
    text = _SPECIAL.sub(r"\\\1", text).replace("://", ":&#8203;//")
    return re.sub(r"@(?=\w)", "@&#8203;", text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    """A pipe table whose first ``left`` columns are text and whose others are numbers."""
    rule = [":--" if column < left else "--:" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *rows])


def _intro(view: ReportView) -> str:
    return (
        f"{size_of_run(view)}. Each number is a mean over identities with its 95 % interval, and the videos "
        f"scored of those expected. Models are ranked on {escape(view.leaderboard.primary)}; `=` marks models that it "
        f"does not tell apart, † where {TRAINED} (not evidence for it). {escape(ranked_because(view))}"
    ).strip()


def _cell(row: LeaderboardRow, metric: str) -> str:
    cell = row.cells.get(metric, Interval(None, None, None, 0, 0, 0))
    mark = " †" if metric in row.no_evidence else ""
    return f"{interval_text(cell.mean, cell.low, cell.high)}{mark}<br>{cell.scored}/{cell.scored + cell.missing}"


def _mean(row: LeaderboardRow, metric: str) -> str:
    cell = row.cells.get(metric, Interval(None, None, None, 0, 0, 0))
    return interval_text(cell.mean, cell.low, cell.high).mean + (" †" if metric in row.no_evidence else "")


def _name(view: ReportView, metric: str) -> str:
    info = view.info(metric)
    return f"{escape(metric)} {arrow(info)}".rstrip() + (f" ({escape(info.unit)})" if info and info.unit else "")


def _leaderboard(view: ReportView) -> str:
    metrics = headline(view, HEADLINE)
    head = ["rank", "model", *[_name(view, metric) for metric in metrics]]
    rows = [
        [rank_text(view, row), escape(row.model), *[_cell(row, metric) for metric in metrics]]
        for row in view.leaderboard.rows
    ]
    return table(head, rows, left=2) if rows else "No model has a record yet."


def _every_metric(view: ReportView) -> str:
    """Of many models only the means: intervals side by side are nothing that a reader could follow."""
    board = view.leaderboard
    many = len(board.rows) > EVERY_PAIR
    cell = _mean if many else _cell
    head = ["metric", "noise floor", *[escape(row.model) for row in board.rows]]
    rows = [
        [
            _name(view, metric),
            number(view.floors.get(metric), digits=2),
            *[cell(row, metric) for row in board.rows],
        ]
        for metric in metric_order(view)
    ]
    said = "Means; their intervals are in leaderboard.csv and report.html.\n\n" if many else ""
    return said + table(head, rows, left=1)


def _differences(view: ReportView) -> str:
    if not view.leaderboard.comparisons:
        return "One model: nothing to compare."
    shown = told(view, comparisons(view))
    if len(view.leaderboard.rows) > EVERY_PAIR:
        shown = tuple(pair for pair in shown if pair.metric in headline(view, HEADLINE))
    rest = len(view.leaderboard.comparisons) - len(shown)
    said = correction(view)
    if rest:
        said += f" Each model against the best and against its base; {rest} more differences are in report.html."
    head = ["model − baseline", "metric", "verdict", "why", "difference", "smallest visible", "p (Holm)", "pairs"]
    rows = [
        [
            f"{escape(pair.model)} − {escape(pair.baseline)}",
            escape(pair.metric),
            f"**{pair.verdict}**" if pair.verdict != "unclear" else pair.verdict,
            escape(pair.why) or NOTHING,
            str(interval_text(pair.delta, pair.low, pair.high, sign=True)),
            number(pair.mde, digits=2),
            number(pair.p_holm, digits=2),
            f"{pair.scored}/{pair.scored + pair.missing}",
        ]
        for pair in shown
    ]
    return f"{said}\n\n{table(head, rows, left=4)}"


def _sets(view: ReportView) -> list[str]:
    if not view.sets:
        return []
    pairs = told_pairs(view)
    every = set_results(view)
    results = [r for r in every if not r.baseline or frozenset((r.model, r.baseline)) in pairs]
    head = ["metric", "model", "Fréchet", "corrected", "kernel", "sizes", "remarks"]
    rows = [
        [escape(line.metric), escape(line.subject), *map(str, (line.frechet, line.corrected, line.kernel)),
         escape(line.sizes), escape(line.note) or NOTHING]
        for line in sets.lines(results, trained_on(view))
    ]  # fmt: skip
    found = [table(head, rows, left=2)] if rows else []
    rest = [f"{len(every) - len(results)} more differences are in report.html."] if len(results) < len(every) else []
    missing = [f"Not scored: {escape(text)}." for text in sets.absent(view.sets)]
    defined = dict.fromkeys((line.metric, line.definition) for line in sets.lines(results, trained_on(view)))
    definitions = [f"`{metric}` is {escape(definition)}." for metric, definition in defined]
    return ["## Distances between sets", sets.EXPLAINED, *found, *rest, *definitions, *missing]


def _costs(view: ReportView) -> list[str]:
    found = []
    lines = costs.lines(view)
    if lines:
        rows = [[escape(cell.text) for cell in line] for line in lines]
        said = [f"> **Note:** {escape(remark)}" for remark in costs.remarks(view)]
        found += ["## Cost", costs.EXPLAINED_IN_TEXT, *said, table([*costs.head(view)], rows, left=1)]
    spent = costs.phases(view)
    if spent:
        rows = [[escape(cell.text) for cell in line] for line in spent]
        found += ["### This run", table([*costs.PHASE_HEAD], rows, left=2)]
    return found


def _glossary(view: ReportView) -> str:
    head = ["metric", "unit", "better", "source", "blind spot"]
    infos = [info for metric in metric_order(view) if (info := view.info(metric)) is not None]
    rows = [[escape(i.id), escape(i.unit), i.better, escape(i.source), escape(i.blind_spot)] for i in infos]
    return table(head, rows, left=5)


def _run(view: ReportView) -> str:
    header = view.header
    facts = {
        "suite": header.suite_hash,
        "created": header.created,
        "ipa-bench": header.tool_version,
        "seeds": ", ".join(str(seed) for seed in header.seeds),
        **({"sealed test set": f"use {len(view.sealed_uses)} of it"} if view.sealed_uses else {}),
        **{f"model {model.name}": f"{model.kind}, {model.source}" for model in header.models},
        **header.environment,
    }
    return table(["", ""], [[escape(key), escape(value)] for key, value in facts.items()], left=2)
