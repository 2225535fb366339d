"""Where a checkpoint of a base model lies and which one it is, without loading it: no torch, so that resuming is quick.

A checkpoint is a diffusers folder. Its transformers may be read from other files, with the key names of the model's
authors or of ComfyUI: ``weights`` and, of a model with two experts, ``weights_2``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipa_bench.errors import UserError
from ipa_bench.files import LORA_FILE, file_sha256
from ipa_bench.models import hasten
from ipa_bench.models.specs import EMBEDDED, HUB_NAME, BaseSpec

#: the checkpoint that the package carries
EMBEDDED_FOLDER = Path(__file__).parents[1] / "embedded" / "wan_vace_tiny"
#: a checkpoint's files are hashed whole up to this many bytes together, and by samples beyond
WHOLE_BYTES = 10**9
_SAMPLES, _SAMPLE_BYTES = 64, 1 << 16

_WANTED = ["model_index.json", "*/*.json", "*/*.safetensors", "*/*.model", "*/*.txt"]
#: networks that are trained, as diffusers' Wan pipelines name them: one, or the experts for high and for low noise
FIRST, SECOND = "transformer", "transformer_2"
#: what Wan's own code leads away from: ``sample_neg_prompt`` of its configurations, VACE's and Animate's too
NEGATIVE = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，"
    "丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，"
    "静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)
#: width of the embeddings of Wan's text encoder; a model of another does not know that prompt
_WAN_TEXT = 4096
#: key of the recipe of clips that depend on their driving clips even where there is a pose video
DRIVEN = "driving"
#: and of clips in which somebody is replaced: its value names the mode
MODE, REPLACE = "mode", "replace"
#: what a clip depends on besides its case and seed: JSON values by name
Recipe = dict[str, str | int | float | bool | None]


@dataclass(frozen=True)
class Layout:
    """What the folder of a kind of base model holds, as ``save_pretrained`` of its pipeline writes it."""

    #: the pipeline's class
    pipeline: str
    #: a name of the hub
    example: str
    #: components that have weights
    networks: tuple[str, ...] = (FIRST, "vae", "text_encoder")
    #: whether it may have a second transformer, for low noise
    two: bool = False
    #: whether ``guidance_2`` means something with one transformer too
    two_scales: bool = False


VACE = Layout("WanVACEPipeline", "Wan-AI/Wan2.1-VACE-1.3B-diffusers", two=True)


@dataclass(frozen=True)
class Checkpoint:
    """A diffusers folder on this machine, and a name for its content that does not depend on where it lies."""

    folder: Path
    #: ``commit:...`` of the hub; ``sha256:...`` of the files; ``samples:...`` where they are large
    identity: str


def locate(spec: BaseSpec, layout: Layout = VACE) -> Checkpoint:
    """The checkpoint that a suite's entry names; one of the hub is downloaded where it is not here yet.

    A commit of the hub names its content. A folder's files are hashed: names, sizes and all bytes up to 1 GB together;
    beyond, 64 samples of 64 KiB spread over each file (its header and its end among them), which every training step
    changes. A copied folder stays the same checkpoint.
    Raises :class:`UserError` where there is none, it is no pipeline of this layout, or the hub cannot be reached, and
    where this machine cannot compute as the entry says.
    """
    hasten.check(spec.speed, spec.name)
    found = _located(spec, layout)
    others = weight_files(spec)
    if not others:
        return found
    # A folder whose transformer is read from elsewhere is another checkpoint.
    whole, digests = _digests([file for files in others.values() for file in files])
    content = json.dumps([found.identity, [[name, len(files)] for name, files in others.items()], digests]).encode()
    kind = "sha256" if whole and not found.identity.startswith("samples:") else "samples"
    return Checkpoint(found.folder, f"{kind}:{hashlib.sha256(content).hexdigest()}")


def _located(spec: BaseSpec, layout: Layout) -> Checkpoint:
    if spec.model == EMBEDDED:
        if not EMBEDDED_FOLDER.is_dir():
            raise UserError(f"model {spec.name}: this installation carries no checkpoint", "name a diffusers folder")
        return Checkpoint(EMBEDDED_FOLDER, _identity(EMBEDDED_FOLDER, _checked(spec, EMBEDDED_FOLDER, layout)))
    folder = Path(spec.model)
    if folder.is_dir():
        return Checkpoint(folder, _identity(folder, _checked(spec, folder, layout)))
    if not HUB_NAME.fullmatch(spec.model):
        raise UserError(
            f"model {spec.name}: {spec.model} is not a folder",
            f"give a diffusers folder of {layout.pipeline} or a hub name such as {layout.example}",
        )
    folder = _from_hub(spec, layout)
    _checked(spec, folder, layout)
    return Checkpoint(folder, f"commit:{folder.name}")


def weight_files(spec: BaseSpec) -> dict[str, list[Path]]:
    """The files that transformers are read from in place of the folder's, by network. Raises :class:`UserError`."""
    found = {}
    for network, path in ((FIRST, spec.weights), (SECOND, spec.weights_2)):
        if path is None:
            continue
        kinds = ("*.safetensors", "*.pth", "*.pt", "*.ckpt")
        files = [path] if path.is_file() else next(filter(None, (sorted(path.glob(kind)) for kind in kinds)), [])
        if not files:
            fix = "give a .safetensors or .pth file, or a folder of its parts"
            raise UserError(f"model {spec.name}: {path} holds no weights", fix)
        found[network] = files
    return found


