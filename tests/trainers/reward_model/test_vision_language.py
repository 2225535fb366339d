"""The vision-language backbone on a tiny random Qwen2.5-VL: its input, its gradients, its file, its training."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ipa_bench.errors import UserError
from tests.verbs import verb
from trainers.reward_model import vision_language as large
from trainers.reward_model.seen import Seen
from trainers.rewards import find

MARKS = ("<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="transformers")
        warnings.filterwarnings("ignore", module="peft")
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the hub has it, of random weights: two layers of width 32."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLModel, Qwen2VLImageProcessorPil

    folder = tmp_path_factory.mktemp("tiny-vl")
    words = {word: number for number, word in enumerate(["<unk>", *MARKS, "user", "people", "video"])}
    split = Tokenizer(models.WordLevel(words, "<unk>"))
    split.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=split, unk_token="<unk>", additional_special_tokens=list(MARKS)
    )
    tokenizer.save_pretrained(folder)
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 24, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "rope_parameters": rope,
            "max_position_embeddings": 512, "bos_token_id": None, "eos_token_id": None,
        },
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": 14,
            "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 32, "window_size": 56,
            "fullatt_block_indexes": [1],
        },
        image_token_id=words["<|image_pad|>"],
        video_token_id=words["<|video_pad|>"],
        vision_start_token_id=words["<|vision_start|>"],
        vision_end_token_id=words["<|vision_end|>"],
    )  # fmt: skip
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Qwen2_5_VLModel(config).save_pretrained(folder)
        Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=56 * 84).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def seen() -> Seen:
    rng = np.random.default_rng(0)
    frames, people = rng.integers(0, 255, (4, 64, 104, 3), np.uint8), rng.integers(0, 255, (2, 64, 104, 3), np.uint8)
    return Seen(frames, people, np.zeros((2, 4, 2, 3), np.float32))


def test_a_video_of_doubled_frames_is_the_images_patches(base: Path, seen: Seen) -> None:
    """The image processor shows each picture twice in time: a video of doubled frames has the very same patches."""
    model = large.started(str(base), 2, 4)
    doubled = Seen(np.repeat(seen.frames[:2], 2, 0), seen.frames[:2], seen.places)
    inputs = model._inputs(doubled)
    assert inputs["video_grid_thw"].tolist() == [[2, *inputs["image_grid_thw"][0, 1:].tolist()]]
    torch.testing.assert_close(inputs["pixel_values_videos"], inputs["pixel_values"], atol=0, rtol=0)
    ids, marks = inputs["input_ids"][0].tolist(), model.tokenizer.convert_tokens_to_ids
    for mark, patches in (("<|image_pad|>", "pixel_values"), ("<|video_pad|>", "pixel_values_videos")):
        assert ids.count(marks(mark)) * 4 == len(inputs[patches])
    assert ids[-1] == len(model.tokenizer)


def test_only_the_adapter_the_token_the_head_and_k_are_trained(base: Path, seen: Seen) -> None:
    model = large.started(str(base), 2, 4)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    others = [name for name in names if "lora_" not in name]
    assert sorted(others) == ["head.weight", "raw_k", "token"]
    assert not any("visual" in name for name in names)
    torch.autograd.backward(model(seen).sum())
    assert model.token.grad is not None
    assert float(model.token.grad.abs().sum()) > 0
    moved = [p.grad for n, p in model.named_parameters() if "lora_B" in n]
    assert all(grad is not None and bool(torch.isfinite(grad).all()) for grad in moved)


def test_the_order_of_frames_matters(base: Path, seen: Seen) -> None:
    model = large.started(str(base), 2, 4).eval()
    other = Seen(seen.frames[::-1].copy(), seen.references, seen.places)
    one, again, turned = large.scores(model, [seen, seen, other])
    assert one == again
    assert one != pytest.approx(turned, abs=1e-7)


def test_a_base_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing-here"):
        large.started(str(tmp_path / "nothing-here"), 2, 4)


def test_it_is_trained_stored_and_rewards(base: Path, tmp_path: Path) -> None:
    config = tmp_path / "large.toml"
    config.write_text(
        'name = "large"\nbackbone = "vision-language"\n[synthetic]\ngroups = 1\nheld_out = 1\n'
        "[train]\nsteps = 2\nbatch = 1\nlr = 1e-3\n"
        f'[vision_language]\nbase = "{base}"\nrank = 2\nalpha = 4\nframes = 2\n'
    )
    assert verb("reward", "train", config, "--out", tmp_path / "run", "--jobs", 1) == 0
    reward = find(f"video:{tmp_path / 'run' / 'model'}")
    assert reward.info.family == ("reward.large",)
    weights = tmp_path / "run" / "model" / "weights.safetensors"
    assert weights.stat().st_size < 100_000  # no tensor of the base is in it
