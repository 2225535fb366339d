"""Which part of alignment does what: rows that differ in one thing, trained on the same candidates, evaluated together.

    ipa-bench ablation benchmarks/embedded-ablation/ablation.toml --out runs/ablation

Candidates are made and scored once; each row chooses from them or makes its own, trains (several seeds for the main
rows) and is evaluated on the test split of the same suite, in one run. Everything resumes: give the same command again.

    OUT/round1/candidates/   a run: what rows choose from
    OUT/rows/ROW/            what a row was trained on; seed0/ and so on: its training and its LoRA
    OUT/best/                a run: the samples that "best of N" chooses from
    OUT/evaluation/          a run: the base, other models of the suite, and every trained row
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ipa_bench import harness
from ipa_bench.config.toml import read_toml
from ipa_bench.engine.processes import Progress
from ipa_bench.errors import UserError
from ipa_bench.files import write_atomic
from ipa_bench.metrics import find
from ipa_bench.models.specs import BaseSpec, ModelSpec, base_spec
from ipa_bench.store import RunStore, UnitRecord
from ipa_bench.suite import Suite, load_suite
from ipa_bench.types import Case, MetricInfo
from trainers import rewards
from trainers import run as training
from trainers.align import rows as config_of
from trainers.align import stages as aligning
from trainers.align.config import placed
from trainers.align.effects import Effect, Values, as_json, effect, plot, table
from trainers.align.rows import REWARD, AblationConfig, Row
from trainers.config import TrainConfig, base_of, changed
from trainers.rewards import RewardConfig

#: (model, metric) -> its values
Found = Mapping[tuple[str, str], Values]


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
        made.columns()  # so is a metric that does not exist
        return made

    def columns(self) -> list[MetricInfo]:
        """The columns of the table, each once. Raises :class:`UserError` for a metric that does not exist."""
        every = [self.reward.info if name == REWARD else find(name).info for name in self.config.metrics]
        return [*{info.id: info for info in every}.values()]

    @property
    def reward(self) -> rewards.Reward:
        """What candidates are chosen by."""
        return aligning.rewarded_by(self.config.common)

    def folder(self, row: Row) -> Path:
        """Where a row lies."""
        plain = "".join(c if c.isalnum() else "-" for c in row.name.lower())
        return self.work.out / "rows" / "-".join(part for part in plain.split("-") if part)

    def training(self, row: Row, seed: int) -> TrainConfig:
        """The training configuration of a row."""
        common, base = self.config.common, self.work.base
        if row.makes:
            term = {"reward": common.choose.metric}
            reward = common.reward or RewardConfig.model_validate({"scale": "raw", "term": (term,)})
            config = common.training(base_of(base), self.work.file, None, base.lora, self.config.rollouts, reward)
        else:
            selection = self.folder(row) / aligning.file_of(row.method)
            config = common.training(base_of(base), self.work.file, selection, base.lora)
        return changed(config, {**row.changes, "train": {**row.changes.get("train", {}), "seed": seed}})

    def strict(self, row: Row) -> bool:
        """Whether it takes pairs that no metric contradicts, so that all metrics have to be there."""
        return aligning.all_metrics(
            row.method, row.changes.get("data", {}).get("pairs", self.config.common.choose.pairs)
        )

    def choose(self, row: Row, store: RunStore) -> None:
        """Write a row's selection."""
        records = [r for r in store.records().values() if row.per_case is None or r.seed < row.per_case]
        folder = self.folder(row)
        folder.mkdir(parents=True, exist_ok=True)
        clips = partial(config_of.chosen, row)
        chance = row.rule == "random"
        aligning.choose(self.work, row.method, store, folder, records=records, clips=clips, chance=chance)


def run(
    ablation: Ablation, *, jobs: int = 0, progress: Progress = lambda *_: None, tell: training.Tell = lambda *_: None
) -> RunStore:
    """Candidates, rows, evaluation: whatever is not there yet."""
    work, store = ablation.work, None
    if not all(row.makes for row in ablation.config.row):
        strict = any(ablation.strict(row) for row in ablation.config.row)
        store = harness.run(
            work.candidates(1, strict=strict), work.round(1) / "candidates", jobs=jobs, sets=False, progress=progress
        )
    trained = []
    for row in ablation.config.row:
        if store is not None and not row.makes:
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
    if ablation.config.best_of is not None:
        harness.run(
            samples(ablation, ablation.config.best_of), work.out / "best", jobs=jobs, sets=False, progress=progress
        )
    return harness.run(evaluation(ablation, trained), work.out / "evaluation", jobs=jobs, sets=False, progress=progress)


def samples(ablation: Ablation, best_of: int) -> Suite:
    """The suite of the test split with the samples of the base that "best of N" chooses from."""
    work = ablation.work
    seeds = range(best_of * work.config.evaluate.seeds)
    return replace(work.evaluation(), models=(work.base,), seeds=tuple(seeds))


