"""How far a trained LoRA goes: beyond what training found, in the same direction."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def strengthened(
    trained: Mapping[str, Tensor], start: Mapping[str, Tensor] | None, strength: float
) -> dict[str, Tensor]:
    """A LoRA whose change of the weights is ``start + strength * (trained - start)``.

    ``trained``, ``start``: matrices by name, ``...lora_A.weight`` ``[r, in]`` and ``...lora_B.weight`` ``[out, r]``,
    with the same scale alpha / r; ``start`` is the LoRA that training continued from, None where it began with the
    base model. With a start the rank is the sum of both ranks: the result is exact. Extrapolation of weights along the
    change that alignment made: ExPO (Zheng et al., ACL 2025, arXiv 2404.16792; there of language models).

    Raises ``ValueError`` where the two do not have the same layers.
    """
    if strength == 1.0:
        return dict(trained)
    if start is None:
        return {name: tensor * strength if ".lora_B." in name else tensor for name, tensor in trained.items()}
    if trained.keys() != start.keys():
        raise ValueError("a LoRA and the one that it continues have the same layers")
    return {
        name: torch.cat([tensor * strength, start[name].to(tensor) * (1 - strength)], dim=1)
        if ".lora_B." in name
        else torch.cat([tensor, start[name].to(tensor)], dim=0)
        for name, tensor in trained.items()
    }
