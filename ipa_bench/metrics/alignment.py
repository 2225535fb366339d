"""How late and how far beside its place a generated hand is, apart from its shape: one small shift for a whole video.

Nobody who watches sees two frames of delay, or a picture moved by two hundredths of its width; a landmark does. Both
are estimated, shown as metrics of their own, and taken out (up to a bound) before shapes are judged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from ipa_bench.metrics.base import Evidence, Measured, driving_hands, unknown
from ipa_bench.metrics.hand import MIN_FRAMES
from ipa_bench.metrics.motion import STILL_RULE, is_still
from ipa_bench.metrics.pairing import REACH, HandPair, period

#: an offset is taken out up to this share of the frame's width
MAX_OFFSET = 0.03
#: seconds that a hand may be late or early before it is another movement
MAX_LAG = 0.4
#: a lag is believed where it lowers the mean joint error to this share, and by this many hand sizes. The share falls
#: evenly from no lag to ``MAX_LAG``: of twenty shifts one fits the noise of a small hand's joints by chance, and a
#: large one costs much
BELIEVED, BELIEVED_AT_MOST = 0.875, 0.575
LEAST_GAIN = 0.005


@dataclass(frozen=True, eq=False)
class Alignment:
    """One shift in space and one in time for all hands of a video."""

    #: generated less driving, px of the reference: all of it, and what of it is within ``MAX_OFFSET``
    offset: Float[ndarray, " 2"]
    taken: Float[ndarray, " 2"]
    #: shared frames by which the generated hand is late, negative where early; and seconds
    frames: int
    seconds: float
    #: ``offset`` in widths of the frame
    share: float


@lru_cache(maxsize=8)
def estimate(pair: HandPair) -> Alignment | None:
    """The shift at which the generated hands fit the driving ones best; None where too few frames show both.

    Lags of up to 0.4 s are tried, in frames; of each the offset is the median over hands and frames of the median over
    joints, so that a wrong finger moves neither. A lag's mean joint error, after its offset, is compared with that of
    no lag over the same driving frames; it is believed where it is lower by 0.005 hand sizes and by an eighth, of the
    largest lags by three eighths and a twentieth. A hand that is still has no lag.
    """
    step = period(pair.times)
    fits = {0: _fit(pair, 0)}
    if fits[0] is None:
        return None
    most = 0 if is_still(pair) else max(round(MAX_LAG / step), 1)
    fits |= {shift: _fit(pair, shift) for shift in range(-most, most + 1) if shift}
    gains = {shift: fit.gain for shift, fit in fits.items() if fit is not None}
    best = max(gains, key=lambda shift: (gains[shift], -abs(shift), shift))
    found = fits[best]
    assert found is not None
    length = float(np.hypot(*found.offset))
    bound = MAX_OFFSET * pair.reference_size[0]
    taken = found.offset * min(1.0, bound / length) if length > 0 else found.offset
    return Alignment(found.offset, taken, best, best * step, length / pair.reference_size[0])


@dataclass(frozen=True, eq=False)
class _Fit:
    offset: Float[ndarray, " 2"]
    #: how much the mean joint error is lower than without a lag, in hand sizes; 0 where that is not believed
    gain: float


def _fit(pair: HandPair, shift: int) -> _Fit | None:
    """The offset at a lag of ``shift`` frames, and what the lag gains; None for few frames."""
    ours, theirs = _rows(len(pair.times), shift)
    if len(ours) < MIN_FRAMES:
        return None
    both = pair.found[ours] & pair.found[theirs] & pair.wanted[theirs]
    if both.sum() < MIN_FRAMES:
        return None
    errors = []
    offset = np.zeros(2)
    for rows in (theirs, ours):
        apart = pair.generated[rows] - pair.reference[theirs]
        offset = np.median(np.median(apart, axis=2)[both], axis=0)
        distance = np.linalg.norm(apart - offset, axis=-1).mean(axis=-1) / pair.size
        errors.append(float(distance[both].mean()))
    unshifted, shifted = errors
    share = BELIEVED - (BELIEVED - BELIEVED_AT_MOST) * min(abs(shift) * period(pair.times) / MAX_LAG, 1.0)
    believed = shifted <= min(share * unshifted, unshifted - LEAST_GAIN)
    return _Fit(offset, unshifted - shifted if believed else 0.0)


def _rows(count: int, shift: int) -> tuple[Int[ndarray, "N"], Int[ndarray, "N"]]:
    """Generated frames and the driving frames that they show ``shift`` frames late."""
    left = max(count - abs(shift), 0)
    return np.arange(max(shift, 0), max(shift, 0) + left), np.arange(max(-shift, 0), max(-shift, 0) + left)


@lru_cache(maxsize=8)
def aligned(pair: HandPair) -> HandPair:
    """The pair with its :func:`estimate` taken out: as many frames, in the driving video's order.

    A driving frame whose generated one lies beyond the clip's end is not wanted. A hand that only the shift brings near
    enough is found; one that was found stays so.
    """
    shift = estimate(pair)
    if shift is None or (shift.frames == 0 and not shift.taken.any()):
        return pair
    rows = np.arange(len(pair.times)) + shift.frames
    inside = (rows >= 0) & (rows < len(rows))
    at = np.clip(rows, 0, len(rows) - 1)
    found = pair.found[at] & inside[:, None]
    moved = pair.generated[at] - shift.taken
    wanted = pair.wanted & inside[:, None]
    return replace(
        pair,
        generated=np.where(found[..., None, None], moved, 0.0),
        wanted=wanted,
        found=found & _near(moved, pair, wanted),
        presence=pair.presence[at] * found,
        generated_sharpness=pair.generated_sharpness[at] * found,
        generated_change=pair.generated_change[at] * found,
        reference_sharpness=pair.reference_sharpness * wanted,
        reference_change=pair.reference_change * wanted,
    )


def _near(generated: Float[ndarray, "T 2 21 2"], pair: HandPair, wanted: Bool[ndarray, "T 2"]) -> Bool[ndarray, "T 2"]:
    distance = np.linalg.norm(generated - pair.reference, axis=-1).mean(axis=-1) / pair.size
    return np.asarray(~wanted | (distance <= REACH))


def offset(evidence: Evidence) -> Measured:
    """Length of the shift in space, in widths of the frame, >= 0: the whole of it, beyond what is taken out too."""
    pair = driving_hands(evidence)
    if isinstance(pair, Measured):
        return pair
    found = estimate(pair)
    return (
        unknown(f"hands are seen in both videos in fewer than {MIN_FRAMES} frames")
        if found is None
        else Measured(found.share)
    )


def lag(evidence: Evidence) -> Measured:
    """How late or early the generated hand is, in seconds, >= 0: see :func:`estimate`."""
    pair = driving_hands(evidence)
    if isinstance(pair, Measured):
        return pair
    if is_still(pair):
        return unknown(f"the driving hand is still: {STILL_RULE}")
    found = estimate(pair)
    if found is None:
        return unknown(f"no hand is seen in both videos in {MIN_FRAMES} frames or more")
    return Measured(abs(found.seconds))
