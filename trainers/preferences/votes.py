"""Comparisons and the votes on them: two JSON files that a page, a script or a person can write."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ipa_bench.errors import UserError
from ipa_bench.files import write_atomic

#: which clip is better, or neither
Choice = Literal["a", "b", "tie"]
SCHEMA_VERSION = 1
Names = Annotated[tuple[str, ...], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)]


T = TypeVar("T", bound=BaseModel)


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Comparison(_Row):
    """Two clips of the same people; paths are relative to the file's folder."""

    id: Annotated[str, Field(min_length=1)]
    a: str
    b: str
    #: person -> reference picture, in the order that the model was given them
    references: Annotated[dict[str, str], Field(min_length=1)]
    #: person -> pose track, where the clips are driven
    poses: dict[str, str] = {}
    #: what tells persons of different comparisons apart, where ``references`` reuses names; the names otherwise
    people: Names = ()
    #: kind of what is wrong in one of the two, where that is known
    fault: str | None = None

    @property
    def identities(self) -> tuple[str, ...]:
        """Whom the comparison shows."""
        return self.people or tuple(self.references)


class Vote(_Row):
    """One look of one person."""

    comparison: str
    choice: Choice
    annotator: Annotated[str, Field(min_length=1)]
    #: the clip that was shown on the left, where that is known
    left: Literal["a", "b"] | None = None
    #: how long the look took
    seconds: Annotated[float, Field(ge=0)] | None = None


class Comparisons(_Row):
    """The file of comparisons."""

    schema_version: Literal[1] = 1
    comparisons: Annotated[tuple[Comparison, ...], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)]


class Votes(_Row):
    """The file of votes."""

    schema_version: Literal[1] = 1
    votes: Annotated[tuple[Vote, ...], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)]


def read_comparisons(path: Path) -> Comparisons:
    """The comparisons of a file. Raises :class:`UserError` naming what is wrong: two with one id, a file that is not
    there, a path that leaves the folder.
    """
    found = _read(path, Comparisons)
    twice = [name for name, count in Counter(each.id for each in found.comparisons).items() if count > 1]
    if twice:
        raise UserError(f"{path.name}: two comparisons are called {twice[0]!r}", "give each its own id")
    missing = [name for each in found.comparisons for name in files_of(each) if not _inside(path.parent, name).exists()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"{path.name}: {missing[0]} is not there{more}", "paths are relative to the file's folder")
    return found


def files_of(comparison: Comparison) -> tuple[str, ...]:
    """Every file that a comparison names."""
    return (comparison.a, comparison.b, *comparison.references.values(), *comparison.poses.values())


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{name} lies outside {folder}", "keep the clips beside the file that names them")
    return path


def read_votes(paths: Iterable[Path], known: Iterable[str]) -> Votes:
    """The votes of all files together, on comparisons that are ``known``.

    Raises :class:`UserError` for a vote on an unknown comparison, and for an annotator who voted twice on one and
    differently: which of the two is meant is not for a program to say.
    """
    votes: dict[tuple[str, str], Vote] = {}
    ids = set(known)
    for path in paths:
        for vote in _read(path, Votes).votes:
            if vote.comparison not in ids:
                raise UserError(f"{path.name}: there is no comparison {vote.comparison!r}", "vote on the same file")
            key = (vote.annotator, vote.comparison)
            if key in votes and votes[key].choice != vote.choice:
                raise UserError(
                    f"{vote.annotator} voted {votes[key].choice} and {vote.choice} on {vote.comparison}",
                    "keep one of the two votes",
                )
            votes[key] = vote
    return Votes(votes=tuple(votes.values()))


def _read(path: Path, kind: type[T]) -> T:
    try:
        return kind.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path.name} is no JSON", "write UTF-8") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path.name}, line {error.lineno}: {error.msg}", "write JSON") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path.name}: {where}: {first['msg']}", "see docs/rewards.md for the fields") from None


def write(path: Path, content: Comparisons | Votes) -> None:
    """Store a file of comparisons or votes, whole or not at all."""
    write_atomic(path, content.model_dump_json(indent=1).encode())
