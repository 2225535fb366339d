"""Rounds of clips as a stream of the loop: made by the model of now, rewarded, learnt from, and followed by the next.

    OUT/rounds/run.json            whose rounds these are
    OUT/rounds/000003/clips/       clips, latents, and where a method wants them the sampler's steps
    OUT/rounds/000003/rewards/     what the reward said of the clips of each case
    OUT/rounds/000003/done         all of it is there
    OUT/rounds.jsonl               a line for each round

Which cases a round has, the seeds of its clips and all that is random in them are functions of its number. The loop
saves its state before a round begins, so that what a kill leaves of a round belongs to the weights that go on with it:
finished clips and rewards are found and kept. Several processes make clips of different cases, on one file system.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ipa_bench.cache import digest
from ipa_bench.errors import UserError
from ipa_bench.files import file_sha256, read_json, write_atomic
from ipa_bench.harness.generate import count_flops
from ipa_bench.models.generator import Generator
from ipa_bench.models.specs import BaseSpec
from ipa_bench.observers.pose import OBSERVER_ID as DRAWN_BY
from ipa_bench.types import Case
from trainers import devices, sde
from trainers import state as states
from trainers.config import RolloutConfig, TrainConfig
from trainers.data.clips import Clip, Data
from trainers.data.encode import Encoder
from trainers.methods import Method
from trainers.methods.draw import Draw
from trainers.methods.objective import Taken
from trainers.policy import Policy
from trainers.rewards import Reward
from trainers.rewards.usable import numbers
from trainers.rollouts.log import LOG
from trainers.rollouts.walk import Walk
from trainers.spent import Spent, trained

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER, RUN, DONE = "rounds", "run.json", "done"


@dataclass(frozen=True)
class Plan:
    """Which clips a round has: functions of its number."""

    cases: tuple[Case, ...]
    asked: RolloutConfig
    seed: int

    def of(self, number: int) -> list[Case]:
        """The cases of a round; every case comes once before any comes again, but for what a round is short of."""
        rounds = len(self.cases) // self.asked.cases
        turn, place = divmod(number, rounds)
        order = np.random.default_rng([self.seed, turn]).permutation(len(self.cases))
        return [self.cases[i] for i in order[place * self.asked.cases :][: self.asked.cases]]

    def seeds(self, number: int) -> range:
        """Seeds of the clips of each case: no two rounds share one."""
        return range(number * self.asked.per_case, (number + 1) * self.asked.per_case)


@dataclass(frozen=True)
class Rewarded:
    """One clip of a round that has a reward."""

    clip: Clip
    seed: int
    reward: float
    #: id -> value of what the reward is made of
    terms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Tools:
    """What a round is made with."""

    policy: Policy
    encoder: Encoder
    accelerator: Any
    spent: Spent
    #: a context in which all networks are where they are needed
    whole: Callable[[], AbstractContextManager[None]]
    #: (stage, done, total)
    tell: Callable[[str, int, int], None]


class Rounds:
    """See above. A :class:`trainers.loop.Stream`."""

    def __init__(
        self, config: TrainConfig, method: Method, reward: Reward, data: Data, spec: BaseSpec, tools: Tools, out: Path,
        run: str,
    ) -> None:  # fmt: skip
        """``spec``: the base as suites name it; ``run``: of configuration and data: rounds of another are removed."""
        assert config.rollouts is not None
        self._config, self._asked, self._method, self._reward = config, config.rollouts, method, reward
        self._options = config.options(method.name)
        self._plan = Plan(data.online, self._asked, config.train.seed)
        self._tools, self._out, self._run = tools, out, run
        self._better = 1.0 if reward.info.better == "higher" else -1.0
        sampling = {name: getattr(self._asked, name) for name in ("steps", "guidance", "negative_prompt", "shift")}
        more = {"decode_dtype": self._asked.decode_dtype, "batch": self._asked.batch, "keep_latents": True}
        self._spec = spec.model_copy(update={"lora": None, **sampling, **more})
        self._sigmas = self._levels() if method.takes == "steps" else None
        self.passes = self._walk(0).window if self._sigmas is not None else self._asked.levels
        self._number = -1
        #: of this round; clips whose reward says nothing are not among them
        self.data = data
        self._chosen: tuple[Rewarded, ...] = ()

    # the stream

    @property
    def _updates(self) -> int:
        return self._config.updates

    def fresh(self, step: int) -> bool:
        """Whether a round begins with this update."""
        return step % self._updates == 0

    def at(self, place: int) -> tuple[int, Draw]:
        """The index of a clip of this round, and its noise level or step: all of them once, in the round's own order.

        Clips that are left out leave a place to the others.
        """
        number, within = divmod(place, self._updates * self._config.train.batch * self.passes)
        assert number == self._number
        count = len(self._chosen)
        turn, position = divmod(within, count * self.passes)
        order = np.random.default_rng([self._config.train.seed, number, turn]).permutation(count * self.passes)
        index, part = divmod(int(order[position]), self.passes)
        # a step is a step again; a noise level is another one
        again = 0 if self._sigmas is not None else turn * self.passes
        return index, Draw(self._key(self._chosen[index]), part + again)

    def begin(self, step: int, stopped: Callable[[], bool]) -> None:
        """Make the round of an update, or find it made. Raises :class:`UserError` where it teaches nothing."""
        number = step // self._updates
        if number == self._number:
            return
        folder = self._out / FOLDER / f"{number:06d}"
        self._prepare(step)
        if not self.fresh(step) and not (folder / DONE).exists():
            raise UserError(
                f"{folder} is not whole, and the weights that made its clips are no more",
                f"remove {self._out}: training begins anew",
            )
        with self._tools.whole():
            clips = self._made(number, folder, stopped)
            if stopped():
                return
            found = self._rewards(folder, clips)
            self._number = number
            self._use(found)
            if self._tools.accelerator.is_main_process and self.fresh(step):
                states.append(self._out / LOG, self._line(step, number, clips, found))
                (folder / DONE).touch()
            if self._asked.guidance > 1:
                self._negative(1)
        self._tools.accelerator.wait_for_everyone()

    # what a step is given

    def taken(self, index: Sequence[int], draws: Sequence[Draw]) -> Taken | None:
        """The sampler's steps that are drawn, for a method that takes them."""
        if self._sigmas is None:
            return None
        clips = [(self._chosen[i].clip.case, self._chosen[i].seed) for i in index]
        device = self._tools.policy.base.device
        places = [draw.number for draw in draws]
        return self._walk(self._number).taken(clips, places, device, self._negative(len(index)), self._asked.guidance)

    # a round

    def _prepare(self, step: int) -> None:
        """Remove rounds that are behind, those of another run, and what is logged of rounds that are made anew."""
        number = step // self._updates
        self._tools.encoder.forget()
        if self._tools.accelerator.is_main_process:
            whole = self._out / FOLDER
            if read_json(whole / RUN) != self._run:
                shutil.rmtree(whole, ignore_errors=True)
            for old in whole.glob("[0-9]*"):
                if int(old.name) < number:
                    shutil.rmtree(old, ignore_errors=True)
            whole.mkdir(parents=True, exist_ok=True)
            write_atomic(whole / RUN, json.dumps(self._run).encode())
            states.trim(self._out / LOG, number * self._updates + (not self.fresh(step)))
        self._tools.accelerator.wait_for_everyone()

    def _made(
        self, number: int, folder: Path, stopped: Callable[[], bool]
    ) -> list[tuple[Case, list[tuple[int, Path]]]]:
        """The clips of a round by case, this process's share of them made now."""
        cases, seeds = self._plan.of(number), self._plan.seeds(number)
        accelerator, walk = self._tools.accelerator, None if self._sigmas is None else self._walk(number)
        mine = [
            (case, seed) for case in cases[accelerator.process_index :: accelerator.num_processes] for seed in seeds
        ]
        pose_of = self._tools.encoder.pose_of
        base = self._tools.policy.base
        model = Generator(self._spec, folder / "clips", pose_of=pose_of, drawn_by=DRAWN_BY, base=base, sample=walk)
        learnt = trained(self._config.adapter)
        adapter = None if learnt == "full" else learnt
        with self._sampled(), self._tools.spent.rolling() as phase:
            for count, made in enumerate(model.generate_many(mine), 1):
                if made.sampled is not None:
                    count_flops(phase, model, made.sampled, adapter)
                self._tools.tell(f"round {number + 1}", count, len(mine))
                if stopped():
                    break
        accelerator.wait_for_everyone()
        there = [(case, [(seed, model.clips.clip(case, seed)) for seed in seeds]) for case in cases]
        return [(case, [(seed, file) for seed, file in of if file.is_file()]) for case, of in there]

    @contextmanager
    def _sampled(self) -> Iterator[None]:
        """The policy that samples: the old one where there is one, without dropout and gradients."""
        policy = self._tools.policy
        training = policy.training
        with policy.as_old() if self._method.old else nullcontext(), torch.no_grad():
            policy.train(False)
            try:
                yield
            finally:
                policy.train(training)

    def _rewards(self, folder: Path, made: Sequence[tuple[Case, list[tuple[int, Path]]]]) -> tuple[Rewarded, ...]:
        """The reward of every clip that has one, this process's share of the cases looked at now."""
        with self._tools.spent.rewarding() as phase:

            def rows_of(of: tuple[Case, list[tuple[int, Path]]]) -> dict[str, Any]:
                case, clips = of
                file = folder / "rewards" / f"{case.id}.json"
                if clips and not file.is_file():
                    values = self._look(case, [clip for _, clip in clips])
                    file.parent.mkdir(parents=True, exist_ok=True)
                    rows = {str(seed): value for (seed, _), value in zip(clips, values, strict=True)}
                    write_atomic(file, json.dumps(rows, allow_nan=False).encode())
                    phase.add(len(clips))
                return (read_json(file) if clips else None) or {}

            every = devices.ranks_of(self._tools.accelerator).shared(made, rows_of)
        found = []
        for (case, clips), rows in zip(made, every, strict=True):
            for seed, clip in clips:
                row = rows.get(str(seed), {})
                if row.get("value") is not None:
                    latents = clip.with_suffix(".safetensors")
                    made_now = Clip(case, clip, latents, file_sha256(clip))
                    found.append(Rewarded(made_now, seed, row["value"], row.get("terms", {})))
        return tuple(found)

    def _look(self, case: Case, clips: Sequence[Path]) -> list[dict[str, Any]]:
        found, terms = numbers(self._reward, case, clips)
        rows: list[dict[str, Any]] = []
        for place, each in enumerate(found):
            parts = {name: value for name, values in terms.items() if (value := values[place]) is not None}
            value = None if each.value is None else float(each.value)
            rows.append({"value": value, "reason": each.reason, "terms": {n: float(v) for n, v in parts.items()}})
        return rows

    def _use(self, found: Sequence[Rewarded]) -> None:
        """Let the method make values of the rewards, and leave out what it leaves out."""
        make = self._method.values
        assert make is not None
        scores = [self._better * each.reward for each in found]
        values = make([each.clip.case.id for each in found], scores, self._options)
        kept = [(e, s, v) for e, s, v in zip(found, scores, values, strict=True) if v is not None]
        if not kept:
            why = "rewards of its clips are equal within each case" if found else "the reward says nothing of its clips"
            raise UserError(
                f"round {self._number + 1} teaches nothing: {why}",
                "make more clips of each case, or reward otherwise; the last saved state is kept",
            )
        self._chosen = tuple(each for each, _, _ in kept)
        self.data = replace(
            self.data, good=tuple(each.clip for each in self._chosen), scores=tuple(s for _, s, _ in kept),
            values=tuple(v for _, _, v in kept),
        )  # fmt: skip
        mine = self.data.good[self._tools.accelerator.process_index :: self._tools.accelerator.num_processes]
        with self._tools.spent.encoding() as encoded:
            for clip in mine:
                self._tools.encoder.encode(clip)
                encoded()

    def _line(
        self, step: int, number: int, made: Sequence[tuple[Case, Sequence[Any]]], found: Sequence[Rewarded]
    ) -> dict[str, Any]:
        """What is logged of a round; of every reward the mean of the clips that it has a value of, in its own unit."""
        names = dict.fromkeys(name for each in found for name in each.terms)
        values = {name: [each.terms[name] for each in found if name in each.terms] for name in names}
        asked = self._asked.cases * self._asked.per_case
        return {
            "step": step,
            "round": number,
            "rewards": {name: math.fsum(of) / len(of) for name, of in values.items()},
            "clips": sum(len(of) for _, of in made),
            "lacking": asked - sum(len(of) for _, of in made),
            "learnt_from": len(self._chosen),
            "cases": len({clip.case.id for clip in self.data.good}),
        }

    # sampling with noise

    def _levels(self) -> Tensor:
        scheduler = self._tools.policy.base.scheduler(self._spec.shift)
        scheduler.set_timesteps(self._asked.steps)
        return sde.levels(scheduler.sigmas)

    def _walk(self, number: int) -> Walk:
        assert self._sigmas is not None
        folder = self._out / FOLDER / f"{number:06d}" / "clips"
        seed, first = self._config.train.seed, self._plan.seeds(number)[0]
        return Walk(folder, self._sigmas, self._options, seed, number, first, self._tools.accelerator.autocast)

    def _negative(self, count: int) -> Tensor | None:
        if self._asked.guidance <= 1:
            return None
        base = self._tools.policy.base
        return base.texts([self._asked.negative_prompt or ""] * count).to(base.device)

    def _key(self, chosen: Rewarded) -> str:
        return digest(chosen.clip.case.id, chosen.seed)
