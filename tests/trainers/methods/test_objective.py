"""One batch to one loss: log 2 at the start, noise that depends on the clip alone, a reference that is remembered."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import tiny_wan
from trainers.config import AdapterConfig, LossConfig
from trainers.data.encode import Batch
from trainers.data.reference import ReferenceErrors
from trainers.methods import MethodName, grpo
from trainers.methods import objective as methods
from trainers.methods.draw import Draw, drawn
from trainers.methods.objective import Objective
from trainers.policy import LoraPolicy, Policy, build

SHAPE = (4, 3, 4, 4)
DRAWS = [Draw("a", 0), Draw("b", 7)]


@pytest.fixture(scope="module")
def began() -> Policy:
    """A policy that nothing has moved."""
    return LoraPolicy(tiny_wan.base(), AdapterConfig(rank=4), None, 0)


@pytest.fixture(scope="module")
def moved() -> Policy:
    trained = LoraPolicy(tiny_wan.base(), AdapterConfig(rank=4), None, 0)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in trained.parameters.values():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return trained


def batch(keys: str = "ab", seed: int = 0) -> Batch:
    parts: list[list[Tensor]] = [[], [], [], []]
    for key in keys:
        generator = torch.Generator().manual_seed(1000 * seed + ord(key))
        for part, shape in zip(parts, (SHAPE, (24, *SHAPE[1:]), (5, 16)), strict=False):
            part.append(torch.randn(*shape, generator=generator))
        parts[3].append(torch.rand(2, 4, 4, generator=generator).round())
    latents, control, prompt, mask = (torch.stack(part) for part in parts)
    return Batch(latents, {"control": control, "prompt": prompt}, mask, tuple(f"{key}{seed}" for key in keys))


def loss(policy: Policy, method: MethodName, known: Any = None, good: Batch | None = None, **config: Any) -> Any:
    objective = Objective(method, LossConfig(**config), True, 5, policy, known)
    good = good or batch()
    return objective.loss(good, batch(seed=1) if method == "dpo" else None, DRAWS)


@pytest.mark.parametrize("method", ["ipa", "dpo"])
def test_the_first_loss_is_log_2_to_the_bit(began: Policy, method: MethodName) -> None:
    value, metrics = loss(began, method)
    assert value.item() == torch.tensor(math.log(2)).item()
    assert (metrics["gap"].item(), metrics["gate"].item(), metrics["win"].item()) == (0, 0.5, 0.5)
    value.backward()
    assert any(p.grad is not None and p.grad.any() for p in began.parameters.values())


def test_sft_is_the_error_of_the_policy(moved: Policy) -> None:
    value, metrics = loss(moved, "sft")
    _, same = loss(moved, "ipa")
    assert value.item() == metrics["error"].item() == same["error"].item()


def test_ipa_by_hand(moved: Policy) -> None:
    given, config = batch(), LossConfig(beta=20.0)
    noise, t = drawn(DRAWS, SHAPE, 5, config)

    def error() -> Tensor:
        share = t.view(2, 1, 1, 1, 1)
        made = moved.predict(given, (1 - share) * given.latents + share * noise, t)
        squared = (made - (noise - given.latents)) ** 2
        squared[:, :, 1:] *= (1 + 9 * given.mask)[:, None]  # the reference image's frame weighs 1
        return squared.flatten(1).mean(1)

    with torch.no_grad():
        mine = error()
        with moved.reference():
            theirs = error()
    expected = -torch.log(torch.sigmoid(10 * (1 - t) ** 2 * (theirs - mine))).mean()
    assert loss(moved, "ipa", beta=20.0)[0].item() == pytest.approx(expected.item(), rel=1e-5)


def test_grpo_by_hand(moved: Policy) -> None:
    given, generator = batch(), torch.Generator().manual_seed(3)
    z, old, after = (torch.randn(2, *SHAPE, generator=generator) for _ in range(3))
    old, after = z + 0.05 * old, z + 0.05 * old + 0.1 * after
    s, down, g = (torch.tensor(pair, dtype=torch.float64) for pair in ([0.8, 0.5], [0.6, 0.4], [0.5, 0.3]))
    negative = torch.randn(2, 5, 16, generator=generator)
    taken = methods.Taken(z, old, after, s, down, g, negative, 2.0)
    asked = grpo.Options(kl=0.3, guard=True, even=True, clip=10.0)
    objective = Objective("grpo", LossConfig(), False, 5, moved, None, asked)
    value, metrics = objective.loss(given, None, DRAWS, torch.tensor([1.0, -0.5]), taken)

    def wide(values: Tensor) -> Tensor:
        return values.float().view(2, 1, 1, 1, 1)

    def went() -> Tensor:
        with torch.no_grad():
            cold = moved.base.velocity(z, s, {**given.condition, "prompt": negative})
            v = cold + 2 * (moved.base.velocity(z, s, given.condition) - cold)
        return z + (v + wide(g**2 / (2 * s)) * (z + wide(1 - s) * v)) * wide(down - s)

    mean = went()
    with moved.reference():
        reference = went()
    std = g * (s - down).sqrt()
    ratio = torch.exp(((mean - old) * (after - old)).flatten(1).mean(1) / std)
    factor = std / g**2 + std * (1 - s) / (2 * s)
    policy = (-torch.tensor([1.0, -0.5]) * ratio / (s - down) / factor).mean()
    kl = ((mean - reference).square().flatten(1).mean(1) / (2 * std**2)).mean()
    assert kl > 0
    assert metrics["kl"].item() == pytest.approx(kl.item(), rel=1e-4)
    assert value.item() == pytest.approx((policy + 0.3 * kl).item(), rel=1e-4)
    with pytest.raises(ValueError, match="none of a sampler's steps"):
        objective.loss(given, None, DRAWS, torch.tensor([1.0, -0.5]))


@pytest.mark.parametrize("full", [False, True])
def test_weights_that_change_places_do_so_in_half_precision_too(full: bool) -> None:
    # autocast remembers what it has made of a parameter: the other policy's pass would be this one's
    trained = build(tiny_wan.base(), AdapterConfig(rank=4, full=full), None, 0)
    trained.keep_old()
    given, t = batch(), torch.tensor([0.3, 0.6])
    other = trained.reference if full else trained.as_old
    with torch.no_grad():
        before = trained.predict(given, given.latents, t)
        for parameter in trained.parameters.values():
            parameter += 0.1
        after = trained.predict(given, given.latents, t)
    far = (after - before).abs().mean()
    for first in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            if first:
                with other():
                    theirs = trained.predict(given, given.latents, t)
            mine = trained.predict(given, given.latents, t)
            if not first:
                with other():
                    theirs = trained.predict(given, given.latents, t)
        assert (mine - after).abs().mean() < 0.2 * far
        assert (theirs - before).abs().mean() < 0.2 * far
        assert mine.requires_grad


def test_both_clips_of_a_pair_are_shown_with_the_same_noise(moved: Policy) -> None:
    # a pair of equals says nothing, if and only if noise and t are shared
    objective = Objective("dpo", LossConfig(), True, 5, moved)
    value, metrics = objective.loss(batch(), batch(), DRAWS)
    assert metrics["gap"].item() == 0
    assert metrics["chosen_gap"].item() != 0
    assert value.item() == pytest.approx(math.log(2))


def test_noise_and_t_depend_on_seed_clip_and_draw_alone() -> None:
    config = LossConfig()
    noise, t = drawn([Draw("a", 0), Draw("b", 0), Draw("a", 1)], SHAPE, 0, config)
    for order in ([2, 0, 1], [1], [1, 2]):
        names = [[Draw("a", 0), Draw("b", 0), Draw("a", 1)][i] for i in order]
        again = drawn(names, SHAPE, 0, config)
        assert torch.equal(again[0], noise[order])
        assert torch.equal(again[1], t[order])
    other = drawn([Draw("a", 0)], SHAPE, 1, config)
    everything = [*noise, *other[0]]
    assert all(not torch.equal(a, b) for i, a in enumerate(everything) for b in everything[:i])
    assert len({*t.tolist(), *other[1].tolist()}) == 4
    # standard normal, and of the whole range
    many, levels = drawn([Draw("c", i) for i in range(400)], (16,), 0, config)
    assert many.mean().abs() < 0.05
    assert many.std().item() == pytest.approx(1, abs=0.05)
    assert levels.mean().item() == pytest.approx(0.5, abs=0.05)


class Counting:
    """A policy that counts how often its reference is asked for."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.count = policy, 0

    def reference(self) -> Any:
        self.count += 1
        return self.policy.reference()

    def predict(self, *given: Any) -> Tensor:
        return self.policy.predict(*given)


