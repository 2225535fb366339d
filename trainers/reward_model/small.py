"""A small network of who is who: what each person looks like where the pose puts them, against their reference.

Pictures become tokens. A few questions are put to a reference's tokens (softmax attention: what is the hair, what the
shirt), and the same ones to each frame's tokens about where the person's head and trunk are driven to; where no pose
says that, about whatever looks like the reference. The answers are compared with the own reference's, with the others',
and with those of the frame before, frame by frame; the clip's score is read from the mean and the extremes of that.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: height of its pictures; the width keeps the shape, in multiples of :data:`GRID`
HEIGHT = 64
GRID = 8
FRAMES = 6
#: pixels to a token
_STRIDE = 4
_WIDTH = 64
#: questions about the head, and as many about the trunk
_QUESTIONS = 3
_SEEN = 24


def size_of(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of the pictures of a clip of this size."""
    return max(round(size[0] * HEIGHT / size[1] / GRID), 1) * GRID, HEIGHT


@dataclass(frozen=True, eq=False)
class Batch:
    """B clips of K people, F frames each; pictures float32 RGB in [-1, 1]."""

    #: ``[B, F, 3, H, W]``
    frames: Tensor
    #: ``[B, K, 3, H, W]``
    references: Tensor
    #: ``[B, K, F, 2, 3]``, as :class:`trainers.reward_model.seen.Seen` has it
    places: Tensor


class _Residual(nn.Module):
    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(into, out, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, out)
        self.second = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(8, out)
        self.skip = nn.Identity() if into == out else nn.Conv2d(into, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.norm(self.first(x)))
        return F.silu(self.skip(x) + self.norm2(self.second(y)))


class SmallIdentity(nn.Module):
    """Scores ``[B]`` of a :class:`Batch`; higher is better. 0.2 M weights, float32."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 48, 3, stride=2, padding=1),
            nn.SiLU(),
            _Residual(48, _WIDTH),
            _Residual(_WIDTH, _WIDTH),
        )
        count = 2 * _QUESTIONS
        self.questions = nn.Parameter(torch.randn(count, _WIDTH) * _WIDTH**-0.5)
        self.key = nn.Linear(_WIDTH, _WIDTH)
        self.value = nn.Linear(_WIDTH, _WIDTH)
        self.alike = nn.Linear(_WIDTH, _WIDTH)
        self.judge = nn.Sequential(
            nn.Linear(count * (_WIDTH + 4) + 2, 128), nn.SiLU(), nn.Linear(128, 64), nn.SiLU(), nn.Linear(64, _SEEN)
        )
        self.last = nn.Linear(3 * _SEEN, 1)
        #: of a person and frame: whether it is somebody else, which synthetic clips tell beside the preference
        self.wrong = nn.Linear(_SEEN, 1)
        #: the scale of preferences with ties, before softplus
        self.raw_k = nn.Parameter(torch.tensor(0.5))

    @property
    def log_k(self) -> Tensor:
        """ln k of :mod:`trainers.rewards.ties`."""
        return F.softplus(self.raw_k)

    def forward(self, batch: Batch) -> Tensor:
        """Scores ``[B]``."""
        return self.both(batch)[0]

    def both(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Scores ``[B]``, and logits ``[B, K, F]`` of a person not looking like themselves in a frame."""
        own, seen, found = self._answers(batch)
        said = self.judge(self._compared(own, seen, found))
        every = said.flatten(1, 2)
        pooled = torch.cat([every.mean(1), every.amax(1), every.amin(1)], -1)
        return self.last(pooled)[:, 0], self.wrong(said)[..., 0]

    def _answers(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Of the references ``[B, K, Q, C]``, of the frames ``[B, K, F, Q, C]``, and which parts the pose gives."""
        people, count = batch.references.shape[1], batch.frames.shape[1]
        tokens = self.trunk(torch.cat([batch.references, batch.frames], 1).flatten(0, 1))
        height, width = tokens.shape[-2:]
        rows = tokens.flatten(2).transpose(1, 2).reshape(-1, people + count, height * width, _WIDTH)
        keys, values = self.key(rows), self.value(rows)
        logits = torch.einsum("qc,bknc->bkqn", self.questions, keys[:, :people])
        own = logits.softmax(-1) @ values[:, :people]
        asked = torch.einsum("qc,bfnc->bfqn", self.questions, keys[:, people:])
        near = _nearness(batch.places, height, width).repeat_interleave(_QUESTIONS, 3)
        found = (batch.places[..., 2] > 0).repeat_interleave(_QUESTIONS, 3)
        lookalike = torch.einsum("bkqc,bfnc->bkfqn", self.alike(own), keys[:, people:]) * _WIDTH**-0.5
        wanted = asked[:, None] + torch.where(found[..., None], near, lookalike)
        seen = torch.einsum("bkfqn,bfnc->bkfqc", wanted.softmax(-1), values[:, people:])
        return own, seen, found

    def _compared(self, own: Tensor, seen: Tensor, found: Tensor) -> Tensor:
        """What the judge reads of each person and frame, ``[B, K, F, ...]``."""
        people = seen.shape[1]
        likeness = F.cosine_similarity(seen[:, :, None], own[:, None, :, None], dim=-1)  # [B, K, K', F, Q]
        mine = torch.eye(people, dtype=torch.bool, device=seen.device)[None, :, :, None, None]
        same = (likeness * mine).sum(2)
        other = likeness.masked_fill(mine, -1.0).amax(2)
        before = F.cosine_similarity(seen, torch.cat([seen[:, :, :1], seen[:, :, :-1]], 2), dim=-1)
        first = F.cosine_similarity(seen, seen[:, :, :1], dim=-1)
        away = (seen - own[:, :, None]).abs()
        told = torch.stack([same, other, before, first], -1)
        known = found.float().reshape(*found.shape[:-1], 2, -1).mean(-1)
        return torch.cat([torch.cat([away, told], -1).flatten(3), known], -1)


def _nearness(places: Tensor, height: int, width: int) -> Tensor:
    """Logits of how near each token is to a part, ``[B, K, F, 2, h w]``; 0 where the pose does not say."""
    rows = (torch.arange(height, device=places.device) + 0.5) / height
    columns = (torch.arange(width, device=places.device) + 0.5) / height
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    grid = torch.stack([x, y], -1).flatten(0, 1)
    distance = ((places[..., None, :2] - grid) ** 2).sum(-1)
    radius = places[..., 2:3]
    return torch.where(radius > 0, -distance / (2 * radius**2).clamp(min=1e-6), 0.0)
