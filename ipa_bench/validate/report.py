"""What ``ipa-bench validate`` found: how often each metric noticed each damage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ipa_bench.models.damage import DAMAGES, HARMLESS, STRENGTHS, UNSEEN
from ipa_bench.validate.judge import Sight, Validation

#: below this share of correct orderings a metric is said not to see a damage
SEES = 0.8
SPATIAL = tuple(d.name for d in DAMAGES if d.kind != "temporal")
TEMPORAL = tuple(d.name for d in DAMAGES if d.kind == "temporal")
EVERY = (*SPATIAL, *TEMPORAL)
UNTESTED = "not tested on these clips (no window has values on both sides, or hands hardly move)"
#: columns that the whole table needs
WIDE = 140


@dataclass(frozen=True)
class ValidationReport:
    """A rich renderable: mild/medium/strong where the terminal is wide, medium alone where not; as many tables as it
    takes to show every column whole."""

    validation: Validation

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Tables of every metric, then the findings on the composite, then what each metric misses."""
        validation, width = self.validation, options.max_width
        which = "mild/medium/strong" if width >= WIDE else "at medium strength"
        yield Text(f"share of windows called worse, in %, {which}", style="bold")
        for table in _tables(validation, width):
            yield Text()
            yield table
        yield Text()
        yield from (Text(line) for line in summary(validation))
        if missed := _missed(validation):
            yield Text("\nnot seen even where strong (below 80 %):", style="bold")
            yield _grid(missed)
        if without := untested(validation):
            yield Text(f"\n{UNTESTED}:", style="bold")
            yield _grid([(", ".join(metrics), what) for what, metrics in without.items()])


def _tables(validation: Validation, width: int) -> list[Table]:
    """A row for each metric, a column for each damage and for a re-encode; no head is folded inside a word."""
    metrics, wide = _metrics(validation), width >= WIDE
    names = [metric.partition("@")[0] for metric in metrics]
    columns: list[tuple[str, list[Text]]] = [
        (
            damage.replace("_", "\n"),
            [_coloured(_triple(validation, metric, damage)[0 if wide else 1 : 3 if wide else 2]) for metric in metrics],
        )
        for damage in EVERY
    ]
    columns.append(("re-encode", [Text(_percent(_harmless(validation, metric))) for metric in metrics]))
    groups: list[list[tuple[str, list[Text]]]] = []
    left = 0
    for head, cells in columns:
        needed = 1 + max(len(line) for text in (head, *map(str, cells)) for line in text.split("\n"))
        if needed > left:
            groups.append([])
            left = width - max(map(len, ("metric", *names)))
        groups[-1].append((head, cells))
        left -= needed
    return [_table(names, group) for group in groups]


def _table(names: Sequence[str], columns: Sequence[tuple[str, list[Text]]]) -> Table:
    table = Table(header_style="bold", pad_edge=False, box=None, padding=(0, 1, 0, 0))
    table.add_column("metric", no_wrap=True)
    for head, _ in columns:
        table.add_column(head, justify="right", no_wrap=True)
    for name, *cells in zip(names, *(cells for _, cells in columns), strict=True):
        table.add_row(name, *cells)
    return table


def _grid(rows: Sequence[tuple[str, str]]) -> Padding:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for row in rows:
        grid.add_row(*map(Text, row))
    return Padding(grid, (0, 0, 0, 2))


def render_validation(validation: Validation) -> ValidationReport:
    """Something ``rich.print`` shows."""
    return ValidationReport(validation)


def summary(validation: Validation) -> list[str]:
    """The findings in sentences."""
    lines = []
    for clip in validation.clips:
        floor = next((value for metric, value in clip.floors.items() if metric.startswith("hand_quality@")), None)
        known = f", noise floor of hand_quality {floor:.4f}" if floor is not None else ""
        lines.append(f"{clip.name}: {clip.windows} windows, {clip.still} of them still{known}")
    lines += [f"{name} was left out: {why}" for name, why in validation.skipped.items()]
    for metric in _metrics(validation):
        if metric.startswith("hand_quality@"):
            shares = {s: validation.share(metric, EVERY, (s,)) for s in STRENGTHS}
            told = ", ".join(f"{s} {_percent(share)} %" for s, share in shares.items())
            lines.append(f"{metric} orders damage correctly: {told}; temporal damage at any strength "
                         f"{_percent(validation.share(metric, TEMPORAL, STRENGTHS))} %; "
                         f"a re-encode is called worse in {_percent(_harmless(validation, metric))} %")  # fmt: skip
            lines += [_in_order(sight) for sight in validation.sights if sight.metric == metric]
    return lines


