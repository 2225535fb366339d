"""What landmarks cannot see of a hand: fingers too many and too few, seen by a head on the landmark net's own maps.

Experimental. Its absolute values are not to be trusted, so each hand is compared with the driving hand at the same
moment; where either video shows no hand there is nothing to compare.
"""

from __future__ import annotations

import numpy as np

from ipa_bench.metrics.base import Evidence, Measured, Metric, driving_hands, unknown
from ipa_bench.metrics.hand import MIN_FRAMES
from ipa_bench.metrics.pairing import HandPair, period
from ipa_bench.types import Bool, Float64, MetricInfo

OBSERVER = "fingers"
#: differences are averaged over so many seconds: the head's noise is gone, a finger that comes and goes is not
SECONDS = 1.0
#: the least standard deviation of a driving hand's score: of one that hardly moves it is next to nothing
LEAST_SPREAD = 0.5


def finger_count(evidence: Evidence) -> Measured:
    """How many fingers more or fewer are seen than on the driving hand, in fingers; >= 0, series likewise.

    Mean over the frames in which both hands are found of the size of the running mean of the difference over a second.
    """
    pair = _pair(evidence)
    if isinstance(pair, Measured):
        return pair
    ours, theirs = _both(evidence, pair, "count")
    both = _usable(pair)
    away = np.abs(running_mean(ours - theirs, both, pair.times))
    return Measured(float(away[both].mean()), series=_series(away, both))


def anatomy_shift(evidence: Evidence) -> Measured:
    """How much more a hand looks edited than the driving hand, in standard deviations of the driving hand's score.

    Mean over the frames in which both hands are found; about 0 for a hand like the driving one, below 0 for one that
    looks better formed. The deviation is over the frames of the clip, of the hand in each slot, and at least 0.5.
    """
    pair = _pair(evidence)
    if isinstance(pair, Measured):
        return pair
    ours, theirs = _both(evidence, pair, "wrong")
    both = _usable(pair)
    reference = evidence.seen_in_driving[OBSERVER]
    scores, found = reference["wrong"].astype(np.float64), reference.found
    spread = [
        max(float(scores[found[:, slot], slot].std()), LEAST_SPREAD) if found[:, slot].any() else 1.0 for slot in (0, 1)
    ]
    shift = (ours - theirs) / np.array(spread)
    return Measured(float(shift[both].mean()), series=_series(running_mean(shift, both, pair.times), both))


def running_mean(values: Float64, valid: Bool, times: Float64, seconds: float = SECONDS) -> Float64:
    """Mean of ``values`` ``[T, 2]`` over the ``valid`` frames within half of ``seconds`` of each; 0 where not valid."""
    reach = round(seconds / 2 / period(times))
    padded = np.pad(
        np.stack([np.where(valid, values, 0.0), valid.astype(np.float64)]), ((0, 0), (reach + 1, reach), (0, 0))
    )
    sums = np.cumsum(padded, axis=1)
    total, count = sums[:, 2 * reach + 1 :] - sums[:, : -2 * reach - 1]
    return np.asarray(np.where(valid, total / np.maximum(count, 1.0), 0.0))


def _pair(evidence: Evidence) -> HandPair | Measured:
    """The hands beside the driving ones, where a head has seen enough of both; else why not."""
    pair = driving_hands(evidence)
    if isinstance(pair, Measured):
        return pair
    for seen in (evidence.seen, evidence.seen_in_driving):
        if OBSERVER not in seen:
            return unknown(evidence.reasons.get(OBSERVER, "nobody looked at the fingers"))
    if _usable(pair).sum() < MIN_FRAMES:
        return unknown(f"both videos show a hand in fewer than {MIN_FRAMES} frames")
    return pair


def _usable(pair: HandPair) -> Bool:
    return np.asarray(pair.found & pair.wanted, bool)


def _both(evidence: Evidence, pair: HandPair, name: str) -> tuple[Float64, Float64]:
    """A score of the generated and of the driving hands, ``[T, 2]`` each, in the pair's frames and slots."""
    rows = np.arange(len(pair.times))[:, None]
    ours = evidence.seen[OBSERVER][name][pair.generated_index][rows, pair.generated_slot]
    theirs = evidence.seen_in_driving[OBSERVER][name][pair.reference_index]
    return ours.astype(np.float64), theirs.astype(np.float64)


def _series(values: Float64, both: Bool) -> Float64:
    """Mean over the hands of each frame ``[T]``; NaN where none is in both."""
    count = both.sum(axis=1)
    total = np.where(both, values, 0.0).sum(axis=1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


_SOURCE = "ipa-bench: a head on hand_landmark_full's maps, trained on edited hands (reports/fingers); experimental"


def _metric(name: str, unit: str, blind_spot: str, measure: object) -> Metric:
    info = MetricInfo(f"{name}@1", unit, "lower", _SOURCE, blind_spot, "driving", "video", True, ("mediapipe-hands",))
    return Metric(info, measure, ("hands", OBSERVER), asked=True)  # type: ignore[arg-type]


FINGERS: tuple[Metric, ...] = (
    _metric(
        "hand.finger_count", "fingers",
        "a finger that could be folded; one too many beside one too few; hands under 40 px; gloves", finger_count,
    ),
    _metric(
        "hand.anatomy_shift", "deviations",
        "what is wrong with the driving hand too; hands under 40 px; gloves; a hand that is not found", anatomy_shift,
    ),
)  # fmt: skip
