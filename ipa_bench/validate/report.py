"""What ``ipa-bench validate`` found: how often each metric noticed each damage."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from ipa_bench.models.damage import DAMAGES, HARMLESS, STRENGTHS
from ipa_bench.validate.judge import Validation

#: below this share of correct orderings a metric is said not to see a damage
SEES = 0.8
SPATIAL = tuple(d.name for d in DAMAGES if d.kind != "temporal")
TEMPORAL = tuple(d.name for d in DAMAGES if d.kind == "temporal")
EVERY = (*SPATIAL, *TEMPORAL)
#: columns that the whole table needs
WIDE = 140
SHORT = {
    "blur": "blur",
    "low_resolution": "lowres",
    "finger_erased": "erase",
    "finger_melt": "melt",
    "smear": "smear",
    "flicker": "flick",
    "compression": "codec",
    "stutter": "stutt",
    "frozen": "froz",
    "lag": "lag",
}


@dataclass(frozen=True)
class ValidationReport:
    """A rich renderable: mild/medium/strong where the terminal is wide enough for that, medium alone where not."""

    validation: Validation

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Table of every metric, then the findings on the composite, then what each metric misses."""
        validation, wide = self.validation, options.max_width >= WIDE
        which = "mild/medium/strong" if wide else "at medium strength"
        yield Text(f"share of windows called worse, in %, {which}", style="bold")
        table = Table(header_style="bold", pad_edge=False, box=None, padding=(0, 1, 0, 0))
        table.add_column("metric", no_wrap=True)
        for damage in EVERY:
            table.add_column(damage.replace("_", " ") if wide else SHORT[damage], justify="right", no_wrap=not wide)
        table.add_column("re-encode" if wide else "re-enc", justify="right")
        for metric in _metrics(validation):
            cells = [_triple(validation, metric, damage) for damage in EVERY]
            shown = [_coloured(cell if wide else cell[1:2]) for cell in cells]
            table.add_row(metric.partition("@")[0], *shown, _percent(_harmless(validation, metric)))
        yield table
        yield Text()
        yield from (Text(line) for line in summary(validation))
        missed = [(metric, what) for metric in _metrics(validation) if (what := blind(validation, metric))]
        if missed:
            yield Text("\nnot seen even where strong (below 80 %):", style="bold")
            yield from (Text(f"  {metric}: {what}") for metric, what in missed)


def render_validation(validation: Validation) -> ValidationReport:
    """Something ``rich.print`` shows."""
    return ValidationReport(validation)


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
    return lines


def blind(validation: Validation, metric: str) -> str:
    """The damage that a metric does not see on these clips, even where it is strong; empty where it sees everything."""
    missed = []
    for damage in EVERY:
        share = validation.share(metric, (damage,), ("strong",))
        if share is None:
            missed.append(f"{damage} (not tested)")
        elif share < SEES:
            missed.append(f"{damage} ({share:.0%})")
    return ", ".join(missed)


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
    lines += ["", "## Findings", "", *(f"- {line}" for line in summary(validation))]
    lines += ["", f"## Not seen even where strong (in less than {SEES:.0%} of windows)", ""]
    lines += [f"- `{metric}`: {what}" for metric in _metrics(validation) if (what := blind(validation, metric))]
    return "\n".join([*lines, ""])


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