def second_lora(file: Path) -> Path:
    """Where the LoRA of the second expert lies beside that of the first."""
    return file.with_name(f"{file.stem}_2{file.suffix}")


def lora_parts(file: Path) -> dict[str, Path]:
    """The files of a LoRA by network: one, or with its like for a second expert beside it."""
    second = second_lora(file)
    return {FIRST: file, SECOND: second} if second.is_file() else {FIRST: file}


def lora_sha256(file: Path) -> str:
    """What names the content of a LoRA: its file's sha256; of two files a digest of both."""
    return _together(lora_parts(file))


def _together(parts: Mapping[str, Path]) -> str:
    if set(parts) == {FIRST}:
        return file_sha256(parts[FIRST])
    found = [[network, file_sha256(file)] for network, file in parts.items()]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def lora_files(spec: BaseSpec) -> dict[str, Path]:
    """The safetensors files of the LoRA, by network. Raises :class:`UserError` where one is not there.

    With ``lora`` goes its like for the second expert that lies beside it, unless ``lora_2`` is given.
    """
    found: dict[str, Path] = {}
    for network, path in ((FIRST, spec.lora), (SECOND, spec.lora_2)):
        if path is None:
            continue
        file = path / LORA_FILE if path.is_dir() else path
        if not file.is_file() or file.suffix != ".safetensors":
            fix = f"give a .safetensors file, or a folder that holds {LORA_FILE}"
            raise UserError(f"model {spec.name}: {path} is no LoRA in safetensors", fix)
        found |= {network: file} if spec.lora_2 else lora_parts(file)
    return found


def negative_prompt(asked: str | None, guidance: float, folder: Path) -> str:
    """What a checkpoint is led away from: nothing without guidance, what is asked for, else what is usual for it.

    ``folder``: the checkpoint's. One that is not there is a published one.
    """
    if guidance <= 1:
        return ""
    if asked is not None:
        return asked
    try:
        width = json.loads((folder / FIRST / "config.json").read_bytes()).get("text_dim", _WAN_TEXT)
    except (OSError, ValueError, AttributeError):
        width = _WAN_TEXT
    return NEGATIVE if width == _WAN_TEXT else ""


def recipe_of(spec: BaseSpec, checkpoint: Checkpoint) -> Recipe:
    """Everything in the settings of a model that its clips depend on. Memory options and batch size do not count."""
    lora = lora_files(spec)
    # Named only where it is not what it always was: folders made before stay valid.
    more: Recipe = {} if spec.decode_dtype == "fp32" else {"decode_dtype": spec.decode_dtype}
    more |= {} if spec.guidance_2 is None else {"guidance_2": spec.guidance_2}
    more |= spec.speed.counts
    return {
        "model": checkpoint.identity,
        "lora": f"sha256:{_together(lora)}" if lora else None,
        "steps": spec.steps,
        "guidance": spec.guidance,
        "negative_prompt": negative_prompt(spec.negative_prompt, spec.guidance, checkpoint.folder),
        "shift": spec.shift,
        "dtype": spec.dtype,
        "vae_tiling": spec.vae_tiling,
        **more,
    }


def described(spec: BaseSpec, recipe: Recipe) -> str:
    """The model in one line, for a run's header: what is needed to make its clips again."""
    files = " and ".join(str(path) for path in (spec.lora, spec.lora_2) if path)
    lora = f", LoRA {files} ({_short(recipe['lora'])})" if files else ""
    keys = ("steps", "guidance", "guidance_2", "shift", "dtype", MODE)
    options = [f"{key} {recipe[key]}" for key in keys if recipe.get(key) is not None]
    led = recipe["negative_prompt"]
    options += ["Wan's own negative prompt" if led == NEGATIVE else f"negative prompt {led!r}"] if led else []
    options += ["VAE tiling"] if spec.vae_tiling else []
    options += [f"decoded in {spec.decode_dtype}"] if spec.decode_dtype != "fp32" else []
    options += spec.speed.words
    others = [str(path) for path in (spec.weights, spec.weights_2) if path]
    weights = f" with {' and '.join(others)}" if others else ""
    return f"{spec.model}{weights} ({_short(recipe['model'])}){lora}, {', '.join(options)}"


def _short(identity: object) -> str:
    kind, _, digest = str(identity).partition(":")
    return f"{kind} {digest[:16]}"


