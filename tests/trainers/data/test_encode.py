"""Clips as tensors: what the pipeline itself would show the model, encoded once, with the hands where they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ipa_bench import video
from ipa_bench.embedded import cases as embedded
from ipa_bench.errors import UserError
from ipa_bench.files import file_sha256
from ipa_bench.harness.generate import Poses
from ipa_bench.models.specs import WanVaceSpec
from ipa_bench.models.wan import conditioning
from ipa_bench.models.wan.vace import WanVace
from ipa_bench.suite import load_suite
from ipa_bench.types import Case
from tests import tiny_wan
from tests.clips import noise
from tests.tiny_wan import generator as WanVaceModel
from tests.trainers import tiny_runs
from trainers.config import DataConfig
from trainers.data.clips import Clip
from trainers.data.encode import Batch, Encoder


@pytest.fixture(autouse=True)
def _alone(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPA_BENCH_CACHE", str(cache_folder))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_runs.write(tmp_path_factory.mktemp("material"))


@pytest.fixture(scope="module")
def pipe() -> Any:
    made = tiny_wan.pipeline()
    made.text_encoder.eval()  # as from_pretrained leaves it
    return made


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A case of the built-in world."""
    suite = embedded.write(tmp_path_factory.mktemp("world") / "suite", "train", 1, 1, 1, 2)
    return load_suite(suite).cases[0]


def encoder(pipe: Any, folder: Path, model: str = "tiny", pose_of: Any = None, **config: Any) -> Encoder:
    data = DataConfig.model_validate({"suite": "s", "selection": "t", "mask": "none", **config})
    return Encoder(WanVace(pipe), model, data, folder, pose_of)


def case_of(folder: Path, name: str = "anna") -> Case:
    return next(case for case in load_suite(folder / "suite.toml").cases if case.id == name)


def clip_of(folder: Path, name: str = "anna") -> Clip:
    file = tiny_runs.clip_of(folder, name, 0)
    return Clip(case_of(folder, name), file, None, file_sha256(file))


def frames_of(path: Path) -> Any:
    return np.stack([frame.image for frame in video.read_frames(path)])


class NoPipe:
    """What is left of a pipeline that must not encode anything."""

    vae_scale_factor_spatial, vae_scale_factor_temporal = 4, 2
    _execution_device = torch.device("cpu")

    def __init__(self, pipe: Any) -> None:
        self.tokenizer, self.transformer = pipe.tokenizer, pipe.transformer


def test_a_clip_is_what_the_pipeline_is_shown(folder: Path, pipe: Any, tmp_path: Path) -> None:
    clip = clip_of(folder)
    found = encoder(pipe, tmp_path, mask="exact").encode(clip)
    latents = conditioning.encode_video(pipe, frames_of(clip.video))[0]
    assert torch.equal(found.latents[:, 1:], latents)
    assert clip.case.pose is not None
    reference = frames_of(clip.case.driving)[0]
    control = conditioning.control_latents(pipe, frames_of(clip.case.pose), reference)[0]
    assert torch.equal(found.condition["control"], control)
    # the reference image stands in front, as the same latents that control shows
    assert torch.equal(found.latents[:, :1], control[:4, :1])
    assert torch.equal(found.latents[:, :1], conditioning.encode_video(pipe, reference[None])[0])
    assert torch.equal(found.condition["prompt"], conditioning.Prompts(pipe).encode(["this is anna"])[0])
    assert found.mask.shape == (3, 4, 4)
    assert {t.dtype for t in (found.latents, *found.condition.values(), found.mask)} == {torch.float32}


