"""The benchmark loop and its stages: a suite and a folder in, a scored run out.

:func:`prepare` looks at both once; the stages after it (:mod:`generate`, the loop, :mod:`sets`) ask nothing back.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipa_bench.harness.header import Prepared as Prepared
    from ipa_bench.harness.header import matches as matches
    from ipa_bench.harness.header import prepare as prepare
    from ipa_bench.harness.loop import run as run
    from ipa_bench.harness.loop import run_prepared as run_prepared
    from ipa_bench.harness.results import view as view

_FACE = {
    "Prepared": "header",
    "matches": "header",
    "prepare": "header",
    "run": "loop",
    "run_prepared": "loop",
    "view": "results",
}


def __getattr__(name: str) -> Any:
    # Worker processes import this room for its ``workers`` alone, and wait for nothing that only the loop needs.
    if name in _FACE:
        return getattr(import_module(f"ipa_bench.harness.{_FACE[name]}"), name)
    raise AttributeError(name)
