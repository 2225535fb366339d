"""The file of an ablation, and which candidates each of its rows is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ipa_bench import select
from ipa_bench.config.fields import Array, Count, Name, Table, Text, Words
from ipa_bench.errors import UserError
from ipa_bench.select import Chooser, Selection
from ipa_bench.store import RunStore, UnitRecord
from trainers.align.config import AlignConfig
from trainers.align.control import any_of
from trainers.align.effects import SHOWN
from trainers.config import RolloutConfig
from trainers.methods import MethodName, find

#: stands for the reward itself among the metrics of the table
REWARD = "reward"


class Row(Table):
    """One line of the table: what differs from the common configuration."""

    name: Name
    method: MethodName
    #: training seeds
    seeds: Annotated[Array[int], Field(min_length=1)] = (0,)
    #: how many good clips, the best of every case first; all of ``top_k`` where not given
    clips: Count | None = None
    #: at most this many of each case
    top_k: Count = 1
    #: how many of each case's candidates are looked at; all where not given
    per_case: Count | None = None
    #: whether candidates are chosen by score, or as they come; of methods that take pairs or all candidates, whether
    #: scores are those of the clips, or dealt out anew within each case
    rule: Literal["best", "random"] = "best"
    #: learns from clips that it makes itself, in the place of the base's candidates
    online: bool = False
    #: table -> key -> value, as in a training configuration
    changes: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @property
    def makes(self) -> bool:
        """Whether its clips are made by the model that is trained."""
        return self.online or find(self.method).file is None


class AblationConfig(Table):
    """A suite with train and test cases, what the rows have in common, and the rows."""

    #: relative to the file
    suite: Text
    #: columns of the table; ``reward`` is what candidates are chosen by
    metrics: Annotated[Array[Words], Field(min_length=1)] = SHOWN
    #: also: of so many samples of the base, the one that the reward likes best
    best_of: Count | None = None
    common: AlignConfig = AlignConfig()
    #: of rows that make their own clips
    rollouts: RolloutConfig | None = None
    row: Annotated[tuple[Row, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits(self) -> AblationConfig:
        lacks = next((row.name for row in self.row if row.makes), None) if self.rollouts is None else None
        if lacks is not None:
            raise ValueError(f"row {lacks!r} makes its own clips: give [rollouts]")
        return self


def chosen(row: Row, store: RunStore, by: Chooser, records: Sequence[UnitRecord]) -> Selection:
    """The clips of a row that takes good ones, or any. Raises :class:`UserError` where there are too few."""
    if row.rule == "random":
        found = any_of(store, by, records, dict.fromkeys((record.case for record in records), row.top_k))
    else:
        found = select.choose(store, by, top_k=row.top_k, records=records)
    return first(found, row.clips)


def first(selection: Selection, count: int | None) -> Selection:
    """The first ``count`` clips: the best of every case, then the second best of every case, and so on.

    Raises :class:`UserError` where there are fewer.
    """
    if count is None:
        return selection
    place: dict[str, int] = {}
    order = []
    for row in selection.rows:
        place[row.case] = place.get(row.case, -1) + 1
        order.append((place[row.case], row))
    if len(order) < count:
        raise UserError(f"{count} clips are asked for, {len(order)} can be chosen", "raise top_k, or lower clips")
    kept = [row for _, row in sorted(order, key=lambda item: item[0])[:count]]
    return replace(selection, rows=tuple(sorted(kept, key=lambda row: row.case)))
