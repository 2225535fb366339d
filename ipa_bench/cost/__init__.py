"""What work takes: amounts, the meter that measures them, the sheet that adds them up, the ledger of a folder."""

from ipa_bench.cost.device import Amount
from ipa_bench.cost.meter import (
    PHASES,
    Cost,
    Meter,
    Phase,
    PhaseCost,
)

__all__ = [
    "PHASES",
    "Amount",
    "Cost",
    "Meter",
    "Phase",
    "PhaseCost",
]
