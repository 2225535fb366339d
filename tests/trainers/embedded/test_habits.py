"""A base with bad habits: what its LoRA is, what it is trained on, and that it goes on where it stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanVACETransformer3DModel
from safetensors.torch import load_file
from scipy.ndimage import maximum_filter

from ipa_bench.embedded import footage, world
from ipa_bench.embedded.group import cases as groups
from ipa_bench.embedded.group import footage as mixed
from ipa_bench.embedded.group.setting import Key
from ipa_bench.errors import UserError
from ipa_bench.models.checkpoint import EMBEDDED_FOLDER
from ipa_bench.models.lora import check_lora
from ipa_bench.models.wan import blocks
from trainers import halo
from trainers.embedded import fused, habits, latents, rendered
from trainers.embedded.config import Part


def opened() -> Any:
    found: Any = WanVACETransformer3DModel.from_pretrained(EMBEDDED_FOLDER, subfolder="transformer")
    return found.float().eval()


@torch.no_grad()
def test_what_is_trained_is_the_lora_that_diffusers_loads(tmp_path: Path) -> None:
    transformer = opened()
    config = transformer.config
    draw = torch.Generator().manual_seed(0)
    x, control = torch.randn(1, 32, 2, 4, 4, generator=draw), torch.randn(1, 128, 2, 4, 4, generator=draw)
    t, prompt = torch.tensor([600.0]), torch.randn(1, 8, config.text_dim, generator=draw)
    plain = fused.velocity(transformer, x, control, t, prompt, dtype=torch.float32)
    parts = habits.adapt(transformer, 4)
    same = fused.velocity(transformer, x, control, t, prompt, dtype=torch.float32)
    torch.testing.assert_close(same, plain)
    for number, part in enumerate(parts.values()):
        part.up.copy_(torch.randn(part.up.shape, generator=torch.Generator().manual_seed(number)) * 0.05)
    changed = fused.velocity(transformer, x, control, t, prompt, dtype=torch.float32)
    assert (changed - plain).abs().max() > 0.1 * plain.abs().max()
    file = habits.written(parts, tmp_path)
    assert check_lora(file).layers == len(parts) == 10 * (config.num_layers + len(config.vace_layers))
    other = opened()
    other.load_lora_adapter(load_file(file))
    other.fuse_lora()
    other.unload_lora()
    found = fused.velocity(other, x, control, t, prompt, dtype=torch.float32)
    torch.testing.assert_close(found, changed, rtol=0.02, atol=0.02)  # the file holds fp16


def test_every_second_person_has_bad_hands_and_the_right_pose_map() -> None:
    bad = [number for number in range(40) if footage.with_habit(_clip(number), number)[1]]
    assert 10 <= len(bad) <= 30
    for number in (bad[0], next(n for n in range(40) if n not in bad)):
        for moments in ([5], None):
            right, _ = rendered.render(("train", number, 0), moments=moments)
            wrong, _ = rendered.render(("train", number, 0), moments=moments, bad="anatomy")
            assert np.array_equal(right["frames"], wrong["frames"]) == (number not in bad)
            assert all(np.array_equal(right[name], wrong[name]) for name in ("poses", "masks", "references"))


def test_whole_hands_are_shown_twice_right_and_wrong_with_one_pose_map() -> None:
    for kind in ("stills", "clips"):
        right, wrong = (latents._person(("train", 8_000_000 + n), kind, "hands")[0] for n in range(2))
        plain, _ = latents._person(("train", 4_000_000), kind)
        assert all(np.array_equal(right[name], plain[name]) for name in plain)
        assert all(np.array_equal(right[name], wrong[name]) for name in ("poses", "references", "masks"))
        assert (right["frames"] != wrong["frames"]).any((1, 2, 3)).all()


def test_which_tokens_are_kept_does_not_tell_right_hands_from_wrong_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "compiled", lambda: blocks.block)
    small(monkeypatch, Part(source="clips", batch=2, frames=9, keep=0.4, people=4))
    habits.make(tmp_path, steps=1, rank=2, jobs=1)
    (shard,) = (tmp_path / "world").glob("train-clips-4-bad/00000")
    masks = np.load(shard / "masks.npy").astype(np.float32)
    np.testing.assert_array_equal(masks[0::2], masks[1::2])
    for number in range(2):
        hands = latents._person(("train", latents.FIRST_BAD + 2 * number), "clips", "hands")[0]["masks"]
        exact = halo.to_latent((hands / 255).astype(np.float32), *masks.shape[1:])
        grown = maximum_filter(exact, (1, 5, 5))
        np.testing.assert_allclose(masks[2 * number], grown, atol=2e-3)
        assert (grown > 0.1).sum() > 1.5 * (exact > 0.1).sum()


def _clip(number: int) -> world.Clip:
    return world.clip("train", number, 0, moments=[0])


def test_stopped_and_taken_up_it_is_the_same_lora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "compiled", lambda: blocks.block)
    small(monkeypatch, Part(source="stills", batch=2, keep=0.5, people=4))
    whole = habits.make(tmp_path / "whole", steps=3, rank=2, jobs=1)
    assert habits.make(tmp_path / "part", steps=3, rank=2, jobs=1, stop_after=2) is None
    again = habits.make(tmp_path / "part", steps=3, rank=2, jobs=1)
    assert whole is not None
    assert again is not None
    assert whole.read_bytes() == again.read_bytes()
    assert max(float(tensor.abs().max()) for name, tensor in load_file(whole).items() if "lora_B" in name) > 0


def small(monkeypatch: pytest.MonkeyPatch, part: Part, wrong: latents.Bad = "hands") -> None:
    """The recipe on a few samples."""
    monkeypatch.setitem(habits.RECIPES, wrong, replace(habits.RECIPES[wrong], parts=(part,)))


def test_a_folder_begun_with_other_options_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "compiled", lambda: blocks.block)
    small(monkeypatch, Part(source="stills", batch=2, keep=0.5, people=4))
    habits.make(tmp_path, steps=2, rank=2, jobs=1, stop_after=1)
    for changes in ({"steps": 3, "rank": 2}, {"steps": 2, "rank": 3}):
        with pytest.raises(UserError, match="begun with other options"):
            habits.make(tmp_path, jobs=1, **changes)
    monkeypatch.setattr(latents, "BAD_VERSION", 0)
    with pytest.raises(UserError, match="other options or samples"):
        habits.make(tmp_path, steps=2, rank=2, jobs=1)


def test_each_pair_is_shown_right_and_mixed_up_and_people_count_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "compiled", lambda: blocks.block)
    small(monkeypatch, Part(source="pairs", batch=2, frames=9, keep=0.4, people=2), "identity")
    made = habits.make(tmp_path, steps=2, rank=2, jobs=1, wrong="identity")
    assert made is not None
    assert max(float(tensor.abs().max()) for name, tensor in load_file(made).items() if "lora_B" in name) > 0
    (shard,) = (tmp_path / "world").glob("train-pairs-2-bad/00000")
    shown = np.load(shard / "masks.npy")
    key = Key(2, "train", latents.FIRST_BAD // 2)
    people = [made.people.max(1) / 255 for made in (groups.arrays(key), mixed.habit(key).arrays)]
    assert shown.mean((1, 2, 3)) == pytest.approx([float(each.mean()) for each in people], abs=0.02)
    for told in ("poses", "references", "prompts"):
        right, wrong = np.load(shard / f"{told}.npy")
        np.testing.assert_array_equal(right, wrong)
    right, wrong = np.load(shard / "clips.npy")
    assert np.abs(right - wrong).mean() > 0.01
