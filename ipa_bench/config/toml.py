"""A TOML file checked by a pydantic model: the model, or the line that is wrong and what was probably meant."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ipa_bench.errors import UserError

M = TypeVar("M", bound=BaseModel)
#: Where something stands in the data: ("case", 0, "driving").
Loc = tuple[str | int, ...]

#: What may hide a newline, a bracket or a comment sign from a line-wise reading.
_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*|[\[{]|[\]}]|\n', re.DOTALL
)
_KEY_PART = re.compile(r'\s*(?:"([^"]*)"|\'([^\']*)\'|([A-Za-z0-9_-]+))\s*')


@dataclass(frozen=True)
class Toml(Generic[M]):
    """A checked file, and where its keys stand."""

    path: Path
    value: M
    lines: Mapping[Loc, int]

    def fail(self, loc: Loc, problem: str, fix: str) -> NoReturn:
        """Raise a :class:`UserError` that names the file and the line of ``loc``, or of what ``loc`` stands in."""
        _fail(self.path, self.lines, loc, problem, fix)


def read_toml(path: Path, model: type[M]) -> Toml[M]:
    """Read and check a TOML file.

    Raises :class:`UserError` naming the file, the line and what is wrong there: the file cannot be read or is not TOML,
    a key is unknown (with the nearest known one) or lacking, a value has the wrong type or is out of range. Of several
    mistakes one is named (an unknown key, else the uppermost), and the others are counted.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start})", "save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "check that it is there and may be read") from None
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise UserError(f"{path} is not TOML: it is nested too deep", "mend it") from None
    except tomllib.TOMLDecodeError as error:
        what, _, at = str(error).rpartition(" (at ")
        found = re.fullmatch(r"line (\d+), column (\d+)\)", at)
        place = ":".join(found.groups()) if found else str(len(text.rstrip().splitlines()) or 1)
        raise UserError(f"{path}:{place}: not TOML: {what}", "mend it there or just above") from None
    lines = key_lines(text)
    try:
        return Toml(path, model.model_validate(data), lines)
    except ValidationError as error:
        _explain(path, lines, error.errors(include_url=False), model.model_json_schema())


def key_lines(text: str) -> dict[Loc, int]:
    """The line, from 1, of each table header and key of a valid TOML text.

    Keys inside inline tables and arrays have none of their own: the key that holds them has.
    """
    lines: dict[Loc, int] = {}
    table: Loc = ()
    counts: dict[Loc, int] = {}
    for line, statement in _statements(text):
        if statement.startswith("["):
            keys = _keys(statement.lstrip("["))
            table = ()
            for key in keys[:-1]:  # a header stands in the newest item of each array of tables on its way
                table = (*table, key)
                table = (*table, counts[table] - 1) if table in counts else table
            table = (*table, *keys[-1:])
            if statement.startswith("[["):
                counts[table] = counts.get(table, 0) + 1
                lines.setdefault(table, line)
                table = (*table, counts[table] - 1)
        else:
            lines.setdefault((*table, *_keys(statement)), line)
            continue
        lines.setdefault(table, line)
    return lines


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """(line, text) of each header and each key with its value, however many lines the value takes."""
    line, start_line, start, depth = 1, 1, 0, 0
    for token in _TOKEN.finditer(text + "\n"):
        mark = token[0]
        if mark in "[{":
            depth += 1
        elif mark in "]}":
            depth -= 1
        elif mark == "\n" and depth == 0:
            statement = text[start : token.start()].strip()
            if statement and not statement.startswith("#"):
                yield start_line, statement
            start, start_line = token.end(), line + 1
        line += mark.count("\n")


def _keys(statement: str) -> list[str]:
    """The parts of the dotted key that a statement begins with."""
    keys, position = [], 0
    while match := _KEY_PART.match(statement, position):
        keys.append(next(part for part in match.groups() if part is not None))
        position = match.end() + 1
        if statement[match.end() : position] != ".":
            break
    return keys


def _line_of(lines: Mapping[Loc, int], loc: Loc) -> int | None:
    """The line of ``loc``, or of the nearest thing around it that has one."""
    while loc:
        if loc in lines:
            return lines[loc]
        # ``a.b = 1`` and ``[a.b]`` have lines, the table ``a`` that they imply has not
        inside = [line for key, line in lines.items() if key[: len(loc)] == loc]
        if inside:
            return min(inside)
        loc = loc[:-1]
    return None


