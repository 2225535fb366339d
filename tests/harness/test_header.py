"""Which metrics a suite means."""

from pathlib import Path

from ipa_bench.harness.header import metrics_of
from ipa_bench.metrics.table import METRICS, PART_IDS
from ipa_bench.suite import Suite
from ipa_bench.types import Case

SOLO = Case("solo", Path("a.mp4"), reference=Path("a.png"))
DUO = Case("duo", Path("b.mp4"), references=(("anna", Path("a.png")), ("ben", Path("b.png"))))


def ids(*cases: Case, **suite: object) -> list[str]:
    return [metric.info.id for metric in metrics_of(Suite("s", cases, (), **suite))]  # type: ignore[arg-type]


def test_who_is_who_is_asked_for_by_naming_people_or_the_metric() -> None:
    plain, named = ids(SOLO), ids(SOLO, DUO)
    assert plain == [m.info.id for m in METRICS if not m.asked]
    assert not any(name.startswith("identity.") for name in plain)
    added = set(named) - set(plain)
    assert "identity.swap.sface@1" in added
    assert all(name.startswith("identity.") and ".sface@" in name for name in added)
    assert named == [m.info.id for m in METRICS if m.info.id in named]  # in report order
    assert ids(SOLO, metrics=("identity.gap.dlib",)) == ["hand_quality@4", *PART_IDS, "identity.gap.dlib@1"]
    primary = ids(SOLO, primary="identity.similarity.sface")
    assert set(primary) - set(plain) == {"identity.similarity.sface@1"}
