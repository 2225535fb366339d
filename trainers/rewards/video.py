"""A trained video reward model as a reward: ``video:FOLDER``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite
from pathlib import Path

from ipa_bench.errors import Unscorable, UserError
from ipa_bench.metrics.base import Measured, unknown
from ipa_bench.types import Case, MetricInfo
from trainers.reward_model import file
from trainers.reward_model.seen import Seen, look, wanted
from trainers.rewards.base import Reward

Scores = Callable[[Sequence[Seen]], list[float]]


def of_folder(name: str) -> Reward:
    """The reward model of a folder that ``ipa-bench reward train`` wrote; ``embedded``: the one that ships.

    It is opened here, so that a run whose model is missing or damaged ends before anything is generated. Raises
    UserError.
    """
    if not name:
        raise UserError("video: names no reward model", "write video:FOLDER, a folder of ipa-bench reward train")
    from trainers.reward_model.backbones import BACKBONES  # imports torch, which a configuration that names it need not

    folder = file.SHIPPED if name == "embedded" else Path(name)
    card, tensors = file.read(folder)
    backbone = BACKBONES[card.backbone]
    scores = backbone.opened(card, tensors, folder)
    info = MetricInfo(
        f"reward.{card.name}.{card.sha256[:8]}@1",
        "logit",
        "higher",
        "a video reward model trained on preferences: trainers/reward_model",
        "what its voters or its synthetic faults did not show",
        "free",
        family=(f"reward.{card.name}",),
    )
    return Reward(info, partial(_look, scores, card.frames, backbone.size))


def _look(
    scores: Scores, frames: int, size: Callable[[tuple[int, int]], tuple[int, int]], case: Case, clips: Sequence[Path]
) -> list[Measured]:
    if not case.people:
        return [unknown("the case has no reference picture") for _ in clips]
    try:
        people = wanted(dict(case.people), dict(case.poses))
    except Unscorable as error:
        return [unknown(error.reason) for _ in clips]
    return [_one(scores, partial(look, clip, people, frames=frames, shrunk=size)) for clip in clips]


def _one(scores: Scores, read: Callable[[], Seen]) -> Measured:
    try:
        value = scores([read()])[0]
    except Unscorable as error:
        return unknown(error.reason)
    return Measured(value) if isfinite(value) else unknown("the reward model's score is not a number")