def test_what_was_encoded_is_not_encoded_again(folder: Path, pipe: Any, tmp_path: Path) -> None:
    first = encoder(pipe, tmp_path, mask="exact").encode(clip_of(folder))
    second = encoder(NoPipe(pipe), tmp_path, mask="exact").encode(clip_of(folder))
    for name in ("latents", "mask"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    for name in ("control", "prompt"):
        assert torch.equal(first.condition[name], second.condition[name])
    assert first.key == second.key
    encoder(NoPipe(pipe), tmp_path, mask="exact").texts(["this is anna"])  # without a text encoder
    # a damaged entry is none
    (entry,) = (tmp_path / "latents").rglob("*.npz")
    entry.write_bytes(entry.read_bytes()[:100])
    with pytest.raises(AttributeError):
        encoder(NoPipe(pipe), tmp_path, mask="exact").encode(clip_of(folder))
    assert torch.equal(encoder(pipe, tmp_path, mask="exact").encode(clip_of(folder)).latents, first.latents)


def test_the_key_changes_with_what_the_model_is_shown(folder: Path, pipe: Any, tmp_path: Path) -> None:
    clip = clip_of(folder)
    video.encode(noise(5, 16, 16, seed=50), tmp_path / "other.mp4", 10)
    changed = {
        "prompt": replace(clip, case=replace(clip.case, prompt="other")),
        "pose": replace(clip, case=replace(clip.case, pose=tmp_path / "other.mp4")),
        "reference": replace(clip, case=replace(clip.case, reference=tmp_path / "other.mp4")),
        "clip": Clip(clip.case, tmp_path / "other.mp4", None, file_sha256(tmp_path / "other.mp4")),
        "mask": replace(clip, case=replace(clip.case, mask=tmp_path / "other.mp4")),
    }
    cache = tmp_path / "cache"
    keys = {name: encoder(pipe, cache, mask="exact").encode(each).key for name, each in changed.items()}
    keys["none"] = encoder(pipe, cache, mask="exact").encode(clip).key
    keys["model"] = encoder(pipe, cache, "another", mask="exact").encode(clip).key
    keys["no mask"] = encoder(pipe, cache).encode(clip).key
    assert len(set(keys.values())) == len(keys)
    again = encoder(pipe, cache, mask="exact").encode(replace(clip, case=replace(clip.case, id="renamed")))
    assert again.key == keys["none"]


def test_half_and_single_precision_do_not_share_what_is_kept(folder: Path, tmp_path: Path) -> None:
    half = tiny_wan.pipeline()
    half.transformer.to(torch.bfloat16)
    rough = encoder(half, tmp_path).encode(clip_of(folder))
    exact = encoder(tiny_wan.pipeline(), tmp_path).encode(clip_of(folder))
    assert torch.equal(rough.condition["control"], rough.condition["control"].bfloat16().float())
    assert not torch.equal(exact.condition["control"], exact.condition["control"].bfloat16().float())
    assert not torch.equal(exact.condition["prompt"], exact.condition["prompt"].bfloat16().float())


def test_cases_that_share_a_clip_are_shown_what_is_theirs(folder: Path, pipe: Any, tmp_path: Path) -> None:
    one = clip_of(folder)
    other = replace(one, case=replace(one.case, id="other", prompt="somebody else", reference=folder / "pose_bert.mp4"))
    shared = encoder(pipe, tmp_path)
    for clip in (one, other, one):
        alone = encoder(pipe, tmp_path).encode(clip)
        assert shared.encode(clip).key == alone.key
        assert torch.equal(shared.encode(clip).condition["control"], alone.condition["control"])


def made_by_the_model(folder: Path, out: Path) -> Clip:
    """A clip with the latents that it was decoded from."""
    spec = WanVaceSpec(
        name="tiny", kind="wan_vace", model=str(folder / "model"), dtype="fp32", steps=1, keep_latents=True
    )
    case = case_of(folder)
    made = WanVaceModel(spec, out).generate(case, 0)
    return Clip(case, made, made.with_suffix(".safetensors"), file_sha256(made))


def test_kept_latents_are_taken_as_they_are(folder: Path, pipe: Any, tmp_path: Path) -> None:
    clip = made_by_the_model(folder, tmp_path / "out")
    assert clip.latents is not None
    kept = load_file(clip.latents)["latents"]
    found = encoder(pipe, tmp_path / "cache").encode(clip)
    assert torch.equal(found.latents[:, 1:], kept.float())
    assert found.latents.shape == (4, 4, 4, 4)
    without = encoder(pipe, tmp_path / "cache").encode(replace(clip, latents=None))
    assert without.latents.shape == found.latents.shape
    assert not torch.equal(without.latents, found.latents)


def bad(kind: str) -> dict[str, Tensor]:
    latents = torch.zeros(4, 3, 4, 4)
    if kind == "not finite":
        latents[0, 0, 0, 0] = torch.nan
    shapes = {
        "too long": (4, 5, 4, 4),
        "too short": (4, 2, 4, 4),
        "too wide": (4, 3, 4, 6),
        "another VAE": (16, 3, 4, 4),
    }
    latents = torch.zeros(shapes[kind]) if kind in shapes else latents
    return {"other" if kind == "no latents" else "latents": latents}


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("not finite", "not finite"),
        ("no latents", "cannot be read"),
        ("torn", "cannot be read"),
        ("too long", "do not fit"),
        ("too short", "do not fit"),
        ("too wide", "do not fit"),
        ("another VAE", "do not fit"),
    ],
)
def test_latents_that_cannot_be_used_name_the_clip(
    folder: Path, pipe: Any, tmp_path: Path, kind: str, problem: str
) -> None:
    file = tmp_path / "anna.safetensors"
    save_file(bad(kind), file)
    if kind == "torn":
        file.write_bytes(file.read_bytes()[:-7])
    clip = replace(clip_of(folder), latents=file)
    for _ in range(2):  # and nothing of it is kept
        with pytest.raises(UserError, match=rf"anna_seed0.mp4: .*{problem}"):
            encoder(pipe, tmp_path / "cache").encode(clip)


