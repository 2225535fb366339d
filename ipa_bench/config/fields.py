"""The types that values of configurations share, and the first mistake that pydantic finds as a :class:`UserError`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict, ValidationError

from ipa_bench.errors import UserError

T = TypeVar("T")


def plain_name(name: str) -> str:
    """A name in Unicode NFC. Names become parts of file names, of URLs and of table cells; ``ValueError`` if unfit."""
    if not name or name != name.strip() or name in (".", "..") or re.search(r"[/\\\x00-\x1f\x7f\ud800-\udfff]", name):
        raise ValueError("a name is not empty and has no slash, control character or space around it")
    return unicodedata.normalize("NFC", name)


def _no_repeats(items: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = [item for item in dict.fromkeys(items) if items.count(item) > 1]
    if twice:
        raise ValueError(f"{twice[0]} is listed twice")
    return items


def _as_tuple(value: Any) -> Any:
    # TOML has arrays only; a list that holds the right things is a tuple of them.
    return tuple(value) if isinstance(value, list) else value


#: any text, also none
Text = Annotated[str, Strict()]
#: text that is there
Words = Annotated[Text, Field(min_length=1)]
Name = Annotated[Text, AfterValidator(plain_name)]
#: 1 or more
Count = Annotated[int, Strict(), Field(ge=1)]
#: 0 or more
Whole = Annotated[int, Strict(), Field(ge=0)]
#: 0 or more, finite
Number = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]
#: above 0, finite
Positive = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
#: 1 or more, finite: of classifier-free guidance, where 1 is none
Guidance = Annotated[float, Strict(), Field(ge=1, allow_inf_nan=False)]
#: any number of values
Items = Annotated[tuple[T, ...], BeforeValidator(_as_tuple), Strict()]
#: any number of values, each once
Array = Annotated[tuple[T, ...], BeforeValidator(_as_tuple), Strict(), AfterValidator(_no_repeats)]
#: width and height
Size = Annotated[tuple[Count, Count], BeforeValidator(_as_tuple), Strict()]


class Table(BaseModel):
    """A table of a file: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StrictTable(Table):
    """A table whose values have the very types that its fields name; paths are written as text."""

    model_config = ConfigDict(strict=True)


@contextmanager
def checked(problem: str, fix: str, *, whole: str = "the file", shown: bool = False) -> Iterator[None]:
    """Raise pydantic's first mistake inside the block as ``problem: where: what``, a :class:`UserError` with ``fix``.

    ``whole`` stands for a place that is no part of the value, and ``shown`` adds the value that is wrong. An empty
    ``problem`` is left out.
    """
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or whole
        got = f", got {first['input']!r}" if shown else ""
        said = f"{where}: {first['msg']}{got}"
        raise UserError(f"{problem}: {said}" if problem else said, fix) from None
