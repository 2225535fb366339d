"""``ipa-bench validate`` with a part of the ladder, as a process that :mod:`tests.forked` forks: of every kind some."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from ipa_bench import cli

#: every harmless version stays, on whose scatter a verdict stands
KEPT = {"clean", "reencode", "reencode_too", "late", "finger_melt", "flicker", "frame_blur", "slow"}


def main() -> None:
    """The verb; workers are forked from this process and are given no other versions."""

    def kept(damages: Iterable[Any]) -> tuple[Any, ...]:
        return tuple(damage for damage in damages if damage.name in KEPT)

    judge: Any = import_module("ipa_bench.validate.judge")  # whose name in the room is that of its function
    judge.VARIANTS = tuple(variant for variant in judge.VARIANTS if variant[0] in KEPT)
    judge.DAMAGES, judge.UNSEEN = kept(judge.DAMAGES), kept(judge.UNSEEN)
    cli.main()