@pytest.mark.parametrize("method", ["ipa", "dpo"])
def test_a_known_reference_gives_the_same_loss_and_is_not_computed(
    moved: Policy, tmp_path: Path, method: MethodName
) -> None:
    counted: Any = Counting(moved)
    plain, _ = loss(counted, method)
    each = counted.count
    assert each == (2 if method == "dpo" else 1)
    first, _ = loss(counted, method, ReferenceErrors(tmp_path))
    second, _ = loss(counted, method, ReferenceErrors(tmp_path))
    assert counted.count == 2 * each
    assert plain.item() == first.item() == second.item()
    # another draw, another clip: unknown
    objective = Objective("ipa", LossConfig(), True, 5, counted, ReferenceErrors(tmp_path))
    objective.loss(batch(), None, [Draw("a", 0), Draw("b", 8)])
    objective.loss(batch("ac"), None, DRAWS)
    assert counted.count == 2 * each + 2


def test_a_clip_whose_hands_weigh_otherwise_is_another_error(moved: Policy) -> None:
    ten, _ = loss(moved, "sft")
    one, _ = loss(moved, "sft", hand_weight=1.0)
    assert ten > one
    unweighted = Objective("sft", LossConfig(), False, 5, moved).loss(batch(), None, DRAWS)[0]
    assert unweighted.item() == pytest.approx(one.item(), rel=1e-6)
    assert methods.weights(batch(), LossConfig(), False) is None


