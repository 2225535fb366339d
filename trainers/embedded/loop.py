"""A training loop that can be killed at any moment: steps are functions of their number, state is saved atomically.

Everything random in a step is drawn from a generator seeded by (seed, stage, step), so that a resumed run is the run
that was not interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ipa_bench.errors import UserError
from trainers import state as states
from trainers.embedded.muon import Muon, is_matrix
from trainers.schedule import cosine, decay, follow, warm_up

#: optimiser updates between two saved states
SAVE_EVERY = 200
#: seconds after which it is saved whatever the step
SAVE_SECONDS = 150.0
#: largest norm of the gradient
CLIP = 1.0
WARMUP = 50
#: share of the steps before the learning rate falls
PLATEAU = 0.3
Optimisers = Sequence[torch.optim.Optimizer]

#: (step, its random generator) -> (loss to differentiate, metrics to log)
Loss = Callable[[int, np.random.Generator], tuple[Tensor, dict[str, float]]]


@dataclass(frozen=True)
class Plan:
    """What :func:`train` does: ``steps`` updates, an average of weights with decay ``ema``."""

    stage: str
    seed: int
    steps: int
    #: learning rates of Muon (matrices) and of AdamW (the rest)
    lr: float
    lr_rest: float
    ema: float
    #: orthogonalise large matrices in bf16: several times faster
    half: bool = False
    #: share of the steps before the learning rate falls
    plateau: float = PLATEAU


@dataclass(frozen=True)
class Watch:
    """Figures of the averaged model, every so many updates, into ``<stage>-watch.jsonl``."""

    every: int
    measure: Callable[[], Mapping[str, float]]


def schedule(done: float, step: int, plateau: float = PLATEAU) -> float:
    """Share of the learning rate at ``done`` in [0, 1]: linear warm-up, a plateau, then a cosine down to 2 %."""
    return warm_up(step, WARMUP) * (0.02 + 0.98 * cosine((done - plateau) / (1 - plateau)))


def _optimisers(plan: Plan, parameters: Mapping[str, nn.Parameter]) -> Optimisers:
    """Muon for matrices and kernels, AdamW for the rest, where there is any: gains, biases, tables."""
    matrices = [p for p in parameters.values() if is_matrix(p)]
    rest = [p for p in parameters.values() if not is_matrix(p)]
    muon = Muon(matrices, plan.lr, half=plan.half)
    if not rest:
        return [muon]
    return [muon, torch.optim.AdamW(rest, lr=plan.lr_rest, betas=(0.9, 0.99), weight_decay=0.0)]


def generator(seed: int, stage: str, step: int) -> np.random.Generator:
    """The random generator of one step."""
    return np.random.default_rng([seed, step, *stage.encode()])


def train(
    plan: Plan,
    model: nn.Module,
    loss: Loss,
    folder: Path,
    *,
    stop_after: int | None = None,
    watch: Watch | None = None,
    tell: Callable[[str, int, int, Mapping[str, float]], None] = lambda *_: None,
) -> bool:
    """Train ``model`` in place and leave it with its averaged weights; True when all steps are done.

    Goes on from ``folder/<stage>.pt`` where there is one and logs every step to ``folder/<stage>.jsonl``.
    ``watch`` measures before the first step too. ``stop_after`` ends early at that step, resumable. Raises
    UserError where a loss is not finite, before the step.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimisers = _optimisers(plan, parameters)
    average = {name: p.detach().clone() for name, p in parameters.items()}
    file, log = folder / f"{plan.stage}.pt", folder / f"{plan.stage}.jsonl"
    first = _resume(file, parameters, average, optimisers)
    watched = folder / f"{plan.stage}-watch.jsonl"
    states.trim(log, first)
    states.trim(watched, first)
    last = min(plan.steps, stop_after) if stop_after is not None else plan.steps
    begin = kept = time.monotonic()
    for step in range(first, last):
        if watch is not None and step % watch.every == 0:
            with _averaged(parameters, average):
                states.append(watched, {"step": step, **watch.measure()})
        for optimiser, lr in zip(optimisers, (plan.lr, plan.lr_rest), strict=False):
            for group in optimiser.param_groups:
                group["lr"] = lr * schedule(step / plan.steps, step, plan.plateau)
        value, metrics = loss(step, generator(plan.seed, plan.stage, step))
        if not torch.isfinite(value):
            raise UserError(
                f"{plan.stage}: the loss of step {step} is {value.item()}",
                f"lower lr; the last saved state is kept in {file}",
            )
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(value)
        norm = nn.utils.clip_grad_norm_(parameters.values(), CLIP)
        for optimiser in optimisers:
            optimiser.step()
        follow(average, parameters, decay(plan.ema, step))
        metrics = {"loss": value.item(), "norm": norm.item(), **metrics}
        seconds = round(time.monotonic() - begin, 2)
        states.append(log, {"step": step, "seconds": seconds, **metrics})
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == last or time.monotonic() - kept > SAVE_SECONDS:
            _save(file, step + 1, parameters, average, optimisers)
            kept = time.monotonic()
        tell(plan.stage, step + 1, plan.steps, metrics)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(average[name])
    return last == plan.steps


@contextmanager
def _averaged(parameters: Mapping[str, Tensor], average: Mapping[str, Tensor]) -> Iterator[None]:
    """The averaged weights in place of the trained ones."""
    trained = [p.detach().clone() for p in parameters.values()]
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(average[name])
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, own in zip(parameters.values(), trained, strict=True):
                parameter.copy_(own)


def _save(
    file: Path, step: int, parameters: Mapping[str, Tensor], average: Mapping[str, Tensor], optimisers: Optimisers
) -> None:
    state = {
        "step": step,
        "model": {name: p.detach() for name, p in parameters.items()},
        "average": dict(average),
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
    }
    states.write(state, file)


def _resume(file: Path, parameters: Mapping[str, Tensor], average: Mapping[str, Tensor], optimisers: Optimisers) -> int:
    """Load the saved state into the given tensors and give the step it was saved at; 0 where there is none."""
    found = states.read(file, lambda content: (content, states.fits(content["model"], parameters)))
    if found is None:
        return 0
    state, same = found
    if not same:
        raise UserError(f"{file} belongs to a model of another shape", "give another --out, or remove that file")
    with torch.no_grad():
        for name in parameters:
            parameters[name].copy_(state["model"][name])
            average[name].copy_(state["average"][name])
    for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    return int(state["step"])
