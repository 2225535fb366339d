"""The losses against a slow twin, by hand, and by what must and must not move them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainers import halo
from trainers.flow import flow_error
from trainers.methods.loss import TimeWeight, dpo_loss, ipa_loss, sft_loss, time_weight, wsft_loss

seeds = st.integers(0, 2**32)
betas = st.floats(1, 1000)
kinds = st.sampled_from(["squared", "constant"])
#: batch, channels, video latent frames, height, width
SHAPE = (2, 3, 2, 2, 3)


def values(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draws(seed: int, count: int, batch: int = 4) -> list[Tensor]:
    """``count`` vectors of positive errors and one of noise levels, float64 ``[batch]``."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(batch, generator=generator, dtype=torch.float64) for _ in range(count + 1)]


def slow_ipa(
    model: Any, reference: Any, target: Any, mask: Any, t: list[float], beta: float, w: float, squared: bool
) -> float:
    """HALO-weighted Flow-IPA with Python's loops: errors of frame 0 at 1x, the mask on the frames after it."""
    losses = []
    for b in range(len(t)):
        errors = []
        for field in (model, reference):
            total, elements = 0.0, 0
            for c in range(len(target[b])):
                for f in range(len(target[b][c])):
                    for y in range(len(target[b][c][f])):
                        for x in range(len(target[b][c][f][y])):
                            error = (target[b][c][f][y][x] - field[b][c][f][y][x]) ** 2
                            if f > 0:
                                error *= 1 + (w - 1) * mask[b][f - 1][y][x]
                            total += error
                            elements += 1
            errors.append(total / elements)
        logit = 0.5 * beta * ((1 - t[b]) ** 2 if squared else 1.0) * (errors[1] - errors[0])
        # −log σ(x) = log(1 + e^−x), written so that neither sign overflows
        losses.append(max(-logit, 0.0) + math.log1p(math.exp(-abs(logit))))
    return sum(losses) / len(losses)


@settings(max_examples=12)
@given(seeds, betas, st.floats(1, 20), kinds)
def test_ipa_with_halo_is_its_slow_twin(seed: int, beta: float, strength: float, kind: TimeWeight) -> None:
    b, c, frames, height, width = SHAPE
    target, model, reference = values(seed, 3, b, c, 1 + frames, height, width)
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(b, frames, height, width, generator=generator, dtype=torch.float64)
    t = torch.rand(b, generator=generator, dtype=torch.float64)
    weight = halo.weights(mask, strength)
    loss, _ = ipa_loss(
        flow_error(model, target, weight), flow_error(reference, target, weight), t, beta=beta, weight=kind
    )
    expected = slow_ipa(
        *(v.tolist() for v in (model, reference, target, mask, t)), beta, strength, squared=kind == "squared"
    )
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_ipa_in_the_precision_of_training_is_its_slow_twin() -> None:
    b, c, frames, height, width = SHAPE
    target, noise = values(3, 2, b, c, 1 + frames, height, width).float()
    model, reference, mask = target + 0.05 * noise, target + 0.06 * noise, torch.ones(b, frames, height, width)
    t, weight = torch.tensor([0.2, 0.7]), halo.weights(mask, 10)
    loss, _ = ipa_loss(flow_error(model, target, weight), flow_error(reference, target, weight), t)
    expected = slow_ipa(*(v.tolist() for v in (model, reference, target, mask, t)), 600, 10, squared=True)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


@given(seeds, betas, kinds)
def test_losses_start_at_log_2(seed: int, beta: float, kind: TimeWeight) -> None:
    first, second, t = draws(seed, 2)
    loss, metrics = ipa_loss(first, first, t, beta=beta, weight=kind)
    assert loss.item() == pytest.approx(math.log(2))
    assert (metrics["gap"], metrics["win"], metrics["gate"]) == (0, 0.5, 0.5)
    loss, metrics = dpo_loss(first, second, first, second, t, beta=beta, weight=kind)
    assert loss.item() == pytest.approx(math.log(2))
    assert (metrics["gap"], metrics["win"], metrics["gate"]) == (0, 0.5, 0.5)


def test_sft_by_hand() -> None:
    loss, metrics = sft_loss(torch.tensor([1.0, 3.0], requires_grad=True))
    assert loss.item() == 2.0
    assert metrics == {"error": torch.tensor(2.0)}


def test_ipa_by_hand() -> None:
    error, reference, t = torch.tensor([0.2, 0.5, 0.4]), torch.tensor([0.3, 0.5, 0.1]), torch.tensor([0.5, 0.0, 0.0])
    # logits 20/2 · (0.25 · 0.1, 1 · 0, 1 · −0.3) = 0.25, 0, −3
    loss, metrics = ipa_loss(error, reference, t, beta=20.0)
    assert loss.item() == pytest.approx((0.575939 + 0.693147 + 3.048587) / 3, abs=1e-6)
    assert {name: pytest.approx(value.item(), abs=1e-6) for name, value in metrics.items()} == {
        "error": 1.1 / 3,
        "reference_error": 0.3,
        "gap": -0.2 / 3,
        "win": 0.5,
        "gate": (0.437823 + 0.5 + 0.952574) / 3,
    }
    # logits 20/2 · 0.1 = 1, 0, −3
    loss, _ = ipa_loss(error, reference, t, beta=20.0, weight="constant")
    assert loss.item() == pytest.approx((0.313262 + 0.693147 + 3.048587) / 3, abs=1e-6)


