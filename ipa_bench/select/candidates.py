"""Every scored sample of a case: what methods train on that learn from the bad ones too."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from ipa_bench.errors import UserError
from ipa_bench.files import read_checked, write_atomic
from ipa_bench.metrics.seal import check_open
from ipa_bench.select.looked import TRAIN, CaseLike, allowed, full_id, value_of
from ipa_bench.store import UnitRecord
from ipa_bench.types import Better, Split

CANDIDATES_VERSION = 1


@dataclass(frozen=True)
class Candidate:
    """One sample of a case and its score."""

    case: str
    seed: int
    model: str
    video: str
    sha256: str | None
    #: the latents that the video was decoded from, where they were kept
    latents: str | None
    #: of the metric that chooses, in its unit
    score: float


@dataclass(frozen=True)
class Candidates:
    """All scored samples of a run."""

    metric: str
    better: Better
    #: metric ids that scored: a model trained on these samples was trained on these metrics
    by: tuple[str, ...]
    #: sorted by case, seed and model
    rows: tuple[Candidate, ...]
    #: videos looked at, and those among them without a value or a file
    candidates: int
    unscored: int
    schema_version: int = CANDIDATES_VERSION

    @property
    def message(self) -> str:
        """What a user should know before training on them."""
        cases = len({row.case for row in self.rows})
        kept = sum(row.latents is not None for row in self.rows)
        return f"{len(self.rows)} of {self.candidates} videos of {cases} cases have a score, {kept} their latents"


CANDIDATES = TypeAdapter(Candidates)


def candidates(
    records: Iterable[UnitRecord],
    *,
    cases: Mapping[str, CaseLike],
    metric: str,
    better: Better,
    components: Sequence[str] = (),
    splits: Collection[Split] = TRAIN,
) -> Candidates:
    """Every video among ``records`` that has a value of ``metric`` and a file; arguments as of :func:`select`.

    Raises :class:`UserError` as :func:`select` does, and where no video has a value.
    """
    check_open(components)
    looked_at = allowed(records, cases, splits)
    metric = full_id(metric, looked_at)
    rows = []
    for record in sorted(looked_at, key=lambda record: record.unit):
        value = value_of(record, metric)
        if value is None or not record.video:
            continue
        latents = Path(record.video).with_suffix(".safetensors")
        there = str(latents) if latents.is_file() else None
        rows.append(Candidate(record.case, record.seed, record.model, record.video, record.sha256, there, value))
    if not rows:
        raise UserError(f"none of {len(looked_at)} videos has a file and a value of {metric}", "see the run's reasons")
    by = tuple(dict.fromkeys([metric, *components]))
    return Candidates(metric, better, by, tuple(rows), len(looked_at), len(looked_at) - len(rows))


def write_candidates(found: Candidates, path: Path) -> None:
    """Write ``candidates.json`` whole or not at all. Raises :class:`UserError` when it cannot be written."""
    write_atomic(path, json.dumps(asdict(found), allow_nan=False, ensure_ascii=False, indent=1).encode() + b"\n")


def read_candidates(path: Path) -> Candidates:
    """Read what :func:`write_candidates` wrote. Raises :class:`UserError` when it is not there or damaged."""
    fix = "ipa-bench select --all"
    found = read_checked(path, CANDIDATES, wrong="holds no candidates", fix=fix, absent=f"write them with {fix}")
    if found.schema_version != CANDIDATES_VERSION:
        raise UserError(f"{path} has schema version {found.schema_version}, not {CANDIDATES_VERSION}", "write it anew")
    return found
