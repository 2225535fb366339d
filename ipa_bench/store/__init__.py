"""A run folder: its header, its records, the distances between its sets."""

from ipa_bench.store.run import (
    HEADER_NAME,
    CaseEntry,
    Details,
    ModelEntry,
    RunHeader,
    RunStore,
    Unit,
    UnitRecord,
)

__all__ = [
    "HEADER_NAME",
    "CaseEntry",
    "Details",
    "ModelEntry",
    "RunHeader",
    "RunStore",
    "Unit",
    "UnitRecord",
]
