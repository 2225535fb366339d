"""Several rewards as one: a weighted sum, each raw or in standard deviations of a case; some only as penalties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from ipa_bench.cache import digest
from ipa_bench.metrics import Measured
from ipa_bench.metrics.base import unknown
from ipa_bench.types import Case, MetricInfo
from trainers.methods.advantage import standardised
from trainers.rewards.base import Reward
from trainers.rewards.config import Scale

#: from the least to the most that a metric asks of a case
_NEEDS: tuple[Literal["free", "driving", "ground_truth"], ...] = ("free", "driving", "ground_truth")


@dataclass(frozen=True)
class Term:
    """A reward, its weight above 0, and how good is good enough, in its own unit."""

    reward: Reward
    weight: float = 1.0
    enough: float | None = None

    def counted(self, value: float) -> float:
        """What counts of a value: higher is better, and no more than enough."""
        sign = 1.0 if self.reward.info.better == "higher" else -1.0
        return sign * value if self.enough is None else min(sign * value, sign * self.enough)

    def __str__(self) -> str:
        enough = "" if self.enough is None else f" up to {self.enough:g}"
        return f"{self.weight:g} x {self.reward.info.id}{enough}"


def composed(terms: Sequence[Term], scale: Scale = "group") -> Reward:
    """The weighted sum of terms; a single one that is changed in nothing is itself.

    ``scale`` ``group``: a term is standardised over the clips of the case that are looked at together (0 where they are
    equal in it), ``raw``: it is what it is. A clip that one term has no value of has none. The sum is made of all that
    its terms are made of: a model that is rewarded by it is marked on every metric of each family.
    Raises :class:`ValueError` without terms, and :class:`~ipa_bench.errors.UserError` where a term is sealed.
    """
    if not terms:
        raise ValueError("a sum of rewards has at least one term")
    first = terms[0]
    if len(terms) == 1 and first.weight == 1 and first.enough is None:
        return first.reward
    infos = [term.reward.info for term in terms]
    parts = tuple(dict.fromkeys(name for t in terms for name in (t.reward.info.id, *t.reward.parts)))
    how = "each in standard deviations of the case" if scale == "group" else "as they are"
    said = " + ".join(map(str, terms))
    info = MetricInfo(
        f"reward.sum-{digest(said, scale)[:8]}@1",
        "standard deviations" if scale == "group" else "",
        "higher",
        f"ipa-bench: {said}, {how}",
        "what all of its terms are blind to",
        max((info.needs for info in infos), key=_NEEDS.index),
        family=tuple(dict.fromkeys(family for info in infos for family in info.family)),
    )
    return Reward(info, partial(_look, tuple(terms), scale), parts, partial(_seen, tuple(terms), scale))


def _look(terms: Sequence[Term], scale: Scale, case: Case, clips: Sequence[Path]) -> list[Measured]:
    return _seen(terms, scale, case, clips)[0]


def _seen(
    terms: Sequence[Term], scale: Scale, case: Case, clips: Sequence[Path]
) -> tuple[list[Measured], dict[str, list[float | None]]]:
    found = [list(term.reward.look(case, clips)) for term in terms]
    reasons: list[str | None] = [None] * len(clips)
    for term, column in zip(terms, found, strict=True):
        for place, finding in enumerate(column):
            if finding.value is None and reasons[place] is None:
                reasons[place] = f"{term.reward.info.id}: {finding.reason}"
    known = [place for place, reason in enumerate(reasons) if reason is None]
    sums = dict.fromkeys(known, 0.0)
    for term, column in zip(terms, found, strict=True):
        values = [term.counted(value) for place in known if (value := column[place].value) is not None]
        scaled = standardised([case.id] * len(values), values) if scale == "group" else values
        for place, each in zip(known, scaled, strict=True):
            sums[place] += term.weight * (each or 0.0)
    whole = [Measured(sums[place]) if reason is None else unknown(reason) for place, reason in enumerate(reasons)]
    return whole, {t.reward.info.id: [each.value for each in column] for t, column in zip(terms, found, strict=True)}