def test_dpo_by_hand_and_displacement_shows() -> None:
    arguments = [torch.tensor([v]) for v in (0.5, 0.9, 0.4, 0.6, 0.5)]
    # gaps −0.1 and −0.3: worse on the chosen, more so on the rejected; logit 20/2 · 0.25 · 0.2 = 0.5
    loss, metrics = dpo_loss(*arguments, beta=20.0, weight="squared")
    assert loss.item() == pytest.approx(0.474077, abs=1e-6)
    assert {name: pytest.approx(value.item(), abs=1e-6) for name, value in metrics.items()} == {
        "chosen_error": 0.5,
        "rejected_error": 0.9,
        "chosen_gap": -0.1,
        "rejected_gap": -0.3,
        "gap": 0.2,
        "win": 1.0,
        "gate": 0.377541,
    }
    loss, _ = dpo_loss(*arguments, beta=20.0, weight="constant")
    assert loss.item() == pytest.approx(0.126928, abs=1e-6)


def test_time_weight_by_hand() -> None:
    t = torch.tensor([0.0, 0.5, 1.0])
    assert time_weight(t, "squared").tolist() == [1.0, 0.25, 0.0]
    assert time_weight(t, "constant").tolist() == [1.0, 1.0, 1.0]


@given(seeds, betas)
def test_pure_noise_has_no_gradient_and_others_keep_theirs(seed: int, beta: float) -> None:
    error, other, reference, other_reference, t = draws(seed, 4)
    t[1] = 1.0
    error.requires_grad_()
    other.requires_grad_()
    ipa_loss(error, reference, t, beta=beta)[0].backward()
    assert error.grad is not None
    assert error.grad[1] == 0
    # a sample's gradient is its own: the same alone, but for the mean over four
    alone = error[:1].detach().requires_grad_()
    ipa_loss(alone, reference[:1], t[:1], beta=beta)[0].backward()
    assert alone.grad is not None
    torch.testing.assert_close(error.grad[:1], alone.grad / 4)
    error.grad = None
    dpo_loss(error, other, reference, other_reference, t, beta=beta, weight="squared")[0].backward()
    for leaf in (error, other):
        assert leaf.grad is not None
        assert leaf.grad[1] == 0


@given(seeds, betas, kinds, st.floats(-3, 3))
def test_dpo_sees_only_the_difference_of_gaps(seed: int, beta: float, kind: TimeWeight, shift: float) -> None:
    chosen, rejected, chosen_reference, rejected_reference, t = draws(seed, 4)
    plain = dpo_loss(chosen, rejected, chosen_reference, rejected_reference, t, beta=beta, weight=kind)[0]
    for moved in (
        (chosen + shift, rejected + shift, chosen_reference, rejected_reference),
        (chosen + shift, rejected, chosen_reference + shift, rejected_reference),
        (chosen, rejected + shift, chosen_reference, rejected_reference + shift),
    ):
        torch.testing.assert_close(dpo_loss(*moved, t, beta=beta, weight=kind)[0], plain, rtol=1e-9, atol=1e-9)


@given(seeds, st.floats(-3, 3))
def test_ipa_sees_only_the_gap(seed: int, shift: float) -> None:
    error, reference, t = draws(seed, 2)
    moved = ipa_loss(error + shift, reference + shift, t)[0]
    torch.testing.assert_close(moved, ipa_loss(error, reference, t)[0], rtol=1e-9, atol=1e-9)


@given(seeds, st.floats(1, 50), kinds)
def test_a_step_lowers_the_chosen_error_and_raises_the_rejected(seed: int, beta: float, kind: TimeWeight) -> None:
    chosen, rejected, chosen_reference, rejected_reference, t = draws(seed, 4)
    chosen.requires_grad_()
    rejected.requires_grad_()
    dpo_loss(chosen, rejected, chosen_reference, rejected_reference, t, beta=beta, weight=kind)[0].backward()
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert (chosen.grad > 0).all()
    assert (rejected.grad < 0).all()
    torch.testing.assert_close(chosen.grad, -rejected.grad)


@given(seeds, betas, kinds)
def test_the_ipa_gradient_is_a_gated_sft_gradient(seed: int, beta: float, kind: TimeWeight) -> None:
    target, model, reference = values(seed, 3, *SHAPE) / 10
    t = draws(seed, 0, SHAPE[0])[0]
    model.requires_grad_()
    error, fixed = flow_error(model, target), flow_error(reference, target)
    loss, metrics = ipa_loss(error, fixed, t, beta=beta, weight=kind)
    (gradient,) = torch.autograd.grad(loss, model, retain_graph=True)
    factor = beta / 2 * time_weight(t, kind)
    gate = (-(factor * (fixed - error.detach()))).sigmoid()
    (of_error,) = torch.autograd.grad((error * gate * factor).mean(), model)
    torch.testing.assert_close(gradient, of_error, rtol=1e-9, atol=1e-12)
    assert metrics["gate"].item() == pytest.approx(gate.mean().item())


