"""Which line of a TOML file a key stands on, and what is said of the mistakes of any checked file."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from ipa_bench.config.toml import Loc, key_lines, read_toml
from ipa_bench.errors import UserError

TEXT = '''# [not.a.table]
title = "x"          # line 2

[suite]
"quoted key" = 1
a.b = [ 1,           # ] not the end
  2, "]", """
]
""",
] # line 6 to 10
c = {x = 1}

[[case]]
id = "one # [[case]]"

[[ case ]]
[case.sub]
d = \'\'\'
e = 5
\'\'\'
[[case.many]]
f = 1
[[case.many]]
f = 2
'''


def test_lines_of_every_kind_of_key() -> None:
    tomllib.loads(TEXT)
    assert key_lines(TEXT) == {
        ("title",): 2,
        ("suite",): 4,
        ("suite", "quoted key"): 5,
        ("suite", "a", "b"): 6,
        ("suite", "c"): 11,
        ("case",): 13,
        ("case", 0): 13,
        ("case", 0, "id"): 14,
        ("case", 1): 16,
        ("case", 1, "sub"): 17,
        ("case", 1, "sub", "d"): 18,
        ("case", 1, "many"): 21,
        ("case", 1, "many", 0): 21,
        ("case", 1, "many", 0, "f"): 22,
        ("case", 1, "many", 1): 23,
        ("case", 1, "many", 1, "f"): 24,
    }


values = st.sampled_from(["1", '"a"', '"#"', '"["', "[1,\n 2]", '"""\nx = 1\n[t]\n"""', "'''\n]'''", "{a = 1}", "true"])
keys = st.lists(st.tuples(st.sampled_from("abcdef"), values), max_size=4, unique_by=lambda kv: kv[0])


@given(keys, st.lists(keys, max_size=4), st.sampled_from(["", "\n", "# [c]\n", "  \n\n"]))
def test_lines_agree_with_what_was_written(
    top: list[tuple[str, str]], tables: list[list[tuple[str, str]]], gap: str
) -> None:
    text, expected = "", dict[Loc, int]()
    for index, pairs in enumerate([top, *tables]):
        if index:
            text += gap
            expected.setdefault(("t",), text.count("\n") + 1)
            expected["t", index - 1] = text.count("\n") + 1
            text += "[[t]]\n"
        for key, value in pairs:
            text += gap
            expected[(key,) if not index else ("t", index - 1, key)] = text.count("\n") + 1
            text += f"{key} = {value}\n"
    tomllib.loads(text)
    assert key_lines(text) == expected


class Owner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = ""
    age: int = 0


class Pet(BaseModel):
    model_config = ConfigDict(extra="forbid")
    species: str = ""
    owner: Owner | None = None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('speces = "cat"', '1: unknown key "speces" in the file (did you mean "species"?)'),
        ('\n[owner]\nnaem = "x"', '3: unknown key "naem" in [owner] (did you mean "name"?)'),
        ("owner.age = 1\nowner.height = 2", '2: unknown key "height" in [owner] (known: name, age)'),
        ("owner = {age = 1, agee = 2}", '1: unknown key "agee" in [owner] (did you mean "age"?)'),
        ('[owner]\nage = "x"', "2: age in [owner] should be a valid integer, unable to parse string as an integer"),
        ("owner = 1", "1: owner in the file should be a valid table, not 1 (mend owner)"),
        ("species = 1\n[owner]\nage = 1.5", "1: species in the file should be a valid string, not 1 (and 1 more)"),
        ("species = 1\n[owner]\nagee = 1", '3: unknown key "agee" in [owner] (and 1 more)'),
        ("species", "1: not TOML: Expected '=' after a key in a key/value pair"),
        ("[owner\nage = 1", "1:7: not TOML: Expected ']' at the end of a table declaration"),
        ('species = "cat"\nspecies = "dog"\n', "not TOML: Cannot overwrite a value"),
        ('\nspecies = """cat', "2: not TOML: Unterminated string"),
    ],
)
def test_mistakes_are_told_with_their_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "pet.toml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_toml(path, Pet)
    assert str(error.value).startswith(f"{path}:")
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"), [(b"\xff", "is not UTF-8 text (byte 0)"), (None, "cannot read"), (b"[" * 5000, "not TOML")]
)
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "pet.toml"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_toml(path, Pet)
    assert said in error.value.problem


def test_windows_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "pet.toml"
    path.write_bytes(b'\xef\xbb\xbfspecies = "cat"\r\n[owner]\r\nage = 3\r\n')
    toml = read_toml(path, Pet)
    assert toml.value == Pet(species="cat", owner=Owner(age=3))
    with pytest.raises(UserError, match=r"pet\.toml:3: too young"):
        toml.fail(("owner", "age"), "too young", "")
