"""The loop without labels: generate candidates, score them, keep the good ones, post-train, evaluate on other people.

Every stage is what a verb does alone (``generate``, ``run``, ``select``, ``train``, ``run``), leaves its result in one
folder, and does nothing where that is there already: stopped anywhere, the same call goes on.

    OUT/round1/candidates/     a run: videos, latents, scores
    OUT/round1/selection.json  (or pairs.json)
    OUT/round1/train/          state, logs, lora/
    OUT/round1/control/        with ``control``: selection.json and train/, of clips that nobody chose
    OUT/evaluation/            a run: base, aligned models and the control on the test split
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ipa_bench import harness, select
from ipa_bench.cost import Cost
from ipa_bench.cost import ledger as cost_ledger
from ipa_bench.engine.processes import Progress
from ipa_bench.errors import UserError
from ipa_bench.harness import generate
from ipa_bench.harness.header import metrics_of
from ipa_bench.metrics import METRICS
from ipa_bench.models import kinds
from ipa_bench.models.specs import BaseSpec, PostTrainingTable, base_spec
from ipa_bench.select import Chooser, Selection
from ipa_bench.store import HEADER_NAME, RunStore, UnitRecord
from ipa_bench.suite import Suite
from ipa_bench.types import Case, Split
from trainers import methods, rewards
from trainers import run as training
from trainers.align.config import AlignConfig, ChooseConfig
from trainers.align.control import any_of, as_many, candidates_of, dealt, pairs_of
from trainers.config import base_of
from trainers.methods import MethodName
from trainers.rewards import Reward

#: (run, what decides, records) -> good clips
Clips = Callable[[RunStore, Chooser, Sequence[UnitRecord]], Selection]
#: a metric that looks at pixels alone
CHEAPEST = "frame.psnr"
STAGES = ("generate", "score", "select", "train", "evaluate")
#: name of the model that is trained alike on what nobody chose, by what the method takes
CONTROLS: Mapping[methods.Takes, str] = {
    "clips": "control, any clips",
    "candidates": "control, scores dealt anew",
    "pairs": "control, scores dealt anew",
}


@dataclass(frozen=True)
class Alignment:
    """A base model, the cases of each split, and how it is aligned."""

    suite: Suite
    #: the file that ``suite`` was read from
    file: Path
    config: AlignConfig
    base: BaseSpec
    out: Path

    def cases(self, split: Split) -> tuple[Case, ...]:
        """Cases of one split."""
        return tuple(case for case in self.suite.cases if case.split == split)

    def round(self, number: int) -> Path:
        """The folder of a round, from 1."""
        return self.out / f"round{number}"

    @property
    def control(self) -> Path:
        """The folder of what is trained on clips that nobody chose."""
        return self.round(1) / "control"

    def lora(self, number: int) -> Path | None:
        """The LoRA that a round makes; of round 0, the base's own or None."""
        return self.base.lora if number == 0 else self.round(number) / "train" / training.LORA_FOLDER

    def candidates(self, number: int, *, strict: bool | None = None) -> Suite:
        """What a round generates and scores: the train cases by the model that the round begins with.

        They are scored by what chooses among them, and by everything where a pair is one that no metric contradicts
        (``strict``; the configuration says where it is not given). A folder that has begun otherwise stays as it is.
        """
        options = {"decode_dtype": self.config.candidates.decode_dtype, "keep_latents": True}
        model = self.base.model_copy(update={"name": "candidates", "lora": self.lora(number - 1), **options})
        seeds = tuple(range(self.config.candidates.per_case))
        name = f"{self.suite.name}, candidates of round {number}"
        if strict is None:
            strict = all_metrics(self.config.method, self.config.choose.pairs)
        asked = () if strict or self._begun_with_all(number) else _choosing(self.config)
        return replace(
            _asking(self.suite, asked) if asked else replace(self.suite, metrics=()),
            name=name,
            cases=self.cases("train"),
            models=(model,),
            seeds=seeds,
            whole=(),
        )

    def _begun_with_all(self, number: int) -> bool:
        """Whether a round's candidates are scored by more than what chooses, as earlier versions did."""
        folder = self.round(number) / "candidates"
        if not (folder / HEADER_NAME).exists():
            return False
        return len(RunStore.load(folder).header.metrics) > len(metrics_of(_asking(self.suite, _choosing(self.config))))

    def evaluation(self) -> Suite:
        """What is compared in the end: the suite's other models, the base, and the model of each round."""
        others = [spec for spec in self.suite.models if spec.name != self.base.name]
        by = chosen_by(self.config)
        rounds = [
            self._trained("aligned" if self.config.rounds == 1 else f"aligned, round {number}", self.lora(number), by)
            for number in range(1, self.config.rounds + 1)
        ]
        if self.config.control:
            name = CONTROLS[methods.find(self.config.method).takes]
            rounds.append(self._trained(name, self.control / "train" / training.LORA_FOLDER, ()))
        seeds = tuple(range(self.config.evaluate.seeds))
        return replace(
            self.suite, cases=self.cases("test"), models=(*others, self.base, *rounds), seeds=seeds, whole=()
        )

    def _trained(self, name: str, lora: Path | None, by: tuple[str, ...]) -> BaseSpec:
        post = PostTrainingTable(base=self.base.name)
        return self.base.model_copy(update={"name": name, "lora": lora, "trained_on": by, "post_training": post})


