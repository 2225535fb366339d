"""What makes steps of gradients: AdamW, or one whose moments take a byte each, of a package that need not be there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from ipa_bench.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import nn

OptimizerName = Literal["adamw", "adamw8bit"]
BETAS = (0.9, 0.999)


@dataclass(frozen=True)
class Source:
    """A package that has an AdamW with moments of 8 bits (Dettmers et al., ICLR 2022, arXiv 2110.02861)."""

    package: str
    module: str
    name: str


#: the first that is installed is taken
EIGHT_BITS = (
    Source("bitsandbytes", "bitsandbytes.optim", "AdamW8bit"),
    Source("torchao", "torchao.optim", "AdamW8bit"),
)


def check(name: OptimizerName) -> None:
    """Raise :class:`UserError` for an optimizer that is not installed. Imports nothing."""
    if name == "adamw8bit" and _source() is None:
        packages = " nor ".join(source.package for source in EIGHT_BITS)
        raise UserError(
            f'train.optimizer = "adamw8bit" needs a package that has one, and neither {packages} is installed',
            f"pip install {EIGHT_BITS[0].package}",
        )


def _source() -> Source | None:
    return next((source for source in EIGHT_BITS if find_spec(source.package) is not None), None)


def build(
    name: OptimizerName, parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """The optimizer of these parameters. Raises :class:`UserError` where it is not installed or does not import."""
    import torch

    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, betas=BETAS, weight_decay=weight_decay)
    check(name)
    source = _source()
    assert source is not None
    try:
        kind = getattr(import_module(source.module), source.name)
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        raise UserError(
            f"{source.package} has no usable {source.name}: {str(error).partition(chr(10))[0]}",
            f"pip install -U {source.package}",
        ) from None
    made: torch.optim.Optimizer = kind(parameters, lr=lr, betas=BETAS, weight_decay=weight_decay)
    return made
