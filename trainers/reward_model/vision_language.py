"""A vision-language model with a scalar head: Qwen2.5-VL's body from transformers, LoRA, one learned token.

The references are shown first, each an image, then the clip's frames as a video, then an instruction, then a token that
the tokenizer does not have; a linear layer of the last hidden state there is the score, as in Identity-GRPO
(arXiv 2510.14256) and VideoAlign (arXiv 2501.13918), whose instructions are not used here. Only the adapter, the token
and the layer are trained and stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ipa_bench.errors import UserError
from ipa_bench.types import UInt8
from trainers.reward_model.file import Card
from trainers.reward_model.seen import Seen

#: in the order of importance that people give it: the face, then hair, skin, clothes
INSTRUCTION = (
    "The pictures show people. The video should show the same people, each of them the same throughout. Judge how well "
    "each keeps their face first, then hair, then skin, then clothes, and if anybody is exchanged, mixed or doubled."
)
#: of the pictures of synthetic clips
HEIGHT = 128
#: most pixels of a frame and of a reference
MOST_PIXELS = 480 * 832
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_IMAGE, _VIDEO, _START, _END = "<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"


class VisionLanguage(nn.Module):
    """The body with its adapter, the token and the head. Scores ``[1]`` of one clip at a time."""

    def __init__(self, body: Any, tokenizer: Any, processor: Any) -> None:
        super().__init__()
        width = int(body.config.get_text_config().hidden_size)
        self.body, self.tokenizer, self.processor = body, tokenizer, processor
        self.head = nn.Linear(width, 1, bias=False)
        nn.init.normal_(self.head.weight, std=width**-0.5)
        #: the number after the tokenizer's last: its row of the embedding is not looked at
        self.number = len(tokenizer)
        rows = body.get_input_embeddings()
        if rows.num_embeddings <= self.number:
            body.resize_token_embeddings(self.number + 1)
        self.token = nn.Parameter(torch.zeros(width))
        self.raw_k = nn.Parameter(torch.tensor(0.5))
        body.get_input_embeddings().register_forward_hook(self._put)

    @property
    def log_k(self) -> Tensor:
        """ln k of :mod:`trainers.rewards.ties`."""
        return nn.functional.softplus(self.raw_k)

    def forward(self, seen: Seen) -> Tensor:
        """The score ``[1]`` of one clip."""
        device = self.token.device
        inputs = {name: tensor.to(device) for name, tensor in self._inputs(seen).items()}
        hidden = self.body(**inputs, use_cache=False).last_hidden_state[:, -1]
        score: Tensor = self.head(hidden.to(self.head.weight.dtype))[:, 0]
        return score

    def _put(self, module: nn.Module, arguments: tuple[Tensor, ...], rows: Tensor) -> Tensor:
        """The learned token where its number stands."""
        return torch.where((arguments[0] == self.number)[..., None], self.token.to(rows.dtype), rows)

    def _inputs(self, seen: Seen) -> dict[str, Tensor]:
        images = self.processor(images=list(seen.references), return_tensors="pt")
        frames = seen.frames if len(seen.frames) % 2 == 0 else np.concatenate([seen.frames, seen.frames[-1:]])
        video = _video(self.processor, frames)
        merge = int(self.processor.merge_size) ** 2
        text = "<|im_start|>user\n"
        for grid in images["image_grid_thw"]:
            text += _START + _IMAGE * int(grid.prod() // merge) + _END
        text += _START + _VIDEO * int(video["video_grid_thw"].prod() // merge) + _END
        ids = self.tokenizer(text + INSTRUCTION + "<|im_end|>\n", return_tensors="pt").input_ids
        ids = torch.cat([ids, torch.tensor([[self.number]])], 1)
        kinds = {name: self.tokenizer.convert_tokens_to_ids(name) for name in (_IMAGE, _VIDEO)}
        types = (ids == kinds[_IMAGE]).int() + 2 * (ids == kinds[_VIDEO]).int()
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": types,
            "pixel_values": images["pixel_values"],
            "image_grid_thw": images["image_grid_thw"],
            **video,
        }


def _video(processor: Any, frames: UInt8) -> dict[str, Tensor]:
    """Frames as the body takes a video: patches of two frames at a time, ``[n, 3 * 2 * p * p]`` and their grid.

    The image processor repeats a picture for both; here the second is the next frame.
    """
    every = processor(images=list(frames), return_tensors="pt")
    depth, side = int(processor.temporal_patch_size), int(processor.patch_size)
    grid = every["image_grid_thw"][0]
    rows = every["pixel_values"].reshape(len(frames), int(grid.prod()), 3, depth, side, side)[:, :, :, 0]
    pairs = rows.reshape(len(frames) // depth, depth, *rows.shape[1:]).permute(0, 2, 3, 1, 4, 5)
    whole = torch.tensor([[len(frames) // depth, int(grid[1]), int(grid[2])]])
    return {"pixel_values_videos": pairs.reshape(-1, 3 * depth * side * side), "video_grid_thw": whole}


def started(base: str, rank: int, alpha: int, device: str = "cpu") -> VisionLanguage:
    """An untrained reward model on the body of ``base``, a folder or a name on the hub.

    Raises :class:`UserError` where the weights are not there.
    """
    from peft import LoraConfig, inject_adapter_in_model
    from transformers import AutoTokenizer, Qwen2_5_VLModel, Qwen2VLImageProcessorPil

    try:
        body: Any = Qwen2_5_VLModel.from_pretrained(base)
        tokenizer: Any = AutoTokenizer.from_pretrained(base)
        processor: Any = Qwen2VLImageProcessorPil.from_pretrained(base)
    except (OSError, ValueError) as error:
        why = str(error).partition("\n")[0]
        raise UserError(f"{base}: {why}", "name a folder with Qwen2.5-VL's weights, or one on the hub") from None
    missing = [name for name in (_IMAGE, _VIDEO, _START, _END) if tokenizer.convert_tokens_to_ids(name) is None]
    if missing:
        raise UserError(f"{base}: its tokenizer has no {missing[0]}", "take Qwen2.5-VL's own")
    processor.size = {**dict(processor.size), "longest_edge": MOST_PIXELS}
    body.requires_grad_(False)
    language = body.language_model
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(TARGETS)), language)
    # transformers 5 renames it; activations of thirty layers are what fills a GPU here
    getattr(body, "activation_checkpointing_enable", body.gradient_checkpointing_enable)()
    return VisionLanguage(body, tokenizer, processor).to(device)


def trainable(model: VisionLanguage) -> nn.ParameterDict:
    """What is trained and stored, by name; the tensors are the model's own."""
    return nn.ParameterDict({n.replace(".", "/"): p for n, p in model.named_parameters() if p.requires_grad})


def opened(card: Card, tensors: Mapping[str, Tensor]) -> VisionLanguage:
    """A stored model, in evaluation. Raises :class:`UserError` where the base or a tensor is missing."""
    options = card.options
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        model = started(str(options["base"]), int(options["rank"]), int(options["alpha"]), device)
    except KeyError as error:
        raise UserError(f"the card does not name the {error.args[0]} of its base", "train it by this version") from None
    own = dict(trainable(model))
    if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in tensors.items()}:
        raise UserError(f"the weights are not of an adapter on {options['base']}", "name the base it was trained on")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])
    return model.eval().requires_grad_(False)


@torch.no_grad()
def scores(model: VisionLanguage, clips: Sequence[Seen]) -> list[float]:
    """The score of each clip, in order."""
    return [float(model(seen)) for seen in clips]


def size_of(size: tuple[int, int]) -> tuple[int, int]:
    """As it is: the processor shrinks."""
    return size
