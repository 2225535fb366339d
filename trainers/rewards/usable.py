"""Whether a reward works at all, asked before anything is generated for it: clips are dear, and this is one look."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ipa_bench.errors import UserError
from ipa_bench.types import Case
from trainers.rewards.base import Reward

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
        try:
            (found,) = reward.look(case, [case.ground_truth or case.driving])
            value = found.value
        except ValueError as error:  # a finding that is no number cannot be made
            raise _no_number(reward, case, str(error)) from None
        if value is not None:
            if not math.isfinite(value):
                raise _no_number(reward, case, f"{value}")
            return
        reason = found.reason or reason
    raise UserError(f"{name} says nothing of the clips of {len(cases[:TRIED])} cases: {reason}", "reward otherwise")


def _no_number(reward: Reward, case: Case, said: str) -> UserError:
    return UserError(f"{reward.info.id} gives no number for case {case.id}: {said}", "mend the reward")
