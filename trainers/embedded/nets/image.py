"""Training of the small LPIPS: a trunk that tells people, attributes and hands, then heads that rank damage.

The heads of the published LPIPS were fitted to people's judgements (Zhang et al., arXiv 1801.03924). Here strength is
known instead: of two pictures with the same damage the stronger one must lie further off, and a change that nobody sees
must lie nearer than any damage.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ipa_bench.embedded import world
from ipa_bench.nets.embedded import EmbeddedLpips
from ipa_bench.types import UInt8
from trainers.embedded.nets.loop import Descent, Tell, descend
from trainers.embedded.nets.samples import (
    ATTRIBUTES,
    FIRST,
    TAKES,
    Learned,
    Portraits,
    blurred,
    coarse,
    noisy,
    shifted,
    wrong_hands,
    wrong_person,
)

#: how wrong a hand or a person is drawn
SHARES = (0.25, 0.5, 1.0)
#: a damage's three strengths: sigma in pixels, grey levels, pixels, pixels a side of a block, shares
LADDERS: dict[str, tuple[float, float, float]] = {
    "blur": (0.6, 1.2, 2.4),
    "noise": (6, 12, 24),
    "shift": (1, 2, 4),
    "coarse": (2, 4, 8),
    "wrong_hands": SHARES,
    "wrong_person": SHARES,
}
#: changes that nobody sees: grey levels of noise, and of brightness
HARMLESS = (1.0, 2)
#: how much further off, as a logarithm, a ranking wants the stronger of two
_MARGIN, _SOFT = 0.4, 0.2
#: takes a minute or two of one core; a batch is pairs of pictures of one person
TRAINING = Descent(steps=1200, batch=16, rate=3e-3)
#: the heads' steps and rate, and people whose damage they are fitted to
HEAD_STEPS, HEAD_RATE, HEAD_PEOPLE = 400, 0.03, 128
#: of the vector that tells people apart; similarities are divided by the other
_IDENTITY, _SHARPNESS = 32, 0.1
#: largest shift of a training picture, pixels
_JITTER = 4


class Questions(nn.Module):
    """What the trunk's last map is asked in training; not shipped."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.sizes = {**ATTRIBUTES, "colours": 9, "flexion": 10, "person": _IDENTITY}
        self.drop = nn.Dropout(0.2)
        self.linear = nn.Linear(channels * 16, sum(self.sizes.values()))

    def forward(self, last: Tensor) -> dict[str, Tensor]:
        """[N, C, h, w] -> answers [N, k]; ``person`` has norm 1."""
        pooled = self.drop(F.adaptive_avg_pool2d(last, 4).flatten(1))
        found = dict(zip(self.sizes, torch.split(self.linear(pooled), list(self.sizes.values()), 1), strict=True))
        return found | {"person": F.normalize(found["person"], dim=1)}


