"""Two records beside each other: every file and value that differs, by name."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from tests.behaviour import left_out, moved

#: characters of a value that are shown, from a little before the first that differs
SHOWN, BEFORE = 120, 40
LACKING = "(nothing)"


#: file -> path inside it -> value
Files = Mapping[str, Mapping[str, Any]]


def differences(one: Files, other: Files) -> Iterator[str]:
    """A line for each value that is not the same in both, or is in one alone."""
    one, other = moved.as_now(one), moved.as_now(other)
    for name in sorted({*one, *other}):
        if name not in other or name not in one:
            yield f"{name}: only in the {'first' if name in one else 'second'} record"
            continue
        mine, theirs = (left_out.compared(name, side[name]) for side in (one, other))
        for at in [*mine, *(at for at in theirs if at not in mine)]:
            here, there = (side.get(at, LACKING) for side in (mine, theirs))
            # as JSON, so that 1, 1.0 and true are three values
            if _shown(here) == _shown(there):
                continue
            if at == "text" and isinstance(here, str) and isinstance(there, str):
                yield from (f"{name}, {line}" for line in _lines(here, there))
            else:
                yield f"{name} {at}: {' → '.join(_window(_shown(here), _shown(there)))}"


def _shown(value: Any) -> str:
    return value if value == LACKING else json.dumps(value, ensure_ascii=False)


def _lines(here: str, there: str) -> Iterator[str]:
    a, b = here.splitlines(), there.splitlines()
    for kind, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        for index, (mine, theirs) in enumerate(zip_longest(a[i:j], b[k:m], fillvalue=LACKING)):
            yield f"line {i + index + 1}: {' → '.join(_window(mine, theirs))}"


def _window(here: str, there: str) -> tuple[str, str]:
    """Both, cut to where they begin to differ."""
    same = next((i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b), min(len(here), len(there)))
    begin = max(0, same - BEFORE)

    def cut(text: str) -> str:
        piece = text[begin : begin + SHOWN]
        return ("…" if begin else "") + piece + ("…" if begin + SHOWN < len(text) else "")

    return cut(here), cut(there)


def summary(one: Files, other: Files, found: int) -> str:
    """How much was compared."""
    files = {*one, *other}
    total = sum(len({*one.get(name, {}), *other.get(name, {})}) for name in files)
    return f"{f'{found} differences' if found else 'equal'}: {len(files)} files, {total} values"
