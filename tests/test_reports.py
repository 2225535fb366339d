"""The scripts of reports: what they take of the project is there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("diffusers")

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "reports").rglob("*.py"))


def taken(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(module, name) of everything that is imported of this project."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("ipa_bench", "trainers"):
            yield from ((node.module, each.name) for each in node.names)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.parent.name + "/" + path.name)
def test_what_a_script_takes_of_the_project_is_there(script: Path) -> None:
    names = [*taken(ast.parse(script.read_text()))]
    assert names
    for module, name in names:
        assert hasattr(import_module(module), name) or find_spec(f"{module}.{name}"), f"{module} has no {name}"
