"""A cost sheet as tables of text: what Markdown and the page both show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ipa_bench.cost import Amount
from ipa_bench.report.text import NOTHING, number
from trainers.cost_sheet.plan import RECIPES, WORKS, Cell
from trainers.cost_sheet.sheet import Estimate, Result, Sheet, Spread, spread
from trainers.cost_sheet.subject import FPS

GB = 1e9
HOUR = 3600.0
#: what a training price is given for
STEPS = 1000
BUSY = (
    "CPU is processor time of all threads, where there is no GPU. Steps that stood in line for a core were repeated; "
    "where that did not help the wall time is marked busy, and is not to be compared."
)
ABOUT = {name: recipe.title for name, recipe in RECIPES.items()} | {"generate": "generate"}


@dataclass(frozen=True)
class Table:
    """A heading, what the numbers mean, and rows of text; the first ``left`` columns are names."""

    title: str
    note: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int


def tables(sheet: Sheet, price: float | None = None) -> tuple[Table, ...]:
    """Every table that has rows. ``price``: money for an hour of the machine; None shows no money."""
    results = sorted(sheet.results.values(), key=lambda r: _order(r.cell))
    found = (
        training(results, price),
        against_published(results),
        paying(results),
        generating(results, price),
        missing(results),
        estimates(sheet.estimates, price),
    )
    return tuple(table for table in found if table.rows)


def _order(cell: Cell) -> tuple[object, ...]:
    clip = cell.clip
    size = clip.height * clip.width * clip.frames
    how = (cell.dtype, str(cell.checkpointing), cell.attention, cell.compile, cell.fp8, cell.optimizer)
    return (cell.model, *how, size, cell.batch, WORKS.index(cell.work))


def options(cell: Cell) -> str:
    """What else a number depends on, in words."""
    words = [cell.dtype, f"attention {cell.attention}"]
    words += ["compiled"] * cell.compile + ["weights in fp8"] * cell.fp8
    if cell.trains:
        again = "checkpointing but for attention" if cell.checkpointing == "attention" else "checkpointing"
        words += [f"LoRA {cell.rank} on {cell.layers}", again if cell.checkpointing else "no checkpointing"]
        words += [] if cell.optimizer == "adamw" else [cell.optimizer]
    else:
        words += [f"{cell.steps} steps", f"guidance {cell.guidance:g}"]
    if cell.random_weights:
        words.append("random weights")
    return ", ".join([*words, *([f"at most {cell.memory:g} GB"] if cell.memory is not None else [])])


def timing(found: Spread | None, *, busy: bool = False) -> str:
    """``median [least, most]`` in seconds, and whether other work was in the way."""
    if found is None:
        return NOTHING
    ends = f"[{number(found.low, digits=3)}, {number(found.high, digits=3)}]"
    return f"{number(found.median, digits=3)} {ends}{' busy' if busy else ''}"


def _median(seconds: tuple[float, ...]) -> float | None:
    found = spread(seconds)
    return None if found is None else found.median


def gigabytes(amount: Amount | int | None) -> str:
    """Bytes in GB (10⁹)."""
    value = amount.value if isinstance(amount, Amount) else amount
    return NOTHING if value is None else number(value / GB, digits=3)


def share(amount: Amount) -> str:
    """A share in percent."""
    return NOTHING if amount.value is None else f"{100 * amount.value:.1f} %"


def money(seconds: float | None, price: float | None) -> str:
    """What so much time of the machine costs."""
    return NOTHING if seconds is None or price is None else number(seconds * price / HOUR, digits=3)


def _names(cell: Cell) -> tuple[str, ...]:
    return (cell.model, str(cell.clip), str(cell.batch), ABOUT[cell.work])


def training(results: Iterable[Result], price: float | None) -> Table:
    """Steps of training: time, memory, utilisation, energy, money."""
    head = (
        "model",
        "clip",
        "batch",
        "method",
        "options",
        "s/step",
        "CPU s/step",
        "clips/s",
        "peak GB",
        "weights GB",
        "MFU",
        "J/step",
    )
    note = (
        "One update. Seconds are the median of the repeats [least, most] after the warm-up. Peak is what the live "
        "tensors of the GPU took, or the host's memory where there is no GPU. MFU is the step's FLOPs by formula, "
        "without what checkpointing repeats, over what matrix products at the peak measured on this machine would do "
        "in that time. A reference is known where its error for the same clip, noise and t was computed before: with "
        "train.draws = D the first D showings of a clip cost a pass more. " + BUSY
    )
    rows = []
    for result in results:
        step, cell = result.step, result.cell
        if step is None or not cell.trains:
            continue
        row = (
            *_names(cell), options(cell), timing(step, busy=result.busy), number(_median(result.cpu), digits=3),
            number(cell.batch / step.median, digits=3),
            gigabytes(result.memory), gigabytes(result.held), share(result.utilisation),
            number(result.energy.value, digits=3),
        )  # fmt: skip
        rows.append((*row, *_priced(STEPS * step.median, price)))
    return Table("Training", note, (*head, *_price_head(f"{STEPS} steps", price)), tuple(rows), 5)


def _price_head(what: str, price: float | None) -> tuple[str, ...]:
    return () if price is None else (f"price of {what}",)


def _priced(seconds: float | None, price: float | None) -> tuple[str, ...]:
    return () if price is None else (money(seconds, price),)


def against_published(results: Sequence[Result]) -> Table:
    """IPA as this project does it beside IPA as published: time, weights, peak, and whether the losses agree."""
    head = ("model", "clip", "batch", "method", "options", "time", "weights", "peak", "largest loss difference")
    note = (
        "Shares of the recipe as published, whose reference is a deep copy of the model with a pass of its own in "
        "every step. Losses are those of all updates on the same clips, noise and noise levels, relative."
    )
    by = {result.cell: result for result in results if result.state == "measured"}
    rows = []
    for result in by.values():
        recipe = RECIPES.get(result.cell.work)
        if recipe is None or recipe.variant == "published" or "published" not in recipe.method.variants:
            continue
        theirs = by.get(replace(result.cell, work="published"))
        if theirs is None or result.step is None or theirs.step is None:
            continue
        cells = (
            _ratio(result.step.median, theirs.step.median),
            _ratio(result.held, theirs.held),
            _ratio(result.memory.value, theirs.memory.value),
            number(loss_difference(result, theirs), digits=2),
        )
        rows.append((*_names(result.cell), options(result.cell), *cells))
    return Table("Against the recipe as published", note, head, tuple(rows), 5)


#: what an option is compared with, the nearest first; the last is what it is when nobody asks for it
_PLAIN: dict[str, tuple[Any, ...]] = {
    "attention": ("native",), "compile": (False,), "fp8": (False,), "optimizer": ("adamw",),
    "checkpointing": (True, False),
}  # fmt: skip


def paying(results: Sequence[Result]) -> Table:
    """What each option pays: a cell beside the one that differs from it in that option alone."""
    head = ("model", "clip", "batch", "method", "option", "other options", "time", "peak", "largest loss difference")
    note = (
        "Shares of what the same takes without the option. A step that others disturbed is not compared. Losses are "
        "those of all updates, relative; what a compiled step takes is without the compiling, which is in the warm-up."
    )
    by = {result.cell: result for result in results if result.state == "measured"}
    rows = []
    for result in by.values():
        for name, plain in _PLAIN.items():
            asked = getattr(result.cell, name)
            others = (by.get(replace(result.cell, **{name: value})) for value in plain if value != asked)
            without = next(filter(None, others), None)
            if asked == plain[-1] or without is None or result.step is None or without.step is None:
                continue
            disturbed = result.busy or without.busy
            said = f"{name} {asked}" if isinstance(asked, str) else name
            cells = (
                NOTHING if disturbed else _ratio(result.step.median, without.step.median),
                _ratio(result.memory.value, without.memory.value),
                number(loss_difference(result, without), digits=2),
            )
            rows.append((*_names(result.cell), said, options(without.cell), *cells))
    return Table("What options pay", note, head, tuple(rows), 6)


def loss_difference(one: Result, other: Result) -> float | None:
    """Largest relative difference of the losses of two results; None where they are not of as many updates."""
    if not one.losses or len(one.losses) != len(other.losses):
        return None
    return max(abs(a - b) / max(abs(a), abs(b), 1e-12) for a, b in zip(one.losses, other.losses, strict=True))


def _ratio(part: float | None, whole: float | None) -> str:
    return NOTHING if part is None or not whole else f"{part / whole:.2f}"


def generating(results: Iterable[Result], price: float | None) -> Table:
    """Clips: seconds to make one, against the seconds it lasts."""
    head = (
        "model", "clip", "batch", "options", "s/denoising step", "s/decoding", "s/clip", "CPU s/clip", "frames/s",
        "x real time", "peak GB", "MFU", "J/clip",
    )  # fmt: skip
    note = (
        "A clip's seconds are its denoising steps at the median of one, shared by the batch, and the decoding of one "
        f"clip; the text encoder is not in it. Real time is {FPS} frames/s: 1 is as fast as the clip plays. " + BUSY
    )
    rows = []
    for result in results:
        step, decoding, cell, seconds = result.step, spread(result.decode), result.cell, result.clip_seconds
        if step is None or decoding is None or seconds is None:
            continue
        row = (
            cell.model, str(cell.clip), str(cell.batch), options(cell), timing(step, busy=result.busy),
            number(decoding.median, digits=3), number(seconds, digits=4), number(result.clip_cpu, digits=4),
            number(cell.clip.frames / seconds, digits=3), number(cell.clip.frames / FPS / seconds, digits=3),
            gigabytes(result.memory), share(result.utilisation), number(result.clip_energy.value, digits=3),
        )  # fmt: skip
        rows.append((*row, *_priced(seconds, price)))
    return Table("Generating", note, (*head, *_price_head("a clip", price)), tuple(rows), 4)


def missing(results: Iterable[Result]) -> Table:
    """What could not be measured, and why."""
    rows = tuple(
        (*_names(r.cell), options(r.cell), r.state, r.reason or NOTHING) for r in results if r.state != "measured"
    )
    head = ("model", "clip", "batch", "method", "options", "result", "why")
    return Table("Not measured", "Memory that ran out is a result: this does not fit there.", head, rows, 7)


def estimates(found: Iterable[Estimate], price: float | None) -> Table:
    """What was worked out and not measured."""
    head = (
        "model", "clip", "batch", "method", "options", "s/step, estimate", "s/clip, estimate", "peak GB, estimate",
        "from", "error when left out", "reach",
    )  # fmt: skip
    note = (
        "Estimates, not measurements: seconds fitted to the FLOPs and tokens of the measured shapes, memory to their "
        "tokens. The error is the largest with which a measured shape is predicted from the others; reach is how many "
        "times more arithmetic the shape has than the largest measured one. Whether it fits the memory is not known."
    )
    rows = []
    for each in sorted(found, key=lambda e: _order(e.cell)):
        seconds = each.seconds.value
        paid = each.clip_seconds.value if not each.cell.trains else None if seconds is None else STEPS * seconds
        row = (
            *_names(each.cell), options(each.cell), number(seconds, digits=2),
            number(each.clip_seconds.value, digits=2), gigabytes(each.memory), ", ".join(each.points) or NOTHING,
            share(each.error), number(each.reach, digits=2),
        )  # fmt: skip
        rows.append((*row, *_priced(paid, price)))
    return Table(
        "Estimates of shapes that were not measured",
        note,
        (*head, *_price_head(f"{STEPS} steps or a clip", price)),
        tuple(rows),
        5,
    )


def facts(sheet: Sheet, price: float | None) -> tuple[tuple[str, str], ...]:
    """Where and with what it was measured."""
    every = sheet.results.values()
    devices = dict.fromkeys(r.device for r in every if r.device)
    versions = dict.fromkeys(f"{name} {value}" for r in every for name, value in r.versions.items())
    repeats = dict.fromkeys(f"{r.cell.warmup} + {r.cell.repeats}" for r in every)
    peaks = {
        f"{r.cell.dtype} matrix products": f"{number(r.peak.value / 1e12, digits=3)} TFLOP/s"
        for r in every
        if r.peak.value is not None
    }
    found = {
        "measured on": "; ".join(devices),
        "with": ", ".join(versions),
        "steps before those that count + those": ", ".join(repeats),
        **peaks,
    }
    if price is not None:
        found["price of an hour"] = number(price, digits=3)
    return tuple((name, value) for name, value in found.items() if value)


def warnings(sheet: Sheet) -> tuple[str, ...]:
    """What a reader should know before the numbers."""
    devices = {r.device for r in sheet.results.values() if r.device}
    versions = {r.versions.get("torch") for r in sheet.results.values() if r.versions}
    found = []
    if len(devices) > 1:
        found.append(f"measured on {len(devices)} machines, which are not to be compared: {'; '.join(sorted(devices))}")
    if len(versions) > 1:
        found.append(f"measured with several versions of torch: {', '.join(sorted(map(str, versions)))}")
    failed = sum(r.state == "failed" for r in sheet.results.values())
    if failed:
        found.append(f"{failed} measurements failed for another reason than memory; the same command tries them again")
    return tuple(found)
