"""The nouns of a run folder: what was run, each scored video, the noise floor of a case, what a report draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ipa_bench.types import Bool, Float32, Float64, Score, Split

Int8 = NDArray[np.int8]

#: (case, seed, model): one video.
Unit = tuple[str, int, str]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class CaseEntry:
    """What a run remembers of a case. Paths are text: the clips may have moved since."""

    id: str
    identity: str
    split: Split
    driving: str
    ground_truth: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelEntry:
    """What a run remembers of a model."""

    name: str
    kind: str
    #: folder, checkpoint or damage that the videos come from
    source: str
    trained_on: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunHeader:
    """What was run. ``suite_hash``, ``seeds`` and ``metrics`` are the run's identity; cases and models may be added."""

    name: str
    suite_hash: str
    primary: str
    seeds: tuple[int, ...]
    #: metric ids with versions, in report order
    metrics: tuple[str, ...]
    cases: tuple[CaseEntry, ...]
    models: tuple[ModelEntry, ...]
    environment: dict[str, str] = field(default_factory=dict)
    tool_version: str = ""
    #: ISO 8601, UTC
    created: str = ""
    schema_version: int = SCHEMA_VERSION
    #: observer -> id, of those that the run's metrics look through; empty in runs whose ``environment`` has them alone
    observers: dict[str, str] = field(default_factory=dict)
    #: how often an observer has got another id since the folder was begun: records of earlier ones do not count
    looked: int = 0


@dataclass(frozen=True)
class UnitRecord:
    """One scored video: one line of a shard, written whole or not at all. Its scores are of this unit, one a metric."""

    case: str
    seed: int
    model: str
    #: where the video lies, and the sha256 of the file (of the pixels where it never was one); None where there is none
    video: str | None = None
    sha256: str | None = None
    #: wall time of generating, observing and scoring
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    scores: tuple[Score, ...] = ()
    #: that of the run's header when it was made
    looked: int = 0

    def __post_init__(self) -> None:
        if any(score.unit != self.unit for score in self.scores):
            raise ValueError(f"a record holds the scores of its own unit {self.unit} only")
        if len({score.metric for score in self.scores}) != len(self.scores):
            raise ValueError(f"a record of {self.unit} holds one score per metric")

    @property
    def unit(self) -> Unit:
        """(case, seed, model)."""
        return (self.case, self.seed, self.model)


@dataclass(frozen=True)
class FloorRecord:
    """What a harmless re-encode of a case's clip does to each metric, or why that is not known: one line of a shard."""

    case: str
    #: metric id -> |difference| in the metric's unit
    changes: Mapping[str, float] = field(default_factory=dict)
    #: metric id -> why there is none
    reasons: Mapping[str, str] = field(default_factory=dict)
    #: that of the run's header when it was made
    looked: int = 0

    def __post_init__(self) -> None:
        if self.changes.keys() & self.reasons.keys():
            raise ValueError(f"the floor of {self.case}: a metric has a value or a reason, not both")

    @property
    def metrics(self) -> set[str]:
        """Ids of the metrics that this says something of."""
        return {*self.changes, *self.reasons}


@dataclass(frozen=True, eq=False)
class PeopleDetails:
    """Who is who in one video, by a network that tells faces apart: T frames as :class:`Details` has them, K people.

    Values of a face that is not there are 0.
    """

    #: of the people, in the case's order, and of the network
    names: tuple[str, ...]
    network: str
    #: bool ``[T, K]``: the person's face is due; one is there; it is large enough to say whose it is
    expected: Bool
    found: Bool
    judged: Bool
    #: int8 ``[T, K]``: the number of the person whose face it is, the own one or another's; -1 where not judged
    whose: Int8
    #: float32 ``[T, K]``: to the own reference; 0 where not judged
    likeness: Float32
    #: likeness from which two faces are one person's, by the network's authors
    same: float
    #: float32 ``[T, K, 4]`` and ``[T, K, 5, 2]``, in [0, 1] of width and height: x0, y0, x1, y1 of the face, its points
    box: Float32
    points: Float32
    #: where each reference picture lies, and float32 ``[K, 4]``, px, the box of the face in it
    pictures: tuple[str, ...]
    faces: Float32


@dataclass(frozen=True, eq=False)
class Details:
    """What a report draws of one video: landmarks of both sides, and per-frame values."""

    #: float64 ``[T]``, seconds from the first frame
    times: Float64
    fps: float
    #: (width, height) in pixels
    size: tuple[int, int]
    #: float32 ``[T, 2, 21, 2]``, in [0, 1] of width and height; slot 0 left hand, 1 right hand
    generated_landmarks: Float32
    #: bool ``[T, 2]``
    generated_found: Bool
    #: the driving video on the same time grid; None where it was not observed
    driving_landmarks: Float32 | None = None
    driving_found: Bool | None = None
    #: metric id -> float32 ``[T]``, NaN in frames without a value
    series: Mapping[str, Float32] = field(default_factory=dict)
    #: None where nobody looked for faces
    people: PeopleDetails | None = None
