"""The networks that a reward model may be: a literal table. A new one is a file here, a line of the table, its name in
:data:`trainers.reward_model.file.BackboneName` and, where it has settings, a table of the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ipa_bench.errors import UserError
from trainers.embedded.nets.loop import Descent, Tell, descend
from trainers.reward_model import fit, small, vision_language
from trainers.reward_model.config import RewardModelConfig
from trainers.reward_model.data import Example
from trainers.reward_model.file import BackboneName, Card
from trainers.reward_model.seen import Seen
from trainers.rewards.ties import preference_loss

#: a score of each clip, higher is better
Scores = Callable[[Sequence[Seen]], list[float]]
#: (width, height) of a clip -> what its frames are shrunk to
Size = Callable[[tuple[int, int]], tuple[int, int]]


@dataclass(frozen=True)
class Fitted:
    """A trained model: its scores, and what is stored of it."""

    scores: Scores
    tensors: Mapping[str, Tensor]
    log_k: float
    #: what :attr:`Backbone.opened` needs beside the tensors
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Backbone:
    """A line of the table."""

    #: frames that it looks at
    frames: Callable[[RewardModelConfig], int]
    #: of synthetic clips
    height: int
    size: Size
    #: (configuration, examples, how long, where the state is kept, who is told) -> the model
    fitted: Callable[[RewardModelConfig, Sequence[Example], Descent, Path, Tell], Fitted]
    #: (card, tensors, their folder) -> its scores; raises UserError where the weights are of another shape
    opened: Callable[[Card, Mapping[str, Tensor], Path], Scores]


def _fit_small(config: RewardModelConfig, examples: Sequence[Example], how: Descent, state: Path, tell: Tell) -> Fitted:
    net = fit.fit(examples, how, state, tell, ties=config.train.ties, even=config.train.even, run=config.name)
    return Fitted(partial(fit.scores, net), net.state_dict(), float(net.log_k))


def _open_small(card: Card, tensors: Mapping[str, Tensor], folder: Path) -> Scores:
    net = small.SmallIdentity()
    try:
        net.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except RuntimeError:
        raise UserError(f"{folder}: its weights are no {card.backbone} network's", "train it by this version") from None
    return partial(fit.scores, net.eval().requires_grad_(False))


def _fit_large(config: RewardModelConfig, examples: Sequence[Example], how: Descent, state: Path, tell: Tell) -> Fitted:
    """One clip at a time: what a GPU holds of activations."""
    options = config.vision_language
    torch.manual_seed(config.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = vision_language.started(options.base, options.rank, options.alpha, device).train()

    def step(rng: np.random.Generator) -> dict[str, Tensor]:
        chosen = [examples[i] for i in rng.choice(len(examples), how.batch, replace=len(examples) < how.batch)]
        difference = torch.cat([model(each.a) - model(each.b) for each in chosen])
        shares = torch.tensor([each.shares for each in chosen], device=difference.device)
        return {
            "preference": preference_loss(
                difference, shares, model.log_k, ties=config.train.ties, even=config.train.even
            )[0]
        }

    parts = vision_language.trainable(model)
    descend(parts, step, how, state, f"reward {config.name} {options.base} {len(examples)}", tell)
    scores = partial(vision_language.scores, model.eval())
    tensors = {name: parameter.detach() for name, parameter in parts.items()}
    return Fitted(scores, tensors, float(model.log_k.detach()), options.model_dump())


def _open_large(card: Card, tensors: Mapping[str, Tensor], folder: Path) -> Scores:
    return partial(vision_language.scores, vision_language.opened(card, tensors))


BACKBONES: dict[BackboneName, Backbone] = {
    "small": Backbone(lambda _: small.FRAMES, small.HEIGHT, small.size_of, _fit_small, _open_small),
    "vision-language": Backbone(
        lambda config: config.vision_language.frames,
        vision_language.HEIGHT,
        vision_language.size_of,
        _fit_large,
        _open_large,
    ),
}