def _from_hub(spec: BaseSpec, layout: Layout) -> Path:
    """The snapshot folder of a hub name, named after its commit: from the cache where it is whole, else downloaded."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    elsewhere = [f"{network}/*.safetensors" for network in weight_files(spec)]

    def snapshot(*, local: bool) -> Path:
        found = snapshot_download(
            spec.model,
            revision=spec.revision,
            allow_patterns=_WANTED,
            ignore_patterns=elsewhere,
            local_files_only=local,
        )
        return Path(found)

    try:
        folder = snapshot(local=True)
        _checked(spec, folder, layout)
        return folder
    except (OSError, ValueError, UserError):
        pass  # not here, or not all of it
    try:
        return snapshot(local=False)
    except RepositoryNotFoundError:
        raise UserError(
            f"model {spec.name}: the hub has no {spec.model}, or it needs a login",
            "check the name; hf auth login",
        ) from None
    except (OSError, ValueError, HfHubHTTPError) as error:
        why = str(error).strip().partition("\n")[0][:200]
        raise UserError(
            f"model {spec.name}: {spec.model} is not on this machine and the hub did not give it: {why}",
            f"hf download {spec.model} where there is a network, and name that folder",
        ) from None


def _checked(spec: BaseSpec, folder: Path, layout: Layout) -> dict[str, Any]:
    """The folder's ``model_index.json``. Raises :class:`UserError` unless it is a whole pipeline of this layout."""
    name = spec.name
    fix = f"give a folder that {layout.pipeline}.save_pretrained wrote, or a hub name such as {layout.example}"
    try:
        index: dict[str, Any] = json.loads((folder / "model_index.json").read_bytes())
    except (OSError, ValueError):
        raise UserError(f"model {name}: {folder} is no diffusers folder: no model_index.json to read", fix) from None
    kind = index.get("_class_name") if isinstance(index, dict) else None
    if kind != layout.pipeline:
        what = kind or "thing without a class"
        raise UserError(f"model {name}: {folder} holds a {what}, not a {layout.pipeline}", fix)
    two = (index.get(SECOND) or [None])[0] is not None
    _check_experts(spec, folder, layout, index if two else None)
    elsewhere = weight_files(spec)
    for network in (*layout.networks, *([SECOND] if two else [])):
        missing = _missing(folder / network)
        if network in elsewhere:
            missing = "" if (folder / network / "config.json").is_file() else "config.json"
        if missing:
            raise UserError(f"model {name}: {folder} lacks {network}/{missing}", f"{fix}; safetensors only")
    return index


def _check_experts(spec: BaseSpec, folder: Path, layout: Layout, index: dict[str, Any] | None) -> None:
    """Raise :class:`UserError` where what is said of a second expert and what is there do not agree.

    ``index`` is that of the folder where it has two transformers.
    """
    if index is not None:
        if not layout.two:
            raise UserError(f"model {spec.name}: {folder} has two transformers", f"give one such as {layout.example}")
        if not isinstance(index.get("boundary_ratio"), float | int):
            fix = 'write "boundary_ratio" into its model_index.json: 0.875 for Wan2.2-VACE-Fun-A14B'
            raise UserError(f"model {spec.name}: {folder} has two transformers and no boundary between them", fix)
        return
    keys = ("lora_2", "weights_2", *(() if layout.two_scales else ("guidance_2",)))
    for key in keys:
        if getattr(spec, key) is not None:
            raise UserError(
                f"model {spec.name}: {key} is for a second transformer, which {folder} lacks", "leave it out"
            )
    for file in lora_files(spec).values():
        if second_lora(file).is_file():
            fix = f"take {second_lora(file).name} away, or give a checkpoint with two transformers"
            raise UserError(f"model {spec.name}: beside {file} lies a LoRA for a second transformer", fix)


def _missing(folder: Path) -> str:
    """A weight file that a component lacks, or nothing."""
    for index in folder.glob("*.safetensors.index.json"):
        try:
            shards = set(json.loads(index.read_bytes())["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError):
            return index.name
        return next((shard for shard in sorted(shards) if not (folder / shard).is_file()), "")
    return "" if any(folder.glob("*.safetensors")) else "*.safetensors"


def _identity(folder: Path, index: dict[str, Any]) -> str:
    files = sorted(_files(folder, index))
    whole, digests = _digests(files)
    found = [
        [file.relative_to(folder).as_posix(), file.stat().st_size, content]
        for file, content in zip(files, digests, strict=True)
    ]
    return f"{'sha256' if whole else 'samples'}:{hashlib.sha256(json.dumps(found).encode()).hexdigest()}"


def _digests(files: Sequence[Path]) -> tuple[bool, list[str]]:
    """Whether every byte of all files together was hashed, and what names the content of each."""
    whole = sum(file.stat().st_size for file in files) <= WHOLE_BYTES
    return whole, [file_sha256(file) if whole else _sampled(file) for file in files]


def _files(folder: Path, index: dict[str, Any]) -> Iterator[Path]:
    """What loading reads: the index, and the files right in each component's folder."""
    yield folder / "model_index.json"
    for component in index:
        for file in (folder / component).glob("*") if not component.startswith("_") else ():
            if file.is_file() and not file.name.startswith("."):
                yield file


def _sampled(file: Path) -> str:
    size = file.stat().st_size
    if size <= _SAMPLES * _SAMPLE_BYTES:
        return file_sha256(file)
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        for step in range(_SAMPLES):
            opened.seek((size - _SAMPLE_BYTES) * step // (_SAMPLES - 1))
            digest.update(opened.read(_SAMPLE_BYTES))
    return digest.hexdigest()
