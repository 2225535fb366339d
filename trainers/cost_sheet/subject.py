"""The model that is measured, by its configuration alone: no weights are read here, and no torch is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import lcm
from pathlib import Path
from typing import Any

from ipa_bench.errors import UserError
from ipa_bench.models.checkpoint import EMBEDDED_FOLDER, locate
from ipa_bench.models.specs import EMBEDDED, WanVaceSpec
from ipa_bench.models.wan import published
from ipa_bench.models.wan.flops import Lora, Shape, sample_flops, update_flops
from trainers.cost_sheet.plan import RECIPES, Cell, Clip
from trainers.methods import Variant

#: short names of published models
PUBLISHED = {"wan2.1-vace-1.3b": published.VACE_1_3B, "wan2.1-vace-14b": published.VACE_14B}
#: tokens of a prompt, where the tokenizer has no smaller limit; frames that the VAE takes at once after the first
TEXT, AT_ONCE = 512, 4
#: reference images of a clip
REFERENCES = 1
#: frames per second that Wan's clips are made for
FPS = 16


@dataclass(frozen=True)
class Subject:
    """A WanVACE model: what its transformer and VAE look like, and where its weights are, if anywhere."""

    name: str
    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]
    #: tokens of a prompt, padding included
    text: int
    #: the diffusers folder; None: random weights
    folder: Path | None

    @property
    def time(self) -> int:
        """Video frames to a latent frame, as ``WanVACEPipeline`` works it out."""
        return int(2 ** sum(self.vae["temperal_downsample"]))

    @property
    def space(self) -> int:
        """Pixels to a latent, each way."""
        return int(2 ** len(self.vae["temperal_downsample"]))

    def check(self, clip: Clip) -> None:
        """Raises :class:`UserError` for a shape that the VAE and the patches do not divide, naming the next larger."""
        step, time = self.space * int(self.transformer["patch_size"][1]), lcm(AT_ONCE, self.time)
        height, width = (-(-side // step) * step for side in (clip.height, clip.width))
        fitting = Clip(height, width, -(-(clip.frames - 1) // time) * time + 1)
        if fitting != clip:
            raise UserError(f"{self.name} cannot make clips of {clip}", f"the next larger shape is {fitting}")

    def shape(self, clip: Clip, batch: int) -> Shape:
        """What a forward pass sees of such clips, each with one reference image."""
        size = (clip.width, clip.height)
        return Shape.of_video(
            clip.frames, size, text=self.text, references=REFERENCES, batch=batch, time=self.time, space=self.space
        )

    def tokens(self, clip: Clip, batch: int) -> int:
        """Video tokens of a batch."""
        return self.shape(clip, batch).tokens(self.transformer)

    def flops(self, cell: Cell) -> int:
        """FLOPs of what a cell repeats: one update on a batch, or one denoising step of it."""
        shape = self.shape(cell.clip, cell.batch)
        if not cell.trains:
            return sample_flops(self.transformer, shape, 1, cell.guidance)
        lora = Lora(cell.rank, cell.layers or "qkv")
        recipe = RECIPES[cell.work]
        # A copied model carries the adapter that the model had when it was copied.
        by: dict[Variant, Lora | bool] = {
            "computed": recipe.method.reference,
            "known": False,
            "published": lora,
        }
        return update_flops(
            self.transformer,
            shape,
            lora,
            clips=recipe.method.clips,
            checkpointing=cell.checkpointing,
            reference=by[recipe.variant],
        )


def subject(name: str, *, random_weights: bool) -> Subject:
    """The model of this name; with ``random_weights`` nothing but its configuration has to be there.

    Raises :class:`UserError` where there is none; one of the hub is downloaded where its weights are asked for.
    """
    known = PUBLISHED.get(name.lower()) or next((p for p in PUBLISHED.values() if p.name == name), None)
    if known is not None and random_weights:
        return Subject(name, known.transformer, published.VAE, TEXT, None)
    spec = WanVaceSpec(name="model", kind="wan_vace", model=known.name if known else name)
    if random_weights:
        folder = EMBEDDED_FOLDER if name == EMBEDDED else Path(name)
        if not folder.is_dir():
            shorts = ", ".join(PUBLISHED)
            raise UserError(
                f"{name} is not a folder with a configuration", f"give a diffusers folder, or one of {shorts}"
            )
    else:
        folder = locate(spec).folder
    transformer, vae = (_read(folder / part / "config.json") for part in ("transformer", "vae"))
    try:
        limit = int(_read(folder / "tokenizer" / "tokenizer_config.json").get("model_max_length", TEXT))
    except (UserError, ValueError, OverflowError):
        limit = TEXT
    return Subject(name, transformer, vae, min(TEXT, limit), None if random_weights else folder)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}", "download the model again") from None
    if not isinstance(content, dict):
        raise UserError(f"{file} is no configuration", "download the model again")
    return content
