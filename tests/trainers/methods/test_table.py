"""The table of methods: complete, read without torch, and the only place outside tests that names them."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import trainers
from trainers.methods import METHODS, Method, find, recipes

ROOT = Path(trainers.__file__).parents[1]
#: a default is a choice, and stands in the configuration that it is the default of
CONFIGURATIONS = {"trainers/align/config.py", "trainers/embedded/footage.py"}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_line_has_its_file(method: Method) -> None:
    assert find(method.name) is method
    assert list(inspect.signature(method.loss).parameters) == ["step"]
    assert method.help.endswith(".")
    assert len({each.name for each in METHODS}) == len({each.title for each in METHODS}) == len(METHODS)


def test_what_a_method_takes_says_its_unit_its_file_and_its_clips() -> None:
    found = {m.name: (m.unit, m.file, m.clips, m.reference) for m in METHODS}
    assert found["sft"] == ("clip", "selection.json", 1, False)
    assert found["ipa"] == ("clip", "selection.json", 1, True)
    assert found["dpo"] == ("pair", "pairs.json", 2, True)
    assert found["grpo"] == ("step", None, 1, False)
    assert [m.name for m in METHODS if m.online] == ["wsft", "nft", "grpo"]


def test_recipes_are_those_of_sheets_that_exist() -> None:
    names = [recipe.name for recipe in recipes()]
    assert [name for name in names if name in ("sft", "ipa", "ipa-cached", "dpo", "published")] == [
        "sft", "ipa", "ipa-cached", "dpo", "published",
    ]  # fmt: skip
    titles = {recipe.name: recipe.title for recipe in recipes()}
    assert (titles["sft"], titles["ipa"]) == ("SFT", "IPA, reference computed")
    assert titles["published"] == "IPA as published (copied reference)"


def test_reading_the_table_loads_no_torch() -> None:
    code = "import sys, trainers.methods; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_no_other_file_tells_methods_apart_by_name() -> None:
    names = {method.name for method in METHODS}
    found = {
        str(path.relative_to(ROOT))
        for folder in ("ipa_bench", "trainers")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names
    }
    assert found - CONFIGURATIONS == {"trainers/methods/__init__.py"}