def test_dpo_without_a_rejected_gap_is_ipa() -> None:
    error, reference, rejected, t = draws(5, 3)
    dpo = dpo_loss(error, rejected, reference, rejected, t, beta=600, weight="squared")[0]
    torch.testing.assert_close(dpo, ipa_loss(error, reference, t)[0])


def test_references_get_no_gradient_and_metrics_hold_no_graph() -> None:
    chosen, rejected, chosen_reference, rejected_reference, t = (v.requires_grad_() for v in draws(1, 4))
    results = (
        sft_loss(chosen),
        ipa_loss(chosen, chosen_reference, t),
        dpo_loss(chosen, rejected, chosen_reference, rejected_reference, t, beta=10.0, weight="squared"),
    )
    sum(loss for loss, _ in results).backward()
    assert chosen_reference.grad is None
    assert rejected_reference.grad is None
    for loss, metrics in results:
        assert loss.ndim == 0
        assert all(value.ndim == 0 and not value.requires_grad for value in metrics.values())


def test_a_gap_far_from_zero_stays_finite() -> None:
    error = torch.tensor([100.0, 0.0], requires_grad=True)
    loss, _ = ipa_loss(error, torch.tensor([0.0, 100.0]), torch.zeros(2))
    loss.backward()
    # −log σ(−30000) is 30000: linear, where log(sigmoid) would be infinite
    assert loss.item() == 15000.0
    assert error.grad is not None
    assert error.grad.tolist() == [150.0, 0.0]


@pytest.mark.parametrize(
    "call",
    [
        lambda: sft_loss(torch.zeros(2, 1)),
        lambda: sft_loss(torch.tensor(0.0)),
        lambda: ipa_loss(torch.zeros(2), torch.zeros(2, 1), torch.zeros(2)),
        lambda: ipa_loss(torch.zeros(2), torch.zeros(1), torch.zeros(2)),
        lambda: ipa_loss(torch.zeros(2), torch.zeros(2), torch.tensor(0.5)),
        lambda: dpo_loss(*[torch.zeros(2)] * 3, torch.zeros(3), torch.zeros(2), beta=1.0, weight="squared"),
    ],
)
def test_shapes_that_differ_are_an_error(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="one value per sample"):
        call()


# ---------------------------------------------------------------------------------------------------------------------
# what goes beyond the published losses


def test_weights_of_one_are_sft_and_others_are_by_hand() -> None:
    error = torch.tensor([1.0, 3.0])
    assert wsft_loss(error, torch.ones(2))[0] == sft_loss(error)[0]
    loss, metrics = wsft_loss(error, torch.tensor([1.5, 0.5]))
    assert (loss.item(), metrics["error"].item()) == (1.5, 2.0)
    with pytest.raises(ValueError, match="one value per sample"):
        wsft_loss(error, torch.ones(2, 1))


@given(seeds, st.floats(1e-3, 1e3))
def test_a_relative_logit_does_not_know_how_large_errors_are(seed: int, size: float) -> None:
    error, reference, t = draws(seed, 2)
    reference = reference + 0.01
    loss = [ipa_loss(error * s, reference * s, t, beta=20, logit="relative")[0].item() for s in (1.0, size)]
    assert loss[0] == pytest.approx(loss[1], rel=1e-9)
    by_hand = [
        math.log1p(math.exp(-10 * (1 - c) ** 2 * (b - a) / b)) for a, b, c in zip(error, reference, t, strict=True)
    ]
    assert loss[0] == pytest.approx(sum(by_hand) / 4, rel=1e-9)


@given(seeds, betas, kinds)
def test_a_gate_that_stays_half_open_has_the_gradient_of_the_start(seed: int, beta: float, weight: TimeWeight) -> None:
    error, reference, t = draws(seed, 2)
    error.requires_grad_()
    loss, metrics = ipa_loss(error, reference, t, beta=beta, weight=weight, gate="half")
    loss.backward()
    torch.testing.assert_close(error.grad, beta / 4 * time_weight(t, weight) / 4)
    assert metrics["gate"].item() == 0.5
    same = ipa_loss(reference, reference, t, beta=beta, weight=weight, gate="half")[0]
    assert same.item() == pytest.approx(math.log(2))


def test_dpo_with_an_sft_term_adds_the_chosen_error() -> None:
    *errors, t = draws(3, 4)
    plain = dpo_loss(*errors, t, beta=10.0, weight="squared")[0]
    more = dpo_loss(*errors, t, beta=10.0, weight="squared", sft=2.0)[0]
    assert (more - plain).item() == pytest.approx(2 * errors[0].mean().item())
