"""The use of a sealed test set: each evaluation is written down beside the suite, and reports say how many there were.

A set that was looked at often has been chosen by. Its cases are of the test split, from which nothing is selected
(``ipa_bench.select``); a run that is only gone on with is no new use.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ipa_bench.errors import UserError
from ipa_bench.files import write_atomic
from ipa_bench.store import RunHeader

#: a run folder's copy of what was written down when it was last run
COPY = "sealed_uses.json"
_KEYS = ("date", "version", "suite", "folder", "models")


def note_use(log: Path, header: RunHeader, folder: Path) -> None:
    """Add this evaluation to ``log`` where it is a new one, and leave a copy of all uses in ``folder``.

    It is new where the same models were not yet evaluated into the same folder. Raises UserError where the log cannot
    be written or read: what cannot be written down is not evaluated.
    """
    uses = read(log)
    models = sorted(f"{model.name}: {model.kind} {model.source}" for model in header.models)
    this = (str(folder.absolute()), header.suite_hash, models)
    if this not in [(use["folder"], use["suite"], use["models"]) for use in uses]:
        values = (header.created, header.tool_version, header.suite_hash, this[0], models)
        uses.append(dict(zip(_KEYS, values, strict=True)))
        write_atomic(log, "".join(json.dumps(use, ensure_ascii=False) + "\n" for use in uses).encode())
    write_atomic(folder / COPY, json.dumps(uses, ensure_ascii=False, indent=1).encode())


def read(log: Path) -> list[dict[str, Any]]:
    """What was written down, oldest first; nothing where there is no log. Raises UserError for a damaged one."""
    if not log.exists():
        return []
    try:
        uses = [json.loads(line) for line in log.read_text().splitlines() if line.strip()]
        if any(set(use) != set(_KEYS) for use in uses):
            raise ValueError
    except (OSError, ValueError, TypeError):
        fix = "restore it: it says how often the set was used"
        raise UserError(f"{log} is damaged or cannot be read", fix) from None
    return uses


def uses_of(folder: Path) -> tuple[str, ...]:
    """The uses of the set as a run folder has them, a line each; none where it is not sealed."""
    file = folder / COPY
    if not file.exists():
        return ()
    try:
        uses = json.loads(file.read_text())
        return tuple(f"{use['date']} (ipa-bench {use['version']}): {len(use['models'])} models" for use in uses)
    except (OSError, ValueError, TypeError, KeyError):
        return ("not known: the run's copy is damaged",)
