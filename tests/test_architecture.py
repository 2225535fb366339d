"""The limits that keep the project small enough to hold in the head."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = sorted(p for folder in ("ipa_bench", "trainers") for p in (ROOT / folder).rglob("*.py"))


@cache
def about(path: Path) -> tuple[int, list[str], list[str]]:
    """(lines of a file, its functions that are too long, what of it does not say what it is)."""
    text = path.read_text()
    tree = ast.parse(text)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    silent = [
        node.name for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]  # fmt: skip
    if tree.body and not ast.get_docstring(tree):
        silent.append("the module")
    long = [node.name for node in functions if (node.end_lineno or 0) - node.lineno + 1 > 60]
    return text.count("\n"), long, silent


def test_files_and_functions_are_short():
    found = {str(path.relative_to(ROOT)): about(path)[:2] for path in SOURCES}
    assert {name: lines for name, (lines, _) in found.items() if lines > 400} == {}
    assert {name: long for name, (_, long) in found.items() if long} == {}


def test_modules_and_public_functions_say_what_they_are():
    assert {str(path.relative_to(ROOT)): about(path)[2] for path in SOURCES if about(path)[2]} == {}


def test_layers_hold():
    result = subprocess.run([Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
