"""What the models of a suite had cost before they are compared: from the sheets beside their LoRAs, or as told."""

from __future__ import annotations

from collections.abc import Sequence

from ipa_bench.cost import Amount
from ipa_bench.cost import ledger as cost_ledger
from ipa_bench.cost.ledger import PostTraining
from ipa_bench.errors import UserError
from ipa_bench.models import specs
from ipa_bench.models.specs import BaseSpec, ModelSpec, base_spec
from ipa_bench.suite import Suite


def post_training(suite: Suite) -> dict[str, PostTraining]:
    """What models had cost, by name. Hours that the suite tells count before those that a sheet has.

    Raises :class:`UserError` for a base that the suite does not have.
    """
    names = {spec.name for spec in suite.models}
    found = {}
    for spec in suite.models:
        told, sampled = specs.post_training(spec), base_spec(spec)
        base = told.base if told else None
        if base is not None and (base not in names or base == spec.name):
            raise UserError(f"model {spec.name}: post_training.base is {base}", "name another model of the suite")
        lora = sampled.lora if sampled else None
        if sampled and lora is not None:
            base = base or _without_lora(sampled, suite.models)
        sheet = None if lora is None else cost_ledger.beside_lora(lora)
        if told is not None and told.device_hours is not None:
            unknown = Amount(reason="not measured")
            found[spec.name] = PostTraining(Amount(told.device_hours), unknown, told.source, base)
        elif sheet is not None:
            found[spec.name] = PostTraining.measured(sheet, base)
    return found


def _without_lora(spec: BaseSpec, models: Sequence[ModelSpec]) -> str | None:
    """The model of a suite that has the same weights and no LoRA."""

    def weights(one: BaseSpec) -> tuple[object, ...]:
        return (one.kind, one.model, one.revision, one.weights, one.weights_2)

    for other in filter(None, map(base_spec, models)):
        if other.lora is None and other.lora_2 is None and weights(other) == weights(spec):
            return other.name
    return None
