"""What several votes on a comparison come to, and how far the voters can be trusted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ipa_bench.errors import UserError
from ipa_bench.types import Finding
from trainers.preferences.votes import Comparison, Vote

#: how a vote is counted: (A, tie, B)
PLACES = ("a", "tie", "b")


@dataclass(frozen=True)
class Agreement(Finding[float]):
    """Krippendorff's alpha of nominal votes (Krippendorff, Content Analysis, 2004), or why there is none: 1 where all
    agree, 0 what chance gives.
    """

    value: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Trust:
    """What is known about a set of votes."""

    votes: int
    annotators: int
    agreement: Agreement
    #: share of decided votes that went to the clip shown on the left; 0.5 without a bias
    left: Agreement


def shares(comparisons: Sequence[Comparison], votes: Sequence[Vote]) -> dict[str, tuple[float, float, float]]:
    """Comparison id -> share of its votes for (A, tie, B); comparisons without a vote are left out.

    Raises :class:`UserError` where no vote prefers a clip: ties alone say nothing about what is better.
    """
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    known = {each.id for each in comparisons}
    for vote in votes:
        if vote.comparison in known:
            counts[vote.comparison][PLACES.index(vote.choice)] += 1
    if counts and not any(a or b for a, _, b in counts.values()):
        raise UserError(f"all {len(counts)} comparisons are ties", "a reward is learned from clips that differ")
    return {name: (a / sum(c), t / sum(c), b / sum(c)) for name, c in counts.items() for a, t, b in [c]}


def trust(votes: Sequence[Vote]) -> Trust:
    """Agreement and bias of side of a set of votes."""
    sides = [vote.choice == vote.left for vote in votes if vote.choice != "tie" and vote.left is not None]
    left = Agreement(float(np.mean(sides))) if sides else Agreement(None, "no vote says which clip was on the left")
    return Trust(len(votes), len({vote.annotator for vote in votes}), agreement(votes), left)


def agreement(votes: Sequence[Vote]) -> Agreement:
    """Krippendorff's alpha over comparisons with two votes or more."""
    units: dict[str, list[str]] = defaultdict(list)
    for vote in votes:
        units[vote.comparison].append(vote.choice)
    paired = [choices for choices in units.values() if len(choices) > 1]
    if not paired:
        return Agreement(None, "no comparison has two votes")
    observed = [
        sum(one != other for one, other in combinations(choices, 2)) * 2 / (len(choices) - 1) for choices in paired
    ]
    every = [choice for choices in paired for choice in choices]
    total = len(every)
    same = sum(every.count(place) * (every.count(place) - 1) for place in PLACES)
    expected = 1 - same / (total * (total - 1))
    if expected == 0:
        return Agreement(None, "all votes are the same")
    return Agreement(1 - sum(observed) / total / expected)


def groups(comparisons: Sequence[Comparison]) -> list[list[int]]:
    """Numbers of comparisons in groups that share no person."""
    owner: dict[str, int] = {}
    parents = list(range(len(comparisons)))

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    for number, each in enumerate(comparisons):
        for person in each.identities:
            parents[root(number)] = root(owner.setdefault(person, number))
    found: dict[int, list[int]] = defaultdict(list)
    for number in range(len(comparisons)):
        found[root(number)].append(number)
    return list(found.values())


def split(comparisons: Sequence[Comparison], held_out: float, seed: int) -> tuple[list[int], list[int]]:
    """Numbers of comparisons to train on and to try on, that share no person; about ``held_out`` of them to try on.

    Raises :class:`UserError` where the people hang together, so that either part would be empty.
    """
    every = groups(comparisons)
    order = np.random.default_rng(seed).permutation(len(every))
    wanted = held_out * len(comparisons)
    tried: list[int] = []
    for place in order[: len(every) - 1]:
        if len(tried) < wanted:
            tried += every[place]
    rest = sorted(set(range(len(comparisons))) - set(tried))
    if not tried or not rest:
        raise UserError(
            f"{len(comparisons)} comparisons show {len(every)} group(s) of people who share nobody",
            "a reward is tried on people that it was not trained on: add comparisons of others",
        )
    return rest, sorted(tried)