def evaluation(ablation: Ablation, trained: Sequence[Trained]) -> Suite:
    """The suite of the test split: the base, the suite's other base models, and every trained row."""
    work = ablation.work
    by = aligning.chosen_by(ablation.config.common)
    models: list[ModelSpec] = [
        work.base.model_copy(
            update={"name": each.name, "lora": each.lora, "trained_on": () if each.row.rule == "random" else by}
        )
        for each in trained
    ]
    return replace(work.evaluation(), models=(work.base, *_others(ablation), *models))


def _others(ablation: Ablation) -> list[BaseSpec]:
    """Models of the suite that rows are compared with beside the base: the undamaged pretrained one, say."""
    every = [spec for each in ablation.work.suite.models if (spec := base_spec(each)) is not None]
    return [spec for spec in every if spec.name != ablation.work.base.name]


def effects(ablation: Ablation, store: RunStore) -> dict[str, list[Effect]]:
    """Row -> its difference in each metric that is shown, from the base, then from each other base model."""
    entries = store.header.cases
    identity_of = {case.id: case.identity or case.id for case in entries}
    cases = {case.id: case for case in ablation.work.cases("test")}
    values = _values(_seen(ablation, store.records().values(), cases))
    lines = {row.name: [model_name(row, seed) for seed in row.seeds] for row in ablation.config.row}
    against = [spec.name for spec in (ablation.work.base, *_others(ablation))]
    lines |= {name: [name] for name in against[1:]}
    if ablation.config.best_of is not None:
        best = f"best of {ablation.config.best_of}"
        lines[best] = [best]
        values |= {(best, metric): found for metric, found in _best(ablation, cases).items()}

    def of(model: str, info: MetricInfo) -> Values:
        return values.get((model, info.id), {})

    shown = ablation.columns()
    found: dict[str, list[Effect]] = {}
    for line, models in lines.items():
        each = [
            effect(info, of(other, info), [of(model, info) for model in models], identity_of, other)
            for other in against
            if other != line
            for info in shown
        ]
        found[line] = [e for e in each if e is not None]
    return found


def _seen(ablation: Ablation, records: Iterable[UnitRecord], cases: Mapping[str, Case]) -> list[UnitRecord]:
    """Records with what the reward says of them, where the table or the choice of the best asks for it."""
    if REWARD not in ablation.config.metrics and ablation.config.best_of is None:
        return [*records]
    return rewards.rewarded(records, cases, ablation.reward)


def _best(ablation: Ablation, cases: Mapping[str, Case]) -> dict[str, dict[tuple[str, int], float]]:
    """Metric -> values of the sample of each case that the reward likes best, of every N."""
    count, info = ablation.config.best_of or 1, ablation.reward.info
    groups: dict[tuple[str, int], list[UnitRecord]] = {}
    store = RunStore.load(ablation.work.out / "best")
    for record in _seen(ablation, store.records().values(), cases):
        groups.setdefault((record.case, record.seed // count), []).append(record)
    found: dict[str, dict[tuple[str, int], float]] = {}
    for pair, records in groups.items():
        known = [(s.value, r) for r in records for s in r.scores if s.metric == info.id and s.value is not None]
        if not known:
            continue
        sign = 1.0 if info.better == "higher" else -1.0
        _, best = max(known, key=lambda each: (sign * each[0], -each[1].seed))
        for score in best.scores:
            if score.value is not None:
                found.setdefault(score.metric, {})[pair] = score.value
    return found


def _values(records: Sequence[UnitRecord]) -> dict[tuple[str, str], dict[tuple[str, int], float]]:
    values: dict[tuple[str, str], dict[tuple[str, int], float]] = {}
    for record in records:
        for score in record.scores:
            if score.value is not None:
                values.setdefault((record.model, score.metric), {})[record.case, record.seed] = score.value
    return values


def write(ablation: Ablation, store: RunStore, out: Path) -> Path:
    """Write ``ablation.md``, ``ablation.json`` and ``ablation.png`` into ``out``."""
    found = effects(ablation, store)
    names = [ablation.work.base.name, *(spec.name for spec in _others(ablation))]
    several = any(len(row.seeds) > 1 for row in ablation.config.row)
    over = "people and, where a row has several, training seeds" if several else "people"
    parts = [
        f"# {ablation.work.suite.name}: rows against {' and '.join(names)}\n\n"
        f"Differences are row − model, paired on cases and seeds; 95 % intervals over {over}, bold where they exclude "
        "0; then the range of the training seeds.\n"
    ]
    for name in names:
        rows = {line: [e for e in each if e.against == name] for line, each in found.items() if line != name}
        heading = "" if len(names) == 1 else f"## Against {name}\n\n"
        parts.append(f"{heading}{table(rows)}")
    write_atomic(out / "ablation.md", "\n".join(parts).encode())
    write_atomic(out / "ablation.json", json.dumps(as_json(found), indent=1, allow_nan=False).encode() + b"\n")
    drawn = {line: [e for e in each if e.against == names[0]] for line, each in found.items()}
    columns = [info.id.partition("@")[0] for info in ablation.columns()]
    plot(drawn, [name for name in _DRAWN if name in columns] or columns[:3], out / "ablation.png")
    return out / "ablation.md"


#: of the usual columns, those that the picture has room for
_DRAWN = ("hand.keypoint_error", "hand.pck10", "rest.psnr")