def all_metrics(method: MethodName, pairs: str) -> bool:
    """Whether a method takes pairs that no metric contradicts, so that all of them have to be there."""
    return methods.find(method).takes == "pairs" and pairs == "strict"


def _choosing(config: AlignConfig) -> tuple[str, ...]:
    """Names of the metrics that choose; where it is a reward that is none, the one that costs least."""
    known = {metric.info.id for metric in METRICS}
    return tuple(name for name in rewarded_by(config).chooser.by if name in known) or (CHEAPEST,)


def _asking(suite: Suite, names: tuple[str, ...]) -> Suite:
    return replace(suite, metrics=names, primary=names[0])


def alignment(suite: Suite, file: Path, config: AlignConfig, out: Path) -> Alignment:
    """Check that a suite can be aligned with. Raises :class:`UserError` for what is missing."""
    base = _base(suite, file, config.base)
    base_of(base)
    file_of(config.method)
    made = Alignment(suite, file, config, base, out)
    needed: tuple[tuple[Split, str], ...] = (("train", "generate candidates for"), ("test", "evaluate on"))
    for split, need in needed:
        if not made.cases(split):
            raise UserError(f'{file} has no case with split = "{split}"', f"add cases to {need}")
    trained, tested = ({c.identity or c.id for c in made.cases(split)} for split, _ in needed)
    both = sorted(trained & tested)
    if both:
        raise UserError(
            f"{', '.join(both[:3])} is of the train and of the test split", "evaluate on people who were not trained on"
        )
    return made


def _base(suite: Suite, file: Path, name: str | None) -> BaseSpec:
    """The model that is aligned. Raises :class:`UserError` where it is not clear which."""
    bases = [spec for spec in map(base_spec, suite.models) if spec is not None]
    named = [spec for spec in bases if name in (None, spec.name)]
    if len(named) == 1:
        return named[0]
    if name is not None:
        known = ", ".join(spec.name for spec in bases) or "none"
        raise UserError(f"{file} has no base model {name!r}", f"it has: {known}")
    raise UserError(
        f"{file} has {len(bases)} models of kind {' or '.join(kinds.bases())}",
        'give it one, or say which is aligned: base = "NAME" in the configuration',
    )


def align(
    work: Alignment,
    *,
    only: Sequence[str] = STAGES,
    jobs: int = 0,
    progress: Progress = lambda *_: None,
    tell: training.Tell = lambda *_: None,
) -> RunStore | None:
    """Run the stages of every round that are not done yet; the evaluation's run, where that stage is among ``only``.

    ``progress`` of generating, observing and scoring; ``tell`` of encoding and training.
    """
    for number in range(1, work.config.rounds + 1):
        folder = work.round(number)
        if {"generate", "score"} & set(only):
            run = harness.prepare(work.candidates(number), folder / "candidates")
            if "generate" in only:
                generate.generate(run.suite, run.folder, known=run.plans, progress=progress)
            if "score" in only:
                harness.run_prepared(run, jobs=jobs, sets=False, progress=progress)
        if "select" in only:
            _need(folder / "candidates" / HEADER_NAME, "score")
            store = RunStore.load(folder / "candidates")
            scored = rewarded(work, store.records().values())
            chosen = choose(work, work.config.method, store, folder, records=scored)
            if work.config.control and number == 1:
                choose_any(work, store, scored, chosen)
        if "train" in only:
            train(work, number, tell)
            if work.config.control and number == 1:
                train_control(work, tell)
    if "evaluate" not in only:
        return None
    for number in range(1, work.config.rounds + 1):
        _need(work.round(number) / "train" / training.LORA_FOLDER, "train")
    if work.config.control:
        _need(work.control / "train" / training.LORA_FOLDER, "train")
    return harness.run(work.evaluation(), work.out / "evaluation", jobs=jobs, progress=progress)


def file_of(method: MethodName) -> str:
    """Name of the selection that a method is trained on. Raises :class:`UserError` for one that selects nothing."""
    file = methods.find(method).file
    if file is None:
        raise UserError(f"{method} learns from clips that it makes itself", f"ipa-bench train {method} CONFIG")
    return file


def _need(path: Path, stage: str) -> None:
    if not path.exists():
        raise UserError(f"{path} is not there", f"run the stage that makes it too: --only {stage}")


def forget(work: Alignment, stage: str) -> None:
    """Remove what a stage and those after it have left, so that they are done again."""
    first = STAGES[STAGES.index(stage) :]
    for number in range(1, work.config.rounds + 1):
        folder = work.round(number)
        # A round begins with the LoRA of the one before it.
        later = first if number == 1 or stage == "evaluate" else STAGES
        gone = {"generate": ["candidates"], "train": ["train", "control/train"]}
        gone["select"] = ["control", *sorted({method.file for method in methods.METHODS if method.file})]
        gone["score"] = [f"candidates/{name}" for name in ("scores", "floor", "details", "run.json")]
        for path in (folder / name for each in later for name in gone.get(each, ())):
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
    if (work.out / "evaluation").is_dir():
        shutil.rmtree(work.out / "evaluation")


