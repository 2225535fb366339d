"""What work takes: amounts, the meter that measures them, the sheet that adds them up, the ledger of a folder."""

from ipa_bench.cost.amount import Amount
from ipa_bench.cost.meter import Meter, Phase
from ipa_bench.cost.sheet import PHASES, Cost, PhaseCost

__all__ = [
    "PHASES",
    "Amount",
    "Cost",
    "Meter",
    "Phase",
    "PhaseCost",
]
