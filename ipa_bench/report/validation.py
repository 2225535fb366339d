"""What ``ipa-bench validate`` found: how often each metric noticed each damage."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ipa_bench.damage import DAMAGES, HARMLESS, STRENGTHS
from ipa_bench.validate import Validation

#: below this share of correct orderings a metric is said not to see a damage
SEES = 0.8
SPATIAL = tuple(d.name for d in DAMAGES if d.kind != "temporal")
TEMPORAL = tuple(d.name for d in DAMAGES if d.kind == "temporal")
EVERY = (*SPATIAL, *TEMPORAL)


def render_validation(validation: Validation) -> RenderableType:
    """A table for the terminal: a row for each metric, a column for each damage; mild / medium / strong in percent."""
    table = Table(title="called worse, % of windows: mild/medium/strong", header_style="bold", pad_edge=False, box=None)
    table.add_column("metric", no_wrap=True)
    for damage in EVERY:
        table.add_column(damage.replace("_", " "), justify="right", min_width=8)
    table.add_column("re-encode", justify="right")
    for metric in _metrics(validation):
        cells = [_triple(validation, metric, damage) for damage in EVERY]
        table.add_row(metric, *(_coloured(c) for c in cells), _percent(_harmless(validation, metric)))
    return Group(table, Text(), *(Text(line) for line in summary(validation)))


def summary(validation: Validation) -> list[str]:
    """The findings in sentences."""
    lines = []
    for clip in validation.clips:
        floor = clip.floors.get("hand_quality@1")
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
    lines += [line for metric in _metrics(validation) if (line := blind(validation, metric))]
    return lines


def blind(validation: Validation, metric: str) -> str:
    """What a metric cannot see on these clips, even where the damage is strong; empty where it sees everything."""
    missed = []
    for damage in EVERY:
        share = validation.share(metric, (damage,), ("strong",))
        if share is None:
            missed.append(f"{damage} (not tested)")
        elif share < SEES:
            missed.append(f"{damage} ({share:.0%})")
    return f"{metric} does not see even strong: {', '.join(missed)}" if missed else ""


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
    lines += ["", "## Damage", "", "| damage | mild, medium, strong | what the number is |", "|---|---|---|"]
    lines += [f"| {d.name} | {', '.join(f'{v:g}' for v in d.levels)} | {d.meaning} |" for d in (*DAMAGES, *HARMLESS)]
    return "\n".join([*lines, "", "## Findings", "", *(f"- {line}" for line in summary(validation)), ""])


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
