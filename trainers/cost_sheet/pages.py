"""A cost sheet as files: JSON, Markdown, pictures, and one page that needs no server, no network and no script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ipa_bench.files import write_atomic
from ipa_bench.report.markdown import escape, table
from ipa_bench.report.plots import themed
from ipa_bench.report.text import plain
from trainers.cost_sheet import plot
from trainers.cost_sheet import tables as view
from trainers.cost_sheet.sheet import Sheet, save

MARKDOWN_NAME, HTML_NAME = "cost.md", "cost.html"
PLOTS = {"training.svg": True, "generating.svg": False}
TITLE = "What it costs"


def write_all(sheet: Sheet, folder: Path, price: float | None = None) -> list[Path]:
    """Write every format into ``folder`` and give the paths. Raises :class:`UserError` where that is not possible."""
    drawn = {name: plot.curves(sheet, training=training) for name, training in PLOTS.items()}
    pictures = {name: svg for name, svg in drawn.items() if svg is not None}
    texts = {
        MARKDOWN_NAME: markdown(sheet, price, tuple(pictures)),
        **pictures,
        HTML_NAME: html(sheet, price, tuple(pictures.values())),
    }
    paths = [save(sheet, folder)]
    for name, text in texts.items():
        write_atomic(folder / name, text.encode())
        paths.append(folder / name)
    return paths


def markdown(sheet: Sheet, price: float | None = None, pictures: Sequence[str] = ()) -> str:
    """The sheet as GitHub-flavoured Markdown; ``pictures`` are files beside it."""
    return _text(sheet, price, pictures, escape)


def readable(sheet: Sheet, price: float | None = None, pictures: Sequence[str] = ()) -> str:
    """The text of :func:`markdown` for a terminal, where no renderer takes its backslashes away."""
    return _text(sheet, price, pictures, plain)


def _text(sheet: Sheet, price: float | None, pictures: Sequence[str], shown: Callable[[str], str]) -> str:
    parts = [f"# {TITLE}", *[f"> **Warning:** {shown(warning)}" for warning in view.warnings(sheet)]]
    for each in view.tables(sheet, price):
        parts += [f"## {each.title}", each.note, _pipes(each.head, each.rows, each.left, shown)]
    parts += [f"![{name.partition('.')[0]}]({name})" for name in pictures]
    parts += ["## Where", _pipes(("", ""), view.facts(sheet, price), 2, shown)]
    return "\n\n".join(parts) + "\n"


def _pipes(head: Sequence[str], rows: Sequence[Sequence[str]], left: int, shown: Callable[[str], str]) -> str:
    return table([shown(text) for text in head], [[shown(text) for text in row] for row in rows], left)


def html(sheet: Sheet, price: float | None = None, pictures: Sequence[str] = ()) -> str:
    """The sheet as one page. Every name in it is text: nothing is run and nothing is fetched."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = (files("trainers.cost_sheet") / "page.html").read_text(encoding="utf-8")
    style = (files("ipa_bench.report") / "templates" / "style.css").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        title=TITLE,
        tables=[_plain(table) for table in view.tables(sheet, price)],
        facts=[(plain(name), plain(value)) for name, value in view.facts(sheet, price)],
        warnings=[plain(warning) for warning in view.warnings(sheet)],
        pictures=[Markup(themed(svg)) for svg in pictures],  # made by matplotlib, which escapes the names in them
        style=Markup(style),
    )


def _plain(table: view.Table) -> view.Table:
    rows = tuple(tuple(plain(text) for text in row) for row in table.rows)
    return view.Table(table.title, table.note, table.head, rows, table.left)
