"""Where a WanVACE checkpoint lies and which one it is, without loading it: no torch here, so that resuming is quick."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipa_bench.errors import UserError
from ipa_bench.files import LORA_FILE, file_sha256
from ipa_bench.models.specs import EMBEDDED, HUB_NAME, BaseSpec

#: the checkpoint that the package carries
EMBEDDED_FOLDER = Path(__file__).parents[1] / "embedded" / "wan_vace_tiny"
#: a checkpoint's files are hashed whole up to this many bytes together, and by samples beyond
WHOLE_BYTES = 10**9
_SAMPLES, _SAMPLE_BYTES = 64, 1 << 16

_NETWORKS = ("transformer", "vae", "text_encoder")
_WANTED = ["model_index.json", "*/*.json", "*/*.safetensors", "*/*.model", "*/*.txt"]
_AN_EXAMPLE = "Wan-AI/Wan2.1-VACE-1.3B-diffusers"
#: what a clip depends on besides its case and seed: JSON values by name
Recipe = dict[str, str | int | float | bool | None]


@dataclass(frozen=True)
class Checkpoint:
    """A diffusers folder on this machine, and a name for its content that does not depend on where it lies."""

    folder: Path
    #: ``commit:...`` of the hub; ``sha256:...`` of the files; ``samples:...`` where they are large
    identity: str


def locate(spec: BaseSpec) -> Checkpoint:
    """The checkpoint that a suite's entry names; one of the hub is downloaded where it is not here yet.

    A commit of the hub names its content. A folder's files are hashed: names, sizes and all bytes up to 1 GB together;
    beyond, 64 samples of 64 KiB spread over each file (its header and its end among them), which every training step
    changes. A copied folder stays the same checkpoint.
    Raises :class:`UserError` where there is none, it is no WanVACE pipeline, or the hub cannot be reached.
    """
    if spec.model == EMBEDDED:
        if not EMBEDDED_FOLDER.is_dir():
            raise UserError(f"model {spec.name}: this installation carries no checkpoint", "name a diffusers folder")
        return Checkpoint(EMBEDDED_FOLDER, _identity(EMBEDDED_FOLDER, _checked(spec.name, EMBEDDED_FOLDER)))
    folder = Path(spec.model)
    if folder.is_dir():
        return Checkpoint(folder, _identity(folder, _checked(spec.name, folder)))
    if not HUB_NAME.fullmatch(spec.model):
        raise UserError(
            f"model {spec.name}: {spec.model} is not a folder",
            f"give a diffusers folder of WanVACEPipeline or a hub name such as {_AN_EXAMPLE}",
        )
    folder = _from_hub(spec)
    _checked(spec.name, folder)
    return Checkpoint(folder, f"commit:{folder.name}")


def lora_file(spec: BaseSpec) -> Path | None:
    """The LoRA's safetensors file, or None where none is asked for. Raises :class:`UserError` where it is not there."""
    if spec.lora is None:
        return None
    path = spec.lora / LORA_FILE if spec.lora.is_dir() else spec.lora
    if not path.is_file() or path.suffix != ".safetensors":
        fix = f"give a .safetensors file, or a folder that holds {LORA_FILE}"
        raise UserError(f"model {spec.name}: {spec.lora} is no LoRA in safetensors", fix)
    return path


def recipe_of(spec: BaseSpec, checkpoint: Checkpoint) -> Recipe:
    """Everything in the settings of a model that its clips depend on. Memory options and batch size do not count."""
    lora = lora_file(spec)
    # Named only where it is not what it always was: folders made before stay valid.
    vae = {} if spec.decode_dtype == "fp32" else {"decode_dtype": spec.decode_dtype}
    return {
        "model": checkpoint.identity,
        "lora": None if lora is None else f"sha256:{file_sha256(lora)}",
        "steps": spec.steps,
        "guidance": spec.guidance,
        "negative_prompt": spec.negative_prompt if spec.guidance > 1 else "",
        "shift": spec.shift,
        "dtype": spec.dtype,
        "vae_tiling": spec.vae_tiling,
        **vae,
    }


def described(spec: BaseSpec, recipe: Recipe) -> str:
    """The model in one line, for a run's header: what is needed to make its clips again."""
    lora = f", LoRA {spec.lora} ({_short(recipe['lora'])})" if spec.lora else ""
    options = [f"{key} {recipe[key]}" for key in ("steps", "guidance", "shift", "dtype") if recipe[key] is not None]
    options += [f"negative prompt {recipe['negative_prompt']!r}"] if recipe["negative_prompt"] else []
    options += ["VAE tiling"] if spec.vae_tiling else []
    options += [f"decoded in {spec.decode_dtype}"] if spec.decode_dtype != "fp32" else []
    return f"{spec.model} ({_short(recipe['model'])}){lora}, {', '.join(options)}"


def _short(identity: object) -> str:
    kind, _, digest = str(identity).partition(":")
    return f"{kind} {digest[:16]}"


def _from_hub(spec: BaseSpec) -> Path:
    """The snapshot folder of a hub name, named after its commit: from the cache where it is whole, else downloaded."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    def snapshot(*, local: bool) -> Path:
        found = snapshot_download(spec.model, revision=spec.revision, allow_patterns=_WANTED, local_files_only=local)
        return Path(found)

    try:
        folder = snapshot(local=True)
        _checked(spec.name, folder)
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


def _checked(name: str, folder: Path) -> dict[str, Any]:
    """The folder's ``model_index.json``. Raises :class:`UserError` unless it is a whole WanVACE pipeline."""
    fix = f"give a folder that WanVACEPipeline.save_pretrained wrote, or a hub name such as {_AN_EXAMPLE}"
    try:
        index: dict[str, Any] = json.loads((folder / "model_index.json").read_bytes())
    except (OSError, ValueError):
        raise UserError(f"model {name}: {folder} is no diffusers folder: no model_index.json to read", fix) from None
    kind = index.get("_class_name") if isinstance(index, dict) else None
    if kind != "WanVACEPipeline":
        raise UserError(f"model {name}: {folder} holds a {kind or 'thing without a class'}, not a WanVACEPipeline", fix)
    if (index.get("transformer_2") or [None])[0] is not None:
        raise UserError(f"model {name}: {folder} has two transformers; one is supported", "use a Wan2.1 VACE model")
    for network in _NETWORKS:
        missing = _missing(folder / network)
        if missing:
            raise UserError(f"model {name}: {folder} lacks {network}/{missing}", f"{fix}; safetensors only")
    return index


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
    whole = sum(file.stat().st_size for file in files) <= WHOLE_BYTES
    found = [
        [file.relative_to(folder).as_posix(), file.stat().st_size, file_sha256(file) if whole else _sampled(file)]
        for file in files
    ]
    return f"{'sha256' if whole else 'samples'}:{hashlib.sha256(json.dumps(found).encode()).hexdigest()}"


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
