"""The mean of LoRAs: against the products of the matrices, and in a pipeline."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ipa_bench.errors import UserError
from ipa_bench.models.lora import load_lora
from tests import tiny_wan
from tests.trainers.test_policy import perturb, shown
from tests.trainers.test_strength import change, lora
from trainers import soup
from trainers.config import AdapterConfig
from trainers.policy import FullPolicy, LoraPolicy


@given(st.integers(0, 99), st.floats(0.1, 5), st.integers(1, 4))
def test_it_goes_along_the_mean_of_the_changes(seed: int, strength: float, count: int) -> None:
    start, runs = lora(seed), [lora(seed + 1 + i, rank=2 + i) for i in range(count)]
    mean = torch.stack([change(run) for run in runs]).mean(0)
    found = change(soup.mean_change(runs, start, strength))
    torch.testing.assert_close(found, change(start) + strength * (mean - change(start)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(change(soup.mean_change(runs, None, strength)), strength * mean, rtol=1e-4, atol=1e-4)


def test_other_layers_and_no_run_are_refused() -> None:
    with pytest.raises(ValueError, match="same layers"):
        soup.mean_change([lora(0), {"other.lora_A.weight": torch.zeros(1, 1)}], None)
    with pytest.raises(ValueError, match="no LoRA"):
        soup.mean_change([], None)


def drawn(file: Path) -> torch.Tensor:
    """What the model gives with the LoRA of a file."""
    pipe = tiny_wan.pipeline()
    load_lora(pipe, file, "mean")
    with torch.no_grad():
        return shown(FullPolicy(pipe))


def saved(folder: Path, seed: int, alpha: float = 6.0) -> Path:
    policy = LoraPolicy(tiny_wan.pipeline(), AdapterConfig(rank=3, alpha=alpha), None, 0)
    perturb(policy, seed)
    return policy.save(folder)


def test_the_mean_of_one_lora_with_itself_is_that_lora_in_a_pipeline(tmp_path: Path) -> None:
    one, two = saved(tmp_path / "one", 1), saved(tmp_path / "two", 2)
    out = tmp_path / "mean.safetensors"
    command = [sys.executable, "-m", "trainers.soup", str(out), str(one), str(one)]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "rank 6" in told.stdout
    alone = drawn(one)
    torch.testing.assert_close(drawn(out), alone, rtol=1e-4, atol=1e-5)
    soup.cook(out, [one, two], None, 1.0)
    assert not torch.allclose(drawn(out), alone, rtol=1e-3, atol=1e-4)


def test_from_a_start_it_is_what_the_matrices_say(tmp_path: Path) -> None:
    start, one, two = (saved(tmp_path / name, seed) for name, seed in (("start", 1), ("one", 2), ("two", 3)))
    out = tmp_path / "mean.safetensors"
    (tmp_path / "mean.cost.json").write_text("of another LoRA")
    assert soup.cook(out, [one, two], start, 2.0) == 9
    assert not (tmp_path / "mean.cost.json").exists()
    read = [load_file(file) for file in (start, one, two, out)]
    name = next(key for key in read[0] if ".lora_A." in key)
    changes = [layers[name.replace("lora_A", "lora_B")] @ layers[name] for layers in read]
    wanted = changes[0] + 2.0 * ((changes[1] + changes[2]) / 2 - changes[0])
    torch.testing.assert_close(changes[3], wanted, rtol=1e-4, atol=1e-4)


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    one, other = saved(tmp_path / "one", 1), saved(tmp_path / "other", 1, alpha=3.0)
    with pytest.raises(UserError, match="different scales"):
        soup.cook(tmp_path / "out.safetensors", [one, other], None, 1.0)
    save_file({"x": torch.zeros(1)}, tmp_path / "no.safetensors")
    with pytest.raises(UserError, match="does not say its rank"):
        soup.cook(tmp_path / "out.safetensors", [tmp_path / "no.safetensors"], None, 1.0)
    with pytest.raises(UserError, match="is one of the LoRAs"):
        soup.cook(one, [one, other], None, 1.0)
    (tmp_path / "torn.safetensors").write_bytes(one.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be read"):
        soup.cook(tmp_path / "out.safetensors", [tmp_path / "torn.safetensors"], None, 1.0)
    assert not (tmp_path / "out.safetensors").exists()
