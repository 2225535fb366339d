"""Which metrics can be trusted on given footage: known damage at known strengths, and who notices it."""

from ipa_bench.validate.judge import HARMLESS_VARIANTS, Validation, judge, validate

__all__ = [
    "HARMLESS_VARIANTS",
    "Validation",
    "judge",
    "validate",
]
