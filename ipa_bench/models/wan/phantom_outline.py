"""Phantom by its configuration alone: a text-to-video transformer of Wan2.1 that sees references beside the clip."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ipa_bench.errors import UserError
from ipa_bench.models import checkpoint
from ipa_bench.models.checkpoint import Checkpoint, Layout
from ipa_bench.models.outline import Shape
from ipa_bench.models.specs import BaseSpec, PhantomSpec
from ipa_bench.models.wan import outline, published
from ipa_bench.models.wan.outline import WanVaceOutline

if TYPE_CHECKING:
    from ipa_bench.models.wan.base import WanBase

LAYOUT = Layout("WanPipeline", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", two_scales=True)
#: short names of published models
PUBLISHED = {"phantom-wan-1.3b": published.PHANTOM_1_3B, "phantom-wan-14b": published.PHANTOM_14B}


@dataclass(frozen=True)
class PhantomOutline(WanVaceOutline):
    """As :class:`WanVaceOutline`. A pass sees more latent frames than the flow has: those of one reference image."""

    classes: ClassVar[tuple[str, str]] = ("WanTransformer3DModel", "WanPipeline")

    def flow(self, shape: Shape) -> tuple[int, int, int, int]:
        """That of the clip."""
        return (self.transformer["in_channels"], shape.frames - self.references, shape.height, shape.width)

    def condition(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """Latents of reference images, the clip's frames as a length, and the prompt."""
        people = (self.transformer["in_channels"], self.references, shape.height, shape.width)
        frames = (shape.frames - self.references,)
        return {"people": people, "frames": frames, "prompt": (shape.text, self.transformer["text_dim"])}

    def passes(self, guidance: float) -> int:
        """Three with guidance: without references and prompt, without the prompt, with both."""
        return 3 if guidance > 1 else 1

    def built(self, dtype: str, device: Any, *, decodes: bool = True) -> WanBase:
        """The parts of the model on a device; see :mod:`ipa_bench.models.wan.build`."""
        from ipa_bench.models.wan import build
        from ipa_bench.models.wan.phantom import Phantom

        return build.base(Phantom, self, dtype, device, decodes=decodes)


def locate(spec: BaseSpec) -> Checkpoint:
    """See :func:`ipa_bench.models.checkpoint.locate`. Raises :class:`UserError` for Wan2.1-T2V without Phantom too."""
    if spec.weights is None and any(spec.model == known.name for known in PUBLISHED.values()):
        raise UserError(
            f"model {spec.name}: {spec.model} is what Phantom was made of, and not Phantom",
            'give the file as well: weights = "Phantom-Wan-1.3B.pth" of bytedance-research/Phantom',
        )
    return checkpoint.locate(spec, LAYOUT)


def of_folder(name: str, folder: Path, *, random_weights: bool = False) -> PhantomOutline:
    """The model in a diffusers folder. Raises :class:`UserError` where its configuration cannot be read."""
    found = outline.of_folder(name, folder, random_weights=random_weights)
    return PhantomOutline(name, found.transformer, found.vae, found.text, found.folder)


def named(name: str, random_weights: bool) -> PhantomOutline:
    """See :func:`ipa_bench.models.wan.outline.found`."""

    def folder_of(model: str) -> Path:
        return locate(PhantomSpec(name="model", kind="phantom", model=model)).folder

    return outline.found(PhantomOutline, PUBLISHED, name, random_weights, of_folder, folder_of)


def owns(model: str) -> bool:
    """Whether a checkpoint, named as in a suite, can be one of Phantom: a ``WanPipeline``."""
    return outline.known(PUBLISHED, model) is not None or outline.pipeline_of(model) == LAYOUT.pipeline
