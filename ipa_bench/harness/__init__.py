"""The benchmark loop and its stages: a suite and a folder in, a scored run out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipa_bench.harness.loop import FLOOR_MODEL as FLOOR_MODEL
    from ipa_bench.harness.loop import matches as matches
    from ipa_bench.harness.loop import run as run
    from ipa_bench.harness.loop import view as view


def __getattr__(name: str) -> Any:
    # Worker processes import this room for its ``workers`` alone, and wait for nothing that only the loop needs.
    if name in {"FLOOR_MODEL", "matches", "run", "view"}:
        return getattr(import_module("ipa_bench.harness.loop"), name)
    raise AttributeError(name)