class Pupil(nn.Module):
    """The net, with heads of ones that are not trained here, and its questions."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.net = EmbeddedLpips()
        self.questions = Questions(self.net.channels[-1])
        for module in self.net.trunk.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        place_heads(self.net, ones_of(self.net.channels))
        self.net.heads.requires_grad_(False)
        self.net.to(memory_format=self.net.layout)  # type: ignore[call-overload]


def train_trunk(samples: Portraits, how: Descent, file: Path, tell: Tell) -> Pupil:
    """A net with a trained trunk, in evaluation mode. ``file`` keeps the state, as in ``embedded_loop``."""
    pupil = Pupil(how.seed).train()

    def losses(rng: np.random.Generator) -> dict[str, Tensor]:
        torch.manual_seed(int(rng.integers(2**31)))  # of the dropout
        images, truth = drawn(samples, rng.choice(len(samples), how.batch, replace=len(samples) < how.batch), rng)
        return loss_parts(pupil.questions(pupil.net.trunk(as_input(images))[-1]), truth)

    descend(pupil, losses, how, file, f"image {len(samples)}", tell)
    return pupil.eval().requires_grad_(False)


def drawn(samples: Portraits, chosen: Any, rng: np.random.Generator | None) -> tuple[UInt8, dict[str, Tensor]]:
    """Both pictures of the chosen people, uint8 ``[2 N, 128, 128, 3]``, and what is true of them ``[2 N, ...]``.

    With ``rng`` some are mirrored, moved a few pixels, and lit less.
    """
    images, flexion = np.array(samples.images[chosen]), np.array(samples.flexion[chosen])
    for person, take in np.ndindex(images.shape[:2]) if rng else ():
        assert rng is not None
        image = images[person, take]
        if rng.random() < 0.5:
            image, flexion[person, take] = image[:, ::-1], flexion[person, take, ::-1]
        rows, columns = (
            np.clip(np.arange(len(image)) + s, 0, len(image) - 1) for s in rng.integers(-_JITTER, _JITTER + 1, 2)
        )
        images[person, take] = image[rows][:, columns] * rng.uniform(0.9, 1.0)
    truth = {
        "attributes": np.repeat(samples.attributes[chosen], TAKES, 0),
        "colours": np.repeat(samples.colours[chosen], TAKES, 0),
        "flexion": flexion.reshape(len(images) * TAKES, 10),
    }
    return images.reshape(-1, *images.shape[2:]), {name: torch.from_numpy(values) for name, values in truth.items()}


def as_input(images: UInt8) -> Tensor:
    """uint8 ``[N, H, W, 3]`` -> float32 ``[N, 3, H, W]`` in [−1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def loss_parts(answers: dict[str, Tensor], truth: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mean loss of each question; hair that is not there has no colour.

    ``person``: which of the others' first pictures goes with a second one (van den Oord et al., arXiv 1807.03748).
    """
    losses = {"colours": 10 * F.mse_loss(answers["colours"], truth["colours"])}
    losses["flexion"] = 20 * F.mse_loss(answers["flexion"], truth["flexion"])
    for place, name in enumerate(ATTRIBUTES):
        losses[name] = 0.3 * F.cross_entropy(answers[name], truth["attributes"][:, place], ignore_index=-1)
    alike = answers["person"][::2] @ answers["person"][1::2].T / _SHARPNESS
    losses["person"] = 0.3 * F.cross_entropy(alike, torch.arange(len(alike)))
    return losses


@torch.no_grad()
def accuracy(pupil: Pupil, samples: Portraits) -> dict[str, float]:
    """Share of right answers; for colours and flexion the share of variance explained.

    ``person``: how often a person's second picture is the one nearest to the first, of those of all people.
    """
    images, truth = drawn(samples, np.arange(len(samples)), None)
    answers = pupil.questions(pupil.net.trunk(as_input(images))[-1])
    result = {}
    for place, name in enumerate(ATTRIBUTES):
        known = truth["attributes"][:, place] >= 0
        told = answers[name].argmax(1) == truth["attributes"][:, place]
        result[name] = float(told[known].float().mean())
    for name in ("colours", "flexion"):
        spread = (truth[name] - truth[name].mean(0)).square().mean()
        result[name] = float(1 - (answers[name] - truth[name]).square().mean() / spread)
    alike = answers["person"][::2] @ answers["person"][1::2].T
    result["person"] = float((alike.argmax(1) == torch.arange(len(alike))).float().mean())
    return result


# ---------------------------------------------------------------------------------------------------------------------
# heads


def damaged(split: Learned, identity: int) -> tuple[UInt8, UInt8, UInt8]:
    """A person's picture uint8 ``[128, 128, 3]``, with the damage of :data:`LADDERS` ``[D, 3, ...]``, and harmlessly
    changed ``[2, ...]``."""
    clip = world.clip(split, identity, 0, frames=1)
    image, other = clip.frames[0], world.person_of(split, identity + 1_000_000)  # somebody who is never shown
    makers: dict[str, Callable[[float], UInt8]] = {
        "blur": lambda level: blurred(image, level),
        "noise": lambda level: noisy(image, level, identity),
        "shift": lambda level: shifted(image, int(level)),
        "coarse": lambda level: coarse(image, int(level)),
        "wrong_hands": lambda level: wrong_hands(clip, 0, level, identity),
        "wrong_person": lambda level: wrong_person(clip, 0, level, other),
    }
    noise, brighter = HARMLESS
    harmless = [noisy(image, noise, identity + 1), np.clip(image.astype(int) + brighter, 0, 255).astype(np.uint8)]
    bad = [[makers[name](level) for level in levels] for name, levels in LADDERS.items()]
    return image, np.array(bad), np.array(harmless)


@torch.no_grad()
def differences(net: EmbeddedLpips, split: Learned, people: int) -> tuple[Tensor, Tensor]:
    """What the heads weigh: squared differences to the undamaged picture, mean over space, of every channel.

    float32 ``[people, D, 3, C]`` for :func:`damaged` pictures and ``[people, 2, C]`` for harmless changes.
    """
    ladders, harmless = [], []
    for identity in range(FIRST[split], FIRST[split] + people):
        image, bad, fine = damaged(split, identity)
        maps = net.features(np.concatenate([image[None], bad.reshape(-1, *image.shape), fine]))
        found = torch.cat([(each[1:] - each[:1]).square().mean((2, 3)) for each in maps], 1)
        ladders.append(found[: -len(fine)].reshape(*bad.shape[:2], -1))
        harmless.append(found[-len(fine) :])
    return torch.stack(ladders), torch.stack(harmless)


def fit_heads(ladders: Tensor, harmless: Tensor, channels: tuple[int, ...], steps: int = HEAD_STEPS) -> Tensor:
    """Weights ``[C]``, at least 0, that rank damage; their mean distance of damage is that of equal weights."""
    ones = ones_of(channels)
    raw = torch.full_like(ones, math.log(math.expm1(1))).requires_grad_(True)  # softplus(raw) is 1
    optimizer = torch.optim.Adam([raw], HEAD_RATE)
    for _ in range(steps):
        weight = F.softplus(raw)
        logs = torch.log(ladders @ weight + 1e-8)
        small = torch.log(harmless @ weight + 1e-8)
        stronger = logs[..., 1:] - logs[..., :-1]
        visible = logs[..., :1] - small[:, None]  # the mildest of each damage against each harmless change
        loss = torch.stack([F.softplus((_MARGIN - gap) / _SOFT).mean() for gap in (stronger, visible)]).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        weight = F.softplus(raw)
        return weight * float((ladders @ ones).mean() / (ladders @ weight).mean())


def ones_of(channels: tuple[int, ...]) -> Tensor:
    """Equal weights ``[C]`` for all channels of all maps; distances stay below 4."""
    return torch.full((sum(channels),), 1.0 / len(channels))


def ranking(ladders: Tensor, harmless: Tensor, weight: Tensor) -> dict[str, float]:
    """How often the stronger of two neighbouring strengths lies further off, for each damage and together, and how
    often the mildest damage lies further off than a harmless change (``harmless``)."""
    distance, small = ladders @ weight, harmless @ weight
    right = (distance[..., 1:] > distance[..., :-1]).float()
    result = {name: float(right[:, place].mean()) for place, name in enumerate(LADDERS)}
    result["all"] = float(right.mean())
    return result | {"harmless": float((distance[..., :1] > small[:, None]).float().mean())}


def place_heads(net: EmbeddedLpips, weight: Tensor) -> None:
    """Put the weights ``[C]`` into the heads of ``net``, in the maps' order."""
    with torch.no_grad():
        for head, part in zip(net.heads.parameters(), torch.split(weight, list(net.channels)), strict=True):
            head.copy_(part[None, :, None, None])
