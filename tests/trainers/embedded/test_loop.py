"""The training loop: exact resume, atomic state, a loss that is no number."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ipa_bench.errors import UserError
from trainers.embedded import loop
from trainers.embedded.loop import Plan, train
from trainers.embedded.muon import Muon, is_matrix, orthogonalised

PLAN = Plan("toy", seed=3, steps=12, lr=0.05, lr_rest=0.01, ema=0.9)


def toy() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def run(
    model: nn.Module, folder: Path, stop_after: int | None = None, spoil: int | None = None, plan: Plan = PLAN
) -> bool:
    def loss(step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        x = torch.from_numpy(rng.standard_normal((16, 4), np.float32))
        value = (model(x) - x[:, :2] * 2).square().mean()
        return (value * float("nan") if step == spoil else value), {"seen": float(x.sum())}

    return train(plan, model, loss, folder, stop_after=stop_after)


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "toy.jsonl").read_text().splitlines()]


def test_a_run_that_was_stopped_goes_on_exactly(tmp_path: Path) -> None:
    whole, halves = toy(), toy()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert run(whole, tmp_path / "a")
    assert not run(halves, tmp_path / "b", stop_after=5)
    # a kill after the state was saved leaves lines of steps that are not in it, the last one cut
    with (tmp_path / "b" / "toy.jsonl").open("a") as log:
        log.write('{"step": 5, "loss": 99.0}\n{"step": 6, "lo')
    halves = toy()
    assert run(halves, tmp_path / "b")
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert len(losses(tmp_path / "a")) == PLAN.steps
    for one, other in zip(whole.parameters(), halves.parameters(), strict=True):
        assert torch.equal(one, other)


def test_it_learns_and_leaves_the_average(tmp_path: Path) -> None:
    model = toy()
    run(model, tmp_path, plan=replace(PLAN, steps=150))
    values = losses(tmp_path)
    assert np.mean(values[-10:]) < 0.3 * np.mean(values[:10])
    state = torch.load(tmp_path / "toy.pt", weights_only=True)
    assert state["step"] == 150
    assert torch.equal(model[0].weight, state["average"]["0.weight"])
    assert not torch.equal(model[0].weight, state["model"]["0.weight"])


def test_a_loss_that_is_no_number_stops_before_the_step(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the loss of step 4 is nan"):
        run(toy(), tmp_path, spoil=4)
    assert len(losses(tmp_path)) == 4


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    run(toy(), tmp_path, stop_after=2)
    other = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 2))
    with pytest.raises(UserError, match="another shape"):
        run(other, tmp_path)
    (tmp_path / "toy.pt").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"toy\.pt is damaged"):
        run(toy(), tmp_path)
    assert not (tmp_path / "toy.part").exists()


def test_the_learning_rate_warms_up_stays_and_falls() -> None:
    rates = [loop.schedule(step / 1000, step) for step in range(1001)]
    assert rates[0] == pytest.approx(1 / loop.WARMUP)
    assert rates[loop.WARMUP] == rates[299] == pytest.approx(1)
    assert rates[-1] == pytest.approx(0.02)
    assert (np.diff(rates[300:]) <= 0).all()


def test_muon_steps_are_orthogonal() -> None:
    update = torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(1)).flatten(1)
    values = torch.linalg.svdvals(orthogonalised(update))
    assert values.min() > 0.6
    assert values.max() < 1.3
    # by hand: an orthogonal gradient is its own orthogonalisation, up to the iteration's spread of singular values
    turned = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(2)))[0]
    ours = orthogonalised(turned)
    torch.testing.assert_close(ours / ours.norm(), turned / turned.norm(), atol=1e-4, rtol=0)


def test_muon_takes_matrices_and_kernels_and_nothing_else() -> None:
    taken = {(8, 4): True, (8, 4, 3, 3, 3): True, (8,): False, (1, 6, 8): False, (8, 1, 1, 1): False}
    assert {shape: is_matrix(torch.zeros(shape)) for shape in taken} == taken


def test_muon_moves_against_the_gradient() -> None:
    weight = nn.Parameter(torch.zeros(4, 4))
    optimiser = Muon([weight], lr=0.1)
    (weight - torch.eye(4)).square().sum().backward()
    optimiser.step()
    assert weight.diagonal().min() > 0.05
    assert (weight - weight.diagonal().diag()).abs().max() < 1e-3
