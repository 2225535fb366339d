"""What a reward is: a number for each generated clip of a case, and what a model rewarded by it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ipa_bench.metrics.seal import check_open
from ipa_bench.select import Chooser
from ipa_bench.store import UnitRecord
from ipa_bench.types import Case, Finding, MetricInfo, Score

#: (case, its generated clips) -> for each of them its value, or the reason why it has none
Look = Callable[[Case, Sequence[Path]], Sequence[Finding[float]]]
#: the same, and beside it what each reward that it is made of saw: id -> value of each clip, as that one has it
Seen = tuple[Sequence[Finding[float]], Mapping[str, Sequence[float | None]]]
#: of a sum
Terms = Callable[[Case, Sequence[Path]], Seen]


@dataclass(frozen=True, eq=False)
class Reward:
    """Numbers for generated clips of a case, each beside the case's references and driving clip.

    Raises UserError where it is sealed, or made of something that is: see :mod:`ipa_bench.metrics.seal`.
    """

    #: id with version, unit, direction, and the networks that it looks at clips through
    info: MetricInfo
    look: Look
    #: ids of the metrics that it is made of
    parts: tuple[str, ...] = ()
    #: of a sum
    terms: Terms | None = None

    def __post_init__(self) -> None:
        check_open([self.info, *self.parts])

    def seen(self, case: Case, clips: Sequence[Path]) -> Seen:
        """What it says of clips, and what every reward that it is made of says, by id: sums may have no scale."""
        if self.terms is not None:
            return self.terms(case, clips)
        found = self.look(case, clips)
        return found, {self.info.id: [each.value for each in found]}

    @property
    def chooser(self) -> Chooser:
        """As what decides between samples."""
        return Chooser(self.info, self.parts)


def rewarded(records: Iterable[UnitRecord], cases: Mapping[str, Case], reward: Reward) -> list[UnitRecord]:
    """Records with the reward's score of each video: the one that they have, else what the reward sees in it now.

    ``cases``: case id -> case; a record of another case, or without a video, stays as it is.
    """
    every, name = list(records), reward.info.id
    new: dict[str, list[UnitRecord]] = {}
    for record in every:
        if record.case in cases and record.video and not any(score.metric == name for score in record.scores):
            new.setdefault(record.case, []).append(record)
    scored = {}
    for case, those in new.items():
        values = reward.look(cases[case], [Path(str(record.video)) for record in those])
        for record, found in zip(those, values, strict=True):
            score = Score(record.case, record.seed, record.model, name, found.value, found.reason)
            scored[record.unit] = replace(record, scores=(*record.scores, score))
    return [scored.get(record.unit, record) for record in every]
