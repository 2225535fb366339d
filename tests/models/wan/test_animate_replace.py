"""Wan-Animate's mode ``replace``: its clip is the pipeline's, what stays is the case's own, and what lacks is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("diffusers")

import torch
from PIL import Image

from ipa_bench import video
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.models import kinds, shelf
from ipa_bench.models.clips import ClipFolder
from ipa_bench.models.generator import Generator, denoise
from ipa_bench.models.generator import noise as noise_of
from ipa_bench.models.specs import AnimateSpec
from ipa_bench.models.wan import face_crops
from ipa_bench.models.wan.animate import Animate
from ipa_bench.suite import Suite
from ipa_bench.types import Case, UInt8
from tests import tiny_wan
from tests.clips import noise, smooth
from tests.models.wan.test_animate import one_face
from tests.trainers import tiny_runs
from trainers import config as train_config


@pytest.fixture(scope="module")
def base() -> Animate:
    made = Animate(tiny_wan.animate())
    made.pipe.text_encoder.eval()
    made.find = one_face
    made.replaces = True
    return made


def standing(count: int) -> UInt8:
    """White on the left third in the first frame, and further to the right in each that follows."""
    mask = np.zeros((count, 32, 48, 3), np.uint8)
    for index in range(count):
        mask[index, 8:, 2 * index : 16 + 2 * index] = 255
    return mask


def case_of(folder: Path, count: int) -> Case:
    """A clip of ``count`` frames to put somebody into."""
    clips = {
        "pose": noise(count, 32, 48), "wave": noise(count, 60, 80, seed=3), "street": noise(count, 32, 48, seed=5),
        "where": standing(count),
    }  # fmt: skip
    for name, frames in clips.items():
        video.encode(frames, folder / f"{name}.mp4", 10, crf=0)
    Image.fromarray(smooth(1, 40, 40)[0]).save(folder / "anna.png")
    return Case(
        "wave", folder / "wave.mp4", pose=folder / "pose.mp4", reference=folder / "anna.png", prompt="a woman waves",
        background=folder / "street.mp4", character_mask=folder / "where.mp4",
    )  # fmt: skip


def pictures(path: Path | None) -> list[Image.Image]:
    return [Image.fromarray(frame) for frame in video.load(path or Path()).frames]


def by_pipeline(base: Animate, case: Case, count: int, **how: Any) -> np.ndarray:
    """What diffusers makes of it, float ``[T, H, W, 3]`` in [0, 1]."""
    base.pipe.set_progress_bar_config(disable=True)
    asked: dict[str, Any] = {
        "image": Image.open(case.reference or ""), "prompt": "a woman waves", "pose_video": pictures(case.pose),
        "face_video": [Image.fromarray(f) for f in face_crops.crops(case.driving, 10, count, 16, one_face)],
        "background_video": pictures(case.background), "mask_video": pictures(case.character_mask), "mode": "replace",
        "height": 32, "width": 48, "segment_frame_length": 5, "output_type": "np",
    }  # fmt: skip
    return np.asarray(base.pipe(**asked, **how).frames[0])


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@torch.no_grad()
def test_a_clip_is_what_the_pipeline_makes(base: Animate, tmp_path: Path, guidance: float) -> None:
    case = case_of(tmp_path, 5)
    given = base.given(case, case.pose)
    start = torch.randn(1, *base.flow_shape(given.condition), generator=torch.Generator().manual_seed(3))
    condition = base.condition(given.condition, base.texts(["a woman waves"]))
    made = denoise(base, base.scheduler(), start, base.ladder(condition, base.texts(["blur"]), guidance), 3)
    clip = base.decode(base.references.clip(made, 2))
    how = {"negative_prompt": "blur", "num_inference_steps": 3, "guidance_scale": guidance}
    assert np.abs(clip - 255 * by_pipeline(base, case, 5, latents=start, **how)).max() <= tiny_wan.ROUNDED


@torch.no_grad()
def test_a_longer_clip_is_made_in_segments_as_the_pipeline_makes_them(
    base: Animate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 frames in segments of 5, which hold 13: what stays goes back and forth beyond its end, as pose and mask do."""
    case = case_of(tmp_path, 10)
    monkeypatch.setattr(Animate, "segment", 5)
    base.pipe.save_pretrained(tmp_path / "model")
    spec = AnimateSpec(
        name="a", kind="wan_animate", model=str(tmp_path / "model"), mode="replace", steps=2, dtype="fp32"
    )
    model = Generator(spec, tmp_path / "clips", base=base)
    given = base.given(case, case.pose)
    frames, segments = model._continued(case, 0, given, model._sampled([(case, 0, given)])[0])
    assert segments == 3
    numbers = iter(range(3))
    monkeypatch.setattr(
        base.pipe, "prepare_latents", lambda *_, **__: noise_of(case, 0, (1, 16, 3, 4, 6), next(numbers))
    )
    pixels = by_pipeline(base, case, 10, num_inference_steps=2, guidance_scale=1.0)
    assert np.abs(frames[:5] - 255 * pixels[:5]).max() <= tiny_wan.ROUNDED
    # what a segment begins with is a frame of 8 bits here, and none that was rounded there
    assert np.abs(frames[:10] - 255 * pixels).max() <= 2


