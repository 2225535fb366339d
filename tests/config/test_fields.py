"""Types that configurations share, and how pydantic's first mistake is told."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from ipa_bench.config.fields import (
    Array,
    Count,
    Guidance,
    Items,
    Name,
    Number,
    Positive,
    Size,
    StrictTable,
    Table,
    Text,
    Whole,
    Words,
    checked,
    plain_name,
)
from ipa_bench.errors import UserError


class Loose(Table):
    names: Array[Name] = ()
    size: Size | None = None


class Strict(StrictTable):
    steps: Count = 1
    seeds: Items[Whole] = (0,)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Text, ["", "a"], [1, b"a"]),
        (Words, ["a"], ["", 1]),
        (Count, [1, 10**9], [0, -1, 1.0, "1", True]),
        (Whole, [0, 1], [-1, 0.0, "0"]),
        (Number, [0, 0.5], [-0.1, float("inf"), float("nan"), "1"]),
        (Positive, [0.1, 2], [0, float("inf")]),
        (Guidance, [1, 7.5], [0.9, float("inf")]),
        (Size, [[2, 4], (2, 4)], [[2], [2, 4, 6], [0, 2], "24"]),
        (Items[Whole], [[], [1, 1]], [[-1], "12", {1: 2}]),
        (Array[Text], [[], ["a", "b"]], [["a", "a"], "ab", {"a": 1}]),
    ],
)
def test_each_type_takes_what_it_says(kind: object, good: list[object], bad: list[object]) -> None:
    adapter: TypeAdapter[object] = TypeAdapter(kind)
    for value in good:
        read = adapter.validate_python(value)
        assert read == (tuple(value) if isinstance(value, list) else value)
    for value in bad:
        with pytest.raises(ValidationError):
            adapter.validate_python(value)


def test_tables_are_frozen_and_know_their_keys() -> None:
    assert Loose.model_validate({"names": ["a"], "size": [2, 4]}) == Loose(names=("a",), size=(2, 4))
    for table in (Loose, Strict):
        with pytest.raises(ValidationError, match="extra_forbidden"):
            table.model_validate({"naems": []})
        with pytest.raises(ValidationError, match="frozen"):
            table().names = ()  # type: ignore[attr-defined]


def test_names_are_of_one_form_and_fit_for_files() -> None:
    assert plain_name("e\u0301") == "\u00e9"
    for name in ("", " a", "a/b", "a\\b", "..", "a\n", "\ud800"):
        with pytest.raises(ValueError, match="a name is not empty"):
            plain_name(name)


def test_the_first_mistake_is_a_line_with_a_fix() -> None:
    def said(content: object, problem: str, **how: object) -> str:
        with pytest.raises(UserError) as error, checked(problem, "mend it", **how):  # type: ignore[arg-type]
            Strict.model_validate(content)
        assert error.value.fix == "mend it"
        assert error.value.__suppress_context__
        return error.value.problem

    assert said({"seeds": [0, -1]}, "x.json is bad") == (
        "x.json is bad: seeds.1: Input should be greater than or equal to 0"
    )
    assert said({"steps": 0, "seeds": 3}, "") == "steps: Input should be greater than or equal to 1"
    assert said({"steps": 0}, "", shown=True) == "steps: Input should be greater than or equal to 1, got 0"
    assert said([], "x", whole="the whole").startswith("x: the whole: Input should be a valid")
    with pytest.raises(OSError, match="gone"), checked("x", "y"):
        raise OSError("gone")
