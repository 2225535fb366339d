"""One call that scores a video: ``Scorer().score(video, case)``. Observers look, metrics compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ipa_bench.errors import Unscorable, UserError
from ipa_bench.metrics.base import NO_TRUTH, Evidence, Measured
from ipa_bench.metrics.pairing import pair_hands, pair_times, period
from ipa_bench.metrics.table import DEFAULT, find
from ipa_bench.observers.looker import Looker
from ipa_bench.pose import heads, read_track
from ipa_bench.types import Case, HandTracks, Observation, Video
from ipa_bench.video.timing import rate_of

#: a video that covers less than this share of the frames asked for is not scored
MIN_COVERAGE = 0.9


@dataclass(frozen=True, eq=False)
class Scores:
    """What is known about one video of a case."""

    case: str
    #: metric id -> value or reason, in report order
    measured: Mapping[str, Measured]
    #: what everything was computed from
    evidence: Evidence
    #: remarks that do not stop scoring ("frames do not have the driving video's shape")
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Measured:
        """A metric by its id, with or without its version."""
        for metric, measured in self.measured.items():
            if name in (metric, metric.partition("@")[0]):
                return measured
        raise KeyError(name)

    @property
    def hand_quality(self) -> float | None:
        """The composite, or None where it has a reason instead."""
        return self["hand_quality"].value


class Scorer:
    """Scores videos. ``score`` is the one call that a trainer needs; instances are reusable and keep models loaded.

    ``metrics`` says what is computed (ids with or without version; by default ``DEFAULT`` of the table): observers that
    none of them needs do not look, and their networks are not loaded. ``threads`` is the number of frames observed at a
    time, ``pixels=False`` leaves out everything that is compared with the ground truth's pixels, LPIPS among it, the
    slowest part.
    """

    def __init__(
        self,
        looker: Looker | None = None,
        metrics: Sequence[str] = (),
        *,
        threads: int = 1,
        pixels: bool = True,
    ) -> None:
        self.metrics = tuple(find(name) for name in metrics) or DEFAULT
        self.looker = looker or Looker(threads=threads)
        reads = [(name, metric.info.needs) for metric in self.metrics for name in metric.reads]
        # Hands say when each frame is shown: whatever is compared is compared by them.
        videos = [read for read in reads if not self.looker.looks_at_pictures(read[0])]
        alone = [("hands", "driving"), *(read for read in videos if not self.looker.compares(read[0]))]
        self._alone = tuple(dict.fromkeys(name for name, _ in alone))
        self._of_drivers = tuple(dict.fromkeys(name for name, needs in alone if needs != "free"))
        self._of_pictures = tuple(dict.fromkeys(n for n, _ in reads if self.looker.looks_at_pictures(n)))
        self._compared = tuple(dict.fromkeys(name for name, _ in reads if pixels and self.looker.compares(name)))

    def score(self, video: Path | str | Video, case: Case | None = None) -> Scores:
        """Score a video of a case, or without one by the reference-free metrics. Raises Unscorable with the reason."""
        evidence, notes = self.evidence(video, case)
        measured = {metric.info.id: metric.measure(evidence) for metric in self.metrics}
        rests = (f"{name} {each.note}" for name, each in measured.items() if each.note)
        return Scores(case.id if case else "", measured, evidence, (*notes, *rests))

    def evidence(self, video: Path | str | Video, case: Case | None = None) -> tuple[Evidence, tuple[str, ...]]:
        """Everything the metrics need, observed or from the cache, and remarks. Raises Unscorable."""
        video = Path(video) if isinstance(video, str) else video
        if case is None:
            return Evidence(self.looker.look(video, self._alone).observations), ()
        compared = () if case.ground_truth is None else self._compared
        own = self.looker.look(video, (*self._alone, *compared), case.ground_truth, case.world)
        driving = truth = self.looker.look(case.driving, self._of_drivers)
        hands, driving_hands = (HandTracks.of(seen.observations["hands"]) for seen in (own, driving))
        notes = _check(hands, driving_hands, case)
        pair = truth_pair = pair_hands(hands, driving_hands)
        if case.ground_truth is not None and case.ground_truth != case.driving:
            truth = self.looker.look(case.ground_truth, self._of_drivers)
            truth_pair = pair_hands(hands, HandTracks.of(truth.observations["hands"]))
        index = truth_pair.generated_index
        seen = {n: each.at(index) if self.looker.compares(n) else each for n, each in own.observations.items()}
        no_truth = NO_TRUTH if case.ground_truth is None else "pixels were not compared"
        evidence = Evidence(
            seen, pair, truth_pair, own.reasons, no_truth=no_truth,
            seen_in_driving=driving.observations, seen_in_truth=truth.observations,
            **self._pictures(case), places=_places(case, hands, index) if self._of_pictures else None,
        )  # fmt: skip
        return evidence, notes

    def observe(self, clip: Path) -> None:
        """Look at a driving video or a ground truth by all that it will be asked for. Raises Unscorable."""
        self.looker.look(clip, self._of_drivers)

    def _pictures(self, case: Case) -> dict[str, Any]:
        """What is seen in the references of a case's people, as the fields of :class:`Evidence` are called."""
        seen: dict[str, list[Observation]] = {name: [] for name in self._of_pictures if case.people}
        reasons: dict[str, str] = {}
        for person, picture in case.people if self._of_pictures else ():
            look = self.looker.look(picture, self._of_pictures)
            for name, reason in look.reasons.items():
                reasons.setdefault(name, f"{person}: {reason}")
            for name, observation in look.observations.items():
                seen[name].append(observation)
        whole = {name: each for name, each in seen.items() if name not in reasons}
        return {"seen_in_references": whole, "no_references": reasons}


