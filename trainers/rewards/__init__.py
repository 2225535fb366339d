"""Rewards: what tells methods which samples of a case are better. A literal table of their kinds.

A reward is named as configurations name it: ``hand_quality`` is a metric, ``KIND:WHAT`` one of another kind. A new kind
is a file here and a line of the table. ``[reward]`` adds several up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ipa_bench.errors import UserError
from trainers.rewards.base import Reward, rewarded
from trainers.rewards.composed import Term, composed
from trainers.rewards.config import RewardConfig
from trainers.rewards.scores import of_metric
from trainers.rewards.usable import check_usable
from trainers.rewards.video import of_folder

__all__ = ["REWARDS", "Kind", "Reward", "RewardConfig", "check_name", "check_usable", "find", "of_config", "rewarded"]


@dataclass(frozen=True)
class Kind:
    """A line of the table."""

    name: str
    #: one line
    help: str
    #: what follows the colon -> the reward; raises UserError where there is none
    make: Callable[[str], Reward]


REWARDS: tuple[Kind, ...] = (
    Kind("metric", "A metric of videos that is not sealed.", of_metric),
    Kind("video", "A reward model trained on preferences, by its folder.", of_folder),
)


def find(name: str) -> Reward:
    """The reward of a name. Raises UserError for one that does not exist, or that is sealed."""
    kind, colon, what = name.partition(":")
    if not colon:
        return REWARDS[0].make(name)
    known = {each.name: each for each in REWARDS}
    if kind not in known:
        raise UserError(f"there is no reward of kind {kind!r}", f"kinds: {', '.join(known)}")
    return known[kind].make(what)


def check_name(name: str) -> None:
    """Raise UserError for a metric or a kind that does not exist or is sealed; what a kind names is not opened yet."""
    kind, colon, _ = name.partition(":")
    if not colon or kind == REWARDS[0].name or kind not in {each.name for each in REWARDS}:
        find(name)


def of_config(config: RewardConfig) -> Reward:
    """What a configuration rewards by. Raises UserError as :func:`find` does."""
    return composed([Term(find(each.reward), each.weight, each.enough) for each in config.term], config.scale)
