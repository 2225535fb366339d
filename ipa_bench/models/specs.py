"""What a suite file can say of a model: one table for each kind, and nothing of how it is made."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, Strict, model_validator

from ipa_bench.config.fields import Array, Count, Guidance, Name, Number, Positive, Table, Text
from ipa_bench.models import speed
from ipa_bench.models.speed import Attention, Speed

#: stands for the checkpoint that the package carries
EMBEDDED = "embedded"
#: ``owner/name``; what is no such name and no folder is a mistake
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

#: of Wan-Animate
AnimateMode = Literal["animate", "replace"]
#: how attention is computed; ``sdpa`` is another word for ``native``
AttentionName = Annotated[Attention, BeforeValidator(speed.alias)]


class PostTrainingTable(Table):
    """What it took to make a model from its base, where that was not measured here."""

    #: over all devices, candidates and their scores included
    device_hours: Number | None = None
    #: the model of the suite that it was made from
    base: Name | None = None
    #: how the hours are known
    source: Text = "as the suite says"


class _ModelTable(Table):
    """``[[model]]`` of a suite."""

    #: keys that are folders, given from where the suite file lies
    folders: ClassVar[tuple[str, ...]] = ()


class FolderSpec(_ModelTable):
    """Videos that some system has already made, in a folder."""

    folders = ("path",)
    name: Name
    kind: Literal["folder"]
    path: Path
    #: frames per second of clips that are folders of pictures; the case's, or those of the driving clip, where absent
    fps: Positive | None = None
    post_training: PostTrainingTable | None = None
    trained_on: Array[Text] = ()


class DamageSpec(_ModelTable):
    """The driving clips, damaged in a known way: a model that a good metric must rank below an undamaged one."""

    name: Name
    kind: Literal["damage"]
    damage: Text
    strength: Literal["mild", "medium", "strong"] = "medium"
    trained_on: Array[Text] = ()


class FaultSpec(_ModelTable):
    """Scenes of the built-in world in which people are not who they should be, in a known way."""

    name: Name
    kind: Literal["fault"]
    #: of :data:`ipa_bench.embedded.group.faults.FAULTS`
    fault: Text
    strength: Literal["mild", "medium", "strong"] = "medium"
    trained_on: Array[Text] = ()


class ReencodeSpec(_ModelTable):
    """The ground truth itself, encoded anew: what no model of these clips can surpass."""

    name: Name
    kind: Literal["reencode"]
    #: H.264 quality, 0 (lossless) to 51
    crf: Annotated[int, Strict(), Field(ge=0, le=51)] = 23
    trained_on: Array[Text] = ()


class BaseSpec(_ModelTable):
    """A checkpoint of a base model and how it is sampled: what all kinds of them share."""

    name: Name
    kind: Text
    #: a diffusers folder, a hub name (``Wan-AI/Wan2.1-VACE-1.3B-diffusers``), or ``embedded``: the one in the package
    model: Text
    #: commit, branch or tag of a hub name
    revision: Text | None = None
    #: a ``.safetensors`` file, or a folder with ``pytorch_lora_weights.safetensors``
    lora: Path | None = None
    #: the same for the second expert; a file ``NAME_2.safetensors`` beside ``lora`` needs no mention
    lora_2: Path | None = None
    #: a file, or a folder of its parts, that the transformer is read from in place of the checkpoint's own, with the
    #: key names of its authors, of ComfyUI or of diffusers; ``weights_2`` for the second expert
    weights: Path | None = None
    weights_2: Path | None = None
    steps: Count = 20
    #: classifier-free guidance; 1 is none, and half the time
    guidance: Guidance = 1.0
    #: of the second expert, where it is another; of reference images, for Phantom
    guidance_2: Guidance | None = None
    #: of the scheduler's noise levels, in place of the checkpoint's own
    shift: Positive | None = None
    #: what guidance leads away from; where it is not given, the base's usual one
    negative_prompt: Text | None = None
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
    #: of the transformer: see :mod:`ipa_bench.models.speed`
    attention: AttentionName = "native"
    #: compile the transformer's blocks: a minute before the first clip, less for each
    compile: Annotated[bool, Strict()] = False
    #: the transformer's weights in fp8: half the memory, and other clips
    fp8: Annotated[bool, Strict()] = False
    post_training: PostTrainingTable | None = None
    trained_on: Array[Text] = ()

    @model_validator(mode="after")
    def _one_hook(self) -> BaseSpec:
        if self.offload == "sequential" and (self.fp8 or self.compile):
            raise ValueError('offload = "sequential" goes with neither compile nor fp8: take "model"')
        return self

    @property
    def speed(self) -> Speed:
        """How its networks compute."""
        return Speed(self.attention, self.compile, self.fp8)

    @property
    def shown(self) -> tuple[object, ...]:
        """What of its own keys decides what a case gives it."""
        return ()

    @property
    def own(self) -> dict[str, str]:
        """Keys of its kind alone that training from it has to name."""
        return {}

    @property
    def loaded(self) -> tuple[object, ...]:
        """What two models have to agree in to share their weights in memory."""
        files = (self.lora, self.lora_2, self.weights, self.weights_2)
        held = (self.dtype, self.vae_tiling, self.offload, self.speed)
        return (self.kind, self.model, self.revision, *files, *held, *self.shown)


class WanVaceSpec(BaseSpec):
    """A diffusers WanVACE checkpoint and how it is sampled."""

    kind: Literal["wan_vace"]


class PhantomSpec(BaseSpec):
    """Phantom-Wan: Wan2.1-T2V as a diffusers checkpoint, with Phantom's own transformer as ``weights``."""

    kind: Literal["phantom"]


class AnimateSpec(BaseSpec):
    """Wan-Animate: a picture, a pose video and the face of whoever drives."""

    kind: Literal["wan_animate"]
    #: the person of the reference moves as the driving clip does, or takes somebody's place in a clip: the case's
    #: ``background``, where its ``character_mask`` is white
    mode: AnimateMode = "animate"

    @property
    def shown(self) -> tuple[object, ...]:
        """Its mode."""
        return (self.mode,)

    @property
    def own(self) -> dict[str, str]:
        """Its mode, where it is not the usual one."""
        return {} if self.mode == "animate" else {"mode": self.mode}


ModelSpec = FolderSpec | DamageSpec | FaultSpec | ReencodeSpec | BaseSpec
#: what ``[[model]]`` of a suite can be; :mod:`ipa_bench.models.kinds` has a line for each
WrittenSpec = Annotated[
    FolderSpec | DamageSpec | FaultSpec | ReencodeSpec | WanVaceSpec | PhantomSpec | AnimateSpec,
    Field(discriminator="kind"),
]


def base_spec(spec: ModelSpec) -> BaseSpec | None:
    """The table of a base model, or None where a model is none."""
    return spec if isinstance(spec, BaseSpec) else None


def post_training(spec: ModelSpec) -> PostTrainingTable | None:
    """What a suite says of the cost of making a model."""
    return spec.post_training if isinstance(spec, FolderSpec | BaseSpec) else None
