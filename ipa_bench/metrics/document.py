"""The metrics as Markdown tables, for the documentation: what is written there is what the code says."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ipa_bench.types import MetricInfo

_HEAD = "| metric | unit | better | needs | looks through | source | cannot see |\n|---|---|---|---|---|---|---|\n"


def table(infos: Iterable[MetricInfo]) -> str:
    """A Markdown table, one line for each metric."""
    rows = ((f"`{i.id}`", i.unit, i.better, i.needs, ", ".join(i.family), i.source, limits(i)) for i in infos)
    return _HEAD + "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)


def limits(info: MetricInfo) -> str:
    """What a metric cannot see, and what it may not be used for."""
    return f"{info.blind_spot}; only judges: {info.sealed}" if info.sealed else info.blind_spot


def updated(text: str, tables: dict[str, str]) -> str:
    """A document with each table put between ``<!-- generated: NAME -->`` and ``<!-- end -->``; the rest stays.

    Raises ``ValueError`` for a name that the document has no place for.
    """
    for name, content in tables.items():
        begin, end = f"<!-- generated: {name} -->\n", "<!-- end -->"
        place = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if not place.search(text):
            raise ValueError(f"no place for the table {name}")
        text = place.sub((begin + content + end).replace("\\", r"\\"), text)  # a backslash is one, no escape
    return text
