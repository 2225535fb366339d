"""The nouns. Frozen, no torch, no I/O. ``None`` plus a reason stands for "unknown"; never NaN, never a silent zero."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Better = Literal["higher", "lower"]
Split = Literal["train", "val", "test"]
Verdict = Literal["better", "worse", "unclear"]

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
T = TypeVar("T")


class Finding(Generic[T]):
    """A value, or the reason why there is none: exactly one of the two, and a number is finite.

    A base of frozen dataclasses and not a field of theirs: files hold ``value`` and ``reason`` beside the rest, each in
    an order of its own, and whoever reads one writes ``finding.value``, not ``finding.result.value``. It declares no
    dataclass fields for that reason; the subclass does, where its format has them. Raises ValueError when it is made of
    both or neither.
    """

    value: T | None
    reason: str | None

    def __post_init__(self) -> None:
        kind = type(self).__name__
        if (self.value is None) == (self.reason is None):
            raise ValueError(f"a {kind} has a value or a reason, not both or neither: {self}")
        if isinstance(self.value, float) and not math.isfinite(self.value):
            raise ValueError(f"a {kind} is finite: {self}")


@dataclass(frozen=True, eq=False)
class Video:
    """A short clip held in memory.

    ``frames`` uint8 ``[T, H, W, 3]`` RGB, C-contiguous; ``fps`` frames per second;
    ``sha256`` of the pixels (see :func:`ipa_bench.video.pixel_sha256`).
    """

    frames: UInt8
    fps: float
    sha256: str


@dataclass(frozen=True)
class Case:
    """One thing to animate: a driving clip, and what is known about the right answer."""

    id: str
    driving: Path
    #: Video that a perfect model would make: ``driving`` in self-reenactment, None when another person is animated.
    ground_truth: Path | None = None
    #: Reference image of the person to animate.
    reference: Path | None = None
    #: Clips of one identity are not independent: intervals are taken over identities.
    identity: str = ""
    split: Split = "test"
    prompt: str = ""
    frames: int | None = None
    fps: float | None = None
    #: (width, height)
    size: tuple[int, int] | None = None
    tags: tuple[str, ...] = ()
    #: Pose map video: what the model sees. Drawn from ``driving`` where absent.
    pose: Path | None = None
    #: Grey video that is white where the hands of ``driving`` are, where somebody knows it exactly.
    mask: Path | None = None
    #: Where somebody in a clip is replaced by the person of the reference: the clip that stays around them, the driving
    #: clip without them where absent, and a grey video that is white where they stand.
    background: Path | None = None
    character_mask: Path | None = None
    #: (person, reference image) of several people to animate, in the order that a model is given them; ``reference`` is
    #: None then.
    references: tuple[tuple[str, Path], ...] = ()
    #: (person, pose track) of people in ``references``: :func:`ipa_bench.pose.read_track`
    poses: tuple[tuple[str, Path], ...] = ()
    #: The scene of the built-in world that the ground truth was rendered from, where it was: readers of the truth
    #: render it again.
    world: str | None = None

    #: fields that are clips, beside the driving clip and the ground truth
    CLIPS: ClassVar[tuple[str, ...]] = ("pose", "mask", "background", "character_mask")

    @property
    def people(self) -> tuple[tuple[str, Path], ...]:
        """(person, picture) of everybody to animate. One person is called by the case's identity; without a reference
        image the picture is the first frame of the driving video, where that shows the person."""
        picture = self.reference or (self.driving if self.ground_truth == self.driving else None)
        if self.references or picture is None:
            return self.references
        return ((self.identity or self.id, picture),)


@dataclass(frozen=True)
class Score(Finding[float]):
    """One number about one video, or the reason why there is none."""

    case: str
    seed: int
    model: str
    metric: str
    value: float | None = None
    reason: str | None = None

    @property
    def unit(self) -> tuple[str, int, str]:
        """(case, seed, model): the video that was scored."""
        return (self.case, self.seed, self.model)


@dataclass(frozen=True, eq=False)
class Observation:
    """What one observer saw in one video, or in comparing it with its ground truth: arrays by name.

    Every array is ``[T, ...]``, a row for each frame of the video, but ``size``, (width, height) of the frames in px.
    NaN, or ``found`` where there is an array of that name, says where nothing was there to be seen. Names and units are
    those that the observer's session gives (:data:`ipa_bench.observers.table.OBSERVERS`).
    """

    #: Observer id with version, for example ``hands@1``.
    observer: str
    #: sha256 of what was looked at: a file's bytes, the pixels of a video in memory, or of both videos compared.
    sha256: str
    values: Mapping[str, NDArray[Any]]

    #: what belongs to the whole video
    WHOLE: ClassVar[tuple[str, ...]] = ("size",)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """An array by its name."""
        return self.values[name]

    @property
    def found(self) -> Bool:
        """bool ``[T, ...]``: where something was seen; of an observer without such a mask, frames with any value."""
        if "found" in self.values:
            return np.asarray(self.values["found"], bool)
        rows = [np.isfinite(v).reshape(len(v), -1).any(axis=1) for k, v in self.values.items() if k not in self.WHOLE]
        return np.asarray(np.any(rows, axis=0), bool)

    def at(self, index: NDArray[np.int64]) -> Observation:
        """The observation of some of the frames."""
        cut = {name: array if name in self.WHOLE else array[index] for name, array in self.values.items()}
        return Observation(self.observer, self.sha256, cut)


@dataclass(frozen=True, eq=False)
class HandTracks:
    """A typed reading of an observation of ``hands``: two slots per frame, 0 = left hand, 1 = right hand.

    Slots follow the person's wrists over time, not the handedness label. Values where ``found`` is False are 0.
    """

    #: float32 ``[T, 2, 21, 2]``, pixels of the source frame, x right, y down, MediaPipe's joint order.
    landmarks: Float32
    #: float32 ``[T, 2, 21, 3]``, metres, origin at the hand's centre.
    world: Float32
    #: float32 ``[T, 2]`` in [0, 1].
    presence: Float32
    #: float32 ``[T, 2, 4]``, pixels: x0, y0, x1, y1 of the landmarks' bounding box.
    box: Float32
    #: float32 ``[T, 2]``, Laplacian energy of the hand's box over its luma variance (``observers/crops.py``).
    sharpness: Float32
    #: float32 ``[T, 2]``, how much the box's pixels differ from the frame before, over their contrast; 0 in the first.
    change: Float32
    #: bool ``[T, 2]``
    found: Bool
    #: float64 ``[T]``, seconds from the first frame.
    times: Float64
    #: (width, height) of the frames in pixels.
    size: tuple[int, int]
    #: as of the :class:`Observation`
    observer: str
    sha256: str
    #: uint8 ``[T, 2]``, how each hand was found (``observers/mediapipe/palm.py``), 0 for none; None where nobody says
    how: UInt8 | None = None

    #: the arrays that are ``[T, 2, ...]``
    ARRAYS: ClassVar[tuple[str, ...]] = ("landmarks", "world", "presence", "box", "sharpness", "change", "found")

    @classmethod
    def of(cls, seen: Observation) -> HandTracks:
        """What the hand observer saw, with names that a type checker knows."""
        width, height = (int(side) for side in seen["size"])
        arrays = {name: seen[name] for name in (*cls.ARRAYS, "times")}
        how = seen.values.get("how")
        return cls(**arrays, size=(width, height), observer=seen.observer, sha256=seen.sha256, how=how)

    @property
    def observation(self) -> Observation:
        """The observation that this is a reading of."""
        how = {} if self.how is None else {"how": self.how}
        arrays = {name: getattr(self, name) for name in (*self.ARRAYS, "times")} | how
        return Observation(self.observer, self.sha256, {**arrays, "size": np.array(self.size)})


@dataclass(frozen=True)
class Interval:
    """A mean over identities with its 95 % interval, within the metric's bounds; none of fewer than two."""

    mean: float | None
    low: float | None
    high: float | None
    #: identities with at least one value
    n: int
    #: videos scored, and videos that should have been scored and were not
    scored: int
    missing: int


