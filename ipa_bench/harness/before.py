"""What the models of a suite had cost before they are compared: from the sheets beside their LoRAs, or as told."""

from __future__ import annotations

from collections.abc import Sequence

from ipa_bench.cost import ledger as cost_ledger
from ipa_bench.cost.device import Amount
from ipa_bench.cost.ledger import PostTraining
from ipa_bench.errors import UserError
from ipa_bench.suite import FolderSpec, ModelSpec, Suite, WanVaceSpec


def post_training(suite: Suite) -> dict[str, PostTraining]:
    """What models had cost, by name. Hours that the suite tells count before those that a sheet has.

    Raises :class:`UserError` for a base that the suite does not have.
    """
    names = {spec.name for spec in suite.models}
    found = {}
    for spec in suite.models:
        if not isinstance(spec, FolderSpec | WanVaceSpec):
            continue
        told = spec.post_training
        base = told.base if told else None
        if base is not None and (base not in names or base == spec.name):
            raise UserError(f"model {spec.name}: post_training.base is {base}", "name another model of the suite")
        lora = spec.lora if isinstance(spec, WanVaceSpec) else None
        if isinstance(spec, WanVaceSpec) and lora is not None:
            base = base or _without_lora(spec, suite.models)
        sheet = None if lora is None else cost_ledger.beside_lora(lora)
        if told is not None and told.device_hours is not None:
            unknown = Amount(reason="not measured")
            found[spec.name] = PostTraining(Amount(told.device_hours), unknown, told.source, base)
        elif sheet is not None:
            found[spec.name] = PostTraining.measured(sheet, base)
    return found


def _without_lora(spec: WanVaceSpec, models: Sequence[ModelSpec]) -> str | None:
    """The model of a suite that has the same weights and no LoRA."""
    for other in models:
        if (
            isinstance(other, WanVaceSpec)
            and other.lora is None
            and (other.model, other.revision) == (spec.model, spec.revision)
        ):
            return other.name
    return None
