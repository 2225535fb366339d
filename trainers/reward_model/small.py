"""A small network of who is who: each person where the pose puts them, token by token against the references.

Pictures become tokens of four pixels: their colour, and some learned numbers of what is about them. About each person's
head and trunk, where the pose puts them in a frame, some tokens are taken; where no pose says that, tokens all over the
frame. Each is matched with the nearest token of the own reference, of the others', of the same place in the frame
before and in the first frame: so nobody has to be found in a reference, and what all references share, the wall, tells
nobody apart. From these distances a few layers read each person in each frame, and the clip's score is read from the
mean and the extremes of that.
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
_WIDTH = 32
#: of a token that is matched, and how many are taken about a head or a trunk
_LENGTH, _TAKEN = 12, 20
#: how much the learned part of a token counts at first: colours lead
_SMALL = 0.1
#: distances that are told of a part: see :meth:`SmallIdentity._compared`
_TOLD = 10
_SEEN = 24
#: further than any token
_FAR = 100.0


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
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(8, width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.norm(self.first(x)))
        return F.silu(x + self.norm2(self.second(y)))


class SmallIdentity(nn.Module):
    """Scores ``[B]`` of a :class:`Batch`; higher is better. 34,000 weights, float32."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(16, _WIDTH, 3, stride=2, padding=1),
            nn.SiLU(),
            _Residual(_WIDTH),
        )
        self.token = nn.Linear(_WIDTH, _LENGTH)
        with torch.no_grad():
            self.token.weight *= _SMALL
        self.judge = nn.Sequential(
            nn.Linear(2 * _TOLD, 96), nn.SiLU(), nn.Linear(96, 64), nn.SiLU(), nn.Linear(64, _SEEN), nn.SiLU()
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
        said = self.judge(self._compared(batch))
        every = said.flatten(1, 2)
        pooled = torch.cat([every.mean(1), every.amax(1), every.amin(1)], -1)
        return self.last(pooled)[:, 0], self.wrong(said)[..., 0]

    def _compared(self, batch: Batch) -> Tensor:
        """What the judge reads of each person and frame, ``[B, K, F, 2 * 10]``.

        Of head and trunk: distance from the own reference, its highest quarter, from the best other reference, the own
        less that and its highest quarter, from the frame before, from the first frame, the highest quarter of that,
        whether the pose says where it is, and how far the next person is: who is behind somebody looks like them.
        """
        people, count = batch.references.shape[1], batch.frames.shape[1]
        pictures = torch.cat([batch.references, batch.frames], 1).flatten(0, 1)
        learned = self.token(self.trunk(pictures).permute(0, 2, 3, 1)).float()
        maps = torch.cat([F.avg_pool2d(pictures, _STRIDE).permute(0, 2, 3, 1), learned], -1)
        height, width = maps.shape[1:3]
        tokens = maps.reshape(-1, people + count, height * width, maps.shape[-1])
        references, frames = tokens[:, :people], tokens[:, people:]
        taken = _taken(batch.places, height, width)  # [B, K, F, 2, n]
        seen = _gathered(frames, taken)  # [B, K, F, 2, n, c]
        away = _away(seen.flatten(1, 4), references).reshape(len(seen), people, *seen.shape[1:5])  # [B, K', K, F, 2, n]
        mine = torch.eye(people, dtype=torch.bool, device=seen.device)[None, :, :, None, None, None]
        own = (away * mine).sum(1)
        other = away.masked_fill(mine, _FAR).amin(1) if people > 1 else torch.zeros_like(own)
        before = _matched(seen, torch.cat([seen[:, :, :1], seen[:, :, :-1]], 2))
        first = _matched(seen, seen[:, :, :1].expand_as(seen))
        known = (batch.places[..., 2] > 0).to(own.dtype)
        told = [
            own.mean(-1), _high(own), other.mean(-1), (own - other).mean(-1), _high(own - other),
            before.mean(-1), first.mean(-1), _high(first), known, _room(batch.places),
        ]  # fmt: skip
        return torch.stack(told, -1).flatten(3)


def _away(tokens: Tensor, references: Tensor) -> Tensor:
    """Distances of ``tokens`` ``[B, n, c]`` from the nearest token of each of ``references`` ``[B, K, m, c]``."""
    inner = torch.einsum("bnc,bkmc->bknm", tokens, references)
    whole = tokens.square().sum(-1)[:, None, :, None] + references.square().sum(-1)[:, :, None] - 2 * inner
    return torch.sqrt(whole.amin(-1).clamp(min=0) + 1e-4)


def _matched(one: Tensor, other: Tensor) -> Tensor:
    """Of each token of ``one`` ``[..., n, c]`` the distance from the nearest of ``other``, ``[..., n]``."""
    flat, beside = one.flatten(0, -3), other.flatten(0, -3)
    return _away(flat, beside[:, None])[:, 0].reshape(one.shape[:-1])


def _high(values: Tensor) -> Tensor:
    """The mean of the highest quarter of ``values`` ``[..., n]``."""
    return values.topk(_TAKEN // 4, dim=-1).values.mean(-1)


def _gathered(frames: Tensor, taken: Tensor) -> Tensor:
    """Tokens ``[B, K, F, 2, n, c]`` with the numbers ``taken`` ``[B, K, F, 2, n]`` of frames ``[B, F, N, c]``."""
    batch, people, count, parts, size = taken.shape
    index = taken.transpose(1, 2).reshape(batch, count, -1)[..., None].expand(-1, -1, -1, frames.shape[-1])
    rows = frames.gather(2, index).reshape(batch, count, people, parts, size, -1)
    return rows.transpose(1, 2)


def _taken(places: Tensor, height: int, width: int) -> Tensor:
    """Numbers of the tokens nearest to each part, ``[B, K, F, 2, n]``; spread over the frame where it is not known."""
    near = _nearness(places, height, width).topk(_TAKEN, dim=-1).indices
    spread = torch.linspace(0, height * width - 1, _TAKEN, device=places.device).long()
    return torch.where(places[..., 2:3] > 0, near, spread)


def _room(places: Tensor) -> Tensor:
    """How many radii the nearest part of anybody else is away from each part, at most 3, ``[B, K, F, 2]``."""
    people = places.shape[1]
    middles = places[..., :2].transpose(1, 2)  # [B, F, K, 2, 2]
    between = (middles[:, :, :, None, :, None] - middles[:, :, None, :, None]).square().sum(-1)  # [B, F, K, K', 2, 2']
    known = (places[..., 2] > 0).transpose(1, 2)
    apart = torch.eye(people, dtype=torch.bool, device=places.device)[None, None, :, :, None, None]
    between = between.masked_fill(apart | ~known[:, :, None, :, None], _FAR)
    nearest = between.amin((3, 5)).sqrt().transpose(1, 2)
    return (nearest / places[..., 2].clamp(min=1e-3)).clamp(max=3.0)


def _nearness(places: Tensor, height: int, width: int) -> Tensor:
    """Logits of how near each token is to a part, ``[B, K, F, 2, h w]``; 0 where the pose does not say."""
    rows = (torch.arange(height, device=places.device) + 0.5) / height
    columns = (torch.arange(width, device=places.device) + 0.5) / height
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    grid = torch.stack([x, y], -1).flatten(0, 1)
    distance = ((places[..., None, :2] - grid) ** 2).sum(-1)
    radius = places[..., 2:3]
    return torch.where(radius > 0, -distance / (2 * radius**2).clamp(min=1e-6), 0.0)
