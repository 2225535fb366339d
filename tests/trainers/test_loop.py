"""The loop of post-training: the stream of clips, the step by hand, the state, and what stops it."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ipa_bench.errors import UserError
from trainers import loop as looping
from trainers.config import TrainTable
from trainers.loop import LOG, STATE, Items, Loop, StepLoss, schedule
from trainers.methods.draw import Draw
from trainers.policy import Policy

KEYS = ("a", "b", "c", "d", "e")


class ToyBase:
    """A base with a linear layer in the place of a transformer."""

    def __init__(self) -> None:
        self.transformer = nn.Linear(3, 2)

    @property
    def networks(self) -> dict[str, nn.Module]:
        return {"transformer": self.transformer}


class Toy(Policy):
    """A linear layer in the place of a transformer."""

    reference_is = "nothing"

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(ToyBase())  # type: ignore[arg-type]

    def reference(self) -> Any:
        return nullcontext()

    def save(self, folder: Path) -> Path:
        return folder


def table(**values: Any) -> TrainTable:
    return TrainTable(**{"steps": 6, "batch": 2, "lr": 0.05, "warmup": 0, "save_every": 2, **values})


def make(folder: Path, policy: Toy, run: str = "run", accelerator: Any = None, **values: Any) -> Loop:
    config = table(**values)
    folder.mkdir(exist_ok=True)
    items = Items(KEYS, config.seed, config.draws)
    return Loop(config, policy, items, folder, run, accelerator or Accelerator(cpu=True))


def loss_of(
    policy: Toy, seen: list[tuple[int, Draw]] | None = None, spoil: Callable[[int], float] = lambda _: 1.0
) -> StepLoss:
    """A loss whose data are a function of clip and draw; ``spoil`` multiplies that of the n-th call."""
    calls = 0

    def loss(index: Sequence[int], draws: Sequence[Draw]) -> tuple[Tensor, dict[str, Tensor]]:
        nonlocal calls
        if seen is not None:
            seen.extend(zip(index, draws, strict=True))
        x = torch.stack(
            [torch.sin(torch.arange(3.0) + i + 10 * draw.number) for i, draw in zip(index, draws, strict=True)]
        )
        value = (policy.transformer(x) - x[:, :2] * 2).square().mean() * spoil(calls)
        calls += 1
        return value, {"x": x.mean().detach()}

    return loss


def weights(policy: Toy) -> Tensor:
    return torch.cat([p.detach().flatten() for p in policy.parameters.values()])


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


@settings(max_examples=12)
@given(st.integers(1, 9), st.integers(0, 5), st.integers(0, 3))
def test_every_clip_is_seen_once_a_round(count: int, seed: int, draws: int) -> None:
    items = Items(tuple(map(str, range(count))), seed, draws)
    rounds = [[items.at(turn * count + i) for i in range(count)] for turn in range(5)]
    for turn, found in enumerate(rounds):
        assert sorted(index for index, _ in found) == list(range(count))
        assert all(draw.key == str(index) for index, draw in found)
        assert {draw.number for _, draw in found} == {turn % draws if draws else turn}


def test_rounds_and_seeds_have_orders_of_their_own() -> None:
    orders = {
        tuple(Items(KEYS, seed, 0).at(turn * 5 + i)[0] for i in range(5)) for seed in range(4) for turn in range(4)
    }
    assert len(orders) > 12


def test_what_a_step_sees_does_not_depend_on_how_it_is_divided(tmp_path: Path) -> None:
    seen: dict[int, list[tuple[int, Draw]]] = {1: [], 2: [], 4: []}
    ends = []
    for micro, found in seen.items():
        policy = Toy()
        make(tmp_path / str(micro), policy, batch=4, micro_batch=micro).run(loss_of(policy, found))
        ends.append(weights(policy))
    assert seen[1] == seen[2] == seen[4]
    assert Counter(draw for _, draw in seen[1]).most_common(1)[0][1] == 1
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=1e-4, atol=1e-6)


def test_schedules_by_hand() -> None:
    warm = table(steps=10, warmup=4)
    assert [schedule(warm, step) for step in (0, 1, 3, 4, 9)] == [0.25, 0.5, 1, 1, 1]
    cosine = table(steps=12, warmup=4, schedule="cosine")
    assert [schedule(cosine, step) for step in (0, 3)] == [0.25, 1]
    assert schedule(cosine, 8) == pytest.approx(0.5)
    assert schedule(cosine, 6) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert schedule(cosine, 12) == pytest.approx(0)
    assert schedule(table(schedule="cosine"), 0) == 1


def test_two_steps_by_hand(tmp_path: Path) -> None:
    """AdamW with its bias correction, a clipped gradient, and the average."""
    policy, twin = Toy(), Toy()
    loop = make(tmp_path, policy, steps=2, clip=0.1, weight_decay=0.1, ema=0.9)
    began = weights(policy)
    assert loop.run(loss_of(policy))
    first, second, average = torch.zeros_like(began), torch.zeros_like(began), began.clone()
    value, now = loss_of(twin), began.clone()
    for step in range(2):
        chosen = [loop._items.at(2 * step + i) for i in range(2)]
        with torch.no_grad():
            for name, parameter in twin.parameters.items():
                place = {"weight": slice(0, 6), "bias": slice(6, 8)}[name]
                parameter.copy_(now[place].view_as(parameter))
        parts = [value([index], [draw])[0] for index, draw in chosen]
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(sum(parts) / 2, list(twin.parameters.values()))])
        assert lines(tmp_path)[step]["norm"] == pytest.approx(gradient.norm().item(), rel=1e-5)
        assert gradient.norm() > 0.1
        gradient = gradient * 0.1 / (gradient.norm() + 1e-6)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        m, v = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.999 ** (step + 1))
        now = now * (1 - 0.05 * 0.1) - 0.05 * m / (v.sqrt() + 1e-8)
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * now
    torch.testing.assert_close(weights(policy), now, rtol=1e-4, atol=1e-6)
    with loop.averaged():
        torch.testing.assert_close(weights(policy), average, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(weights(policy), now, rtol=1e-4, atol=1e-6)


def test_without_an_average_averaged_changes_nothing(tmp_path: Path) -> None:
    policy = Toy()
    loop = make(tmp_path, policy)
    before = weights(policy)
    with loop.averaged():
        assert torch.equal(weights(policy), before)


def test_a_run_that_was_stopped_goes_on_exactly(tmp_path: Path) -> None:
    settings_ = {"ema": 0.9, "warmup": 3, "schedule": "cosine", "draws": 2}
    one, other = Toy(), Toy()
    assert make(tmp_path / "one", one, **settings_).run(loss_of(one))
    assert not make(tmp_path / "two", other, **settings_).run(loss_of(other), stop_after=3)
    # a kill after the state was saved leaves lines of steps that are not in it, the last one cut
    with (tmp_path / "two" / LOG).open("a") as log:
        log.write('{"step": 3, "loss": 99.0}\n{"step": 4, "lo')
    (tmp_path / "two" / "state.part").write_bytes(b"PK")
    other = Toy()
    assert make(tmp_path / "two", other, **settings_).run(loss_of(other))
    assert torch.equal(weights(one), weights(other))
    for a, b in zip(lines(tmp_path / "one"), lines(tmp_path / "two"), strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_looks_are_at_the_beginning_now_and_then_and_at_the_end(tmp_path: Path) -> None:
    policy, looks = Toy(), list[int]()
    make(tmp_path, policy, steps=5, save_every=3).run(loss_of(policy), look=looks.append, look_every=2)
    assert looks == [0, 2, 4, 5]
    make(tmp_path, policy, steps=5, save_every=3).run(loss_of(policy), look=looks.append, look_every=2)
    assert looks == [0, 2, 4, 5, 5]
    # a run that goes on looks when the other would have
    looks.clear()
    make(tmp_path / "other", policy, steps=5, save_every=3).run(loss_of(policy), look=looks.append, stop_after=3)
    make(tmp_path / "other", policy, steps=5).run(loss_of(policy), look=looks.append, look_every=2)
    assert looks == [0, 3, 4, 5]


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_before_the_step(tmp_path: Path, number: float) -> None:
    policy = Toy()
    loop = make(tmp_path, policy, micro_batch=2, ema=0.9)
    seen = []
    with pytest.raises(UserError, match=r"the loss of step 3 is (nan|inf)") as error:
        loop.run(
            loss_of(policy, spoil=lambda call: number if call == 3 else 1.0),
            tell=lambda *_: seen.append((weights(policy), {k: v.clone() for k, v in loop.average.items()})),
        )
    assert str(tmp_path / STATE) in error.value.fix
    assert torch.equal(weights(policy), seen[2][0])
    assert all(torch.equal(loop.average[name], value) for name, value in seen[2][1].items())
    assert len(lines(tmp_path)) == 3
    saved = torch.load(tmp_path / STATE, weights_only=True)
    assert saved["step"] == 2
    assert all(torch.isfinite(value).all() for value in saved["weights"].values())


def test_a_gradient_that_is_no_number_stops_before_the_step(tmp_path: Path) -> None:
    policy = Toy()

    def loss(index: Sequence[int], draws: Sequence[Draw]) -> tuple[Tensor, dict[str, Tensor]]:
        value, metrics = loss_of(policy)(index, draws)
        return value + (policy.transformer.weight * 0).abs().sqrt().sum(), metrics  # 0, with a slope of 0 x infinity

    before = weights(policy)
    with pytest.raises(UserError, match="the gradient of step 0 is nan"):
        make(tmp_path, policy).run(loss)
    assert torch.equal(weights(policy), before)
    assert not (tmp_path / STATE).exists()


def test_a_weight_that_is_no_number_is_noticed(tmp_path: Path) -> None:
    policy = Toy()
    with torch.no_grad():
        policy.transformer.weight[0, 0] = math.nan
    with pytest.raises(UserError, match="the loss of step 0 is nan"):
        make(tmp_path, policy).run(loss_of(policy))


@pytest.mark.parametrize("when", ["loss", "tell", "look"])
def test_ctrl_c_ends_with_the_state_saved(tmp_path: Path, when: str) -> None:
    whole, policy = Toy(), Toy()
    make(tmp_path / "whole", whole).run(loss_of(whole))

    def interrupt(at: bool) -> float:
        if at:
            os.kill(os.getpid(), signal.SIGINT)
        return 1.0

    before = signal.getsignal(signal.SIGINT)
    loop = make(tmp_path / "out", policy, save_every=100)
    with pytest.raises(KeyboardInterrupt):
        loop.run(
            loss_of(policy, spoil=lambda call: interrupt(when == "loss" and call == 4)),
            tell=lambda step, *_: interrupt(when == "tell" and step == 3) and None,
            look=lambda step: interrupt(when == "look" and step == 3) and None,
            look_every=1,
        )
    assert signal.getsignal(signal.SIGINT) is before
    assert loop.step == 3
    assert torch.load(tmp_path / "out" / STATE, weights_only=True)["step"] == 3
    again = Toy()
    assert make(tmp_path / "out", again, save_every=100).run(loss_of(again))
    assert torch.equal(weights(again), weights(whole))


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    policy, calls = Toy(), list[int]()

    def twice(call: int) -> float:
        calls.append(call)
        if call == 1:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, policy, micro_batch=2).run(loss_of(policy, spoil=twice))
    assert calls == [0, 1]
    assert not (tmp_path / STATE).exists()


def saved(folder: Path) -> bytes:
    policy = Toy()
    make(folder, policy).run(loss_of(policy), stop_after=2)
    return (folder / STATE).read_bytes()


@pytest.mark.parametrize("kind", ["empty", "cut", "text", "another object", "another key"])
def test_a_damaged_state_is_named(tmp_path: Path, kind: str) -> None:
    content = saved(tmp_path)
    if kind == "another object":
        torch.save([1, 2], tmp_path / STATE)
    elif kind == "another key":
        torch.save({**torch.load(tmp_path / STATE, weights_only=True), "more": 1}, tmp_path / STATE)
    else:
        (tmp_path / STATE).write_bytes({"empty": b"", "cut": content[: len(content) // 2], "text": b"hello"}[kind])
    with pytest.raises(UserError, match=r"state.pt is damaged") as error:
        make(tmp_path, Toy())
    assert "delete" in error.value.fix


def test_a_state_of_another_run_or_another_shape_is_refused(tmp_path: Path) -> None:
    content = saved(tmp_path)
    with pytest.raises(UserError, match="another configuration"):
        make(tmp_path, Toy(), run="other")
    other = Toy()
    other.transformer = nn.Linear(3, 4)
    with pytest.raises(UserError, match="another configuration, other data or another model"):
        make(tmp_path, other)
    assert (tmp_path / STATE).read_bytes() == content


def test_a_state_that_cannot_be_written_leaves_the_last_one(tmp_path: Path) -> None:
    content = saved(tmp_path)
    policy = Toy()
    loop = make(tmp_path, policy)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))  # less than the state, more than the log
    try:
        with pytest.raises(UserError, match=r"cannot write .*state.pt"):
            loop.run(loss_of(policy))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / STATE).read_bytes() == content
    assert not (tmp_path / "state.part").exists()


def test_a_batch_that_cannot_be_divided_is_an_error(tmp_path: Path) -> None:
    for processes, values in ((3, {"batch": 8}), (4, {"batch": 8, "micro_batch": 4})):
        accelerator = SimpleNamespace(num_processes=processes)
        with pytest.raises(UserError, match=rf"batch of 8 cannot be divided over {processes} processes"):
            make(tmp_path, Toy(), accelerator=accelerator, **values)
    assert looping.STATE == "state.pt"
