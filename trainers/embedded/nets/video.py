"""Training of the small video net: what both hands show and do, and whether the frames run as they were filmed.

The second question is there because networks trained to name actions mostly look at single frames, so that their
Fréchet distance hardly sees damage over time (Ge et al., arXiv 2404.12391). To tell the order of frames teaches motion
(Misra et al., arXiv 1603.08561).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ipa_bench.embedded.world import FRAMES, SIZE
from ipa_bench.nets.embedded import VIDEO_FEATURES, EmbeddedVideoNet
from ipa_bench.types import UInt8
from trainers.embedded.nets.loop import Descent, Tell, descend
from trainers.embedded.nets.samples import MOTIONS, POSTURES, Clips

WINDOW = 16
#: how a window is played, and how often
PLAYED = {"in order": 0.7, "shuffled": 0.15, "reversed": 0.15}
#: largest shift of a training window, pixels
_JITTER = 5
#: moments at which flexion is told
_MOMENTS = (0, WINDOW // 2, WINDOW - 1)
_PARTS = {
    "posture": 2 * len(POSTURES),
    "motion": 2 * len(MOTIONS),
    "palm": 2 * 2,
    "flexion": 2 * 5 * len(_MOMENTS),
    "travel": 2,
    "played": len(PLAYED),
}
_WEIGHTS = {"posture": 1.0, "motion": 1.0, "palm": 0.5, "flexion": 10.0, "travel": 1.0, "played": 1.0}


#: takes six minutes of one core
TRAINING = Descent(steps=2000, batch=8, rate=3e-3)


@dataclass(frozen=True, eq=False)
class Batch:
    """Windows float ``[N, 3, 16, 128, 128]`` in [−1, 1] and what is true of them; see :class:`Clips`."""

    clips: Tensor
    truth: dict[str, Tensor]


class Answers(nn.Module):
    """What the net is asked in training; not shipped. The batch norm's statistics scale the shipped features."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(VIDEO_FEATURES, affine=False, momentum=0.02)
        self.linear = nn.Linear(VIDEO_FEATURES, sum(_PARTS.values()))

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """[N, 64] -> an answer [N, ...] for each of the questions."""
        parts = torch.split(self.linear(self.norm(features)), list(_PARTS.values()), 1)
        found = dict(zip(_PARTS, parts, strict=True))
        shapes = {"posture": (2, len(POSTURES)), "motion": (2, len(MOTIONS)), "palm": (2, 2)}
        return found | {name: found[name].reshape(-1, *shape) for name, shape in shapes.items()}


class Pupil(nn.Module):
    """The net and its answers: what is trained."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.net, self.answers = EmbeddedVideoNet(), Answers()
        for module in self.net.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight)
        self.net.to(memory_format=self.net.layout)  # type: ignore[call-overload]


def train(samples: Clips, how: Descent, file: Path, tell: Tell) -> Pupil:
    """A trained net, in evaluation mode. ``file`` keeps the state: see :func:`trainers.embedded.nets.loop.descend`."""
    pupil = Pupil(how.seed).train()

    def losses(rng: np.random.Generator) -> dict[str, Tensor]:
        chosen = rng.choice(len(samples), how.batch, replace=len(samples) < how.batch)
        batch = drawn(samples, chosen.tolist(), rng)
        parts = loss_parts(pupil.answers(pupil.net.compute(batch.clips)), batch.truth)
        return {name: _WEIGHTS[name] * loss for name, loss in parts.items()}

    descend(pupil, losses, how, file, f"video {len(samples)}", tell)
    return pupil.eval()


def loss_parts(answers: dict[str, Tensor], truth: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mean loss of each question. Only windows that are played in order are asked about gestures."""
    forward = truth["played"] == 0
    losses = {"played": F.cross_entropy(answers["played"], truth["played"])}
    if not bool(forward.any()):
        return losses
    for name in ("posture", "motion", "palm"):
        losses[name] = F.cross_entropy(answers[name][forward].flatten(0, 1), truth[name][forward].flatten())
    for name in ("flexion", "travel"):
        losses[name] = F.mse_loss(answers[name][forward], truth[name][forward])
    return losses


