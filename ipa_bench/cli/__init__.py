"""The command line: a file for each group of verbs, and the one ``main``."""

from ipa_bench.cli.app import main

__all__ = [
    "main",
]