def _places(case: Case, hands: HandTracks, shared: NDArray[np.int64]) -> Observation | None:
    """Where each person's head is, where everybody has a pose track that can be read and is as long as what drives."""
    tracks = dict(case.poses)
    if not case.references or any(name not in tracks for name, _ in case.references):
        return None
    try:
        places = heads([read_track(tracks[name]) for name, _ in case.references])
        return places if np.array_equal(pair_times(hands.times, places["times"])[0], shared) else None
    except (UserError, ValueError):  # said beforehand: `--dry-run`; one assignment for the clip stands in
        return None


def _check(hands: HandTracks, driving: HandTracks, case: Case) -> tuple[str, ...]:
    """Is the video long enough to stand for its case? Remarks on its shape."""
    step = period(driving.times)
    whole = float(driving.times[-1]) + step
    asked = whole
    if case.frames is not None:
        asked = min(case.frames / case.fps if case.fps else case.frames * step, whole)
    lasts = float(hands.times[-1]) + (period(hands.times) if len(hands.times) > 1 else step)
    rate = _wrong_rate(hands, driving, case)
    if lasts < MIN_COVERAGE * asked:
        hint = rate or ("" if case.frames is not None else "a suite can give the case fewer `frames`")
        raise Unscorable(f"lasts {lasts:.2f} s of the {asked:.2f} s that it should" + (hint and f"; {hint}"))
    notes = (rate,) if rate else ()
    shapes = [width / height for width, height in (hands.size, driving.size)]
    if abs(np.log(shapes[0] / shapes[1])) <= 0.02:
        return notes
    ours, theirs = (f"{width}x{height}" for width, height in (hands.size, driving.size))
    return (*notes, f"its frames are {ours}, the driving video's {theirs}: stretched")


def _wrong_rate(hands: HandTracks, driving: HandTracks, case: Case) -> str:
    """What is wrong with the rate of a video that has the frames asked for and not the time; empty where nothing is."""
    ours, theirs = rate_of(hands.times), case.fps or rate_of(driving.times)
    count = case.frames or len(driving.times)
    if ours is None or theirs is None or abs(ours / theirs - 1) <= 0.01 or abs(len(hands.times) - count) > 1:
        return ""
    what = "as its case asks for" if case.frames or case.fps else "as the driving clip"
    return f"{len(hands.times)} frames {what}, but at {ours:.4g} fps and not {theirs:.4g}"
