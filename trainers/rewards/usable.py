"""Whether a reward works at all, asked before anything is generated for it: clips are dear, and this is one look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from ipa_bench.errors import UserError
from ipa_bench.types import Case
from trainers.rewards.base import Reward, Seen

#: cases that a reward may have no value of before it is refused
TRIED = 3


def check_usable(reward: Reward, cases: Sequence[Case]) -> None:
    """Let the reward look at clips that are there: the ground truth of a case, else what drives it.

    Raises :class:`UserError` where a case lacks what the reward compares with, where it has no value of any of the
    first :data:`TRIED` cases (its networks are missing, say), and where a value is no number.
    """
    name = reward.info.id
    lacking = [case.id for case in cases if case.ground_truth is None] if reward.info.needs == "ground_truth" else []
    if lacking:
        raise UserError(f"{name} compares with the ground truth, and case {lacking[0]} has none", "reward otherwise")
    reason = "there is no case"
    for case in cases[:TRIED]:
        (found,), _ = numbers(reward, case, [case.ground_truth or case.driving])
        if found.value is not None:
            return
        reason = found.reason or reason
    raise UserError(f"{name} says nothing of the clips of {len(cases[:TRIED])} cases: {reason}", "reward otherwise")


def numbers(reward: Reward, case: Case, clips: Sequence[Path]) -> Seen:
    """:meth:`trainers.rewards.Reward.seen`. Raises :class:`UserError` where a value is no number."""
    try:
        found, terms = reward.seen(case, clips)
        wrong = next((f"{f.value}" for f in found if f.value is not None and not math.isfinite(f.value)), "")
    except ValueError as error:  # a finding that is no number cannot be made
        wrong = str(error)
    if wrong:
        raise UserError(f"{reward.info.id} gives no number for case {case.id}: {wrong}", "mend the reward")
    return found, terms