def test_errors_survive_to_the_bit_and_torn_lines_are_left_out(tmp_path: Path) -> None:
    values = [0.1, 1 / 3, 7e-30, 1.5e20]
    exact = torch.tensor(values).tolist()
    ReferenceErrors(tmp_path).add(["a", "b", "c", "d"], exact)
    ReferenceErrors(tmp_path).add(["e"], [2.0])
    (file, *others) = sorted(tmp_path.glob("*.jsonl"))
    assert len(others) == 1
    with file.open("ab") as torn:
        torn.write(
            b'{"name": "f", "error": 0.2}\n[1]\n{"name": "g"}\n{"name": "h", "error": null}\n\xff\n{"name": "i", "err'
        )
    found = ReferenceErrors(tmp_path)
    assert [found.get(name) for name in "abcd"] == exact
    assert [found.get(name) for name in "efghi"] == [2.0, 0.2, None, None, None]
    assert len(found) == 6
    # what follows a torn line in time lies in another file
    found.add(["i"], [3.0])
    assert ReferenceErrors(tmp_path).get("i") == 3.0


def test_an_error_that_is_no_number_is_not_kept(tmp_path: Path) -> None:
    found = ReferenceErrors(tmp_path)
    found.add(["a", "b", "c"], [math.nan, math.inf, 1.0])
    assert [found.get(name) for name in "abc"] == [None, None, 1.0]
    (file,) = tmp_path.glob("*.jsonl")
    assert [json.loads(line)["name"] for line in file.read_text().splitlines()] == ["c"]
    file.write_text('{"name": "a", "error": NaN}\n')
    assert ReferenceErrors(tmp_path).get("a") is None


def test_a_folder_that_cannot_be_written_costs_speed_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = ReferenceErrors(tmp_path / "file" / "folder")
    found.add(["a"], [1.0])
    assert found.get("a") == 1.0


def test_stratified_levels_of_a_clip_cover_all_however_few_there_are() -> None:
    config = LossConfig(t="stratified")
    firsts = []
    for clip in range(200):
        noise, levels = drawn([Draw(f"c{clip}", number) for number in range(5)], (4,), 0, config)
        firsts.append(float(levels[0]))
        ordered = np.sort(np.append(levels.double().numpy(), float(levels.min()) + 1))
        # three-distance theorem: 5 steps of the golden ratio leave gaps of 0.146 and 0.236 to 0.382
        assert np.diff(ordered).max() < 0.383
        plain, _ = drawn([Draw(f"c{clip}", 0)], (4,), 0, LossConfig())
        assert noise.shape == (5, *plain.shape[1:])
    assert np.quantile(firsts, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.1)
    again = drawn([Draw("c0", 3)], (4,), 0, config)[1]
    assert torch.equal(again, drawn([Draw("c0", number) for number in range(5)], (4,), 0, config)[1][3:4])
