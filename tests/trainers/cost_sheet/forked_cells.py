"""``ipa-bench cost`` as a process of :mod:`tests.forked` whose cells are forked from it, where all is imported."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from io import BytesIO, TextIOWrapper
from pathlib import Path

from ipa_bench import cli
from trainers.cost_sheet import measure, run
from trainers.cost_sheet.plan import Cell
from trainers.cost_sheet.sheet import Result, cell_json, result_of


def main() -> None:
    """The verb."""
    run.run_cell = _forked  # type: ignore[attr-defined]
    cli.main()


def alone() -> None:
    """``python -m trainers.cost_sheet.measure RESULT.json`` of a cell in a file: the arguments are both files."""
    cell, result = sys.argv[1:]
    sys.argv, sys.stdin = ["measure", result], TextIOWrapper(BytesIO(Path(cell).read_bytes()))
    measure.main()


def _forked(cell: Cell, **_: object) -> Result:
    """What ``python -m trainers.cost_sheet.measure`` says of a cell, in a fork of this process."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        child = os.fork()
        if not child:
            sys.argv = ["measure", str(out)]
            sys.stdin = TextIOWrapper(BytesIO(cell_json(cell)))
            try:
                measure.main()
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert status == 0, "the cell was not measured"
        return result_of(out.read_bytes())
