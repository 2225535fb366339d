"""Which part of alignment does what: rows that differ in one thing, trained on the same candidates, evaluated together.

    ipa-bench ablation benchmarks/embedded-ablation/ablation.toml --out runs/ablation

Candidates are made and scored once; each row chooses from them, trains (several seeds for the main rows) and is
evaluated on the test split of the same suite, in one run. Everything resumes: give the same command again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from ipa_bench import harness, select
from ipa_bench.config.fields import Array, Count, Name, Table, Text
from ipa_bench.config.toml import read_toml
from ipa_bench.engine.processes import Progress
from ipa_bench.errors import UserError
from ipa_bench.files import write_atomic
from ipa_bench.metrics import find
from ipa_bench.models.specs import BaseSpec
from ipa_bench.select import Chooser, Selection
from ipa_bench.store import RunStore, UnitRecord
from ipa_bench.suite import Suite, load_suite
from trainers import run as training
from trainers.align import stages as aligning
from trainers.align.config import AlignConfig, placed
from trainers.align.effects import SHOWN, Effect, as_json, effect, plot, table
from trainers.config import TrainConfig, base_of, changed
from trainers.methods import MethodName


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
    #: whether candidates are chosen by score, or as they come
    rule: Literal["best", "random"] = "best"
    #: table -> key -> value, as in a training configuration
    changes: dict[str, dict[str, Any]] = Field(default_factory=dict)


class AblationConfig(Table):
    """A suite with train and test cases, what the rows have in common, and the rows."""

    #: relative to the file
    suite: Text
    common: AlignConfig = AlignConfig()
    row: Annotated[tuple[Row, ...], Field(min_length=1)]


def model_name(row: Row, seed: int) -> str:
    """What a row trained with a seed is called in the evaluation."""
    return f"{row.name}, seed {seed}"


@dataclass(frozen=True)
class Trained:
    """A row trained with one seed."""

    row: Row
    seed: int
    lora: Path

    @property
    def name(self) -> str:
        """The model's name in the evaluation."""
        return model_name(self.row, self.seed)


@dataclass(frozen=True)
class Ablation:
    """The rows of a file, and the folder that everything is made in."""

    config: AblationConfig
    work: aligning.Alignment

    @classmethod
    def load(cls, file: Path, out: Path) -> Ablation:
        """Read a file. Raises :class:`UserError` for what is wrong in it or in its suite."""
        config = read_toml(file, AblationConfig).value
        config = config.model_copy(update={"common": placed(config.common, file.parent)})
        names = [row.name for row in config.row]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"{file}: there are two rows named {twice!r}", "name them apart")
        suite = file.parent / config.suite
        made = cls(config, aligning.alignment(load_suite(suite), suite, config.common, out))
        folders: dict[Path, str] = {}
        for row in config.row:
            before = folders.setdefault(made.folder(row), row.name)
            if before != row.name:
                raise UserError(f"{file}: rows {before!r} and {row.name!r} share a folder", "name them apart")
            made.training(row, 0)  # a wrong key is said before the work
        return made

    def folder(self, row: Row) -> Path:
        """Where a row lies."""
        plain = "".join(c if c.isalnum() else "-" for c in row.name.lower())
        return self.work.out / "rows" / "-".join(part for part in plain.split("-") if part)

    def training(self, row: Row, seed: int) -> TrainConfig:
        """The training configuration of a row."""
        chosen = self.folder(row) / aligning.file_of(row.method)
        base = self.work.base
        config = self.config.common.training(base_of(base), self.work.file, chosen, base.lora)
        return changed(config, {**row.changes, "train": {**row.changes.get("train", {}), "seed": seed}})

    def choose(self, row: Row, store: RunStore) -> None:
        """Write a row's selection."""
        records = [r for r in store.records().values() if row.per_case is None or r.seed < row.per_case]
        folder = self.folder(row)
        folder.mkdir(parents=True, exist_ok=True)
        aligning.choose(self.work, row.method, store, folder, records=records, clips=partial(_clips, row))