@dataclass(frozen=True)
class Comparison:
    """Paired difference ``model − baseline`` of one metric on the same cases and seeds."""

    metric: str
    model: str
    baseline: str
    #: identities with at least one pair
    n: int
    #: pairs of videos in which both have a value; pairs in which one or both have none
    scored: int
    missing: int
    delta: float | None
    low: float | None
    high: float | None
    #: two-sided p of the paired test over identity means; and after Holm: of the primary metric, named beforehand, over
    #: the pairs of models of the board, of any other over the metrics of this pair
    p: float | None
    p_holm: float | None
    #: smallest |difference| that this many identities would show with 80 % power at alpha 0.05
    mde: float | None
    #: |difference| that a harmless re-encode makes on these clips; None where not measured
    floor: float | None
    verdict: Verdict
    #: why the verdict is what it is, in a few words ("interval contains 0", "inside the noise floor")
    why: str = ""


@dataclass(frozen=True)
class LeaderboardRow:
    """One model's line of the leaderboard."""

    model: str
    #: 1 is best. Models that cannot be told apart on the primary metric share a rank.
    rank: int
    #: metric id -> interval
    cells: Mapping[str, Interval]
    #: metric ids this model's checkpoint was trained on (whose values chose its clips, or were its reward)
    trained_on: tuple[str, ...] = ()
    #: metric ids of the board that are no evidence for it: those, and all that look through the same networks
    no_evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Leaderboard:
    """Every model's intervals on every metric, ranked on the primary one, and every pair compared."""

    primary: str
    #: metric ids in report order
    metrics: tuple[str, ...]
    rows: tuple[LeaderboardRow, ...]
    #: every pair of models × metric: model = the better-ranked, baseline = the other; a named baseline stays one
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class MetricInfo:
    """What a reader must know about a metric; the part of it that needs no code."""

    id: str
    unit: str
    better: Better
    #: where the definition comes from
    source: str
    #: what the number cannot see
    blind_spot: str
    #: "paired" needs a driving or ground-truth video; "free" does not
    needs: Literal["driving", "ground_truth", "free"] = "driving"
    scope: Literal["video", "set"] = "video"
    #: landmark-based metrics are not ranked inside the noise floor
    has_floor: bool = False
    #: the networks that it looks at a generated video through, or ``pixels``: see
    #: :class:`ipa_bench.observers.base.ObserverInfo`. What a model was trained on by one metric is no evidence by
    #: another of the same family.
    family: tuple[str, ...] = ()
    #: why it judges only, so that no sample is chosen and no model rewarded by it; empty where both may be
    sealed: str = ""


@dataclass(frozen=True)
class Preference:
    """A good sample of a case, and for DPO a bad one of the same case."""

    case: str
    good: str
    bad: str | None
    scores: Mapping[str, float]
    by: tuple[str, ...] = field(default=())
    #: of the good and the bad file, where known
    sha256: tuple[str | None, str | None] = (None, None)