def drawn(samples: Clips, chosen: list[int], rng: np.random.Generator) -> Batch:
    """A training batch of the chosen clips: cut, mirrored, shifted, lit and played at random."""
    windows, rows = [], []
    for index in chosen:
        first, flip = int(rng.integers(FRAMES - WINDOW + 1)), bool(rng.random() < 0.5)
        frames = _shift(
            np.asarray(samples.frames[index, first : first + WINDOW]), rng.integers(-_JITTER, _JITTER + 1, 2)
        )
        played = int(rng.choice(len(PLAYED), p=list(PLAYED.values())))
        windows.append(play(frames[:, :, ::-1] if flip else frames, played, rng))
        rows.append(_truth(samples, index, first, flip) | {"played": np.int64(played)})
    clips = as_input(np.stack(windows))
    clips *= torch.from_numpy(rng.uniform(0.85, 1.0, (len(chosen), 3, 1, 1, 1)).astype(np.float32))
    return Batch(clips, {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]})


def whole(samples: Clips, chosen: list[int]) -> Batch:
    """The first 16 frames of the chosen clips as they are."""
    rows = [_truth(samples, index, 0, False) | {"played": np.int64(0)} for index in chosen]
    clips = as_input(np.asarray(samples.frames[chosen, :WINDOW]))
    return Batch(clips, {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]})


def as_input(frames: UInt8) -> Tensor:
    """uint8 ``[N, T, H, W, 3]`` -> float32 ``[N, 3, T, H, W]`` in [−1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 4, 1, 2, 3).float().div_(127.5).sub_(1)


def play(frames: UInt8, how: int, rng: np.random.Generator) -> UInt8:
    """Frames ``[T, ...]`` in the order that :data:`PLAYED` names; ``rng`` draws the shuffle."""
    return (frames, frames[rng.permutation(len(frames))], frames[::-1])[how]


def _shift(frames: UInt8, by: Any) -> UInt8:
    """Moved by (rows, columns); the rim is repeated."""
    rows, columns = (np.clip(np.arange(SIZE) + int(step), 0, SIZE - 1) for step in by)
    return np.asarray(frames[:, rows][:, :, columns])


def _truth(samples: Clips, index: int, first: int, flip: bool) -> dict[str, Any]:
    """What is true of 16 frames from ``first`` on. A mirrored person's left hand is a right one."""
    slots = [1, 0] if flip else [0, 1]
    at = [first + moment for moment in _MOMENTS]
    wrist = samples.joints[index, first : first + WINDOW, slots, 0]  # [2, T, 2]
    steps = np.linalg.norm(np.diff(wrist, axis=1), axis=-1).mean(1)
    return {
        "posture": samples.posture[index, slots],
        "motion": samples.motion[index, slots],
        "palm": samples.palm[index, slots],
        "flexion": samples.flexion[index][at][:, slots].astype(np.float32).ravel(),
        "travel": np.log1p(steps).astype(np.float32),
    }


@torch.no_grad()
def accuracy(pupil: Pupil, samples: Clips, seed: int = 0) -> dict[str, float]:
    """Share of right answers on clips; for flexion and travel the share of variance explained.

    ``played`` is over every clip in each order: a third is chance.
    """
    right: dict[str, list[Tensor]] = {}
    rng = np.random.default_rng(seed)
    for chunk in np.array_split(np.arange(len(samples)), max(len(samples) // 16, 1)):
        batch = whole(samples, chunk.tolist())
        found = pupil.answers(pupil.net.compute(batch.clips))
        for name in ("posture", "motion", "palm"):
            right.setdefault(name, []).append((found[name].argmax(-1) == batch.truth[name]).flatten().float())
        for name in ("flexion", "travel"):
            right.setdefault(name, []).append(torch.stack([found[name], batch.truth[name]], -1).flatten(0, 1))
        for how in range(len(PLAYED)):
            clips = np.stack([play(samples.frames[index, :WINDOW], how, rng) for index in chunk])
            told = pupil.answers(pupil.net.compute(as_input(clips)))["played"].argmax(-1)
            right.setdefault("played", []).append((told == how).float())
    return {name: _score(torch.cat(parts)) for name, parts in right.items()}


def _score(values: Tensor) -> float:
    if values.ndim == 1:
        return float(values.mean())
    return float(1 - (values[:, 0] - values[:, 1]).square().mean() / values[:, 1].var(correction=0))


def scaled(pupil: Pupil) -> EmbeddedVideoNet:
    """The net, its features scaled to mean 0 and deviation 1 on what it was trained on; ``pupil`` is not changed."""
    norm, net = pupil.answers.norm, copy.deepcopy(pupil.net)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert net.features.bias is not None
    gain = (norm.running_var + norm.eps).rsqrt()
    with torch.no_grad():
        net.features.bias.copy_((net.features.bias - norm.running_mean) * gain)
        net.features.weight.mul_(gain[:, None, None, None, None])
    return net
