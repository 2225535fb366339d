"""Several people to animate: the order of their references, how many a clip takes, batches of such cases."""

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
from ipa_bench.errors import Unscorable
from ipa_bench.models.specs import WanVaceSpec
from ipa_bench.models.wan import conditioning
from ipa_bench.models.wan.pipeline import scheduler_of
from ipa_bench.models.wan.vace import WanVace
from ipa_bench.types import Case
from tests import tiny_wan
from tests.clips import noise as noisy_clip


@pytest.fixture(scope="module")
def pipe() -> Any:
    made = tiny_wan.pipeline()
    made.text_encoder.eval()  # as a pipeline that was loaded: it has dropout
    return made


def pictures(count: int, seed: int = 0) -> list[Any]:
    return [noisy_clip(1, 40, 40, seed=seed + index)[0] for index in range(count)]


def test_references_keep_their_order_and_are_what_each_is_alone(pipe: Any) -> None:
    pose, people = noisy_clip(5, 32, 48), pictures(3)
    whole = conditioning.control_latents(pipe, pose, *people)
    assert whole.shape[2] == 3 + 3
    for index, person in enumerate(people):
        assert torch.equal(whole[:, :, index], conditioning.control_latents(pipe, pose, person)[:, :, 0])
    assert torch.equal(whole[:, :, 3:], conditioning.control_latents(pipe, pose))
    assert not torch.equal(whole[:, :, 0], whole[:, :, 1])


def test_the_pipeline_makes_the_same_of_the_reversed_list(pipe: Any) -> None:
    pose, people = noisy_clip(5, 32, 48), pictures(2)
    control = conditioning.control_latents(pipe, pose, *people)
    start = torch.randn(1, 4, control.shape[2], 8, 12, generator=torch.Generator().manual_seed(3))
    words = conditioning.Prompts(pipe).encode(["two women wave"])
    latents = tiny_wan.denoise(pipe, scheduler_of(pipe), start, control, words, None, steps=2, guidance=1.0)
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        prompt="two women wave", video=[Image.fromarray(f) for f in pose], latents=start, output_type="latent",
        reference_images=[Image.fromarray(p) for p in reversed(people)], height=32, width=48, num_frames=5,
        num_inference_steps=2, guidance_scale=1.0,
    ).frames  # fmt: skip
    assert torch.equal(latents, expected)


def test_more_references_than_latent_frames_are_refused(pipe: Any) -> None:
    pose = noisy_clip(5, 32, 48)
    assert conditioning.control_latents(pipe, pose, *pictures(3)).shape[2] == 6
    with pytest.raises(ValueError, match="4 references for a clip of 3 latent frames"):
        conditioning.control_latents(pipe, pose, *pictures(4))


def group_case(folder: Path, name: str, count: int, seed: int) -> Case:
    clip = folder / f"{name}.mp4"
    video.encode(noisy_clip(5, 32, 48, seed=seed), clip, 10, crf=10)
    references = []
    for index, picture in enumerate(pictures(count, seed)):
        Image.fromarray(picture).save(folder / f"{name}{index}.png")
        references.append((f"{name}{index}", folder / f"{name}{index}.png"))
    return Case(name, clip, clip, pose=clip, references=tuple(references), prompt=name)


def test_a_case_is_given_with_all_its_people_and_refused_with_too_many(pipe: Any, tmp_path: Path) -> None:
    base = WanVace(pipe)
    case = group_case(tmp_path, "pair", 2, 5)
    given = base.given(case, case.pose)
    assert base.reference_frames(case) == 2
    assert base.flow_shape(given.condition)[1] == 3 + 2
    people = [np.asarray(Image.open(path)) for _, path in case.references]
    frames = np.stack([frame.image for frame in video.read_frames(case.driving)])
    assert torch.equal(given.condition["control"], conditioning.control_latents(pipe, frames, *people))
    crowd = group_case(tmp_path, "crowd", 4, 9)
    with pytest.raises(Unscorable, match="4 references and its 5 frames are 3 latent ones"):
        base.given(crowd, crowd.pose)


def test_cases_with_several_references_batch_and_others_are_made_apart(pipe: Any, tmp_path: Path) -> None:
    cases = [
        group_case(tmp_path, name, count, 11 * i) for i, (name, count) in enumerate((("a", 2), ("b", 2), ("c", 3)))
    ]
    spec = WanVaceSpec.model_validate(
        {
            "name": "tiny",
            "kind": "wan_vace",
            "model": str(tiny_wan.save(tmp_path / "model")),
            "steps": 2,
            "dtype": "fp32",
        }
    )
    made = list(tiny_wan.generator(spec, tmp_path / "clips", pipe=pipe).generate_many([(case, 0) for case in cases]))
    assert [(m.case.id, m.reason) for m in made] == [("a", None), ("b", None), ("c", None)]
    assert all(m.path is not None and video.load(m.path).frames.shape == (5, 32, 48, 3) for m in made)
    # what a batch on a GPU does: the conditions of two cases side by side
    base = WanVace(pipe)
    controls = [base.given(case, case.pose).condition["control"] for case in cases[:2]]
    start = torch.randn(2, *base.flow_shape({"control": controls[0]}), generator=torch.Generator().manual_seed(1))
    words = conditioning.Prompts(pipe).encode(["a", "b"])
    options = {"steps": 2, "guidance": 1.0}
    batch = tiny_wan.denoise(pipe, scheduler_of(pipe), start, torch.cat(controls), words, None, **options)
    for i in range(2):
        one = tiny_wan.denoise(
            pipe, scheduler_of(pipe), start[i : i + 1], controls[i], words[i : i + 1], None, **options
        )
        assert (one - batch[i : i + 1]).abs().max() < 1e-4


def test_a_clip_is_made_again_where_its_references_are_others_or_in_another_order(pipe: Any, tmp_path: Path) -> None:
    case = group_case(tmp_path, "pair", 2, 5)
    model = str(tiny_wan.save(tmp_path / "model"))
    spec = WanVaceSpec.model_validate({"name": "tiny", "kind": "wan_vace", "model": model, "steps": 1, "dtype": "fp32"})
    made = tiny_wan.generator(spec, tmp_path / "clips", pipe=pipe)
    first = made.generate(case, 0).read_bytes()
    assert made.clips.find(case, 0) is not None
    turned = replace(case, references=case.references[::-1])
    assert made.clips.find(turned, 0) is None
    assert made.generate(turned, 0).read_bytes() != first
