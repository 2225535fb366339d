"""Wan-Animate: its clip is the pipeline's, faces are cut from the driving clip, and what it cannot take is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("diffusers")

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from ipa_bench import video
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.models import kinds
from ipa_bench.models.clips import ClipFolder
from ipa_bench.models.generator import Generator, denoise
from ipa_bench.models.generator import noise as noise_of
from ipa_bench.models.outline import Lora
from ipa_bench.models.specs import AnimateSpec
from ipa_bench.models.wan import face_crops, names
from ipa_bench.models.wan.animate import Animate
from ipa_bench.models.wan.animate_outline import AnimateOutline, named, of_folder
from ipa_bench.observers.detector import Face
from ipa_bench.types import Case
from tests import tiny_wan
from tests.clips import noise, smooth
from tests.models.wan.counting import count_flops
from tests.models.wan.test_experts import same
from trainers.config import AdapterConfig
from trainers.policy import LoraPolicy


def one_face(image: Any) -> list[Face]:
    """A face in the left upper quarter of every picture."""
    height, width = image.shape[:2]
    box = np.array([0, 0, width / 2, height / 2], np.float32)
    return [Face(box, np.zeros((5, 2), np.float32), 0.9)]


@pytest.fixture(scope="module")
def base() -> Animate:
    made = Animate(tiny_wan.animate())
    made.pipe.text_encoder.eval()
    made.find = one_face
    return made


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("case")
    video.encode(noise(5, 32, 48), folder / "pose.mp4", 10, crf=0)
    video.encode(noise(5, 60, 80, seed=3), folder / "wave.mp4", 10, crf=0)
    Image.fromarray(smooth(1, 40, 40)[0]).save(folder / "anna.png")
    return Case(
        "wave", folder / "wave.mp4", pose=folder / "pose.mp4", reference=folder / "anna.png", prompt="a woman waves"
    )


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@torch.no_grad()
def test_a_clip_is_what_the_pipeline_makes(base: Animate, case: Case, guidance: float) -> None:
    given = base.given(case, case.pose)
    start = torch.randn(1, *base.flow_shape(given.condition), generator=torch.Generator().manual_seed(3))
    assert start.shape == (1, 16, 3, 4, 6)
    condition = base.condition(given.condition, base.texts(["a woman waves"]))
    made = denoise(base, base.scheduler(), start, base.ladder(condition, base.texts(["blur"]), guidance), 3)
    pipe = base.pipe
    pipe.set_progress_bar_config(disable=True)
    faces = face_crops.crops(case.driving, 10, 5, 16, one_face)
    asked: dict[str, Any] = {
        "image": Image.open(case.reference or ""), "prompt": "a woman waves", "negative_prompt": "blur",
        "pose_video": [Image.fromarray(f) for f in video.load(case.pose or Path()).frames],
        "face_video": [Image.fromarray(f) for f in faces], "height": 32, "width": 48, "segment_frame_length": 5,
        "num_inference_steps": 3, "guidance_scale": guidance, "latents": start,
    }  # fmt: skip
    pixels = pipe(**asked, output_type="np").frames[0]
    clip = base.decode(base.references.clip(made, 2))
    assert np.abs(clip - 255 * pixels).max() <= tiny_wan.ROUNDED


def test_the_pictures_frame_is_a_part_of_the_flow(base: Animate, case: Case) -> None:
    given = base.given(case, case.pose)
    assert {name: (tuple(t.shape), t.dtype) for name, t in given.condition.items()} == {
        "beside": ((1, 20, 3, 4, 6), torch.float32),
        "pose": ((1, 16, 2, 4, 6), torch.float32),
        "image": ((1, 5, 8), torch.float32),
        "face": ((1, 3, 5, 16, 16), torch.uint8),
    }
    latents = base.encode(noise(5, 32, 48))
    flow = base.flow_input(latents, given.condition)
    assert torch.equal(flow[:, :, 1:], latents)
    assert torch.equal(flow[:, :, :1], given.condition["beside"][:, 4:, :1])
    assert (given.condition["beside"][:, :4, :1] == 1).all()  # the picture is given,
    assert (given.condition["beside"][:, :4, 1:] == 0).all()  # and nothing of the clip
    assert base.reference_frames(case) == 1


def test_a_face_is_followed_and_cut_as_a_square() -> None:
    def face(x: float, side: float) -> Face:
        return Face(np.array([x, 10, side, side], np.float32), np.zeros((5, 2), np.float32), 0.9)

    found = face_crops.followed([[], [face(0, 10), face(50, 20)], [face(0, 30), face(48, 18)], [], []])
    assert [None if box is None else box[0] for box in found] == [50, 50, 48, 48, 48]
    assert face_crops.followed([[], []]) == [None, None]
    image = np.zeros((40, 40, 3), np.uint8)
    image[10:30, 10:30] = 255
    cut = face_crops._cut(image, np.array([10, 10, 20, 20], np.float32), 26)
    assert cut.shape == (26, 26, 3)  # 1.3 times as large, so that 3 pixels of each side are around the face
    assert (cut[3:23, 3:23] == 255).all()
    assert cut[:3].max() == 0


def test_a_clip_without_a_face_is_given_black_pictures(case: Case) -> None:
    assert face_crops.crops(case.driving, 10, 5, 16, lambda _: []).max() == 0
    longer = face_crops.crops(case.driving, 10, 9, 16, one_face)
    assert longer.shape == (9, 16, 16, 3)
    assert np.array_equal(longer[8], longer[4])
    slow = face_crops.crops(case.driving, 5, 3, 16, one_face)  # at the pose's rate, whatever its own
    assert np.array_equal(slow, longer[[0, 2, 4]])


def test_what_it_cannot_take_is_said(base: Animate, case: Case, tmp_path: Path) -> None:
    with pytest.raises(Unscorable, match="no pose video"):
        base.given(case, None)
    two = replace(case, reference=None, references=(("anna", case.reference), ("ben", case.reference)))  # type: ignore[arg-type]
    with pytest.raises(Unscorable, match="animates one person"):
        base.given(two, case.pose)
    with pytest.raises(UserError, match="no control branch"):
        base.adapted("qkv", "vace")


@torch.no_grad()
def test_a_longer_clip_is_made_in_segments_as_the_pipeline_makes_them(
    base: Animate, case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """11 frames in segments of 5: the second and the third begin with the last frame of the one before."""
    video.encode(noise(11, 32, 48), tmp_path / "pose.mp4", 10, crf=0)
    video.encode(noise(11, 60, 80, seed=3), tmp_path / "wave.mp4", 10, crf=0)
    long = replace(case, pose=tmp_path / "pose.mp4", driving=tmp_path / "wave.mp4")
    monkeypatch.setattr(Animate, "segment", 5)
    base.pipe.save_pretrained(tmp_path / "model")
    spec = AnimateSpec(name="a", kind="wan_animate", model=str(tmp_path / "model"), steps=2, dtype="fp32")
    model = Generator(spec, tmp_path / "clips", base=base)
    (made,) = model.generate_many([(long, 0)])
    assert made.sampled is not None
    assert made.sampled.segments == 3
    assert video.load(made.path or Path()).frames.shape == (11, 32, 48, 3)
    walked = Generator(spec, tmp_path / "walked", base=base, sample=lambda *_: pytest.fail("it was sampled"))
    (made,) = walked.generate_many([(long, 0)])
    assert made.reason == "its 11 frames are more than the model makes at once and learns from"
    given = base.given(long, long.pose)
    frames, _ = model._continued(long, 0, given, model._sampled([(long, 0, given)])[0])
    pipe, segments = base.pipe, iter(range(3))
    pipe.set_progress_bar_config(disable=True)
    monkeypatch.setattr(pipe, "prepare_latents", lambda *_, **__: noise_of(long, 0, (1, 16, 3, 4, 6), next(segments)))
    pixels = pipe(
        image=Image.open(case.reference or ""), prompt="a woman waves", height=32, width=48, segment_frame_length=5,
        pose_video=[Image.fromarray(f) for f in video.load(long.pose or Path()).frames],
        face_video=[Image.fromarray(f) for f in face_crops.crops(long.driving, 10, 11, 16, one_face)],
        num_inference_steps=2, guidance_scale=1.0, output_type="np",
    ).frames[0]  # fmt: skip
    assert np.abs(frames[:5] - 255 * pixels[:5]).max() <= tiny_wan.ROUNDED
    # what a segment begins with is a frame of 8 bits here, and none that was rounded there
    assert np.abs(frames[:11] - 255 * pixels).max() <= 2


def test_it_counts_what_a_pass_does(base: Animate) -> None:
    outline = base.outline
    shape = outline.shape(5, (48, 32))
    given = {name: torch.randn(1, *sides) for name, sides in outline.condition(shape).items()}
    z = torch.randn(1, *outline.flow(shape))
    whole = count_flops(lambda: base.velocity(z, torch.tensor([0.5]), given)).flops.value
    face = 2.0 * (given["face"] / 255) - 1
    moving = base.transformer.motion_encoder(face[0].permute(1, 0, 2, 3))
    left_out = count_flops(lambda: base.transformer.motion_encoder(face[0].permute(1, 0, 2, 3))).flops.value
    left_out += count_flops(lambda: base.transformer.face_encoder(moving[None])).flops.value  # type: ignore[operator]
    assert outline.forward_flops(shape) == whole - left_out  # type: ignore[operator]
    policy = LoraPolicy(Animate(tiny_wan.animate()), AdapterConfig(rank=3), None, 0)
    assert outline.training_bytes("fp32", Lora(3)).adapter == 4 * sum(p.numel() for p in policy.parameters.values())
    assert any("add_k_proj" in name for name in policy.parameters)
    weights = sum(p.numel() for p in base.transformer.parameters())
    assert outline.training_bytes("fp32", None).weights == 4 * weights


def test_random_weights_of_its_shape_run(base: Animate) -> None:
    made = AnimateOutline("random", *base.described(), seen=base.pipe.image_encoder.config.to_dict())
    built = made.built("fp32", torch.device("cpu"))
    shape = made.shape(5, (48, 32))
    given = {name: torch.randn(1, *sides) for name, sides in made.condition(shape).items()}
    out = built.velocity(torch.randn(1, *made.flow(shape)), torch.tensor([0.5]), given)
    assert torch.isfinite(out).all()
    assert named("wan2.2-animate-14b", True).image_tokens == 257


def authors(transformer: Any) -> dict[str, Tensor]:
    """The weights under the names of the authors, the face adapter's keys and values together."""
    state = dict(transformer.state_dict())
    found: dict[str, Tensor] = {}
    blocks = {"conv1.weight": "conv1.0.weight", "conv1.act_fn.bias": "conv1.1.bias", "conv2.weight": "conv2.1.weight",
              "conv2.act_fn.bias": "conv2.2.bias", "conv_skip.weight": "skip.1.weight"}  # fmt: skip
    for name, value in state.items():
        layer, _, leaf = name.rpartition(".")
        if name.startswith("face_adapter."):
            _, number, *rest = name.split(".")
            part, ending = ".".join(rest[:-1]), rest[-1]
            new = f"face_adapter.fuser_blocks.{number}."
            if part == "to_k":
                found[f"{new}linear1_kv.{ending}"] = torch.cat([value, state[name.replace("to_k", "to_v")]])
            elif part != "to_v":
                own = {"to_q": "linear1_q", "to_out": "linear2", "norm_q": "q_norm", "norm_k": "k_norm"}[part]
                found[f"{new}{own}.{ending}"] = value
        elif name.startswith("face_encoder."):
            own = name
            for part in ("conv1_local", "conv2", "conv3"):
                own = own.replace(f"{part}.", f"{part}.conv.")
            found[own] = value
        elif name == "motion_encoder.motion_synthesis_weight":
            found["motion_encoder.dec.direction.weight"] = value
        elif name.startswith("motion_encoder.motion_network"):
            found[name.replace("motion_network", "enc.fc")] = value
        elif name.startswith("motion_encoder."):
            _, part, *rest = name.split(".")
            place = {"conv_in": "0", "conv_out": "8"}.get(part) or str(int(rest.pop(0)) + 1)
            ending = {"conv_in": {"weight": "0.weight", "act_fn.bias": "1.bias"}}.get(part, blocks)
            new = f"motion_encoder.enc.net_app.convs.{place}.{ending.get('.'.join(rest), '.'.join(rest))}"
            found[new] = value[None, :, None, None].clone() if new.endswith("bias") else value
        elif name.startswith("pose_patch_embedding"):
            found[name] = value
        else:
            found[names.authors(name) or f"{names.authors(layer)}.{leaf}"] = value
    return found


