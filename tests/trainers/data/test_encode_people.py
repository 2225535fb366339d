"""Clips of several people, encoded to train on: a latent frame for each reference, remembered by whose they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers")

import torch
from PIL import Image

from ipa_bench import video
from ipa_bench.files import file_sha256
from ipa_bench.models.wan.vace import WanVace
from ipa_bench.types import Case
from tests import tiny_wan
from tests.clips import noise
from trainers.config import DataConfig
from trainers.data.clips import Clip, Data, hashes
from trainers.data.encode import Encoder


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny_wan.pipeline()


def test_references_in_another_order_are_another_condition(pipe: Any, tmp_path: Path) -> None:
    clip = tmp_path / "duo.mp4"
    video.encode(noise(5, 16, 16), clip, 10)
    for index, name in enumerate(("anna", "ben")):
        Image.fromarray(noise(1, 16, 16, seed=7 + index)[0]).save(tmp_path / f"{name}.png")
    people = tuple((name, tmp_path / f"{name}.png") for name in ("anna", "ben"))
    case = Case("duo", clip, clip, references=people, pose=clip, prompt="two")
    data = DataConfig.model_validate({"suite": "s", "selection": "t", "mask": "none"})
    encoder = Encoder(WanVace(pipe), "tiny", data, tmp_path / "cache", None)
    one = encoder.encode(Clip(case, clip, None, file_sha256(clip)))
    two = encoder.encode(Clip(replace(case, references=people[::-1]), clip, None, file_sha256(clip)))
    assert one.latents.shape[1] == one.mask.shape[0] + 2
    assert one.key != two.key
    assert torch.equal(one.latents[:, 0], two.latents[:, 1])
    assert torch.equal(one.condition["control"][:, 2:], two.condition["control"][:, 2:])
    assert not torch.equal(one.condition["control"][:, 0], two.condition["control"][:, 0])


def test_training_on_other_references_is_another_training(tmp_path: Path) -> None:
    for name in ("anna", "ben", "duo"):
        (tmp_path / name).write_bytes(name.encode())
    people = tuple((name, tmp_path / name) for name in ("anna", "ben"))
    case = Case("duo", tmp_path / "duo", references=people, poses=people)
    clip = Clip(case, tmp_path / "duo", None, file_sha256(tmp_path / "duo"))
    cases = (case, replace(case, references=people[::-1]), replace(case, poses=()))
    said = {hashes(Data((replace(clip, case=each),), (), ())) for each in cases}
    assert len(said) == len(cases)