def _clips(row: Row, store: RunStore, by: Chooser, records: Sequence[UnitRecord]) -> Selection:
    """The clips of a row that takes good ones, or any."""
    drawn = [*as_they_come(records, row.top_k)] if row.rule == "random" else [*records]
    chosen = select.choose(store, by, top_k=row.top_k, records=drawn)
    if row.rule == "random":
        place = {record.unit: number for number, record in enumerate(drawn)}
        rows = sorted(chosen.rows, key=lambda each: place[each.case, each.seed, each.model])
        chosen = replace(chosen, by=(), rows=tuple(rows))
    return first(chosen, row.clips)


def as_they_come(records: Sequence[UnitRecord], count: int) -> Iterator[UnitRecord]:
    """``count`` records of each case, drawn without looking at their scores."""
    by_case: dict[str, list[UnitRecord]] = {}
    for record in records:
        by_case.setdefault(record.case, []).append(record)
    rng = np.random.default_rng(0)
    for case in sorted(by_case):
        for index in rng.permutation(len(by_case[case]))[:count]:
            yield by_case[case][index]


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


def run(
    ablation: Ablation, *, jobs: int = 0, progress: Progress = lambda *_: None, tell: training.Tell = lambda *_: None
) -> RunStore:
    """Candidates, rows, evaluation: whatever is not there yet."""
    work = ablation.work
    store = harness.run(work.candidates(1), work.round(1) / "candidates", jobs=jobs, sets=False, progress=progress)
    trained = []
    for row in ablation.config.row:
        ablation.choose(row, store)
        for seed in row.seeds:
            job = training.prepare(ablation.training(row, seed), row.method, work.suite)

            def of_row(
                stage: str,
                done: int,
                total: int,
                metrics: Mapping[str, float],
                alarm: str = "",
                /,
                name: str = model_name(row, seed),
            ) -> None:
                tell(f"{name}: {stage}", done, total, metrics, alarm and f"{name}: {alarm}")

            folder = ablation.folder(row) / f"seed{seed}"
            if training.train(job, folder, tell=of_row) is None:
                raise RuntimeError("training ended early without being asked to")
            trained.append(Trained(row, seed, folder / training.LORA_FOLDER))
    return harness.run(evaluation(ablation, trained), work.out / "evaluation", jobs=jobs, sets=False, progress=progress)


def evaluation(ablation: Ablation, trained: Sequence[Trained]) -> Suite:
    """The suite of the test split with the base and every trained row as models."""
    work = ablation.work
    by = aligning.chosen_by(ablation.config.common)
    models: list[BaseSpec] = [
        work.base.model_copy(
            update={"name": each.name, "lora": each.lora, "trained_on": by if each.row.rule == "best" else ()}
        )
        for each in trained
    ]
    return replace(work.evaluation(), models=(work.base, *models))


def effects(ablation: Ablation, store: RunStore) -> dict[str, list[Effect]]:
    """Row -> its difference from the base in each metric that is shown."""
    identity_of = {case.id: case.identity or case.id for case in store.header.cases}
    values: dict[tuple[str, str], dict[tuple[str, int], float]] = {}
    for score in store.scores():
        if score.value is not None:
            values.setdefault((score.model, score.metric), {})[score.case, score.seed] = score.value
    found = {}
    for row in ablation.config.row:
        models = [model_name(row, seed) for seed in row.seeds]
        each = [
            effect(
                info,
                values.get((ablation.work.base.name, info.id), {}),
                [values.get((model, info.id), {}) for model in models],
                identity_of,
            )
            for info in (find(name).info for name in SHOWN)
        ]
        found[row.name] = [e for e in each if e is not None]
    return found


def write(ablation: Ablation, store: RunStore, out: Path) -> Path:
    """Write ``ablation.md``, ``ablation.json`` and ``ablation.png`` into ``out``."""
    found = effects(ablation, store)
    text = (
        f"# {ablation.work.suite.name}: rows against the base\n\n"
        "Differences are row − base, paired on cases and seeds; 95 % Student-t intervals over identities, bold where "
        "they exclude 0; then the range of the training seeds.\n\n"
    )
    write_atomic(out / "ablation.md", (text + table(found)).encode())
    write_atomic(out / "ablation.json", json.dumps(as_json(found), indent=1, allow_nan=False).encode() + b"\n")
    plot(found, ("hand.keypoint_error", "hand.pck10", "rest.psnr"), out / "ablation.png")
    return out / "ablation.md"