def train(work: Alignment, number: int, tell: training.Tell = lambda *_: None) -> Path:
    """The LoRA of a round."""
    folder = work.round(number)
    lora = _train(work, folder, work.lora(number - 1), tell)
    cost_ledger.write_beside_lora(lora, spent(work, number))
    return lora


def train_control(work: Alignment, tell: training.Tell = lambda *_: None) -> Path:
    """The LoRA of clips that nobody chose."""

    def of_control(stage: str, done: int, total: int, metrics: Mapping[str, float], alarm: str = "", /) -> None:
        tell(f"control: {stage}", done, total, metrics, alarm and f"control: {alarm}")

    return _train(work, work.control, work.base.lora, of_control)


def _train(work: Alignment, folder: Path, start: Path | None, tell: training.Tell) -> Path:
    """``folder/train/lora``, trained on what is chosen in ``folder``, from the LoRA ``start``."""
    config, chosen = work.config, folder / file_of(work.config.method)
    _need(chosen, "select")
    job = training.prepare(config.training(base_of(work.base), work.file, chosen, start), config.method, work.suite)
    if training.train(job, folder / "train", tell=tell) is None:
        raise RuntimeError("training ended early without being asked to")
    return folder / "train" / training.LORA_FOLDER


def spent(work: Alignment, rounds: int) -> Cost | None:
    """What the first rounds took, from their candidates to their LoRAs; None where a sheet of theirs is damaged."""
    folders = [work.round(number) / part for number in range(1, rounds + 1) for part in ("candidates", "train")]
    known = [total for folder in folders if (total := cost_ledger.read(folder).total) is not None]
    return cost_ledger.added(known) if len(known) == len(folders) else None


def choose(
    work: Alignment,
    method: MethodName,
    store: RunStore,
    folder: Path,
    *,
    records: Iterable[UnitRecord] | None = None,
    clips: Clips | None = None,
    chance: bool = False,
) -> Path:
    """Write what a method takes of a run's videos (good clips, pairs or all candidates) into ``folder``.

    ``records``: some of the run's; all where not given. ``clips``: how good clips are chosen, where not by the
    configuration's rule. ``chance``: pairs and candidates have scores that are dealt out anew within each case.
    Raises :class:`UserError`.
    """
    rule = work.config.choose
    reward = rewarded_by(work.config)
    by, takes, path = reward.chooser, methods.find(method).takes, folder / file_of(method)
    scored = rewarded(work, store.records().values() if records is None else records)
    said = dealt(scored) if chance and takes != "clips" else scored
    if takes == "candidates":
        every = select.choose_candidates(store, by, records=said)
        select.write_candidates(candidates_of(every) if chance else every, path)
    elif takes == "pairs":
        found = select.choose_pairs(store, by, margin=rule.margin, every=rule.every, records=said)
        select.write_pairs(pairs_of(found) if chance else found, path)
    else:
        select.write_selection((clips or partial(_good, rule))(store, by, scored), path)
    return path


def choose_any(work: Alignment, store: RunStore, records: Iterable[UnitRecord], chosen: Path) -> Path:
    """Write what the control trains on: as many clips of each case as were chosen, as they come; or dealt scores."""
    work.control.mkdir(parents=True, exist_ok=True)
    method = work.config.method
    if methods.find(method).takes != "clips":
        return choose(work, method, store, work.control, records=records, chance=True)
    clips = partial(any_of, counts=as_many(select.read_selection(chosen)))
    return choose(work, method, store, work.control, records=records, clips=clips)


def rewarded(work: Alignment, records: Iterable[UnitRecord]) -> list[UnitRecord]:
    """Records with the score of what chooses; those that have it already stay as they are."""
    return rewards.rewarded(records, {case.id: case for case in work.suite.cases}, rewarded_by(work.config))


def _good(rule: ChooseConfig, store: RunStore, by: Chooser, records: Sequence[UnitRecord]) -> Selection:
    return select.choose(
        store, by, threshold=rule.threshold, top_k=rule.top_k or None, per_identity=rule.per_identity, records=records
    )


def rewarded_by(config: AlignConfig) -> Reward:
    """What candidates are chosen by: ``[reward]`` where there is one, else ``choose.metric``."""
    return rewards.find(config.choose.metric) if config.reward is None else rewards.of_config(config.reward)


def chosen_by(config: AlignConfig) -> tuple[str, ...]:
    """Ids of what chose: they are no evidence for the trained model."""
    return rewarded_by(config).chooser.by


def stages(names: Iterable[str]) -> tuple[str, ...]:
    """Names of stages in their order. Raises :class:`UserError` for one that does not exist."""
    wanted = set(names)
    unknown = sorted(wanted - set(STAGES))
    if unknown:
        raise UserError(f"there is no stage {unknown[0]}", f"stages: {', '.join(STAGES)}")
    return tuple(stage for stage in STAGES if stage in wanted)
