"""What is kept of what cases give a base."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("diffusers")

import torch

from ipa_bench.models.base import Given
from ipa_bench.models.shelf import Shelf, like
from ipa_bench.models.specs import WanVaceSpec
from ipa_bench.types import Case

CASES = [Case(name, Path(f"{name}.mp4")) for name in "abc"]
SPEC = WanVaceSpec(name="m", kind="wan_vace", model="folder")


def given(floats: int) -> Given:
    return Given({"control": torch.zeros(floats)}, frames=1, fps=1.0, size=(1, 1))


def test_what_comes_first_is_kept_as_far_as_there_is_room() -> None:
    shelf = Shelf(most=100)
    made = [given(10), given(20), given(15)]
    for case, each in zip(CASES, made, strict=True):
        shelf.put(case, each)
    # 40 bytes, 80 more that do not fit, 60 that do
    assert [shelf.get(case) for case in CASES] == [made[0], None, made[2]]
    shelf.put(CASES[0], given(10))
    assert shelf.get(CASES[0]) is made[0]


def test_what_refers_to_the_model_is_not_kept() -> None:
    shelf = Shelf()
    shelf.put(CASES[0], replace(given(1), later=lambda _: given(1)))
    assert shelf.get(CASES[0]) is None


@pytest.mark.parametrize(
    ("change", "alike"),
    [
        ({"lora": Path("l.safetensors")}, True),
        ({"steps": 3, "guidance": 5.0}, True),
        ({"model": "other"}, False),
        ({"weights": Path("w.safetensors")}, False),
        ({"vae_tiling": True}, False),
        ({"dtype": "fp32"}, False),
    ],
)
def test_models_that_differ_in_their_lora_are_given_the_same(change: dict[str, object], alike: bool) -> None:
    assert (like(SPEC.model_copy(update=change)) == like(SPEC)) is alike
