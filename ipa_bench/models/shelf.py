"""What cases give a base model, encoded once: for their other seeds, and for models that differ in their LoRA alone."""

from __future__ import annotations

from ipa_bench.models.base import Given
from ipa_bench.models.specs import BaseSpec
from ipa_bench.types import Case

#: bytes of tensors that are kept
MOST = 2**30


def like(spec: BaseSpec) -> tuple[object, ...]:
    """What two models have to agree in for a case to give them the same: all but LoRAs and how they are sampled."""
    return spec.kind, spec.model, spec.revision, spec.weights, spec.weights_2, spec.dtype, spec.vae_tiling, *spec.shown


class Shelf:
    """Keeps cases in the order in which they come, as far as there is room: the next model goes through them again.

    What a case gives whose clip is made in segments refers to the loaded model, and is not kept beyond it.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most, self._held = most, 0
        self._kept: dict[Case, Given] = {}

    def get(self, case: Case) -> Given | None:
        """What is kept of a case."""
        return self._kept.get(case)

    def put(self, case: Case, given: Given) -> None:
        """Keep it, where there is room."""
        size = sum(tensor.numel() * tensor.element_size() for tensor in given.condition.values())
        if given.later is None and case not in self._kept and self._held + size <= self._most:
            self._kept[case] = given
            self._held += size
