"""A WanVACE model by its configuration alone: published, in a folder, or loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ipa_bench.errors import UserError
from ipa_bench.models.checkpoint import EMBEDDED_FOLDER, locate
from ipa_bench.models.outline import Bytes, Lora, Outline, Shape, Trained
from ipa_bench.models.specs import EMBEDDED, WanVaceSpec
from ipa_bench.models.wan import flops, published

if TYPE_CHECKING:
    from ipa_bench.models.wan.vace import WanVace

#: short names of published models
PUBLISHED = {"wan2.1-vace-1.3b": published.VACE_1_3B, "wan2.1-vace-14b": published.VACE_14B}
#: tokens of a prompt, where the tokenizer has no smaller limit; WanVACEPipeline's default
TEXT = 512
#: frames that ``AutoencoderKLWan.encode`` takes in one step after the first
AT_ONCE = 4


@dataclass(frozen=True)
class WanVaceOutline(Outline):
    """What the transformer and the VAE look like, and where their weights are, if anywhere."""

    name: str
    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]
    text: int
    folder: Path | None

    @property
    def time(self) -> int:
        """Video frames to a latent frame, as ``WanVACEPipeline`` works it out."""
        return int(2 ** sum(self.vae["temperal_downsample"]))

    @property
    def space(self) -> int:
        """Pixels to a latent, each way, as ``WanVACEPipeline`` works it out."""
        return int(2 ** len(self.vae["temperal_downsample"]))

    @property
    def layers(self) -> tuple[int, int]:
        """Blocks, those of the control branch among them, and their width."""
        config = self.transformer
        width = config["num_attention_heads"] * config["attention_head_dim"]
        return config["num_layers"] + len(config["vace_layers"]), width

    def fitting(self, frames: int, size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
        """As :func:`ipa_bench.models.wan.conditioning.grid` of the loaded model."""
        step, time = self.space * int(self.transformer["patch_size"][1]), lcm(AT_ONCE, self.time)
        width, height = (-(-side // step) * step for side in size)
        return -(-(frames - 1) // time) * time + 1, (width, height)

    def tokens(self, shape: Shape) -> int:
        """Video tokens of a batch."""
        return shape.tokens(self.transformer["patch_size"])

    def flow(self, shape: Shape) -> tuple[int, int, int, int]:
        """Channels, frames, height and width of what the flow is over."""
        return (self.transformer["in_channels"], shape.frames, shape.height, shape.width)

    def condition(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """Control latents and the prompt."""
        control = (self.transformer["vace_in_channels"], shape.frames, shape.height, shape.width)
        return {"control": control, "prompt": (shape.text, self.transformer["text_dim"])}

    def forward_flops(self, shape: Shape, adapter: Lora | None = None) -> int:
        """See :func:`ipa_bench.models.wan.flops.forward_flops`."""
        return flops.forward_flops(self.transformer, shape, adapter)

    def update_flops(
        self,
        shape: Shape,
        trained: Lora | Literal["full"],
        *,
        clips: int = 1,
        checkpointing: bool = False,
        reference: Lora | bool = False,
        old: bool = False,
    ) -> int:
        """See :func:`ipa_bench.models.wan.flops.update_flops`."""
        options: dict[str, Any] = {"clips": clips, "checkpointing": checkpointing, "reference": reference, "old": old}
        return flops.update_flops(self.transformer, shape, trained, **options)

    def training_bytes(self, dtype: str, trained: Trained, *, average: bool = False) -> Bytes:
        """See :func:`ipa_bench.models.wan.flops.training_bytes`."""
        return flops.training_bytes(self.transformer, dtype, trained, average=average)

    def built(self, dtype: str, device: Any, *, decodes: bool = True) -> WanVace:
        """The parts of the model on a device; see :mod:`ipa_bench.models.wan.build`."""
        from ipa_bench.models.wan import build

        return build.base(self, dtype, device, decodes=decodes)


def of_folder(name: str, folder: Path, *, random_weights: bool = False) -> WanVaceOutline:
    """The model in a diffusers folder. Raises :class:`UserError` where its configuration cannot be read."""
    transformer, vae = (_read(folder / part / "config.json") for part in ("transformer", "vae"))
    try:
        limit = int(_read(folder / "tokenizer" / "tokenizer_config.json").get("model_max_length", TEXT))
    except (UserError, ValueError, OverflowError):
        limit = TEXT
    return WanVaceOutline(name, transformer, vae, min(TEXT, limit), None if random_weights else folder)


def named(name: str, *, random_weights: bool) -> WanVaceOutline:
    """The model of this name; with ``random_weights`` nothing but its configuration has to be there.

    Raises :class:`UserError` where there is none; one of the hub is downloaded where its weights are asked for.
    """
    known = PUBLISHED.get(name.lower()) or next((p for p in PUBLISHED.values() if p.name == name), None)
    if known is not None and random_weights:
        return WanVaceOutline(name, known.transformer, published.VAE, TEXT, None)
    if not random_weights:
        spec = WanVaceSpec(name="model", kind="wan_vace", model=known.name if known else name)
        return of_folder(name, locate(spec).folder)
    folder = EMBEDDED_FOLDER if name == EMBEDDED else Path(name)
    if not folder.is_dir():
        shorts = ", ".join(PUBLISHED)
        raise UserError(f"{name} is not a folder with a configuration", f"give a diffusers folder, or one of {shorts}")
    return of_folder(name, folder, random_weights=True)


def owns(model: str) -> bool:
    """Whether a checkpoint, named as in a suite, is one of WanVACE: published, in the package, or a folder of it."""
    if model == EMBEDDED or model.lower() in PUBLISHED or any(p.name == model for p in PUBLISHED.values()):
        return True
    try:
        index = json.loads((Path(model) / "model_index.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(index, dict) and index.get("_class_name") == "WanVACEPipeline"


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}", "download the model again") from None
    if not isinstance(content, dict):
        raise UserError(f"{file} is no configuration", "download the model again")
    return content
