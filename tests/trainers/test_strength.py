"""The change that training made, applied more than once: against the products of the matrices."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from ipa_bench.files import LORA_FILE
from tests import tiny_wan
from tests.trainers.test_policy import perturb, shown
from trainers.config import AdapterConfig
from trainers.policy import LoraPolicy
from trainers.strength import strengthened

A, B = "blocks.0.to_q.lora_A.weight", "blocks.0.to_q.lora_B.weight"


def lora(seed: int, rank: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {A: torch.randn(rank, 5, generator=generator), B: torch.randn(3, rank, generator=generator)}


def change(layers: dict[str, Tensor]) -> Tensor:
    return layers[B] @ layers[A]


@given(st.integers(0, 99), st.floats(0.1, 5))
def test_it_goes_from_the_start_through_the_trained_one_and_on(seed: int, strength: float) -> None:
    trained, start = lora(seed), lora(seed + 1)
    wanted = change(start) + strength * (change(trained) - change(start))
    torch.testing.assert_close(change(strengthened(trained, start, strength)), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(change(strengthened(trained, None, strength)), strength * change(trained))


def test_one_leaves_everything_as_it_is() -> None:
    trained = lora(0)
    for start in (None, lora(1)):
        same = strengthened(trained, start, 1.0)
        assert same.keys() == trained.keys()
        assert all(torch.equal(same[name], trained[name]) for name in trained)


def test_other_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="same layers"):
        strengthened(lora(0), {"other.lora_A.weight": torch.zeros(1, 1)}, 2.0)


@pytest.mark.parametrize("continued", [False, True])
def test_a_lora_saved_with_strength_one_half_is_half_way(tmp_path: Path, continued: bool) -> None:
    config = AdapterConfig(rank=3, alpha=6.0)
    start = None
    if continued:
        first = LoraPolicy(tiny_wan.pipeline(), config, None, 0)
        perturb(first, 5)
        start = first.save(tmp_path / "start")
    # Halfway between start and trained, then twice as far: the trained one again.
    half = LoraPolicy(tiny_wan.pipeline(), config.model_copy(update={"strength": 2.0}), start, 0)
    before = {name: p.detach().clone() for name, p in half.parameters.items() if "lora_B" in name}
    with torch.no_grad():
        for name, parameter in half.parameters.items():
            if "lora_B" in name:
                parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
        full = LoraPolicy(tiny_wan.pipeline(), config, start, 0)
        for name, parameter in full.parameters.items():
            parameter.copy_(half.parameters[name])
            if name in before:
                parameter += half.parameters[name] - before[name]
    full_file, half_file = full.save(tmp_path / "full"), half.save(tmp_path / "half")
    rank = {t.shape[0] for name, t in load_file(half_file).items() if "lora_A" in name}
    assert rank == ({6} if continued else {3})
    with torch.no_grad():
        again = [shown(LoraPolicy(tiny_wan.pipeline(), config, file, 0)) for file in (full_file, half_file)]
    torch.testing.assert_close(again[0], again[1], rtol=1e-4, atol=1e-5)
    assert half_file.name == LORA_FILE
