"""What a suite file can say of a model: one table for each kind, and the types that its values share."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict

__all__ = [
    "EMBEDDED",
    "HUB_NAME",
    "Array",
    "Count",
    "DamageSpec",
    "FolderSpec",
    "ModelSpec",
    "Name",
    "PostTrainingTable",
    "ReencodeSpec",
    "Size",
    "Table",
    "Text",
    "WanVaceSpec",
    "plain_name",
]

#: stands for the checkpoint that the package carries
EMBEDDED = "embedded"
#: ``owner/name``; what is no such name and no folder is a mistake
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def plain_name(name: str) -> str:
    """A name in Unicode NFC. Names become parts of file names, of URLs and of table cells; ``ValueError`` if unfit."""
    if not name or name != name.strip() or name in (".", "..") or re.search(r"[/\\\x00-\x1f\x7f\ud800-\udfff]", name):
        raise ValueError("a name is not empty and has no slash, control character or space around it")
    return unicodedata.normalize("NFC", name)


def _no_repeats(items: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = [item for item in dict.fromkeys(items) if items.count(item) > 1]
    if twice:
        raise ValueError(f"{twice[0]} is listed twice")
    return items


T = TypeVar("T")
Text = Annotated[str, Strict()]
Name = Annotated[Text, AfterValidator(plain_name)]
Count = Annotated[int, Strict(), Field(ge=1)]
_Positive = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
# TOML has arrays only; a list that holds the right things is a tuple of them.
Array = Annotated[
    tuple[T, ...],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
    Strict(),
    AfterValidator(_no_repeats),
]
Size = Annotated[
    tuple[Count, Count], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value), Strict()
]


class Table(BaseModel):
    """A table of a suite file: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PostTrainingTable(Table):
    """What it took to make a model from its base, where that was not measured here."""

    #: over all devices, candidates and their scores included
    device_hours: Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)] | None = None
    #: the model of the suite that it was made from
    base: Name | None = None
    #: how the hours are known
    source: Text = "as the suite says"


class FolderSpec(Table):
    """Videos that some system has already made, in a folder."""

    name: Name
    kind: Literal["folder"]
    path: Path
    post_training: PostTrainingTable | None = None
    trained_on: Array[Text] = ()


class DamageSpec(Table):
    """The driving clips, damaged in a known way: a model that a good metric must rank below an undamaged one."""

    name: Name
    kind: Literal["damage"]
    damage: Text
    strength: Literal["mild", "medium", "strong"] = "medium"
    trained_on: Array[Text] = ()


class ReencodeSpec(Table):
    """The ground truth itself, encoded anew: what no model of these clips can surpass."""

    name: Name
    kind: Literal["reencode"]
    #: H.264 quality, 0 (lossless) to 51
    crf: Annotated[int, Strict(), Field(ge=0, le=51)] = 23
    trained_on: Array[Text] = ()


class WanVaceSpec(Table):
    """A diffusers WanVACE checkpoint and how it is sampled."""

    name: Name
    kind: Literal["wan_vace"]
    #: a diffusers folder, a hub name (``Wan-AI/Wan2.1-VACE-1.3B-diffusers``), or ``embedded``: the one in the package
    model: Text
    #: commit, branch or tag of a hub name
    revision: Text | None = None
    #: a ``.safetensors`` file, or a folder with ``pytorch_lora_weights.safetensors``
    lora: Path | None = None
    steps: Count = 20
    #: classifier-free guidance; 1 is none, and half the time
    guidance: Annotated[float, Strict(), Field(ge=1, allow_inf_nan=False)] = 1.0
    #: of the scheduler's noise levels, in place of the checkpoint's own
    shift: _Positive | None = None
    negative_prompt: Text = ""
    #: of transformer and text encoder; the VAE holds fp32 always
    dtype: Literal["bf16", "fp32"] = "bf16"
    #: that the VAE decodes in; bf16 is several times faster, and not quite the same
    decode_dtype: Literal["bf16", "fp32"] = "fp32"
    #: store the latents that a clip was decoded from beside it, to train on without a way through pixels
    keep_latents: Annotated[bool, Strict()] = False
    #: clips made at once on a GPU
    batch: Count = 1
    #: decode and encode in overlapping tiles: less memory, faint seams
    vae_tiling: Annotated[bool, Strict()] = False
    #: keep in GPU memory only the part in use: ``model`` by network, ``sequential`` by layer (slow)
    offload: Literal["none", "model", "sequential"] = "none"
    post_training: PostTrainingTable | None = None
    trained_on: Array[Text] = ()


ModelSpec = FolderSpec | DamageSpec | ReencodeSpec | WanVaceSpec
