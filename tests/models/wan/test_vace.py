"""A WanVACE pipeline as a model: parity with diffusers, seeds, batches, files. The weights are random."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("diffusers")

import torch
from diffusers import UniPCMultistepScheduler
from PIL import Image

from ipa_bench import video
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.models.checkpoint import locate
from ipa_bench.models.folder import FolderModel
from ipa_bench.models.generator import noise
from ipa_bench.models.specs import WanVaceSpec
from ipa_bench.models.wan import conditioning
from ipa_bench.models.wan.pipeline import load, scheduler_of
from ipa_bench.models.wan.vace import WanVace
from ipa_bench.types import Case
from tests import tiny_wan
from tests.clips import noise as noisy_clip
from tests.clips import psnr, smooth
from tests.tiny_wan import denoise
from tests.tiny_wan import generator as WanVaceModel


def spec_of(model: Path, **settings: Any) -> WanVaceSpec:
    base: dict[str, Any] = {"steps": 2, "guidance": 2.0, "dtype": "fp32", "negative_prompt": "blur"}
    return WanVaceSpec.model_validate({"name": "tiny", "kind": "wan_vace", "model": str(model), **base, **settings})


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_wan.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def pipe(model: Path) -> Any:
    spec = spec_of(model)
    return load(spec, locate(spec))


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    """Three cases of one shape, each with a pose video of its own."""
    made = []
    for index, name in enumerate(("alice__wave", "bert__nod", "cleo__sit")):
        path = tmp_path / f"{name}.mp4"
        video.encode(noisy_clip(5, 32, 48, seed=index), path, 10, crf=10)
        made.append(Case(name, path, path, pose=path, prompt=f"person {index}"))
    return made


@pytest.mark.parametrize("scheduler", ["euler", "unipc"])
def test_one_clip_is_what_the_pipeline_makes_of_the_same_noise(pipe: Any, scheduler: str) -> None:
    pose, person = noisy_clip(5, 32, 48), smooth(1, 40, 40)[0]
    control = conditioning.control_latents(pipe, pose, person)
    start = torch.randn(1, 4, control.shape[2], 8, 12, generator=torch.Generator().manual_seed(3))
    prompts = conditioning.Prompts(pipe)
    words = prompts.encode(["a woman waves"]), prompts.encode(["blur"])
    pipe.set_progress_bar_config(disable=True)
    own = pipe.scheduler
    if scheduler == "unipc":
        own = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    for guidance, shift in ((1.0, None), (3.0, 1.5)):
        before, pipe.scheduler = pipe.scheduler, own
        latents = denoise(pipe, scheduler_of(pipe, shift), start, control, *words, steps=3, guidance=guidance)
        pipe.scheduler = scheduler_of(pipe, shift)
        asked: dict[str, Any] = {
            "prompt": "a woman waves", "negative_prompt": "blur", "video": [Image.fromarray(f) for f in pose],
            "reference_images": [Image.fromarray(person)], "height": 32, "width": 48, "num_frames": 5,
            "num_inference_steps": 3, "guidance_scale": guidance, "latents": start,
        }  # fmt: skip
        expected, pixels = pipe(**asked, output_type="latent").frames, pipe(**asked, output_type="np").frames[0]
        pipe.scheduler = before
        assert torch.equal(latents, expected)
        made = conditioning.decode_latents(pipe, latents[:, :, 1:])
        assert np.abs(made - 255 * pixels).max() <= tiny_wan.ROUNDED


def test_a_clip_is_encoded_as_the_control_is(pipe: Any) -> None:
    frames = noisy_clip(5, 32, 48)
    control = conditioning.control_latents(pipe, frames, frames[0])
    latents = conditioning.encode_video(pipe, frames)
    assert latents.shape == (1, 4, 3, 8, 12)
    assert torch.equal(latents, control[:, 4:8, 1:])  # the reactive half: everything is to be painted
    flow = conditioning.flow_input(control, latents)
    assert flow.shape == (1, 4, 4, 8, 12)
    assert torch.equal(flow[:, :, :1], control[:, :4, :1])
    without = conditioning.control_latents(pipe, frames)
    assert torch.equal(conditioning.flow_input(without, latents), latents)
    assert not control.is_inference()  # training takes gradients with it


def test_the_grid_holds_what_is_asked_for(pipe: Any) -> None:
    assert conditioning.grid(pipe, 5, (48, 32)) == (5, (48, 32))
    assert conditioning.grid(pipe, 2, (41, 33)) == (5, (48, 40))
    assert conditioning.grid(pipe, 6, (8, 8)) == (9, (8, 8))
    assert conditioning.grid(pipe, 1, (8, 8)) == (1, (8, 8))
    with pytest.raises(ValueError, match="at least one frame"):
        conditioning.grid(pipe, 0, (48, 32))
    with pytest.raises(ValueError, match="off the grid"):
        conditioning.control_latents(pipe, noisy_clip(4, 32, 48))


def test_a_clip_depends_on_case_and_seed_and_on_nothing_else(
    model: Path, pipe: Any, cases: list[Case], tmp_path: Path
) -> None:
    jobs = [(case, seed) for case in cases for seed in (0, 1)]
    together = WanVaceModel(spec_of(model, batch=3), tmp_path / "a", pipe=pipe)
    clips = {(m.case.id, m.seed): m.path for m in together.generate_many(jobs)}
    alone = WanVaceModel(spec_of(model), tmp_path / "b", pipe=pipe)
    for case, seed in reversed(jobs):
        clip = clips[case.id, seed]
        assert clip is not None
        assert alone.generate(case, seed).read_bytes() == clip.read_bytes()
    assert len({path.read_bytes() for path in clips.values() if path}) == len(jobs)
    folder = FolderModel("later", tmp_path / "a").match(cases, (0, 1))
    assert (len(folder.found), folder.missing, folder.extra) == (6, (), ())


def test_a_batch_agrees_with_its_clips_one_by_one_to_rounding(pipe: Any, cases: list[Case]) -> None:
    controls = [conditioning.control_latents(pipe, video.load(case.driving).frames) for case in cases]
    starts = [noise(case, 0, (1, 4, 3, 8, 12)) for case in cases]
    words = conditioning.Prompts(pipe).encode(["one", "two", "one"])
    options = {"steps": 3, "guidance": 1.0}
    batch = denoise(pipe, scheduler_of(pipe), torch.cat(starts), torch.cat(controls), words, None, **options)
    for i in range(3):
        one = denoise(pipe, scheduler_of(pipe), starts[i], controls[i], words[i : i + 1], None, **options)
        assert (one - batch[i : i + 1]).abs().max() < 1e-4


def test_size_rate_and_length_are_those_that_the_case_asks_for(
    model: Path, pipe: Any, cases: list[Case], tmp_path: Path
) -> None:
    made = WanVaceModel(spec_of(model), tmp_path / "clips", pipe=pipe)
    clip = video.load(made.generate(Case("odd", cases[0].driving, pose=cases[0].pose, frames=4, size=(42, 30)), 0))
    assert (clip.frames.shape, clip.fps) == ((4, 30, 42, 3), 10)
    slow = video.load(made.generate(Case("slow", cases[0].driving, pose=cases[0].pose, fps=5.0), 0))
    assert (slow.frames.shape, slow.fps) == ((3, 32, 48, 3), 5)
    with pytest.raises(Unscorable, match="has 5 frames at 10 per second, not 9"):
        made.generate(Case("long", cases[0].driving, pose=cases[0].pose, frames=9), 0)


def test_the_first_frame_of_the_driving_clip_stands_in_for_a_reference(
    model: Path, pipe: Any, cases: list[Case], tmp_path: Path
) -> None:
    image = tmp_path / "person.png"
    Image.fromarray(video.load(cases[0].driving).frames[0]).save(image)
    same = Case(cases[0].id, cases[0].driving, reference=image, pose=cases[0].pose, prompt=cases[0].prompt)
    one = WanVaceModel(spec_of(model), tmp_path / "a", pipe=pipe).generate(cases[0], 0)
    two = WanVaceModel(spec_of(model), tmp_path / "b", pipe=pipe).generate(same, 0)
    assert one.read_bytes() == two.read_bytes()


def test_a_case_without_a_pose_has_one_drawn(model: Path, pipe: Any, cases: list[Case], tmp_path: Path) -> None:
    bare = Case(cases[0].id, cases[0].driving, prompt=cases[0].prompt)
    asked: list[str] = []

    def draw(case: Case) -> Path:
        asked.append(case.id)
        return cases[1].driving

    made = WanVaceModel(spec_of(model), tmp_path / "a", pipe=pipe, pose_of=draw)
    made.generate(bare, 0)
    made.generate(bare, 1)
    assert asked == [bare.id]
    with pytest.raises(Unscorable, match="no pose video"):
        WanVaceModel(spec_of(model), tmp_path / "b", pipe=pipe).generate(bare, 0)


def test_finished_clips_stay_and_clips_of_changed_cases_do_not(
    model: Path, pipe: Any, cases: list[Case], tmp_path: Path
) -> None:
    made = WanVaceModel(spec_of(model), tmp_path / "clips", pipe=pipe)
    first = made.generate(cases[0], 0)
    first.write_bytes(b"kept")
    again = WanVaceModel(spec_of(model), tmp_path / "clips", pipe=pipe)
    assert again.generate(cases[0], 0).read_bytes() == b"kept"
    first.with_suffix(".json").unlink()  # as after a kill between the clip and its note
    assert again.generate(cases[0], 0).read_bytes() != b"kept"
    first.write_bytes(b"kept")
    video.encode(smooth(5, 32, 48), cases[0].driving, 10)
    assert WanVaceModel(spec_of(model), tmp_path / "clips", pipe=pipe).generate(cases[0], 0).read_bytes() != b"kept"


def test_another_recipe_in_the_folder_is_refused(model: Path, pipe: Any, tmp_path: Path) -> None:
    WanVaceModel(spec_of(model), tmp_path / "clips", pipe=pipe)
    WanVaceModel(spec_of(model, batch=4), tmp_path / "clips", pipe=pipe)  # no part of a recipe
    with pytest.raises(UserError, match=r"what differs: steps \(2, now 4\)"):
        WanVaceModel(spec_of(model, steps=4), tmp_path / "clips", pipe=pipe)
    (tmp_path / "clips" / "recipe.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        WanVaceModel(spec_of(model), tmp_path / "clips", pipe=pipe)


def test_a_lora_changes_the_clip_and_the_recipe(model: Path, pipe: Any, cases: list[Case], tmp_path: Path) -> None:
    lora = tiny_wan.save_lora(tmp_path / "lora")
    base = WanVaceModel(spec_of(model), tmp_path / "base", pipe=pipe)
    tuned = WanVaceModel(spec_of(model, lora=lora), tmp_path / "tuned")
    assert base.clips.recipe["lora"] is None
    assert str(tuned.clips.recipe["lora"]).startswith("sha256:")
    assert base.generate(cases[0], 0).read_bytes() != tuned.generate(cases[0], 0).read_bytes()
    with pytest.raises(UserError, match="no LoRA in safetensors"):
        WanVaceModel(spec_of(model, lora=tmp_path / "nowhere"), tmp_path / "c")


@pytest.mark.filterwarnings("ignore:No LoRA keys")
def test_a_lora_for_something_else_is_refused(model: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"transformer.nothing.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"other\.safetensors (does not fit|has nothing)"):
        WanVaceModel(spec_of(model, lora=tmp_path / "other.safetensors"), tmp_path / "clips")


def test_output_that_is_not_finite_is_a_reason(model: Path, cases: list[Case], tmp_path: Path) -> None:
    spec = spec_of(model)
    broken = load(spec, locate(spec))
    with torch.no_grad():
        broken.transformer.proj_out.weight.fill_(float("nan"))
    made = WanVaceModel(spec, tmp_path / "clips", pipe=broken)
    outcomes = list(made.generate_many([(case, 0) for case in cases]))
    assert [o.reason for o in outcomes] == ["the model's output is not finite"] * 3
    assert not list((tmp_path / "clips").glob("*.mp4"))
    with pytest.raises(Unscorable, match="not finite"):
        made.clips.find(cases[0], 0)


def test_a_clip_that_does_not_decode_does_not_end_the_others(
    model: Path, pipe: Any, cases: list[Case], tmp_path: Path
) -> None:
    cases[1].driving.write_bytes(b"no video")
    made = WanVaceModel(spec_of(model), tmp_path / "clips", pipe=pipe)
    outcomes = list(made.generate_many([(case, 0) for case in cases]))
    assert sorted(o.case.id for o in outcomes if o.path) == [cases[0].id, cases[2].id]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: shutil.rmtree(f), "is not a folder"),
        (lambda f: (f / "model_index.json").unlink(), "no diffusers folder"),
        (lambda f: (f / "model_index.json").write_text('{"_class_name": "WanPipeline"}'), "a WanPipeline, not a"),
        (lambda f: (f / "vae" / "diffusion_pytorch_model.safetensors").unlink(), r"lacks vae/\*\.safetensors"),
        (lambda f: (f / "transformer" / "config.json").write_text("{"), "cannot be loaded"),
    ],
)
def test_what_is_no_checkpoint_is_named(model: Path, tmp_path: Path, spoil: Any, says: str) -> None:
    shutil.copytree(model, tmp_path / "model")
    spoil(tmp_path / "model")
    with pytest.raises(UserError, match=says):
        WanVaceModel(spec_of(tmp_path / "model"), tmp_path / "clips")


def test_a_hub_that_cannot_be_reached_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="the hub did not give it") as error:
        WanVaceModel(spec_of(Path("Nobody/Nothing-diffusers")), tmp_path / "clips")
    assert "hf download Nobody/Nothing-diffusers" in error.value.fix


def test_a_copied_checkpoint_is_the_same_and_a_changed_one_is_not(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "copy")
    assert locate(spec_of(model)).identity == locate(spec_of(tmp_path / "copy")).identity
    config = tmp_path / "copy" / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"shift": 9.0}))
    assert locate(spec_of(model)).identity != locate(spec_of(tmp_path / "copy")).identity


def test_large_files_are_sampled(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = locate(spec_of(model)).identity
    monkeypatch.setattr("ipa_bench.models.checkpoint.WHOLE_BYTES", 1000)
    assert whole.startswith("sha256:")
    assert locate(spec_of(model)).identity.startswith("samples:")


def test_what_storing_a_clip_loses_is_little(tmp_path: Path) -> None:
    from ipa_bench.models.generator import CRF

    frames = smooth(9, 128, 128)
    video.encode(frames, tmp_path / "clip.mp4", 16, crf=CRF)
    assert psnr(video.load(tmp_path / "clip.mp4").frames, frames) > 42


def test_the_text_encoder_is_loaded_for_the_first_prompt_that_is_not_kept(model: Path, tmp_path: Path) -> None:
    spec = spec_of(model)
    checkpoint = locate(spec)
    expected = conditioning.Prompts(load(spec, checkpoint)).encode(["a woman waves", "a man"])
    base = WanVace.load(spec, checkpoint)
    assert base.pipe.text_encoder is None
    kept: dict[str, Any] = {}
    base.keep_texts(kept)
    assert torch.equal(base.texts(["a woman waves"]), expected[:1])
    assert base.pipe.text_encoder in base.aside
    assert kept.keys() == {"a woman waves"}
    base.leave_texts()
    assert base.pipe.text_encoder is None
    # another process finds what this one has made, and loads nothing
    other = WanVace.load(spec, checkpoint)
    other.keep_texts(kept)
    assert torch.equal(other.texts(["a woman waves"]), expected[:1])
    assert other.pipe.text_encoder is None
    assert torch.equal(other.texts(["a man"]), expected[1:])
    base.save(tmp_path / "whole")  # what was left out is a part of it
    assert (tmp_path / "whole" / "text_encoder" / "model.safetensors").is_file()


def test_the_masks_channels_are_made_and_not_kept(pipe: Any, cases: list[Case]) -> None:
    base = WanVace(pipe)
    for references in ((), tuple((name, cases[0].driving) for name in "ab")):
        case = dataclasses.replace(cases[0], references=references)
        given = base.given(case, case.pose).condition
        kept = base.packed(given, case)
        assert kept["control"].shape[1] == 8  # of 24 here, 32 of 96 with Wan's own autoencoder
        assert torch.equal(base.unpacked(kept, case)["control"], given["control"])
        assert base.flow_shape(kept) == base.flow_shape(given)
        assert base.unpacked(given, case) is given  # as it was kept before
    other = {"control": torch.zeros_like(given["control"])}
    assert base.packed(other, case) is other  # another mask is kept
