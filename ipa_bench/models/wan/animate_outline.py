"""Wan-Animate by its configuration alone: a transformer that is shown a pose, an image encoder's tokens and a face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ipa_bench.models import checkpoint
from ipa_bench.models.checkpoint import Checkpoint, Layout
from ipa_bench.models.outline import Bytes, Lora, Shape, Trained
from ipa_bench.models.specs import AnimateSpec, BaseSpec
from ipa_bench.models.wan import flops, outline, published
from ipa_bench.models.wan.flops import Flops
from ipa_bench.models.wan.outline import WanVaceOutline, read_config

if TYPE_CHECKING:
    from ipa_bench.models.wan.base import WanBase

NETWORKS = ("transformer", "vae", "text_encoder", "image_encoder")
LAYOUT = Layout("WanAnimatePipeline", "Wan-AI/Wan2.2-Animate-14B-Diffusers", NETWORKS)
#: short names of published models
PUBLISHED = {"wan2.2-animate-14b": published.ANIMATE_14B}
#: frames that it makes at once
SEGMENT = 77
#: channels of a mask, before those of latents
MASK = 4
#: face tokens of a latent frame: those of the face encoder's heads, and one of padding
_HEADS = "face_encoder_num_heads"


@dataclass(frozen=True)
class AnimateOutline(WanVaceOutline):
    """As :class:`WanVaceOutline`; ``seen`` is the configuration of the image encoder."""

    seen: Mapping[str, Any] = field(default_factory=dict)
    classes: ClassVar[tuple[str, str]] = ("WanAnimateTransformer3DModel", "WanAnimatePipeline")
    absent: ClassVar[Mapping[str, Any]] = {"image_encoder": None, "image_processor": None}

    @property
    def image_tokens(self) -> int:
        """Of the reference picture: patches and one for the whole."""
        return (int(self.seen.get("image_size", 224)) // int(self.seen.get("patch_size", 14))) ** 2 + 1

    def flow(self, shape: Shape) -> tuple[int, int, int, int]:
        """That of the clip and the frame in front of it."""
        return (self.transformer["latent_channels"], shape.frames, shape.height, shape.width)

    def condition(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """As :meth:`ipa_bench.models.wan.animate.Animate.given` makes them, and the prompt."""
        config, channels, sides = self.transformer, self.transformer["latent_channels"], (shape.height, shape.width)
        clip, face = shape.frames - 1, config["motion_encoder_size"]
        return {
            "beside": (MASK + channels, shape.frames, *sides),
            "pose": (channels, clip, *sides),
            "image": (self.image_tokens, config["image_dim"]),
            "face": (3, (clip - 1) * self.time + 1, face, face),
            "prompt": (shape.text, config["text_dim"]),
        }

    def one_pass(self, shape: Shape, trained: Trained) -> Flops:
        """As :func:`ipa_bench.models.wan.flops.pass_flops`, with image and face attention.

        What turns face pixels into motion is not in it.
        """
        config = self.transformer
        plain = {**config, "image_dim": None, "added_kv_proj_dim": None}
        tokens, dim = shape.tokens(config["patch_size"]), self.layers[1]
        image, faces = shape.batch * self.image_tokens, shape.batch * shape.frames * (config[_HEADS] + 1)
        wide, learns, full = config["image_dim"], trained is not None, trained == "full"
        found = flops.pass_flops(plain, shape, trained)

        def part(linear: int, through: bool, attention: int = 0, again: bool = False) -> Flops:
            """A product of weights whose input has a gradient or not, and attention; ``again``: in a block."""
            backward = linear * (through + full) + attention * 5 // 2 if learns else 0
            repeated = again and learns
            return Flops(linear + attention, backward, (linear + attention) * repeated, attention * repeated)

        embedded = 2 * image * wide * (wide + dim)
        posed = 2 * (tokens - tokens // shape.frames) * config["latent_channels"] * prod(config["patch_size"]) * dim
        found += part(embedded + posed, False)
        for _ in range(config["num_layers"]):
            into = config["added_kv_proj_dim"]
            found += part(2 * (2 * image * into * dim), full, 4 * tokens * self.image_tokens * dim, again=True)
            if isinstance(trained, Lora) and trained.blocks != "vace":
                down, up = (2 * (2 * image * trained.rank * side) for side in (into, dim))
                found += Flops(down + up, 2 * up + down, down + up)
        for _ in range(config["num_layers"] // config["inject_face_latents_blocks"]):
            found += part(2 * (2 * tokens * dim * dim), learns, 4 * tokens * (config[_HEADS] + 1) * dim)
            found += part(2 * (2 * faces * dim * dim), full)
        return found

    def training_bytes(self, dtype: str, trained: Trained, *, average: bool = False) -> Bytes:
        """See :func:`ipa_bench.models.wan.flops.bytes_of`; parameters are counted on torch's meta device."""
        shapes = _shapes(tuple(sorted((key, _frozen(value)) for key, value in self.transformer.items())))
        return flops.bytes_of(shapes, dtype, trained, average=average)

    def built(self, dtype: str, device: Any, *, decodes: bool = True) -> WanBase:
        """The parts of the model on a device; see :mod:`ipa_bench.models.wan.build`."""
        from ipa_bench.models.wan import build
        from ipa_bench.models.wan.animate import Animate

        return build.base(Animate, self, dtype, device, decodes=decodes)


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return tuple(sorted(value.items()))
    return tuple(value) if isinstance(value, list) else value


@lru_cache
def _shapes(config: tuple[tuple[str, Any], ...]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter."""
    import torch
    from diffusers import WanAnimateTransformer3DModel

    known = {key: value for key, value in config if not key.startswith("_")}
    if known.get("motion_encoder_channel_sizes"):
        known["motion_encoder_channel_sizes"] = dict(known["motion_encoder_channel_sizes"])
    with torch.device("meta"):
        made: Any = WanAnimateTransformer3DModel.from_config(known)
    return {name: tuple(parameter.shape) for name, parameter in made.named_parameters()}


def locate(spec: BaseSpec) -> Checkpoint:
    """See :func:`ipa_bench.models.checkpoint.locate`."""
    return checkpoint.locate(spec, LAYOUT)


def of_folder(name: str, folder: Path, *, random_weights: bool = False) -> AnimateOutline:
    """The model in a diffusers folder. Raises :class:`UserError` where its configuration cannot be read."""
    found = outline.of_folder(name, folder, random_weights=random_weights)
    seen = read_config(folder / "image_encoder" / "config.json")
    return AnimateOutline(name, found.transformer, found.vae, found.text, found.folder, seen=seen)


def named(name: str, random_weights: bool) -> AnimateOutline:
    """See :func:`ipa_bench.models.wan.outline.found`."""

    def folder_of(model: str) -> Path:
        return locate(AnimateSpec(name="model", kind="wan_animate", model=model)).folder

    return outline.found(AnimateOutline, PUBLISHED, name, random_weights, of_folder, folder_of)


def owns(model: str) -> bool:
    """Whether a checkpoint, named as in a suite, is one of Wan-Animate."""
    return outline.known(PUBLISHED, model) is not None or outline.pipeline_of(model) == LAYOUT.pipeline