def _in_order(sight: Sight) -> str:
    """Whether what nobody sees stands above what anybody sees, and where it is closest."""
    (unseen, how, low), (seen, much, high) = sight.unseen, sight.seen
    told = "all" if sight.right == sight.pairs else f"{sight.right} of {sight.pairs}"
    return (
        f"{sight.metric} on {sight.clip}: {told} pairs of an unseen and a seen change in order; "
        f"the worst unseen one is {unseen} ({how}, {-low:+.3f}), the best seen one {seen} ({much}, {-high:+.3f})"
    )


def blind(validation: Validation, metric: str) -> str:
    """The damage that a metric does not see on these clips, even where it is strong; empty where it sees everything."""
    shares = {damage: validation.share(metric, (damage,), ("strong",)) for damage in EVERY}
    return ", ".join(f"{d} ({share:.0%})" for d, share in shares.items() if share is not None and share < SEES)


def untested(validation: Validation) -> dict[str, list[str]]:
    """Damage that could not be tested on these clips, even where it is strong -> the metrics that is so for."""
    found: dict[str, list[str]] = {}
    for metric in _metrics(validation):
        damages = [d for d in EVERY if validation.share(metric, (d,), ("strong",)) is None]
        if damages:
            found.setdefault(", ".join(damages), []).append(metric)
    return found


def _missed(validation: Validation) -> list[tuple[str, str]]:
    return [(metric, what) for metric in _metrics(validation) if (what := blind(validation, metric))]


def markdown(validation: Validation) -> str:
    """The same as a Markdown page."""
    head = ["metric", *(d.replace("_", " ") for d in EVERY), "re-encode"]
    rows = [
        [
            f"`{metric}`",
            *("/".join(_triple(validation, metric, damage)) for damage in EVERY),
            _percent(_harmless(validation, metric)),
        ]
        for metric in _metrics(validation)
    ]
    lines = ["# What the metrics see of known damage", ""]
    lines += [
        "Share of windows (about a second each) that a metric calls worse than the original by more than its noise"
    ]
    lines += ["floor, in percent, at mild/medium/strong strength. The last column is a harmless re-encode.", ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    lines += [
        "",
        "## What nobody sees",
        "",
        "Share of windows that a metric calls worse all the same; and of the pairs of a",
        "",
    ]
    lines[-1:] = ["change that nobody sees and one that anybody does, over whole clips, those in order.", ""]
    lines += _unseen_table(validation)
    lines += ["", "## Damage", "", "| damage | mild, medium, strong | what the number is |", "|---|---|---|"]
    lines += [
        f"| {d.name} | {', '.join(f'{v:g}' for v in d.levels)} | {d.meaning} |" for d in (*DAMAGES, *UNSEEN, *HARMLESS)
    ]
    lines += ["", "## Findings", "", *(f"- {line}" for line in summary(validation))]
    lines += ["", f"## Not seen even where strong (in less than {SEES:.0%} of windows)", ""]
    lines += [f"- `{metric}`: {what}" for metric, what in _missed(validation)]
    if without := untested(validation):
        lines += ["", f"## {UNTESTED[0].upper()}{UNTESTED[1:]}", ""]
        lines += [f"- {what}: {', '.join(f'`{metric}`' for metric in metrics)}" for what, metrics in without.items()]
    return "\n".join([*lines, ""])


def _unseen_table(validation: Validation) -> list[str]:
    head = ["metric", *(d.name for d in UNSEEN), "in order"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for metric in _metrics(validation):
        sights = [sight for sight in validation.sights if sight.metric == metric]
        right, pairs = sum(s.right for s in sights), sum(s.pairs for s in sights)
        cells = ["/".join(_triple(validation, metric, d.name)) for d in UNSEEN]
        lines.append(f"| `{metric}` | {' | '.join(cells)} | {_percent(right / pairs if pairs else None)} |")
    return lines


def as_dict(validation: Validation) -> dict[str, Any]:
    """Everything, for JSON."""
    return {"schema_version": 1, **asdict(validation)}


def _metrics(validation: Validation) -> list[str]:
    return list(dict.fromkeys(cell.metric for cell in validation.cells))


def _triple(validation: Validation, metric: str, damage: str) -> list[str]:
    return [_percent(validation.share(metric, (damage,), (strength,))) for strength in STRENGTHS]


def _harmless(validation: Validation, metric: str) -> float | None:
    return validation.share(metric, [d.name for d in HARMLESS], STRENGTHS)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f}"


def _coloured(triple: list[str]) -> Text:
    text = Text()
    for index, cell in enumerate(triple):
        style = (
            "dim" if cell == "-" else "green" if float(cell) >= 100 * SEES else "red" if float(cell) < 50 else "yellow"
        )
        text.append("/" if index else "").append(cell, style=style)
    return text
