"""The networks that a reward model may be: a literal table. A new one is a file here and a line of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ipa_bench.errors import UserError
from trainers.reward_model import fit, small, vision_language
from trainers.reward_model.file import Card
from trainers.reward_model.seen import Seen


@dataclass(frozen=True)
class Model:
    """An opened reward model."""

    #: a score of each clip, higher is better
    scores: Callable[[Sequence[Seen]], list[float]]
    #: (width, height) of a clip -> what its frames are shrunk to
    size: Callable[[tuple[int, int]], tuple[int, int]]


def opened(card: Card, tensors: Mapping[str, Tensor], folder: Path) -> Model:
    """The model of a folder. Raises :class:`UserError` where its weights are of another shape."""
    return OPEN[card.backbone](card, tensors, folder)


def _small(card: Card, tensors: Mapping[str, Tensor], folder: Path) -> Model:
    net = small.SmallIdentity()
    try:
        net.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except RuntimeError:
        raise UserError(f"{folder}: its weights are no {card.backbone} network's", "train it by this version") from None
    net.eval().requires_grad_(False)
    return Model(lambda clips: fit.scores(net, clips), small.size_of)


def _vision_language(card: Card, tensors: Mapping[str, Tensor], folder: Path) -> Model:
    model = vision_language.opened(card, tensors)
    return Model(lambda clips: [vision_language.score(model, clip) for clip in clips], vision_language.size_of)


OPEN: dict[str, Callable[[Card, Mapping[str, Tensor], Path], Model]] = {
    "small": _small,
    "vision-language": _vision_language,
}
