"""The model that is measured, by its configuration alone: no weights are read here, and no torch is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from ipa_bench.errors import UserError
from ipa_bench.models import kinds
from ipa_bench.models.outline import Lora, Outline, Shape
from trainers.cost_sheet.plan import RECIPES, Cell, Clip
from trainers.methods import Variant

#: frames per second that clips are priced at: Wan's are made for it
FPS = 16


@dataclass(frozen=True)
class Subject:
    """A base model in the words of a sweep."""

    name: str
    outline: Outline

    def check(self, clip: Clip) -> None:
        """Raises :class:`UserError` for a shape that the model cannot make, naming the next larger."""
        frames, (width, height) = self.outline.fitting(clip.frames, (clip.width, clip.height))
        fitting = Clip(height, width, frames)
        if fitting != clip:
            raise UserError(f"{self.name} cannot make clips of {clip}", f"the next larger shape is {fitting}")

    def shape(self, clip: Clip, batch: int) -> Shape:
        """What a forward pass sees of such clips, each with one reference image."""
        return self.outline.shape(clip.frames, (clip.width, clip.height), batch)

    def tokens(self, clip: Clip, batch: int) -> int:
        """Video tokens of a batch."""
        return self.outline.tokens(self.shape(clip, batch))

    def flops(self, cell: Cell) -> int:
        """FLOPs of what a cell repeats: one update on a batch, or one denoising step of it."""
        shape = self.shape(cell.clip, cell.batch)
        if not cell.trains:
            return self.outline.sample_flops(shape, 1, cell.guidance)
        lora = Lora(cell.rank, cell.layers or "qkv")
        recipe = RECIPES[cell.work]
        # A copied model carries the adapter that the model had when it was copied.
        by: dict[Variant, Lora | bool] = {
            "computed": recipe.method.reference,
            "known": False,
            "published": lora,
        }
        return self.outline.update_flops(
            shape,
            lora,
            clips=recipe.method.clips,
            checkpointing=cell.checkpointing,
            reference=by[recipe.variant],
        )

    def held(self, cell: Cell) -> int:
        """Exact bytes that a cell holds whatever the clip: weights and, where it trains, adapter, gradients and Adam.

        The VAE, which decodes, and activations are not in it.
        """
        lora = Lora(cell.rank, cell.layers or "qkv") if cell.trains else None
        known = self.outline.training_bytes(cell.dtype, lora)
        copied = known.weights + known.adapter if cell.trains and RECIPES[cell.work].variant == "published" else 0
        return known.device + copied


def subject(name: str, *, random_weights: bool) -> Subject:
    """The model of this name; with ``random_weights`` nothing but its configuration has to be there.

    Raises :class:`UserError` where there is none; one of the hub is downloaded where its weights are asked for.
    """
    return Subject(name, kinds.bases()[kinds.base_of(name)].outline(name, random_weights))
