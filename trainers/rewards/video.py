"""A trained video reward model as a reward: ``video:FOLDER``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ipa_bench.errors import Unscorable, UserError
from ipa_bench.metrics.base import Measured, unknown
from ipa_bench.types import Case, MetricInfo
from trainers.reward_model import file
from trainers.reward_model.seen import Seen, look
from trainers.rewards.base import Reward

Scores = Callable[[Sequence[Seen]], list[float]]


def of_folder(name: str) -> Reward:
    """The reward model of a folder that ``ipa-bench reward train`` wrote; ``embedded``: the one that ships.

    It is opened here, so that a run whose model is missing or damaged ends before anything is generated. Raises
    UserError.
    """
    if not name:
        raise UserError("video: names no reward model", "write video:FOLDER, a folder of ipa-bench reward train")
    from trainers.reward_model.backbones import opened  # imports torch, which a configuration that names it need not

    folder = file.SHIPPED if name == "embedded" else Path(name)
    card, tensors = file.read(folder)
    model = opened(card, tensors, folder)
    info = MetricInfo(
        f"reward.{card.name}.{card.sha256[:8]}@1",
        "logit",
        "higher",
        "a video reward model trained on preferences: trainers/reward_model",
        "what its voters or its synthetic faults did not show",
        "free",
        family=(f"reward.{card.name}",),
    )
    return Reward(info, partial(_look, model.scores, card.frames, model.size))


def _look(
    scores: Scores, frames: int, size: Callable[[tuple[int, int]], tuple[int, int]], case: Case, clips: Sequence[Path]
) -> list[Measured]:
    people, tracks = [path for _, path in case.people], dict(case.poses)
    if not people:
        return [unknown("the case has no reference picture") for _ in clips]
    paths = [tracks[name] for name, _ in case.people if name in tracks]
    read = partial(look, references=people, tracks=paths, frames=frames, shrunk=size)
    return [_one(scores, partial(read, clip)) for clip in clips]


def _one(scores: Scores, read: Callable[[], Seen]) -> Measured:
    try:
        value = scores([read()])[0]
    except Unscorable as error:
        return unknown(error.reason)
    finite = value == value and abs(value) != float("inf")
    return Measured(value) if finite else unknown("the reward model's score is not a number")
