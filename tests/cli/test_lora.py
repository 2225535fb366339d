"""The verbs on LoRA files: what they write and print, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ipa_bench.files import LORA_FILE
from tests import tiny_wan
from tests.verbs import verb


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two LoRAs of rank 2 that differ in everything."""
    folder = tmp_path_factory.mktemp("loras")
    return [tiny_wan.save_lora(folder / str(seed), seed) / LORA_FILE for seed in (1, 2)]


def change(file: Path) -> dict[str, torch.Tensor]:
    """up @ down of each layer: alpha is the rank, so the scale is 1."""
    read = load_file(file)
    return {name: (read[name.replace("lora_A", "lora_B")] @ read[name]).float() for name in read if ".lora_A." in name}


def test_mean_strength_and_extraction(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both, twice, small = (tmp_path / f"{name}.safetensors" for name in ("both", "twice", "small"))
    assert verb("lora", "mean", both, *runs) == 0
    one, other, made = change(runs[0]), change(runs[1]), change(both)
    assert capsys.readouterr().out.strip() == f"{both}: rank 4, the mean of 2 runs"
    for name, value in made.items():
        torch.testing.assert_close(value, (one[name] + other[name]) / 2)
    assert verb("lora", "strength", twice, runs[0], "2") == 0
    assert f"2 times the change of {runs[0]}" in capsys.readouterr().out
    for name, value in change(twice).items():
        torch.testing.assert_close(value, 2 * one[name])
    assert verb("lora", "extract", small, both, "1") == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{small}: rank 1, the nearest to {both}; ")
    # the nearest matrix of rank 1 leaves out all singular values but the first
    values = [torch.linalg.svdvals(value.double()) for value in made.values()]
    lost = sum(float((v[1:] ** 2).sum()) for v in values) / sum(float((v**2).sum()) for v in values)
    assert f"; {lost**0.5:.2%} of the change left out" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("mean", "OUT", "nowhere.safetensors"), "nowhere.safetensors cannot be read"),
        (("strength", "OUT", "RUN", "0"), "is no strength"),
        (("strength", "RUN", "RUN", "2"), "is one of the LoRAs to read"),
        (("extract", "OUT", "RUN", "0"), "RANK"),
        (("mean", "OUT"), "Missing"),
    ],
)
def test_mistakes_are_named(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    names = {"OUT": tmp_path / "out.safetensors", "RUN": runs[0]}
    before = runs[0].read_bytes()
    assert verb("lora", *(names.get(word, word) for word in arguments)) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert runs[0].read_bytes() == before
