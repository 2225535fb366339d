"""The table of an ablation: each row against a base, paired, over identities and training seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ipa_bench.compare import crossed
from ipa_bench.types import MetricInfo

#: (case, seed of the sample) -> value
Values = Mapping[tuple[str, int], float]
#: what a row is judged by, in the order of the table
SHOWN = ("hand.keypoint_error", "hand.pck10", "hand.recall", "hand_quality", "hand.psnr", "rest.psnr", "frame.psnr")


@dataclass(frozen=True)
class Effect:
    """A row's difference from a base in one metric, in the metric's unit."""

    metric: str
    base: float
    delta: float
    low: float | None
    high: float | None
    #: identities
    n: int
    #: the difference of each training seed alone
    seeds: tuple[float, ...]
    #: the model that it is compared with
    against: str = "base"

    @property
    def share(self) -> float | None:
        """The difference as a share of the base's mean; None where that is 0."""
        return self.delta / self.base if self.base else None


def effect(
    info: MetricInfo, base: Values, rows: Sequence[Values], identity_of: Mapping[str, str], against: str = "base"
) -> Effect | None:
    """The paired difference of a row, trained with several seeds, from ``against``; None where nothing is shared.

    The interval is over identities and, where there are several, training seeds: :func:`ipa_bench.compare.crossed`.
    """
    found = crossed([(row, base) for row in rows], identity_of=identity_of)
    if found.delta is None:
        return None
    each = (crossed([(row, base)], identity_of=identity_of).delta for row in rows)
    alone = tuple(delta for delta in each if delta is not None)
    return Effect(info.id, _mean(base, identity_of), found.delta, found.low, found.high, found.n, alone, against)


def _mean(values: Values, identity_of: Mapping[str, str]) -> float:
    groups: dict[str, list[float]] = {}
    for (case, _), value in values.items():
        groups.setdefault(identity_of.get(case) or case, []).append(value)
    return float(np.mean([np.mean(group) for group in groups.values()]))


def table(effects: Mapping[str, Sequence[Effect]], names: Mapping[str, str] | None = None) -> str:
    """Markdown: a line for each row, a column for each metric; bold where the interval excludes 0."""
    metrics = list(dict.fromkeys(e.metric for row in effects.values() for e in row))
    head = "| | " + " | ".join((names or {}).get(m, m.partition("@")[0]) for m in metrics) + " |\n"
    lines = [head, "|---|" + "---|" * len(metrics) + "\n"]
    for row, found in effects.items():
        by = {e.metric: e for e in found}
        lines.append(f"| {row} | " + " | ".join(_cell(by.get(m)) for m in metrics) + " |\n")
    return "".join(lines)


def _cell(found: Effect | None) -> str:
    if found is None:
        return "not scored"
    decibels = found.metric.partition("@")[0].endswith("psnr")
    share = "" if decibels or found.share is None else f" ({found.share:+.1%})"
    text = f"{found.delta:+.3f}{share}"
    if found.low is None or found.high is None:
        return text
    sure = found.low > 0 or found.high < 0
    text = f"**{text}**" if sure else text
    seeds = f"; seeds {min(found.seeds):+.3f} to {max(found.seeds):+.3f}" if len(found.seeds) > 1 else ""
    return f"{text} [{found.low:+.3f}, {found.high:+.3f}]{seeds}"


def as_json(effects: Mapping[str, Sequence[Effect]]) -> dict[str, list[dict[str, object]]]:
    """The same as JSON values."""
    return {row: [{**asdict(e), "share": e.share} for e in found] for row, found in effects.items()}


def plot(effects: Mapping[str, Sequence[Effect]], metrics: Sequence[str], path: Path) -> None:
    """Differences with their intervals, a panel for each metric, a line for each row; points are training seeds."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = list(effects)
    figure, axes = plt.subplots(
        1, len(metrics), figsize=(3.2 * len(metrics) + 2.4, 0.32 * len(rows) + 1.4), sharey=True
    )
    for axis, metric in zip(np.atleast_1d(axes), metrics, strict=True):
        for place, row in enumerate(reversed(rows)):
            found = next((e for e in effects[row] if e.metric.partition("@")[0] == metric), None)
            if found is None or found.low is None or found.high is None:
                continue
            axis.plot([found.low, found.high], [place, place], color="#3b6ea5", linewidth=2)
            axis.plot(found.delta, place, "o", color="#3b6ea5")
            axis.plot(found.seeds, [place + 0.22] * len(found.seeds), ".", color="#b0603a", markersize=4)
        axis.axvline(0, color="grey", linewidth=0.8)
        axis.set_title(metric, fontsize=9)
        axis.tick_params(labelsize=8)
    np.atleast_1d(axes)[0].set_yticks(range(len(rows)), list(reversed(rows)))
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