def _fail(path: Path, lines: Mapping[Loc, int], loc: Loc, problem: str, fix: str) -> NoReturn:
    line = _line_of(lines, loc)
    raise UserError(f"{path}:{line}: {problem}" if line else f"{path}: {problem}", fix)


def _explain(path: Path, lines: Mapping[Loc, int], errors: Sequence[ErrorDetails], schema: dict[str, Any]) -> NoReturn:
    """Raise the :class:`UserError` that says the first mistake: unknown keys first, they explain lacking ones."""
    located = [(_untagged(error["loc"], schema), error) for error in errors]
    loc, error = min(located, key=lambda it: (it[1]["type"] != "extra_forbidden", _line_of(lines, it[0]) or 0))
    problem, fix = _words(loc, error, schema)
    if len(errors) > 1:
        problem += f" (and {len(errors) - 1} more)"
    _fail(path, lines, loc, problem, fix)


def _words(loc: Loc, error: ErrorDetails, schema: dict[str, Any]) -> tuple[str, str]:
    """What is wrong and what to do about it."""
    names = [part for part in loc if isinstance(part, str)]
    key, context = names[-1] if names else "", error.get("ctx", {})
    place = _place(loc[: len(loc) - 1 - loc[::-1].index(key)] if names else ())
    match error["type"]:
        case "extra_forbidden":
            return f'unknown key "{key}" in {place}', _nearest(key, _properties(schema, error["loc"][:-1]))
        case "missing" if isinstance(loc[-1], str):
            return f"{place} lacks {key}", f"add {key} = ..."
        case "union_tag_not_found":
            wanted = context["discriminator"].strip("'")
            return f"{_place(loc)} lacks {wanted}", f"add {wanted} = ..."
        case "union_tag_invalid":
            known = re.findall(r"'([^']*)'", context["expected_tags"])
            named = context["discriminator"].strip("'")
            return f'unknown {named} "{context["tag"]}" in {_place(loc)}', _nearest(str(context["tag"]), known)
        case "literal_error":
            known = re.findall(r"'([^']*)'", context["expected"])
            return f'{key} in {place} cannot be "{error["input"]}"', _nearest(str(error["input"]), known)
        case "missing" | "too_long" | "too_short":
            return f"{key} in {place} has the wrong number of values", f"mend {key}"
        case "value_error":
            return f"{key} in {place}: {context['error']}", f"mend {key}"
    said = re.sub(r"dictionary( or instance of \w+)?", "table", error["msg"].removeprefix("Input "))
    value = repr(error["input"])
    value = value if len(value) <= 60 else value[:57] + "..."
    return f"{key} in {place} {said.replace('tuple', 'array')}, not {value}", f"mend {key}"


def _place(loc: Loc) -> str:
    """``("case", 0)`` -> ``[[case]]``, ``("suite",)`` -> ``[suite]``."""
    names = ".".join(part for part in loc if isinstance(part, str))
    if not names:
        return "the file"
    return f"[[{names}]]" if isinstance(loc[-1], int) else f"[{names}]"


def _nearest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f'did you mean "{close[0]}"?' if close else f"known: {', '.join(known)}"


def _properties(schema: dict[str, Any], loc: Loc) -> list[str]:
    """The keys that a JSON schema allows at ``loc`` (which has the tags of tagged unions in it)."""
    return [key for option in _options(schema, _walk(schema, loc)[0]) for key in option.get("properties", {})]


def _untagged(loc: Loc, schema: dict[str, Any]) -> Loc:
    """``loc`` as it stands in the file: pydantic puts the tag of a tagged union into it."""
    return _walk(schema, loc)[1]


def _walk(schema: dict[str, Any], loc: Loc) -> tuple[dict[str, Any], Loc]:
    """Follow ``loc`` into a JSON schema: the schema there, and ``loc`` without tags."""
    node, plain = schema, list[str | int]()
    for part in loc:
        options = _options(schema, node)
        tags: dict[str, str] = next((o["discriminator"]["mapping"] for o in options if "discriminator" in o), {})
        if isinstance(part, str) and part in tags:
            node = {"$ref": tags[part]}
            continue
        plain.append(part)
        if isinstance(part, int):
            node = next((option["items"] for option in options if "items" in option), {})
        else:
            node = next((option["properties"][part] for option in options if part in option.get("properties", {})), {})
    return node, tuple(plain)


def _options(schema: dict[str, Any], node: dict[str, Any]) -> list[dict[str, Any]]:
    """A node with its references followed, and what it may be instead (``X | None``)."""
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return [node, *(inner for option in node.get("anyOf", ()) for inner in _options(schema, option))]
