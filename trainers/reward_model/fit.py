"""Training of the small reward model on examples, resumable to the step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ipa_bench.nets.precision import half
from trainers.embedded.nets.loop import Descent, Tell, descend
from trainers.preferences.synthetic import through_a_generator
from trainers.reward_model.data import Example, batch_of
from trainers.reward_model.seen import Seen
from trainers.reward_model.small import SmallIdentity
from trainers.rewards.ties import preference_loss

#: share of the examples that are seen through what a generator does to pictures
WORSE = 0.5
#: Of ties, the share in which one side alone is, and in which it jumps in time: neither makes somebody else of anybody.
ONE_SIDED, JUMPS = 0.5, 0.3


def fit(
    examples: Sequence[Example],
    how: Descent,
    file: Path,
    tell: Tell,
    *,
    ties: bool = True,
    even: float = 0.0,
    run: str = "",
) -> SmallIdentity:
    """A trained network, in evaluation. ``file`` keeps the state: the same call goes on.

    ``ties``: without them tied examples count for nothing; ``even``: see :func:`preference_loss`. ``run`` names what
    else must be the same for that.
    """
    torch.manual_seed(how.seed)
    net = SmallIdentity().train()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    shapes = sorted({each.shape for each in examples})
    buckets = [[each for each in examples if each.shape == shape] for shape in shapes]
    fast = half("auto", torch.device("cpu"))
    sizes = np.array([len(bucket) for bucket in buckets]) / len(examples)

    def step(rng: np.random.Generator) -> dict[str, Tensor]:
        bucket = buckets[int(rng.choice(len(buckets), p=sizes))]
        chosen = [bucket[i] for i in rng.choice(len(bucket), how.batch, replace=len(bucket) < how.batch)]
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            return losses(net, [worse(each, rng) for each in chosen], ties, even)

    descend(net, step, how, file, f"reward {len(examples)} {ties} {even} {run}", tell)
    return net.eval().requires_grad_(False)


def losses(net: SmallIdentity, examples: Sequence[Example], ties: bool, even: float = 0.0) -> dict[str, Tensor]:
    """``preference``, and ``wrong``: whether each person in each frame looks like themselves, where that is known."""
    found, logits = net.both(batch_of([each.a for each in examples] + [each.b for each in examples]))
    first, second = found.chunk(2)
    shares = torch.tensor([each.shares for each in examples])
    parts = {"preference": preference_loss(first - second, shares, net.log_k, ties=ties, even=even)[0]}
    known = [number for number, each in enumerate(examples) if each.wrong is not None]
    if known:
        truth = np.stack([each.wrong for each in examples if each.wrong is not None]).astype(np.float32)
        rows = [logits[number + side * len(examples)] for side in (0, 1) for number in known]
        wanted = torch.from_numpy(np.concatenate([truth[:, 0], truth[:, 1]]))
        parts["wrong"] = F.binary_cross_entropy_with_logits(torch.stack(rows), wanted)
    return parts


def worse(example: Example, rng: np.random.Generator) -> Example:
    """Mirrored half the time, sides and people in any order, and some of them as a generator would have made them; of
    ties, one side alone too, or with a jump in time.
    """
    a, b, shares, wrong = example.a, example.b, example.shares, example.wrong
    if rng.random() < WORSE:
        a, b = through_a_generator(a, b, rng)
    if shares[1] == 1.0:
        if rng.random() < ONE_SIDED:
            b, _ = through_a_generator(b, b, rng)
        if rng.random() < JUMPS:
            b = _turned(b, int(rng.integers(1, len(b.frames))))
    if rng.random() < 0.5:
        a, b = _mirrored(a), _mirrored(b)
    order = rng.permutation(len(a.references))
    a, b = (Seen(each.frames, each.references[order], each.places[order]) for each in (a, b))
    wrong = None if wrong is None else wrong[:, order]
    if rng.random() < 0.5:
        a, b, shares = b, a, (shares[2], shares[1], shares[0])
        wrong = None if wrong is None else wrong[::-1]
    return Example(a, b, shares, example.fault, wrong)


def _turned(seen: Seen, by: int) -> Seen:
    """The clip from another frame on, its beginning behind its end."""
    return Seen(np.roll(seen.frames, -by, 0), seen.references, np.roll(seen.places, -by, 1))


def _mirrored(seen: Seen) -> Seen:
    width = seen.frames.shape[2] / seen.frames.shape[1]
    places = seen.places.copy()
    known = places[..., 2] > 0
    places[..., 0] = np.where(known, width - places[..., 0], 0)
    return Seen(seen.frames[:, :, ::-1], seen.references[:, :, ::-1], places)


@torch.no_grad()
def scores(net: SmallIdentity, clips: Sequence[Seen], size: int = 24) -> list[float]:
    """The net's score of each clip, in order."""
    found = [0.0] * len(clips)
    for shape in sorted({each.frames.shape + each.references.shape for each in clips}):
        numbers = [i for i, each in enumerate(clips) if each.frames.shape + each.references.shape == shape]
        for at in range(0, len(numbers), size):
            part = numbers[at : at + size]
            for number, value in zip(part, net(batch_of([clips[i] for i in part])).tolist(), strict=True):
                found[number] = float(value)
    return found
