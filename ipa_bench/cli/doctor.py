"""The verb ``doctor``: what :mod:`ipa_bench.cli.checks` finds, printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def doctor(
    suite: Annotated[
        Path | None, typer.Argument(metavar="[SUITE]", help="Also say what does not fit in a suite's cases.")
    ] = None,
) -> None:
    """Check the environment and name what to do about what is wrong."""
    from rich.markup import escape

    from ipa_bench.cli.checks import checks
    from ipa_bench.cli.console import OUT

    good = True
    for check in checks():
        mark = {True: "[green]ok  [/]", False: "[red]bad [/]", None: "[yellow]note[/]"}[check.ok]
        OUT.print(f"{mark} {escape(check.name)}: {escape(check.detail)}")
        if check.fix and not check.ok:
            OUT.print(f"      fix: {escape(check.fix)}")
        good = good and check.ok is not False
    if suite is not None:
        from ipa_bench.harness.fit import misfits
        from ipa_bench.suite import load_suite

        for line in misfits(load_suite(suite)):
            OUT.print(f"[yellow]note[/] {escape(line)}")
    if not good:
        raise typer.Exit(1)