def test_a_clip_that_is_shorter_than_its_pose_video_is_an_error(folder: Path, pipe: Any, tmp_path: Path) -> None:
    """Where the case asks for no number of frames: or frames of the pose video would pass for reference images."""
    free = replace(case_of(folder), frames=None, fps=None)
    video.encode(noise(9, 16, 16), tmp_path / "long.mp4", 10)
    clip = replace(clip_of(folder), case=replace(free, pose=tmp_path / "long.mp4"))
    with pytest.raises(UserError, match=r"anna_seed0.mp4: its latents \[4, 3, 4, 4\] do not fit .*\[4, 5, 4, 4\]"):
        encoder(pipe, tmp_path / "cache").encode(clip)
    assert encoder(pipe, tmp_path / "cache").encode(replace(clip, case=free)).latents.shape == (4, 4, 4, 4)


def test_a_clip_that_does_not_decode_is_named(folder: Path, pipe: Any, tmp_path: Path) -> None:
    content = tiny_runs.clip_of(folder, "anna", 0).read_bytes()
    (tmp_path / "torn.mp4").write_bytes(content[: len(content) // 3])
    clip = Clip(case_of(folder), tmp_path / "torn.mp4", None, "0")
    with pytest.raises(UserError, match=r"torn.mp4"):
        encoder(pipe, tmp_path / "cache").encode(clip)


def test_sizes_off_the_grid_are_grown(folder: Path, pipe: Any, tmp_path: Path) -> None:
    """Six frames of 20 x 18 pixels become nine of 24 x 24, as when the model makes them; the mask grows with them."""
    frames = noise(6, 18, 20)
    white = np.full_like(frames, 255)
    for name, images in (("clip", frames), ("mask", white)):
        video.encode(images, tmp_path / f"{name}.mp4", 10, crf=10)
    case = Case(
        "odd", tmp_path / "clip.mp4", pose=tmp_path / "clip.mp4", mask=tmp_path / "mask.mp4", frames=6, fps=10.0,
        size=(20, 18),
    )  # fmt: skip
    clip = Clip(case, tmp_path / "clip.mp4", None, file_sha256(tmp_path / "clip.mp4"))
    found = encoder(pipe, tmp_path / "cache", mask="exact").encode(clip)
    assert found.latents.shape == (4, 6, 6, 6)
    grown = conditioning.fill(frames_of(clip.video), 9, (24, 24))
    assert torch.equal(found.latents[:, 1:], conditioning.encode_video(pipe, grown)[0])
    assert found.mask.shape == (5, 6, 6)
    assert found.mask.min() > 0.97


def overlap(one: Tensor, other: Tensor) -> float:
    return (torch.minimum(one, other).sum() / torch.maximum(one, other).sum()).item()


def test_masks_of_all_sources_lie_on_the_hands(world: Case, pipe: Any, tmp_path: Path) -> None:
    clip = Clip(world, world.driving, None, file_sha256(world.driving))
    masks = {
        kind: encoder(pipe, tmp_path, mask=kind, margin=0.1).encode(clip).mask
        for kind in ("exact", "driving", "generated", "none")
    }
    assert {mask.shape for mask in masks.values()} == {(9, 32, 32)}
    assert not masks["none"].any()
    share = masks["exact"].mean().item()
    assert 0.002 < share < 0.2
    assert all(mask.min() >= 0 and mask.max() <= 1 for mask in masks.values())
    assert overlap(masks["exact"], masks["driving"]) > 0.4
    # of an equal clip the hands are the same
    assert torch.equal(masks["generated"], masks["driving"])
    # by hand: the first latent frame is the first frame alone, averaged over squares of four pixels
    assert world.mask is not None
    first = torch.from_numpy(frames_of(world.mask)[0, ..., 0].astype(np.float32) / 255)
    torch.testing.assert_close(masks["exact"][0], first.unfold(0, 4, 4).unfold(1, 4, 4).mean((2, 3)))
    box = encoder(pipe, tmp_path, mask="driving", margin=0.1, shape="box").encode(clip).mask
    assert (box >= masks["driving"] - 1e-6).all()
    assert box.sum() > masks["driving"].sum()


def test_a_generated_mask_is_of_the_clip_and_not_of_its_driving_clip(world: Case, pipe: Any, tmp_path: Path) -> None:
    video.encode(np.zeros((17, 128, 128, 3), np.uint8), tmp_path / "black.mp4", world.fps or 0)
    clip = Clip(world, tmp_path / "black.mp4", None, file_sha256(tmp_path / "black.mp4"))
    assert not encoder(pipe, tmp_path / "cache", mask="generated").encode(clip).mask.any()
    assert encoder(pipe, tmp_path / "cache", mask="driving").encode(clip).mask.any()


def test_a_case_without_a_pose_video_is_shown_a_drawn_one(world: Case, pipe: Any, tmp_path: Path) -> None:
    bare = replace(world, pose=None)
    clip = Clip(bare, world.driving, None, file_sha256(world.driving))
    with pytest.raises(UserError, match="no pose video"):
        encoder(pipe, tmp_path / "cache").encode(clip)
    poses = Poses(tmp_path / "poses")
    found = encoder(pipe, tmp_path / "cache", pose_of=poses.of).encode(clip)
    drawn = conditioning.control_latents(pipe, frames_of(poses.of(bare)), frames_of(world.reference)[0])  # type: ignore[arg-type]
    assert torch.equal(found.condition["control"], drawn[0])


def test_a_case_without_a_mask_video_is_named(folder: Path, pipe: Any, tmp_path: Path) -> None:
    clip = clip_of(folder)
    with pytest.raises(UserError, match=r"anna_seed0.mp4: case anna has no mask video"):
        encoder(pipe, tmp_path, mask="exact").encode(replace(clip, case=replace(clip.case, mask=None)))


def test_only_clips_of_one_shape_are_stacked(folder: Path, pipe: Any, tmp_path: Path) -> None:
    encode = encoder(pipe, tmp_path).encode
    both = Batch.of([encode(clip_of(folder)), encode(clip_of(folder, "bert"))])
    assert (len(both), both.latents.shape, both.mask.shape) == (2, (2, 4, 4, 4, 4), (2, 3, 4, 4))
    assert both.keys == (encode(clip_of(folder)).key, encode(clip_of(folder, "bert")).key)
    video.encode(noise(9, 16, 16), tmp_path / "long.mp4", 10)
    case = replace(case_of(folder), frames=9, pose=tmp_path / "long.mp4")
    long = encode(Clip(case, tmp_path / "long.mp4", None, file_sha256(tmp_path / "long.mp4")))
    with pytest.raises(ValueError, match="different shapes"):
        Batch.of([encode(clip_of(folder)), long])


def test_half_precision_is_kept_as_it_is_and_what_was_kept_before_is_read(
    folder: Path, pipe: Any, tmp_path: Path
) -> None:
    clip = clip_of(folder)
    half = tiny_wan.pipeline()
    half.text_encoder.eval()
    half.transformer.to(torch.bfloat16)
    first = encoder(half, tmp_path / "half", mask="exact").encode(clip)
    again = encoder(half, tmp_path / "half", mask="exact").encode(clip)
    assert {name: tensor.dtype for name, tensor in again.condition.items()} == {
        "control": torch.bfloat16,
        "prompt": torch.bfloat16,
    }
    assert all(torch.equal(first.condition[name], again.condition[name]) for name in first.condition)
    assert again.latents.dtype == torch.float32
    (entry,) = (tmp_path / "half" / "control").rglob("*.npz")
    with np.load(entry) as found:
        assert found["bf16"].shape == (8, *again.latents.shape[1:])
    # an earlier version kept float32 and every channel
    whole = again.condition["control"].float().numpy()
    np.savez(entry, value=whole)
    old = encoder(half, tmp_path / "half", mask="exact").encode(clip)
    assert torch.equal(old.condition["control"], again.condition["control"])


def test_what_cannot_be_written_is_held(folder: Path, pipe: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    made = encoder(pipe, tmp_path / "file", mask="exact")
    made._room = 0
    with pytest.warns(RuntimeWarning, match="are not cached"):
        first = made.encode(clip_of(folder))
    assert not made.keeps
    prompts = made._base.prompts  # type: ignore[attr-defined]
    prompts._pipe = NoPipe(pipe)
    made.texts(["this is anna"])
    made._base = None  # type: ignore[assignment]  # nothing is left that could encode
    made._whole = lambda _, encoded: encoded  # type: ignore[method-assign]
    assert torch.equal(made.encode(clip_of(folder)).latents, first.latents)
