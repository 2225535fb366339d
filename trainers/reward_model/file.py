"""A reward model as a folder: ``reward.json``, which says what it is and how it was measured, and its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ipa_bench.errors import UserError
from ipa_bench.files import file_sha256, replacing, write_atomic

CARD, WEIGHTS = "reward.json", "weights.safetensors"
#: made by trainers/configs/reward-embedded.toml
SHIPPED = Path(__file__).parent / "people"
BackboneName = Literal["small", "vision-language"]


class Card(BaseModel):
    """What a reader, and whoever opens the weights, must know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = 1
    #: of the reward: rewards of one name are one family of evidence
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    backbone: BackboneName
    #: frames that it looks at, spread evenly
    frames: Annotated[int, Field(ge=1)]
    #: ln k of preferences with ties
    log_k: Annotated[float, Field(ge=0)]
    #: of the weights' file
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    #: what the backbone needs to be opened
    options: dict[str, Any] = {}
    #: what it was trained on and how well it does, for readers
    trained: dict[str, Any] = {}


def write(folder: Path, card: dict[str, Any], tensors: dict[str, Tensor]) -> Path:
    """Store a model, the weights first. Raises :class:`UserError` where the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / WEIGHTS) as part:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part)
        whole = Card(**card, sha256=file_sha256(folder / WEIGHTS))
        write_atomic(folder / CARD, whole.model_dump_json(indent=1).encode())
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}", "choose a folder that can be written to") from None
    return folder


def read(folder: Path) -> tuple[Card, dict[str, Tensor]]:
    """A model. Raises :class:`UserError` for what is no reward model, or whose weights are not those of its card."""
    try:
        card = Card.model_validate_json((folder / CARD).read_bytes())
    except OSError as error:
        raise UserError(
            f"{folder} is no reward model: {CARD}: {error.strerror}", "see ipa-bench reward train"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{folder / CARD}: {where}: {first['msg']}", "write it by ipa-bench reward train") from None
    weights = folder / WEIGHTS
    if not weights.exists() or file_sha256(weights) != card.sha256:
        why = "is not the file that its card names" if weights.exists() else "is not there"
        raise UserError(f"{weights} {why}", "copy the whole folder anew, or train it again")
    try:
        return card, load_file(weights)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{weights} is damaged: {error}", "copy it anew") from None
