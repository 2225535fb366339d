"""Measure a sweep into a sheet that goes on where it stopped, and write every format of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ipa_bench.engine.processes import Progress
from ipa_bench.errors import UserError
from ipa_bench.models import hasten, speed
from trainers import optimizer
from trainers.cost_sheet.measure import run_cell
from trainers.cost_sheet.plan import Cell, Clip, Sweep
from trainers.cost_sheet.sheet import Estimate, Result, Sheet, load, save
from trainers.cost_sheet.subject import Subject, subject


def subjects(sweep: Sweep, unmeasured: Sequence[Clip] = ()) -> dict[str, Subject]:
    """The models of a sweep, each able to make the clips asked for. Raises :class:`UserError` where one is not."""
    found = {name: subject(name, random_weights=sweep.random_weights) for name in sweep.models}
    for cell in sweep.cells():
        hasten.check(cell.speed, cell.model)
        if cell.trains and not speed.BACKENDS[cell.attention].learns:
            raise UserError(f"attention {cell.attention} has no backward pass", "--methods generate, or another")
    for wanted in sweep.optimizers:
        optimizer.check(wanted)
    for name, about in found.items():
        for clip in (*sweep.clips_of(name), *unmeasured):
            about.check(clip)
    return found


def cost(
    sweep: Sweep,
    folder: Path,
    *,
    unmeasured: Sequence[Clip] = (),
    price: float | None = None,
    progress: Progress = lambda *_: None,
    tell: Callable[[Result], None] = lambda _: None,
) -> Sheet:
    """Measure the cells that ``folder``'s sheet lacks, one process each, and write JSON, Markdown, plots and page.

    The sheet is kept after every cell: an interruption loses one at most. ``unmeasured`` shapes are estimated from the
    measured ones. ``price`` is money for an hour of the machine; ``tell`` hears of each new result. Raises
    :class:`UserError` before the first measurement where a model or shape cannot be, or the folder cannot be written.
    """
    from trainers.cost_sheet.pages import write_all  # draws in matplotlib: only who writes pays

    known = subjects(sweep, unmeasured)
    sheet = load(folder)
    _ready(folder, sheet)
    todo = [cell for cell in sweep.cells() if not sheet.done(cell)]
    progress("measure", 0, len(todo))
    for count, cell in enumerate(todo, 1):
        result = run_cell(cell)
        sheet = sheet.adding(result)
        save(sheet, folder)
        tell(result)
        progress("measure", count, len(todo))
    sheet = replace(sheet, estimates=estimates(sweep, known, sheet, unmeasured))
    write_all(sheet, folder, price)
    return sheet


def _ready(folder: Path, sheet: Sheet) -> None:
    """Write what is there already: a folder that takes nothing is said before hours of measuring."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write in {folder}: {error.strerror}", "give another --out") from None
    save(sheet, folder)


def estimates(
    sweep: Sweep, known: dict[str, Subject], sheet: Sheet, unmeasured: Sequence[Clip]
) -> tuple[Estimate, ...]:
    """Estimates of the sweep's other choices at shapes that were not measured."""
    from trainers.cost_sheet.estimate import estimate

    wanted: dict[Cell, None] = {}
    for cell in sweep.cells():
        for clip in unmeasured:
            other = replace(cell, clip=clip)
            if other.key not in sheet.results:
                wanted.setdefault(other)
    return tuple(
        estimate(
            cell,
            known[cell.model].flops(cell),
            known[cell.model].tokens(cell.clip, cell.batch),
            sheet.results.values(),
        )
        for cell in wanted
    )
