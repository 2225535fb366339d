"""Reports: pure functions of a run (:class:`~ipa_bench.report.view.ReportView`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ipa_bench.files import write_atomic
from ipa_bench.report.view import ReportView

__all__ = ["ReportView", "write_all"]


def write_all(
    view: ReportView, folder: Path, *, jobs: int, progress: Callable[[int, int], None] | None = None
) -> list[Path]:
    """Write every format into the run's folder; return the paths, in the order written.

    The quick ones come first, so that a full disk or an interrupt during the videos leaves the numbers.
    """
    from ipa_bench.report import export_csv as csv_  # draws in matplotlib, and jinja: only who writes pays
    from ipa_bench.report import export_json as json_
    from ipa_bench.report import html, markdown

    texts = {
        "leaderboard.md": markdown.render(view),
        "report.json": json_.render(view),
        "scores.csv": csv_.scores(view),
        "leaderboard.csv": csv_.leaderboard(view),
    }
    spent = csv_.costs(view)
    if spent is not None:
        texts["costs.csv"] = spent
    for name, text in texts.items():
        write_atomic(folder / name, text.encode())
    return [*(folder / name for name in texts), html.write(view, folder, jobs=jobs, progress=progress)]
