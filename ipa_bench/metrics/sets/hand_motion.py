"""Do the hands of a set of videos move as hands of real videos do? Needs no pairs and no learned weights.

``hand.fvmd@1`` takes the idea of FVMD (Liu et al., arXiv 2407.16124; DSL-Lab/FVMD-frechet-video-motion-distance): each
clip becomes histograms of velocity and acceleration, two sets of clips are compared by the Fréchet distance between
Gaussians fitted to them. The definition:

* **Points.** The 21 observed joints of each hand, in hand sizes (median longer side of the slot's landmark box over the
  clip). Two parts: *travel*, the wrist; *articulation*, the other 20 joints relative to the wrist. Both hands and all
  frames are pooled, so slots that swap between clips change nothing.
* **Velocity**, hand sizes per second: the difference of two consecutive frames over the time between them.
  **Acceleration**, hand sizes per second squared: the difference of two consecutive velocities over the time between
  their middles. Real frame times; nothing is differenced across a frame without the hand or across a gap in the file.
* **Histogram** of each part and order: magnitude times 8 directions (0 = right, 2 = down, 4 = left, 6 = up; bins are
  centred there, 45 degrees apart). Knots of magnitude are ``SPEEDS`` and ``ACCELERATIONS``; a factor of 2 between
  speeds and of 4 between accelerations, because slow motion by 2 divides them so. A vector's mass is shared linearly
  between the two nearest knots and the two nearest directions; beyond the last knot it counts as the last. Mass at
  knot 0 is one bin, *still*, without direction.
* **Missing hands.** Each histogram has a bin *missing*, and a mass of 1 in all. Where the driving video is given, each
  step that it shows a hand is due. A due step that the clip does not show is mass in *missing*: a clip that has lost
  its hands stays in the set, and counts as neither moving nor still.

Departures from the published FVMD, with which the numbers are not comparable: 400 tracked points of the whole frame,
pixels per frame, 16-frame segments and cells of 5 x 5 points x 4 frames there. A histogram there is over 8 angles only,
weighted by the magnitude's rounded-up logarithm, so that a hand at rest and no hand look the same.

Blind spots. Noise of the observer counts as motion, and more at higher frame rates: both sets must come from one
observer, at one rate. Frames in which the observer overlooks a hand that is there are missing too: a re-encoded copy of
the driving videos shows what that costs. A set and its mirror image, or its reverse in time, are alike where people
move both ways. A clip that ends before its driving video lacks nothing. A few clips give a large distance even between
two halves of one set: compare only equal numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from ipa_bench.metrics.hand import MIN_FRAMES
from ipa_bench.metrics.pairing import hand_sizes, pair_times, period
from ipa_bench.metrics.sets.frechet import frechet_distance
from ipa_bench.types import Finding, Float64, HandTracks

#: knots of velocity, hand sizes per second
SPEEDS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
#: knots of acceleration, hand sizes per second squared
ACCELERATIONS = (0.0, 4.0, 16.0, 64.0, 256.0, 1024.0)
DIRECTIONS = 8
#: accelerations that must be due: those of one hand in ``MIN_FRAMES`` frames in a row
LEAST_DUE = MIN_FRAMES - 2
#: how far a clip's frame rate may lie below the rate it is to be read at
RATE_SLACK = 0.01

_SHAPES = {
    "travel velocity": len(SPEEDS),
    "articulation velocity": len(SPEEDS),
    "travel acceleration": len(ACCELERATIONS),
    "articulation acceleration": len(ACCELERATIONS),
}
#: numbers in each histogram, in the vector's order: missing, still, then knot by knot the 8 directions
BLOCKS = MappingProxyType({name: 2 + (knots - 1) * DIRECTIONS for name, knots in _SHAPES.items()})
#: length of a feature vector
LENGTH = sum(BLOCKS.values())


@dataclass(frozen=True, eq=False)
class MotionFeatures(Finding[Float64]):
    """What one clip contributes to its set: a vector, or the reason why there is none."""

    #: float64 ``[200]``, the histograms of ``BLOCKS`` one after the other, each >= 0 and of sum 1
    value: Float64 | None = None
    reason: str | None = None
    #: share of the due velocities that the clip does not show, in [0, 1]
    missing: float = 0.0
    #: frames per second at which the clip is read; sets are comparable at one rate
    rate: float | None = None


def hand_motion_features(
    tracks: HandTracks, driving: HandTracks | None = None, rate: float | None = None
) -> MotionFeatures:
    """Velocity and acceleration histograms of one clip's hands, by the definition at the top of this module.

    ``driving`` is what the observer saw in the driving video. The hands it shows, at the nearest time, are due in
    ``tracks``, in whichever slot and place; hands beyond those count as they move. Without it the clip's own hands are
    what is due, as for a reference video. ``rate``, frames per second > 0, reads a faster clip at this rate: nearest
    frames, never interpolated.

    There is a reason and no vector where fewer than 10 accelerations are due, and where the clip has fewer frames a
    second than ``rate``. The vector does not depend on the picture's size, on where the hands are, or on which slot
    they hold; where motion is smooth and the observer exact it hardly depends on the frame rate.
    """
    if rate is not None and rate <= 0:
        raise ValueError(f"rate is a number of frames per second above 0, not {rate}")
    kept = _frames_at(tracks.times, rate)
    times, joined = tracks.times[kept], _joined(tracks.times, kept)
    sizes = hand_sizes(tracks)
    seen = tracks.found[kept] & (sizes > 0)
    shown = _runs(seen, joined)
    due = shown if driving is None else _runs(_shown_at(driving, times), joined)
    if due[1].sum() < LEAST_DUE:
        whose = "clip" if driving is None else "driving video"
        times_seen = f"{due[1].sum()} of at least {LEAST_DUE} times"
        return MotionFeatures(reason=f"the {whose} shows a hand in three frames in a row {times_seen}")
    own = 1.0 / period(tracks.times)
    if rate is not None and own < rate * (1 - RATE_SLACK):
        return MotionFeatures(reason=f"the clip has fewer frames a second ({own:.4g}) than {rate:.4g}")
    points = tracks.landmarks[kept].astype(np.float64) / np.where(sizes > 0, sizes, 1.0)[:, None, None]
    points[:, :, 1:] -= points[:, :, :1]
    blocks, missing = [], []
    for vectors, knots, there, wanted in zip(
        _derivatives(points, times, joined), (SPEEDS, ACCELERATIONS), shown, due, strict=True
    ):
        # Counted per step over both hands: a swap of slots makes no hand missing.
        steps = np.maximum(there.sum(axis=1), wanted.sum(axis=1)).sum()
        missing.append(1.0 - float(there.sum() / steps))
        for joints in (slice(0, 1), slice(1, 21)):
            histogram = _histogram(vectors[there][:, joints].reshape(-1, 2), np.array(knots))
            blocks.append(np.concatenate([[missing[-1]], histogram * (1.0 - missing[-1])]))
    return MotionFeatures(np.concatenate(blocks), missing=missing[0], rate=min(own, rate or own))


def hand_fvmd(generated: ndarray, reference: ndarray) -> float:
    """Fréchet distance of two sets of clips, rows ``[n, 200]`` and ``[m, 200]`` of :func:`hand_motion_features`; >= 0.

    Gaussians with ddof 1, see :func:`ipa_bench.metrics.sets.frechet.frechet_distance`, which raises UserError for sets
    that it cannot compare, of fewer than two clips for example. 8 is the distance of sets that share no bin and have no
    spread. It grows as n and m get smaller, also for two samples of one set: distances are comparable at one n, m,
    reference set, frame rate and observer.
    """
    return frechet_distance(generated, reference)


def blocks_of(vector: Float[ndarray, " d"]) -> dict[str, Float64]:
    """The histograms of a feature vector by name: ``[2 + 8 (K - 1)]`` each, as in ``BLOCKS``."""
    ends = np.cumsum(list(BLOCKS.values()))[:-1]
    return dict(zip(BLOCKS, np.split(vector, ends), strict=True))


def _frames_at(times: Float[ndarray, "T"], rate: float | None) -> Int[ndarray, "K"]:
    """Indices of the frames to read, at most ``rate`` a second; all of them where ``rate`` is None."""
    if rate is None or len(times) < 2 or 1.0 / period(times) <= rate * (1 + RATE_SLACK):
        return np.arange(len(times))
    # The small number keeps the last frame of a clip whose length is a multiple of the period.
    grid = times[0] + np.arange(int((times[-1] - times[0]) * rate + 1e-6) + 1) / rate
    return pair_times(times, grid)[0]


def _joined(times: Float[ndarray, "T"], kept: Int[ndarray, "K"]) -> Bool[ndarray, "J"]:
    """Whether no gap of the file, longer than 1.5 median periods, lies between one kept frame and the next."""
    gaps = np.diff(times) > 1.5 * period(times)
    piece = np.concatenate([[0], np.cumsum(gaps)])
    return np.asarray(np.diff(piece[kept]) == 0)


def _shown_at(driving: HandTracks, times: Float[ndarray, "T"]) -> Bool[ndarray, "T 2"]:
    """Hands of the driving video at these times, from the nearest of its frames; none where it has no frame then."""
    if not len(driving.times):
        return np.zeros((len(times), 2), bool)
    middles = (driving.times[1:] + driving.times[:-1]) / 2
    nearest = np.searchsorted(middles, times)
    near = np.abs(driving.times[nearest] - times) <= period(driving.times) / 2 + 1e-6
    return np.asarray(driving.found[nearest] & near[:, None])


def _runs(seen: Bool[ndarray, "T 2"], joined: Bool[ndarray, "J"]) -> tuple[Bool[ndarray, "V 2"], Bool[ndarray, "A 2"]]:
    """Where a hand is seen in two frames in a row, and in three."""
    two = seen[1:] & seen[:-1] & joined[:, None]
    return two, two[1:] & two[:-1]


def _derivatives(
    points: Float[ndarray, "T 2 21 2"], times: Float[ndarray, "T"], joined: Bool[ndarray, "J"]
) -> tuple[Float[ndarray, "V 2 21 2"], Float[ndarray, "A 2 21 2"]]:
    """Velocity between frames and acceleration between velocities; without meaning across a gap."""
    step = np.where(joined, np.diff(times), 1.0)[:, None, None, None]
    velocity = np.diff(points, axis=0) / step
    return velocity, np.diff(velocity, axis=0) / ((step[1:] + step[:-1]) / 2)


def _histogram(vectors: Float[ndarray, "N 2"], knots: Float[ndarray, "K"]) -> Float[ndarray, "B"]:
    """Still, then knot by knot the 8 directions; shares of the vectors, of sum 1, or zeros where there are none."""
    size = np.minimum(np.hypot(vectors[:, 0], vectors[:, 1]), knots[-1])
    knot = np.clip(np.searchsorted(knots, size, side="right") - 1, 0, len(knots) - 2)
    up = (size - knots[knot]) / (knots[knot + 1] - knots[knot])
    turn = np.arctan2(vectors[:, 1], vectors[:, 0]) * (DIRECTIONS / (2 * np.pi))
    direction = np.floor(turn)
    on = turn - direction
    direction = direction.astype(np.int64)
    counts = np.zeros(len(knots) * DIRECTIONS)
    for row, share in ((knot, 1 - up), (knot + 1, up)):
        for column, part in ((direction, 1 - on), (direction + 1, on)):
            counts += np.bincount(row * DIRECTIONS + column % DIRECTIONS, share * part, len(counts))
    counts /= max(len(vectors), 1)
    return np.concatenate([[counts[:DIRECTIONS].sum()], counts[DIRECTIONS:]])
