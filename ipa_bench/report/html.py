"""One static page: ``report.html`` and, beside it, ``report/`` with playable videos, stills and per-video data.

The page needs no server and no network. Pages opened from disk may not fetch files, so per-video data are small
scripts that the page inserts when a video is looked at. A content security policy admits the page's own scripts and
those files, nothing else; every name in the run is data, escaped where it is shown, and names no file.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from ipa_bench.errors import UserError
from ipa_bench.files import located, write_atomic
from ipa_bench.report import costs, page, plots, sets
from ipa_bench.report.closeups import case_cameras, make_closeups
from ipa_bench.report.cost_plot import quality_against_cost
from ipa_bench.report.drilldown import Media, clip_script, data_name, index, sources, to_script
from ipa_bench.report.faces import Pictures, make_pictures, reference_part
from ipa_bench.report.media import Copy, Part, StillJob, make_copies, make_stills
from ipa_bench.report.text import number
from ipa_bench.report.view import (
    TRAINED,
    ReportView,
    correction,
    headline,
    ranked_because,
    set_results,
    trained_on,
    warnings,
)
from ipa_bench.report.worst import Moment, worst_moments

Progress = Callable[[int, int], None]

SCRIPTS = ("table.js", "player.js", "overlay.js", "zoom.js", "strips.js", "people.js", "clip.js")


def write(view: ReportView, folder: Path, *, jobs: int, progress: Progress | None = None) -> Path:
    """Write ``folder/report.html`` with everything it needs in ``folder/report``; return its path.

    ``jobs`` processes make the playable copies (the slow part); ``progress(done, total)`` hears of each. Copies that
    exist are used again.
    """
    assets = folder / "report"
    _write_data(view, assets / "data", make_pictures(view, folder, assets / "stills", jobs=jobs))
    copies = make_copies(sources(view, folder), assets / "media", jobs=jobs, progress=progress)
    closeups = make_closeups(view, folder, assets / "media", jobs=jobs, progress=progress)
    run = index(view, Media(folder, copies, closeups, case_cameras(view)))
    text = _render(view, run, _gallery(view, folder, copies, run, jobs))
    target = folder / "report.html"
    write_atomic(target, text.encode())
    return target


def _write_data(view: ReportView, folder: Path, pictures: Pictures) -> None:
    """One script per video. They can be made again at any time, so they are not synced one by one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for unit, record in view.records.items():
            (folder / f"{data_name(unit)}.js").write_text(clip_script(view, unit, record, pictures), encoding="utf-8")
    except OSError as problem:
        raise UserError(
            f"cannot write in {folder}: {problem.strerror or problem}", "free some space, or give another run folder"
        ) from None


def _render(view: ReportView, run: Mapping[str, Any], gallery: list[dict[str, Any]]) -> str:
    templates = files("ipa_bench.report") / "templates"

    def source(name: str) -> str:
        return (templates / name).read_text(encoding="utf-8")

    environment = Environment(
        loader=FunctionLoader(source), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    script = "\n".join(source(name) for name in SCRIPTS)
    board = view.leaderboard
    shown = headline(view, page.HEADLINE)
    cost_plot = quality_against_cost(view)
    return environment.get_template("page.html").render(
        header=view.header,
        identities=len({case.identity or case.id for case in view.header.cases}),
        primary=board.primary,
        ranked_because=ranked_because(view),
        trained=TRAINED,
        columns=page.columns(view),
        rows=page.rows(view),
        pairs=page.pair_names(view),
        pair_rows=page.pair_rows(view),
        correction=correction(view),
        sets=sets.lines(set_results(view), trained_on(view)),
        sets_absent=sets.absent(view.sets),
        sets_explained=sets.EXPLAINED,
        cost_head=costs.head(view),
        cost_lines=costs.lines(view),
        cost_plot=None if cost_plot is None else _picture(cost_plot),
        costs_explained=costs.EXPLAINED,
        cost_remarks=costs.remarks(view),
        phase_head=costs.PHASE_HEAD,
        phases=costs.phases(view),
        warnings=warnings(view),
        forest=_picture(plots.forest(view, shown)) if board.rows else None,
        differences=_picture(plots.differences(view)) if board.comparisons else None,
        distributions=[(metric, _picture(plots.distribution(view, metric))) for metric in shown] if board.rows else [],
        gallery=gallery,
        infos=view.infos,
        facts=page.facts(view),
        run=run,
        run_json=Markup(to_script(run)),
        style=Markup(source("style.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _picture(svg: str) -> Markup:
    return Markup(plots.themed(svg))  # made by matplotlib, which escapes the names in it


def _gallery(
    view: ReportView, folder: Path, copies: Mapping[Path, Copy | str], run: Mapping[str, Any], jobs: int
) -> list[dict[str, Any]]:
    """The worst moments as cards, by reason; one whose still cannot be made keeps its card, without picture."""
    groups = worst_moments(view)
    moments = [card.moment for group in groups for card in group.cards]
    stills = {m: job for m in moments if (job := _still(view, folder, copies, m)) is not None}
    failed = dict(zip(stills, make_stills(list(stills.values()), jobs=jobs), strict=True))
    shown = {m: f"report/stills/{job.out.name}" for m, job in stills.items() if failed[m] is None}
    return [
        {
            "title": group.title,
            "about": group.about,
            "cards": [
                {
                    "unit": card.moment.unit,
                    "first": card.first,
                    "link": _link(view, run, card.moment),
                    "value": number(card.moment.value, digits=3),
                    "measured": card.moment.measured,
                    "metric": card.moment.metric,
                    "person": card.moment.person,
                    "frame": card.moment.frame,
                    "time": f"{card.moment.time:.2f}",
                    "still": shown.get(card.moment),
                }
                for card in group.cards
            ],
        }
        for group in groups
    ]


def _still(view: ReportView, folder: Path, copies: Mapping[Path, Copy | str], moment: Moment) -> StillJob | None:
    case = next(case for case in view.header.cases if case.id == moment.unit[0])
    own = _part(view.records[moment.unit].video, moment, folder, copies)
    if moment.reference is None:
        beside = _part(case.driving, moment, folder, copies)
    else:
        beside = reference_part(folder, *moment.reference)
    parts = tuple(part for part in (beside, own) if part is not None)
    if own is None and moment.reference is not None:
        return None
    names = [(*_copied(part, copies), part.time, part.box) for part in parts]
    digest = hashlib.sha256(repr(names).encode()).hexdigest()
    return StillJob(folder / "report" / "stills" / f"{digest[:24]}.jpg", parts) if parts else None


def _part(text: str | None, moment: Moment, folder: Path, copies: Mapping[Path, Copy | str]) -> Part | None:
    """The moment of a video that can be played."""
    path = located(text, folder)
    return Part(path, moment.time, moment.box) if isinstance(copies.get(path or Path()), Copy) and path else None


def _copied(part: Part, copies: Mapping[Path, Copy | str]) -> tuple[str, ...]:
    """What a still is named after: content where it is known, else where the picture lies and when it was written."""
    copy = copies.get(part.path)
    return (copy.name,) if isinstance(copy, Copy) else (str(part.path), str(part.path.stat().st_mtime_ns))


def _link(view: ReportView, run: Mapping[str, Any], moment: Moment) -> str:
    """The page's address of a moment: positions only, so that no name needs escaping in it."""
    case, seed, model = moment.unit
    position = [entry["id"] for entry in run["cases"]].index(case)
    return f"#clip={position}.{run['seeds'].index(seed)}.{run['models'].index(model)}.-.{moment.time:.4f}"
