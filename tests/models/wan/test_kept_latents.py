"""The latents that a clip was decoded from, beside it: what they decode to, and what they change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("diffusers")

import torch
from safetensors.torch import load_file

from ipa_bench import video
from ipa_bench.files import file_sha256
from ipa_bench.models.checkpoint import described, locate, recipe_of
from ipa_bench.models.clips import read_note
from ipa_bench.models.specs import WanVaceSpec
from ipa_bench.models.wan import conditioning
from ipa_bench.models.wan.pipeline import load
from ipa_bench.types import Case, UInt8
from tests import tiny_wan
from tests.clips import noise, psnr
from tests.tiny_wan import generator as WanVaceModel


def spec_of(model: Path, **settings: Any) -> WanVaceSpec:
    base: dict[str, Any] = {"name": "tiny", "kind": "wan_vace", "model": str(model), "steps": 2, "dtype": "fp32"}
    return WanVaceSpec.model_validate({**base, **settings})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_wan.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def pipe(model: Path) -> Any:
    return load(spec_of(model), locate(spec_of(model)))


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    """One on the grid of the model, one that is cut from a larger clip."""
    made = []
    for name, frames, size in (("whole", None, None), ("cut", 4, (42, 30))):
        video.encode(noise(5, 32, 48, seed=len(made)), tmp_path / f"{name}.mp4", 10, crf=10)
        made.append(Case(name, tmp_path / f"{name}.mp4", pose=tmp_path / f"{name}.mp4", frames=frames, size=size))
    return made


def luma(frames: UInt8) -> UInt8:
    return np.asarray((frames @ np.array([0.2126, 0.7152, 0.0722])).round(), np.uint8)


def test_stored_latents_decode_to_the_pixels_that_were_coded(
    model: Path, pipe: Any, cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coded: dict[Path, UInt8] = {}
    encode = video.encode

    def watched(frames: UInt8, path: Path, fps: float, **options: Any) -> None:
        coded[path] = frames
        encode(frames, path, fps, **options)

    monkeypatch.setattr(video, "encode", watched)
    made = WanVaceModel(spec_of(model, keep_latents=True), tmp_path / "clips", pipe=pipe)
    for case in cases:
        clips = [made.generate(case, seed) for seed in (0, 1)]
        for clip, other in (clips, clips[::-1]):
            kept = load_file(clip.with_suffix(".safetensors"))["latents"]
            assert (kept.dtype, kept.shape) == (torch.float16, (4, 3, 8, 12))
            frames, height, width = coded[clip].shape[:3]
            decoded = conditioning.decode_latents(pipe, kept[None].float())[:frames, :height, :width]
            assert np.abs(decoded.astype(int) - coded[clip]).max() <= 2  # half precision
            stored = np.stack([frame.image for frame in video.read_frames(clip)])
            # H.264 takes away little of the brightness of noise, and three quarters of its colour
            assert psnr(luma(decoded), luma(stored)) > 38
            assert psnr(luma(decoded), luma(coded[other])) < 20
            note = read_note(clip)
            assert note["latents"] == f"sha256:{file_sha256(clip.with_suffix('.safetensors'))}"


def test_without_being_asked_no_latents_are_kept_and_clips_are_the_same(
    model: Path, pipe: Any, cases: list[Case], tmp_path: Path
) -> None:
    plain = WanVaceModel(spec_of(model), tmp_path / "plain", pipe=pipe).generate(cases[0], 0)
    kept = WanVaceModel(spec_of(model, keep_latents=True), tmp_path / "kept", pipe=pipe).generate(cases[0], 0)
    assert plain.read_bytes() == kept.read_bytes()
    assert "latents" not in read_note(plain)
    assert not list((tmp_path / "plain").glob("*.safetensors"))
    assert len(list((tmp_path / "kept").glob("*.safetensors"))) == 1
    assert not list((tmp_path / "kept").glob("*.part"))


def test_a_recipe_names_the_decoders_dtype_only_where_it_is_another(model: Path) -> None:
    checkpoint = locate(spec_of(model))
    default = recipe_of(spec_of(model), checkpoint)
    assert default == {
        "model": checkpoint.identity, "lora": None, "steps": 2, "guidance": 1.0, "negative_prompt": "", "shift": None,
        "dtype": "fp32", "vae_tiling": False,
    }  # fmt: skip
    assert recipe_of(spec_of(model, decode_dtype="fp32"), checkpoint) == default
    assert recipe_of(spec_of(model, keep_latents=True), checkpoint) == default
    half = spec_of(model, decode_dtype="bf16")
    assert recipe_of(half, checkpoint) == {**default, "decode_dtype": "bf16"}
    assert described(half, recipe_of(half, checkpoint)).endswith(", decoded in bf16")
    assert "decoded" not in described(spec_of(model), default)


def test_the_dtype_of_the_decoder_changes_pixels_a_little_and_latents_not(
    model: Path, pipe: Any, cases: list[Case], tmp_path: Path
) -> None:
    full = WanVaceModel(spec_of(model, keep_latents=True), tmp_path / "full", pipe=pipe).generate(cases[0], 0)
    spec = spec_of(model, keep_latents=True, decode_dtype="bf16")
    half = WanVaceModel(spec, tmp_path / "half", pipe=pipe).generate(cases[0], 0)
    assert json.loads((tmp_path / "half" / "recipe.json").read_bytes())["decode_dtype"] == "bf16"
    assert full.with_suffix(".safetensors").read_bytes() == half.with_suffix(".safetensors").read_bytes()
    assert full.read_bytes() != half.read_bytes()
    assert psnr(video.load(full).frames, video.load(half).frames) > 30
