"""What the run's models cost beside what they score, as lines of a table: the same words in every format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ipa_bench.cost import Amount, PhaseCost
from ipa_bench.cost.amount import CROWDED
from ipa_bench.cost.gain import ModelCost, model_costs
from ipa_bench.report.text import NOTHING, interval_text, number, plain
from ipa_bench.report.view import ReportView, base_name, headline, upper_bounds

GB = 1e9
HOUR = 3600.0
#: clips that a price of generating is given for
CLIPS = 1000
EXPLAINED_IN_TEXT = (
    "Making a clip: device-seconds, processor-seconds of all threads where no GPU was used, seconds of video made in a "
    "second, peak memory of the GPU (of the host where none was used), share of the matmul peak that denoising "
    "reached. Post-training: what is known to lie between base and model, in hours of a device. Gain: improvement over "
    "the base for one such hour, with the 95 % interval of the paired difference divided by the hours; above 0 is "
    "better. The metric is the first that no model was trained on, where there is one. A dash: not measured."
)
EXPLAINED = f"{EXPLAINED_IN_TEXT} Point at it for the reason."
HEAD = (
    "model",
    "s/clip",
    "video s/s",
    "peak GB",
    "of matmul peak",
    "J/clip",
    "post-training h",
    "its peak GB",
)
#: beside wall time, where clips were made without a GPU
CPU = "CPU s/clip"
#: of wall time that is not to be compared
BUSY = "busy"
GAIN = "gain per h"
PRICES = ("post-training price", f"price of {CLIPS} clips")


@dataclass(frozen=True)
class Cell:
    """A text, and why there is no number where there is none."""

    text: str
    reason: str = ""


def head(view: ReportView) -> tuple[str, ...]:
    """Names of the columns."""
    made = (*HEAD[:2], *([CPU] if _on_processor(costs(view)) else []), *HEAD[2:])
    names = (*made, base_name(quality_metric(view)), GAIN)
    return names if view.price is None else (*names, *PRICES)


def quality_metric(view: ReportView) -> str:
    """The metric that cost is compared with: gain on one that is no evidence for a model proves nothing."""
    trained = {metric for row in view.leaderboard.rows for metric in row.no_evidence}
    known = [metric for metric in headline(view, len(view.leaderboard.metrics) + 1) if metric not in trained]
    return known[0] if known else view.leaderboard.primary


def costs(view: ReportView) -> tuple[ModelCost, ...]:
    """Cost of every model but upper bounds, which are the ground truth; empty where nothing is known of any."""
    info = view.info(quality_metric(view))
    if info is None or not (view.costs.of or view.costs.post_training):
        return ()
    bounds = upper_bounds(view)
    every = model_costs(view.leaderboard, view.costs, info.id, info.better)
    found = tuple(cost for cost in every if cost.model not in bounds)
    known = any(cost.seconds.value is not None or cost.post_training for cost in found)
    return found if known else ()


def _on_processor(found: Sequence[ModelCost]) -> bool:
    return any(cost.cpu.value is not None for cost in found)


def comparable(found: Sequence[ModelCost]) -> dict[str, float]:
    """Model -> seconds of a clip that compare with each other: processor time where every model that has a time has
    that, else wall time."""
    made = [cost for cost in found if cost.seconds.value is not None]
    cpu = {cost.model: cost.cpu.value for cost in made if cost.cpu.value is not None}
    return cpu if len(cpu) == len(made) else {c.model: c.seconds.value for c in made if c.seconds.value is not None}


def by_processor(found: Sequence[ModelCost]) -> bool:
    """Whether :func:`comparable` is processor time."""
    return all(cost.cpu.value is not None for cost in found if cost.seconds.value is not None)


def _is_busy(cost: ModelCost) -> bool:
    return (cost.crowded.value or 0.0) > CROWDED


def remarks(view: ReportView) -> tuple[str, ...]:
    """What a reader must know before comparing times; names as they are."""
    found = costs(view)
    busy = [f"{cost.model} ({100 * (cost.crowded.value or 0.0):.0f} %)" for cost in found if _is_busy(cost)]
    said = []
    if busy:
        instead = f"compare {CPU}" if _on_processor(found) else "measure again on a quiet machine"
        said.append(
            f"Other work ran while clips were made, which stood in line for a core: {', '.join(busy)} of the time. "
            f"Wall times marked {BUSY} are not to be compared; {instead}."
        )
    for cost in found:
        if cost.unlike_base is not None:
            base, ratio = cost.unlike_base
            said.append(
                f"A clip of {cost.model} took {ratio:.2g} times the time of one of {base}, from which it was made: the "
                "same network with the same settings takes the same time, so this is of the machine or of the settings."
            )
    return tuple(said)


def lines(view: ReportView) -> tuple[tuple[Cell, ...], ...]:
    """A line for each model, in rank order."""
    found = costs(view)
    return tuple(_line(view, cost, _on_processor(found)) for cost in found)


def _line(view: ReportView, cost: ModelCost, on_processor: bool) -> tuple[Cell, ...]:
    trained = cost.post_training
    row = next(row for row in view.leaderboard.rows if row.model == cost.model)
    quality = row.cells.get(quality_metric(view))
    shown = NOTHING if quality is None else str(interval_text(quality.mean, quality.low, quality.high))
    gain = (
        Cell(NOTHING, cost.no_gain or "")
        if cost.gain is None
        else Cell(f"{interval_text(cost.gain.value, cost.gain.low, cost.gain.high, sign=True)} over {cost.gain.base}")
    )
    cells = (
        Cell(plain(cost.model)),
        _wall(cost),
        *([_cell(cost.cpu)] if on_processor else []),
        _cell(cost.realtime),
        _cell(_scaled(cost.memory, 1 / GB)),
        Cell(NOTHING, cost.peak_share.reason or "")
        if cost.peak_share.value is None
        else Cell(f"{100 * cost.peak_share.value:.0f} %"),
        _cell(cost.energy),
        _cell(cost.device_hours, "" if trained is None else trained.source),
        Cell(NOTHING) if trained is None else _cell(_scaled(trained.memory, 1 / GB)),
        Cell(shown),
        Cell(plain(gain.text), gain.reason),
    )
    if view.price is None:
        return cells
    clips = _scaled(cost.seconds, CLIPS / HOUR)
    return (*cells, *(_cell(_scaled(amount, view.price)) for amount in (cost.device_hours, clips)))


def _wall(cost: ModelCost) -> Cell:
    shown = _cell(cost.seconds)
    if not _is_busy(cost) or cost.seconds.value is None:
        return shown
    waited = 100 * (cost.crowded.value or 0.0)
    return Cell(f"{shown.text} {BUSY}", f"other work ran: it stood in line for a core for {waited:.0f} % of the time")


def _scaled(amount: Amount, factor: float) -> Amount:
    return amount if amount.value is None else Amount(amount.value * factor)


def _cell(amount: Amount, note: str = "") -> Cell:
    return Cell(number(amount.value, digits=3), plain(amount.reason or note))


PHASE_HEAD = ("phase", "device", "wall time, s", "items", "items/s", "peak host GB", "peak device GB", "energy, J")


def phases(view: ReportView) -> tuple[tuple[Cell, ...], ...]:
    """What the run itself took, phase by phase, over all models."""
    total = view.costs.total
    return () if total is None else tuple(_phase(phase) for phase in total.phases)


def _phase_time(phase: PhaseCost) -> Cell:
    waited = phase.crowded.value or 0.0
    text = number(phase.seconds, digits=3)
    if waited <= CROWDED:
        return Cell(text)
    return Cell(f"{text} {BUSY}", f"it stood in line for a core for {100 * waited:.0f} % of the time")


def _phase(phase: PhaseCost) -> tuple[Cell, ...]:
    return (
        Cell(phase.name),
        Cell(plain(", ".join(phase.devices))),
        _phase_time(phase),
        Cell(NOTHING, phase.items.reason or "")
        if phase.items.value is None
        else Cell(f"{phase.items.value:.0f} {phase.unit}{'' if phase.items.value == 1 else 's'}"),
        _cell(phase.items_per_second),
        _cell(_scaled(phase.host, 1 / GB)),
        _cell(_scaled(phase.device_allocated, 1 / GB)),
        _cell(phase.energy),
    )
