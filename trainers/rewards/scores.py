"""The scorer as a reward: any metric of the table that may choose, the hand scorer's composite among them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ipa_bench.engine.processes import cores
from ipa_bench.errors import Unscorable
from ipa_bench.metrics import Measured, find
from ipa_bench.metrics.base import unknown
from ipa_bench.metrics.table import parts_of
from ipa_bench.observers.looker import Looker
from ipa_bench.scorer import Scorer
from ipa_bench.types import Case
from trainers.rewards.base import Reward


def of_metric(name: str) -> Reward:
    """A metric by its name, with or without its version. Raises UserError for an unknown or sealed one."""
    info = find(name).info
    return Reward(info, partial(_look, info.id), parts_of(info.id))


def _look(metric: str, case: Case, clips: Sequence[Path]) -> list[Measured]:
    scorer = Scorer(Looker(threads=cores()), (metric,))
    try:
        return [_value(scorer, metric, clip, case) for clip in clips]
    finally:
        scorer.looker.close()


def _value(scorer: Scorer, metric: str, clip: Path, case: Case) -> Measured:
    try:
        return scorer.score(clip, case)[metric]
    except Unscorable as error:
        return unknown(error.reason)
