"""The loop of post-training: the same for every method, exact after any interruption, on any number of processes.

A step is a function of its number: which clips it takes, their noise and their t depend on no process, no micro-batch
and no history, so that a resumed run is the run that was not interrupted, and a run divided over processes or
accumulated differently is the same run to rounding. Gradients are averaged over processes once an update, of the
trained weights only: with a LoRA that is little, and the reference needs no wrapper around the model.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ipa_bench.errors import UserError
from trainers import optimizer, parts
from trainers import state as states
from trainers.config import TrainTable
from trainers.methods.draw import Draw
from trainers.policy import Policy, exchanged
from trainers.schedule import cosine, decay, follow, warm_up
from trainers.state import State

STATE, LOG = "state.pt", "log.jsonl"

#: (indices of clips or pairs, their draws) -> (loss, metrics)
StepLoss = Callable[[Sequence[int], Sequence[Draw]], tuple[Tensor, dict[str, Tensor]]]
Metrics = Mapping[str, float]


class Stream(Protocol):
    """What a run goes through, one item after another, without an end."""

    @property
    def passes(self) -> int:
        """Items that each clip of ``train.batch`` is shown as in one update."""
        ...

    def at(self, place: int) -> tuple[int, Draw]:
        """The index of the item at a place, and its draw."""
        ...

    def fresh(self, step: int, /) -> bool:
        """Whether something has to be made before this update, which depends on the weights of now."""
        ...

    def begin(self, step: int, stopped: Callable[[], bool], /) -> None:
        """Make it, or find it made, unless ``stopped`` says that there is to be an end: then what is left is."""
        ...


@dataclass(frozen=True)
class Items:
    """Clips that are there: their keys (of pairs, for DPO) in the order of the selection."""

    keys: tuple[str, ...]
    seed: int
    #: draws that repeat; 0: a new one each time
    draws: int
    passes: int = 1

    def fresh(self, _: int) -> bool:
        """Nothing is made."""
        return False

    def begin(self, _: int, __: Callable[[], bool]) -> None:
        """Nothing is made."""

    def at(self, place: int) -> tuple[int, Draw]:
        """The item at a place in the endless stream: every item once, in a new order each round."""
        turn, position = divmod(place, len(self.keys))
        order = np.random.default_rng([self.seed, turn]).permutation(len(self.keys))
        index = int(order[position])
        return index, Draw(self.keys[index], turn % self.draws if self.draws else turn)


def schedule(config: TrainTable, step: int) -> float:
    """Share of the learning rate at a step: linear warm-up, then constant or a cosine down to 0."""
    warm = warm_up(step, config.warmup)
    if config.schedule == "constant":
        return warm
    return warm * cosine((step - config.warmup) / max(1, config.steps - config.warmup))


class Loop:
    """A run of training, from its saved state to the end or to the next interruption."""

    def __init__(
        self,
        config: TrainTable,
        policy: Policy,
        items: Stream,
        folder: Path,
        run: str,
        accelerator: Any,
        keep: Callable[[int], float | None] = lambda _: None,
    ) -> None:
        """``run`` names configuration and data: a state of another run is refused. Raises :class:`UserError` so.

        ``keep``: how much of itself the policy's old policy keeps after so many updates; None: it stays as it is.
        """
        self._config, self._policy, self._items, self._folder, self._run = config, policy, items, folder, run
        self._accelerator, self._keep = accelerator, keep
        self._parameters = policy.parameters
        #: what of them is on this process: all, unless weights that are trained are divided
        self._held = {name: parts.mine(p) for name, p in self._parameters.items()}
        self._optimizer = optimizer.build(
            config.optimizer, self._held.values(), lr=config.lr, weight_decay=config.weight_decay
        )
        self.average = {n: p.detach().clone() for n, p in self._held.items()} if config.ema else {}
        self.step = self._saved = self._resume()
        #: Ctrl-C was pressed here; every process is to end
        self._asked = self._stop = False
        self._batch = config.batch * items.passes
        per_process = self._batch // accelerator.num_processes
        if per_process * accelerator.num_processes != self._batch or per_process % config.micro_batch:
            raise UserError(
                f"a batch of {config.batch} cannot be divided over {accelerator.num_processes} processes in "
                f"micro-batches of {config.micro_batch}",
                "make train.batch a multiple of processes x train.micro_batch",
            )
        self._share = per_process

    def run(
        self,
        loss: StepLoss,
        *,
        stop_after: int | None = None,
        tell: Callable[[int, int, Metrics], None] = lambda *_: None,
        look: Callable[[int], None] = lambda _: None,
        look_every: int = 0,
    ) -> bool:
        """Take the steps that are left; True when all are done.

        ``look`` is called with the number of steps done before the first, every ``look_every`` and after the last.
        Ctrl-C ends after the step that is under way, with its state saved, and raises KeyboardInterrupt.
        Raises :class:`UserError` on a loss or gradient that is not finite, before the step.
        """
        last = self._config.steps if stop_after is None else min(self._config.steps, stop_after)
        begin = time.monotonic()
        log = self._folder / LOG
        main = self._accelerator.is_main_process
        if main:
            states.trim(log, self.step)

        def due(step: int) -> bool:
            return step in (0, last) or bool(look_every and step % look_every == 0)

        with self._interruptible():
            if due(self.step):
                look(self.step)
            while self.step < last and not self._stop:
                self._begin()
                if self._stop:
                    break
                metrics = self._update(loss)
                self.step += 1
                line = {"step": self.step - 1, "seconds": round(time.monotonic() - begin, 3), **metrics}
                if main:
                    states.append(log, line)
                self._accelerator.log(dict(metrics), step=self.step)
                if self.step % self._config.save_every == 0 or self.step == last or self._stop:
                    self._save()
                tell(self.step, self._config.steps, metrics)
                if due(self.step) and not self._stop:
                    look(self.step)
            if self._stop:
                if self.step != self._saved:  # asked for after the step: while looking, for example
                    self._save()
                raise KeyboardInterrupt
        return self.step == self._config.steps

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The policy with its averaged weights, where there is an average."""
        with exchanged(self._parameters, self.average):
            yield

    def _begin(self) -> None:
        """Let the stream make what the next update needs; the weights that it is made with are saved before."""
        if self._items.fresh(self.step) and self.step != self._saved:
            self._save()
        self._items.begin(self.step, lambda: self._stop)

    def _update(self, loss: StepLoss) -> dict[str, float]:
        config, accelerator = self._config, self._accelerator
        first = self.step * self._batch + accelerator.process_index * self._share
        places = range(first, first + self._share)
        pieces = [places[i : i + config.micro_batch] for i in range(0, self._share, config.micro_batch)]
        for group in self._optimizer.param_groups:
            group["lr"] = config.lr * schedule(config, self.step)
        self._optimizer.zero_grad(set_to_none=True)
        total: dict[str, float] = {}
        for piece in pieces:
            torch.manual_seed(hash((config.seed, piece[0])))  # dropout
            chosen = [self._items.at(place) for place in piece]
            with accelerator.autocast():
                value, metrics = loss([index for index, _ in chosen], [draw for _, draw in chosen])
            torch.autograd.backward(value / len(pieces))
            for name, metric in {"loss": value.detach(), **metrics}.items():
                total[name] = total.get(name, 0.0) + metric.item() / len(pieces)
        parts.take_gradients(self._parameters, self._held)
        total = self._over_processes(total)
        norm = parts.clip(self._parameters, self._held, config.clip)
        for name, number in (("loss", total["loss"]), ("gradient", norm)):
            if not math.isfinite(number):
                raise UserError(
                    f"the {name} of step {self.step} is {number}",
                    f"lower train.lr; the last saved state is kept in {self._folder / STATE}",
                )
        self._optimizer.step()
        if self.average:
            follow(self.average, self._held, decay(config.ema, self.step))
        kept = self._keep(self.step + 1)
        if kept is not None:
            self._policy.follow(kept)
        return {**total, "norm": norm, "lr": self._optimizer.param_groups[0]["lr"]}

    def _over_processes(self, metrics: dict[str, float]) -> dict[str, float]:
        """Average gradients and metrics over all processes; those of divided weights are averaged as they come."""
        count = self._accelerator.num_processes
        if count == 1:
            return metrics
        held = [p for name, p in self._held.items() if not parts.divided(self._parameters[name])]
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in held]
        # The wish to stop travels with the gradients, so that all processes stop at the same step, and so does which
        # parameters have any: those of an expert that no clip of a batch went through stay as they are, moments too.
        there = [float(p.grad is not None) for p in held]
        numbers = torch.tensor([*metrics.values(), *there, float(self._asked)], device=self._accelerator.device)
        flat = torch.cat([g.reshape(-1) for g in gradients] + [numbers])
        torch.distributed.all_reduce(flat)
        flat /= count
        place = 0
        *found, stop = flat[sum(g.numel() for g in gradients) :].tolist()
        for parameter, gradient, some in zip(held, gradients, found[len(metrics) :], strict=True):
            mine = flat[place : place + gradient.numel()].reshape(gradient.shape).clone()
            parameter.grad = mine if some > 0 else None
            place += gradient.numel()
        self._stop = stop > 0
        return dict(zip(metrics, found, strict=False))

    def _resume(self) -> int:
        whole = self._parameters
        divided = any(map(parts.divided, whole.values()))
        saved = states.load(self._folder / STATE, self._run, whole, mapped=divided)
        if saved is None:
            return 0
        with torch.no_grad():
            for name, parameter in self._held.items():
                parameter.copy_(parts.part(saved.weights[name], whole[name]))
            for name, value in self.average.items():
                value.copy_(parts.part(saved.average[name], whole[name]))
            for name, value in self._policy.old.items():
                value.copy_(parts.part(saved.old[name], whole[name]))
        self._optimizer.load_state_dict(parts.part_moments(saved.optimizer, [*whole.values()]))
        return saved.step

    def _save(self) -> None:
        main = self._accelerator.is_main_process

        def whole(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: parts.whole(value, self._parameters[name], keep=main) for name, value in values.items()}

        moments = parts.whole_moments(self._optimizer.state_dict(), [*self._parameters.values()], keep=main)
        kept = whole(self._held), whole(self.average), moments, self._run, whole(self._policy.old)
        if main:
            states.save(State(self.step, *kept), self._folder / STATE)
        self._saved = self.step
        self._accelerator.wait_for_everyone()

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Ctrl-C asks for an end after the step; a second one ends at once."""

        def ask(*_: object) -> None:
            if self._asked:
                raise KeyboardInterrupt
            self._asked = True
            # Several processes agree with the next gradients: one that left alone would leave the others waiting.
            self._stop = self._accelerator.num_processes == 1

        try:
            before = signal.signal(signal.SIGINT, ask)
        except ValueError:  # not the main thread
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
