"""Examples that a reward model is trained on: pairs of clips with the shares of their votes, read or made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ipa_bench.embedded.group.faults import Fault
from ipa_bench.embedded.group.setting import Key
from ipa_bench.engine import processes as pool
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.types import Bool, Split
from trainers.preferences import synthetic
from trainers.preferences.votes import Comparison
from trainers.reward_model.seen import Seen, look, wanted
from trainers.reward_model.small import Batch

#: outcome of a synthetic pair as shares of (A, tie, B)
SHARES = {"a": (1.0, 0.0, 0.0), "tie": (0.0, 1.0, 0.0)}
_ARRAYS = ("frames", "references", "places")


@dataclass(frozen=True, eq=False)
class Example:
    """Two clips of the same people, and how the votes fell."""

    a: Seen
    b: Seen
    #: of (A, tie, B), sum 1
    shares: tuple[float, float, float]
    #: kind of what is wrong with the worse one, where that is known
    fault: str = ""
    #: whether a person does not look like themselves, bool ``[2, K, F]`` of a and b, where that is known
    wrong: Bool | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Examples of one shape go into one batch."""
        return (*self.a.references.shape, len(self.a.frames))


def synthetic_examples(
    file: Path,
    split: Split,
    groups: int,
    kinds: Sequence[Fault],
    frames: int,
    height: int,
    jobs: int = 1,
    progress: pool.Progress | None = None,
) -> list[Example]:
    """Pairs of ``groups`` groups of two, one for each of ``kinds``; kept in ``file`` (``.npz``)."""
    about = f"2 {split} {groups} {[kind.name for kind in kinds]} {frames} {height}"
    if not file.exists() or str(np.load(file)["about"]) != about:
        keys = [Key(2, split, synthetic.FIRST + number) for number in range(groups)]
        made: list[synthetic.Pair] = []
        work = partial(synthetic.pairs, kinds=tuple(kinds), frames=frames, height=height)
        for number, found in enumerate(pool.imap(work, keys, min(jobs, groups)), 1):
            made += found
            if progress is not None:
                progress(f"render {split}", number, groups)
        file.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {
            f"{side}.{name}": np.stack([getattr(getattr(pair, side), name) for pair in made])
            for side in ("a", "b")
            for name in _ARRAYS
        }
        arrays |= {name: np.array([getattr(pair, name) for pair in made]) for name in ("fault", "outcome", "wrong")}
        np.savez(file, about=np.array(about), **arrays)
    with np.load(file) as held:
        a, b = ([held[f"{side}.{name}"] for name in _ARRAYS] for side in ("a", "b"))
        rows = list(zip(held["outcome"], held["fault"], held["wrong"], strict=True))
    return [
        Example(Seen(*(each[i] for each in a)), Seen(*(each[i] for each in b)), SHARES[str(outcome)], str(fault), wrong)
        for i, (outcome, fault, wrong) in enumerate(rows)
    ]


def of_votes(
    folder: Path,
    comparisons: Sequence[Comparison],
    shares: Mapping[str, tuple[float, float, float]],
    frames: int,
    shrunk: Callable[[tuple[int, int]], tuple[int, int]],
    progress: pool.Progress | None = None,
) -> list[Example]:
    """The comparisons that somebody voted on, read from their files, in order.

    Raises :class:`UserError` for a clip that cannot be decoded, naming it.
    """
    found = []
    voted = [each for each in comparisons if each.id in shares]
    for number, each in enumerate(voted, 1):
        references, poses = (
            {name: folder / path for name, path in files.items()} for files in (each.references, each.poses)
        )
        try:
            people = wanted(references, poses)
            a, b = (look(folder / clip, people, frames=frames, shrunk=shrunk) for clip in (each.a, each.b))
        except Unscorable as error:
            raise UserError(f"comparison {each.id}: {error.reason}", "leave it out of the file, or mend it") from None
        found.append(Example(a, b, shares[each.id], each.fault or ""))
        if progress is not None:
            progress("read", number, len(voted))
    return found


def flipped(examples: Sequence[Example], share: float, seed: int) -> list[Example]:
    """The examples with that share of them the wrong way round: what careless voters do."""
    rng = np.random.default_rng([seed, 41])
    turned = rng.permutation(len(examples)) < round(share * len(examples))
    return [
        replace(each, shares=each.shares[::-1]) if turn else each for each, turn in zip(examples, turned, strict=True)
    ]


def batch_of(clips: Sequence[Seen]) -> Batch:
    """Clips of one shape as a network takes them."""

    def pictures(name: str) -> Tensor:
        stacked = np.stack([getattr(clip, name) for clip in clips])
        return torch.from_numpy(stacked).permute(0, 1, 4, 2, 3).float().div_(127.5).sub_(1)

    places = torch.from_numpy(np.stack([clip.places for clip in clips]))
    return Batch(pictures("frames"), pictures("references"), places)