def test_its_folder_and_clips(base: Animate, case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipa_bench.models.wan.face_crops.detector", lambda: one_face)
    base.pipe.save_pretrained(tmp_path / "model")
    spec = AnimateSpec(name="a", kind="wan_animate", model=str(tmp_path / "model"), steps=2, dtype="fp32")
    assert kinds.base_of(str(tmp_path / "model")) == "wan_animate"
    assert of_folder("a", tmp_path / "model").image_tokens == 5
    model = Generator(spec, tmp_path / "clips")
    made = video.load(model.generate(case, 0))
    assert made.frames.shape == (5, 32, 48, 3)
    # another driving clip is another face, though the pose is the same
    other = replace(case, driving=case.pose)  # type: ignore[arg-type]
    assert isinstance(model.clips, ClipFolder)
    assert model.clips.find(case, 0) is not None
    assert model.clips.find(other, 0) is None


def test_weights_with_the_names_of_their_authors(base: Animate, tmp_path: Path) -> None:
    other = tiny_wan.animate(seed=1)
    save_file({name: t.contiguous() for name, t in authors(other.transformer).items()}, tmp_path / "w.safetensors")
    base.pipe.save_pretrained(tmp_path / "model")
    spec = AnimateSpec(
        name="a", kind="wan_animate", model=str(tmp_path / "model"), dtype="fp32", weights=tmp_path / "w.safetensors"
    )
    loaded = kinds.base_kind(spec).load(spec, kinds.base_kind(spec).locate(spec), None)
    assert same(loaded.transformer, other.transformer)
