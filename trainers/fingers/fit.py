"""The fit of the head: whether a hand was edited and how many fingers it has, and both against others of the same hand.

The metrics compare a hand with the driving one, so that differences are what is trained most: an edited picture of a
hand above a control of it, two pictures of it that are right alike, and a finger's difference where one was added. The
pictures of a hand are spoiled each in its own way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ipa_bench.compare.two_sample import auc
from ipa_bench.nets.fingers import FingerHead
from trainers.embedded.nets.loop import Descent, Tell, descend
from trainers.fingers.material import PICTURES, Material

#: hands of a step; of each all its pictures
HANDS = 24
TRAINING = Descent(steps=400, batch=HANDS * len(PICTURES), rate=2e-3, decay=0.05)
#: share of a step's hands that are cut from footage, where there is any
FOOTAGE = 0.3
#: weights of the losses: absolute answers, differences, pictures of one hand that are right
_SINGLE, _PAIRED, _QUIET, _COUNT, _COUNT_PAIRED = 0.5, 1.0, 0.1, 0.5, 1.0
#: chance that a channel of the maps is not seen, and noise in deviations
_BLIND, _NOISE = 0.1, 0.1


@dataclass(frozen=True, eq=False)
class _Part:
    """Training material and the first picture of each of its hands."""

    material: Material
    first: NDArray[np.int64]


def fit(parts: Sequence[Material], file: Path, how: Descent, tell: Tell) -> FingerHead:
    """Train a head; the state is kept in ``file``. The first part are photographs, the others footage."""
    torch.manual_seed(how.seed)
    head = FingerHead()
    mean, spread = _moments(parts[0])
    head.mean.copy_(mean)
    head.spread.copy_(spread)
    sets = [_Part(part, np.flatnonzero(np.diff(part.group, prepend=-1))) for part in parts]

    def losses(rng: np.random.Generator) -> dict[str, Tensor]:
        torch.manual_seed(int(rng.integers(2**31)))
        shares = [HANDS] if len(sets) == 1 else [HANDS - round(FOOTAGE * HANDS), round(FOOTAGE * HANDS)]
        taken = _taken(sets[0], shares[0], rng)
        if len(sets) > 1:
            each = [_taken(part, n, rng) for part, n in zip(sets[1:], _split(shares[1], len(sets) - 1), strict=True)]
            taken = tuple(np.concatenate(arrays) for arrays in zip(taken, *each, strict=True))
        return _losses(head, *(torch.from_numpy(np.asarray(array, np.float32)) for array in taken))

    descend(head, losses, how, file, f"fingers {[len(part) for part in parts]}", tell)
    return head.eval()


def _split(count: int, parts: int) -> list[int]:
    return [(count * (i + 1)) // parts - (count * i) // parts for i in range(parts)]


def _moments(material: Material) -> tuple[Tensor, Tensor]:
    some = material.maps[:: max(len(material) // 400, 1)].astype(np.float32)
    mean, spread = some.mean(axis=(0, 1, 2)), some.std(axis=(0, 1, 2))
    return torch.from_numpy(mean), torch.from_numpy(np.maximum(spread, 1e-3))


def _taken(part: _Part, hands: int, rng: np.random.Generator) -> tuple[NDArray[np.generic], ...]:
    """(maps, wrong, count, change) of all pictures of some hands, in their order."""
    rows = (rng.choice(part.first, hands)[:, None] + np.arange(len(PICTURES))).ravel()
    of = part.material
    return of.maps[rows], of.wrong[rows], of.count[rows], of.change[rows]


def _losses(head: FingerHead, maps: Tensor, wrong: Tensor, count: Tensor, change: Tensor) -> dict[str, Tensor]:
    seen = (torch.rand(len(maps), 1, 1, maps.shape[-1]) > _BLIND) / (1 - _BLIND)
    noise = torch.randn(len(maps), 1, 1, maps.shape[-1]) * _NOISE * head.spread
    logit, fingers = head((maps - head.mean) * seen + head.mean + noise).unbind(1)
    known = torch.isfinite(count)
    result = {
        "single": _SINGLE * F.binary_cross_entropy_with_logits(logit, wrong),
        "count": _COUNT * F.smooth_l1_loss(fingers[known], count[known]) if known.any() else logit.sum() * 0,
    }
    shape = (-1, len(PICTURES))
    logit, fingers, wrong, change = (each.reshape(shape) for each in (logit, fingers, wrong, change))
    apart = logit[:, :, None] - logit[:, None, :]
    worse = (wrong[:, :, None] > wrong[:, None, :]).float()
    alike = ((wrong[:, :, None] == 0) & (wrong[:, None, :] == 0)).float()
    more = change[:, :, None] - change[:, None, :]
    told = torch.isfinite(more)
    off = F.smooth_l1_loss((fingers[:, :, None] - fingers[:, None, :])[told], more[told], reduction="sum")
    return result | {
        "paired": _PAIRED * (F.softplus(-apart) * worse).sum() / worse.sum().clamp(min=1),
        "quiet": _QUIET * (apart**2 * alike).sum() / alike.sum().clamp(min=1),
        "count_paired": _COUNT_PAIRED * off / told.sum().clamp(min=1),
    }


def answers(head: FingerHead, material: Material) -> NDArray[np.float64]:
    """What the head says of each picture, ``[N, 2]``: logit, fingers."""
    with torch.inference_mode():
        parts = [
            head(torch.from_numpy(np.asarray(material.maps[i : i + 64], np.float32)))
            for i in range(0, len(material), 64)
        ]
    return np.asarray(torch.cat(parts).double().numpy())


def measured(head: FingerHead, material: Material) -> dict[str, object]:
    """What a head makes of pictures: by kind of edit, alone and less the same hand's clean picture; and the count."""
    logit, fingers = answers(head, material).T
    first = np.flatnonzero(np.diff(material.group, prepend=-1))
    clean = first.repeat(np.diff(np.append(first, len(material))))
    right = (material.wrong == 0) & (clean != np.arange(len(material)))
    paired, counted = logit - logit[clean], fingers - fingers[clean]
    kinds = {}
    for kind in sorted(set(material.kind[material.wrong == 1])):
        chosen = material.kind == kind
        kinds[str(kind)] = {
            "n": int(chosen.sum()),
            "alone": auc(logit[chosen], logit[right]),
            "paired": auc(paired[chosen], paired[right]),
            "fingers": float(counted[chosen].mean()),
        }
    bar = float(np.quantile(paired[right], 0.9))
    known = np.isfinite(material.count) & (material.wrong == 0)
    return {
        "alone": auc(logit[material.wrong == 1], logit[right]),
        "paired": auc(paired[material.wrong == 1], paired[right]),
        "seen_at_10_percent_false_alarms": float((paired[material.wrong == 1] > bar).mean()),
        "false_alarms": {
            str(kind): float((paired[right & (material.kind == kind)] > bar).mean())
            for kind in sorted(set(material.kind[right]))
        },
        "count_exact": float((np.rint(fingers[known]) == material.count[known]).mean()) if known.any() else None,
        "count_noise": float(counted[right].std()),
        "kinds": kinds,
    }
