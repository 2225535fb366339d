"""A WanVACE model by its configuration alone: published, in a folder, or loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from ipa_bench.errors import UserError
from ipa_bench.models.checkpoint import EMBEDDED_FOLDER, FIRST, SECOND, locate
from ipa_bench.models.outline import Bytes, Checkpointing, Lora, Outline, Shape, Trained
from ipa_bench.models.specs import EMBEDDED, WanVaceSpec
from ipa_bench.models.wan import flops, published
from ipa_bench.models.wan.flops import Flops
from ipa_bench.models.wan.published import Published

if TYPE_CHECKING:
    from ipa_bench.models.wan.base import WanBase

#: short names of published models
PUBLISHED = {
    "wan2.1-vace-1.3b": published.VACE_1_3B,
    "wan2.1-vace-14b": published.VACE_14B,
    "wan2.2-vace-fun-14b": published.VACE_FUN_14B,
}
#: tokens of a prompt, where the tokenizer has no smaller limit; WanVACEPipeline's default
TEXT = 512
#: frames that ``AutoencoderKLWan.encode`` takes in one step after the first
AT_ONCE = 4


Kind = TypeVar("Kind", bound="WanVaceOutline")


@dataclass(frozen=True)
class WanVaceOutline(Outline):
    """What the transformer and the VAE look like, and where their weights are, if anywhere."""

    name: str
    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]
    text: int
    folder: Path | None
    #: of the second expert, where there is one; a pass goes through one of them
    second: Mapping[str, Any] | None = None
    #: share of the noise levels that is the second expert's, counted from no noise
    boundary: float | None = None
    #: diffusers' classes of its transformer and its pipeline, which takes the boundary where there are experts
    classes: ClassVar[tuple[str, str]] = ("WanVACETransformer3DModel", "WanVACEPipeline")
    #: what the pipeline's constructor takes, and a model without encoders lacks
    absent: ClassVar[Mapping[str, Any]] = {}

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
        return config["num_layers"] + len(config.get("vace_layers") or ()), width

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

    def kept(self, shape: Shape) -> Mapping[str, tuple[int, ...]]:
        """Without the mask's channels of the control latents, where there are such."""
        found = self.condition(shape)
        if "control" in found:
            found["control"] = (2 * self.flow(shape)[0], *found["control"][1:])
        return found

    def one_pass(self, shape: Shape, trained: Trained) -> Flops:
        """See :func:`ipa_bench.models.wan.flops.pass_flops`."""
        return flops.pass_flops(self.transformer, shape, trained)

    def forward_flops(self, shape: Shape, adapter: Lora | None = None) -> int:
        """Of :meth:`one_pass`."""
        return self.one_pass(shape, adapter).forward

    def update_flops(
        self,
        shape: Shape,
        trained: Lora | Literal["full"],
        *,
        clips: int = 1,
        checkpointing: Checkpointing = False,
        reference: Lora | bool = False,
        old: bool = False,
    ) -> int:
        """As :func:`ipa_bench.models.wan.flops.update_flops`, of :meth:`one_pass`."""
        options: dict[str, Any] = {"clips": clips, "checkpointing": checkpointing, "reference": reference, "old": old}
        return flops.step_flops(self.one_pass, shape, trained, **options)

    def training_bytes(self, dtype: str, trained: Trained, *, average: bool = False) -> Bytes:
        """See :func:`ipa_bench.models.wan.flops.training_bytes`; of two experts both are held."""
        each = [config for config in (self.transformer, self.second) if config is not None]
        found = [flops.training_bytes(config, dtype, trained, average=average) for config in each]
        return sum(found[1:], found[0])

    def built(self, dtype: str, device: Any, *, decodes: bool = True) -> WanBase:
        """The parts of the model on a device; see :mod:`ipa_bench.models.wan.build`."""
        from ipa_bench.models.wan import build
        from ipa_bench.models.wan.vace import WanVace

        return build.base(WanVace, self, dtype, device, decodes=decodes)


def of_folder(name: str, folder: Path, *, random_weights: bool = False) -> WanVaceOutline:
    """The model in a diffusers folder. Raises :class:`UserError` where its configuration cannot be read."""
    transformer, vae = (read_config(folder / part / "config.json") for part in (FIRST, "vae"))
    second = read_config(folder / SECOND / "config.json") if (folder / SECOND).is_dir() else None
    boundary = None if second is None else read_config(folder / "model_index.json").get("boundary_ratio")
    where = None if random_weights else folder
    return WanVaceOutline(name, transformer, vae, text_limit(folder), where, second, boundary)


def text_limit(folder: Path) -> int:
    """Tokens of a prompt, padding included: the pipeline's default, or what the tokenizer of a folder allows."""
    try:
        limit = int(read_config(folder / "tokenizer" / "tokenizer_config.json").get("model_max_length", TEXT))
    except (UserError, ValueError, OverflowError):
        limit = TEXT
    return min(TEXT, limit)


def named(name: str, random_weights: bool) -> WanVaceOutline:
    """See :func:`found`; ``embedded`` is the one in the package."""
    if name == EMBEDDED and random_weights:
        return of_folder(name, EMBEDDED_FOLDER, random_weights=True)

    def folder_of(model: str) -> Path:
        return locate(WanVaceSpec(name="model", kind="wan_vace", model=model)).folder

    return found(WanVaceOutline, PUBLISHED, name, random_weights, of_folder, folder_of)


def known(among: Mapping[str, Published], name: str) -> Published | None:
    """A published model by its short name, or by that of its checkpoint."""
    return among.get(name.lower()) or next((each for each in among.values() if each.name == name), None)


def found(
    kind: type[Kind],
    among: Mapping[str, Published],
    name: str,
    random_weights: bool,
    of_folder: Callable[..., Kind],
    folder_of: Callable[[str], Path],
) -> Kind:
    """The model of this name; with ``random_weights`` nothing but its configuration has to be there.

    ``folder_of``: where a checkpoint lies, one of the hub once it is downloaded. Raises :class:`UserError` where there
    is none.
    """
    listed = known(among, name)
    if not random_weights:
        return of_folder(name, folder_of(listed.name if listed else name))
    if listed is not None:
        second = listed.transformer if listed.boundary is not None else None
        return kind(name, listed.transformer, published.VAE, TEXT, None, second, listed.boundary)
    if not Path(name).is_dir():
        shorts = ", ".join(among)
        raise UserError(f"{name} is not a folder with a configuration", f"give a diffusers folder, or one of {shorts}")
    return of_folder(name, Path(name), random_weights=True)


def owns(model: str) -> bool:
    """Whether a checkpoint, named as in a suite, is one of WanVACE: published, in the package, or a folder of it."""
    listed = model == EMBEDDED or known(PUBLISHED, model) is not None
    return listed or pipeline_of(model) == "WanVACEPipeline"


def pipeline_of(folder: str) -> str | None:
    """The class of the pipeline in a diffusers folder, or None where it is none."""
    try:
        index = json.loads((Path(folder) / "model_index.json").read_bytes())
    except (OSError, ValueError):
        return None
    return index.get("_class_name") if isinstance(index, dict) else None


def read_config(file: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint. Raises :class:`UserError` where it cannot be read."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}", "download the model again") from None
    if not isinstance(content, dict):
        raise UserError(f"{file} is no configuration", "download the model again")
    return content