def test_the_mask_says_what_stays(base: Animate, tmp_path: Path) -> None:
    """1 is given and stays; the first of four channels is the first frame's, as the VAE has one latent frame for it."""
    case = case_of(tmp_path, 5)
    given = base.given(case, case.pose)
    assert given.condition["beside"].shape == (1, 20, 3, 4, 6)
    mask = given.condition["beside"][0, :4]
    assert (mask[:, 0] == 1).all()  # of the picture
    stays = 1 - standing(5)[:, ::8, ::8, 0] / 255  # nearest: the left upper pixel of each latent
    for channel in range(4):
        np.testing.assert_allclose(mask[channel, 1], stays[0], atol=0.02)  # four times the first frame
        np.testing.assert_allclose(mask[channel, 2], stays[1 + channel], atol=0.02)
    other = replace(case, background=case.pose)
    assert not torch.equal(
        base.given(other, case.pose).condition["beside"][:, 4:, 1:], given.condition["beside"][:, 4:, 1:]
    )


def test_without_a_background_the_driving_clip_stays_where_nobody_is_put(base: Animate, tmp_path: Path) -> None:
    case = replace(case_of(tmp_path, 5), background=None)
    stays, mask = base._around(case, 5, 10, (48, 32))
    assert stays.shape == mask.shape == (5, 32, 48, 3)
    white = standing(5)[..., 0] == 255
    assert stays[white].max() == 0
    driving, _ = base._around(replace(case, background=case.driving), 5, 10, (48, 32))
    assert np.array_equal(stays[~white], driving[~white])
    assert driving[white].max() > 0


def test_what_is_lacking_is_said(base: Animate, tmp_path: Path) -> None:
    case = case_of(tmp_path, 5)
    with pytest.raises(Unscorable, match="no character_mask"):
        base.given(replace(case, character_mask=None), case.pose)
    video.encode(standing(3), tmp_path / "short.mp4", 10, crf=0)
    with pytest.raises(Unscorable, match=r"short.mp4: has 3 frames at 10 per second, not 5"):
        base.given(replace(case, character_mask=tmp_path / "short.mp4"), case.pose)
    gone = replace(case, background=tmp_path / "gone.mp4")
    with pytest.raises(Unscorable, match=r"gone.mp4"):
        base.given(gone, case.pose)


def test_its_clips_are_of_what_stays_and_of_its_mode(base: Animate, tmp_path: Path) -> None:
    case = case_of(tmp_path, 5)
    base.pipe.save_pretrained(tmp_path / "model")
    plain = AnimateSpec(name="a", kind="wan_animate", model=str(tmp_path / "model"), dtype="fp32")
    spec = plain.model_copy(update={"mode": "replace"})
    kind = kinds.base_kind(spec)
    assert kind.load(spec, kind.locate(spec), None).replaces  # type: ignore[attr-defined]
    assert not kind.load(plain, kind.locate(plain), None).replaces  # type: ignore[attr-defined]
    assert spec.loaded != plain.loaded
    assert shelf.like(spec) != shelf.like(plain)
    recipes = [kind.recipe(each, kind.locate(each)) for each in (plain, spec)]
    assert recipes[1] == recipes[0] | {"mode": "replace"}
    assert "mode replace" in kind.source(spec, recipes[1])
    one, other = (ClipFolder(tmp_path / name, recipe) for name, recipe in zip("ab", recipes, strict=True))
    changed = [replace(case, background=case.pose), replace(case, character_mask=case.pose)]
    assert {one._inputs(each) for each in changed} == {one._inputs(case)}
    assert len({other._inputs(each) for each in (case, *changed)}) == 3
    suites = {Suite("s", (each,), ()).hash() for each in (case, *changed)}
    assert len(suites) == 3


def test_training_asks_for_the_mask_before_anything_is_loaded(tmp_path: Path) -> None:
    folder = tiny_runs.write(tmp_path / "material")
    with pytest.raises(UserError, match="wan_vace has no modes"):
        tiny_runs.job(folder, "sft", {"model": {"mode": "replace"}})  # what is in the folder is a Wan-VACE
    lacking = {"model": {"mode": "replace", "kind": "wan_animate"}}
    with pytest.raises(UserError, match="case anna has no character_mask"):
        tiny_runs.job(folder, "sft", lacking)
    spec = AnimateSpec(name="a", kind="wan_animate", model="model", mode="replace")
    assert train_config.base_of(spec)["mode"] == "replace"
