"""A run folder: its header, its records, the distances between its sets."""

from ipa_bench.store.records import (
    CaseEntry,
    Details,
    FloorRecord,
    ModelEntry,
    PeopleDetails,
    RunHeader,
    Unit,
    UnitRecord,
)
from ipa_bench.store.run import HEADER_NAME, Contents, RunStore

__all__ = [
    "HEADER_NAME",
    "CaseEntry",
    "Contents",
    "Details",
    "FloorRecord",
    "ModelEntry",
    "PeopleDetails",
    "RunHeader",
    "RunStore",
    "Unit",
    "UnitRecord",
]
