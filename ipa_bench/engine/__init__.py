"""Where work on many clips is done: processes of this machine, or the cores of a Ray cluster."""

from ipa_bench.engine.base import Engine, EngineName, Processes, opened

__all__ = [
    "Engine",
    "EngineName",
    "Processes",
    "opened",
]
