"""Put the hands of a generated video beside those of its reference: same times, same pixels, same slots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from ipa_bench.types import HandTracks

#: a generated hand further than this many hand sizes from the reference hand is not that hand
REACH = 1.0
#: frames whose times differ by no more than this many seconds are of one time: Matroska and WebM round to milliseconds
SAME_TIME = 1.1e-3


@dataclass(frozen=True, eq=False)
class HandPair:
    """Hands of both videos on the frames they share; slots are those of the reference, coordinates its pixels.

    The times are those of the video with fewer frames a second. Joints of the other at these times lie on the line
    between its two frames around them; everything else is that of its nearest frame.
    """

    #: ``[T, 2, 21, 2]`` px
    generated: Float[ndarray, "T 2 21 2"]
    reference: Float[ndarray, "T 2 21 2"]
    #: the reference shows this hand in this frame: what everything is counted over
    wanted: Bool[ndarray, "T 2"]
    #: and the generated video shows it too
    found: Bool[ndarray, "T 2"]
    #: presence of the generated hand, 0 where not found
    presence: Float[ndarray, "T 2"]
    #: sharpness of either hand, 0 where there is none
    generated_sharpness: Float[ndarray, "T 2"]
    reference_sharpness: Float[ndarray, "T 2"]
    #: change of either hand's pixels since the shared frame before, frames between added up; 0 where there is no hand
    generated_change: Float[ndarray, "T 2"]
    reference_change: Float[ndarray, "T 2"]
    #: hand size in px, see :func:`hand_sizes`
    size: Float[ndarray, " 2"]
    #: seconds of the shared frames
    times: Float[ndarray, "T"]
    #: which frames of either video these are
    generated_index: Int[ndarray, "T"]
    reference_index: Int[ndarray, "T"]
    #: slot of the generated video's own tracks that each reference hand is paired with
    generated_slot: Int[ndarray, "T 2"]
    #: (width, height) of the reference in px
    reference_size: tuple[int, int]
    #: the reference on all of its own frames, where the shared ones are not a part cut out by itself
    whole: HandTracks | None = None


def pair_times(
    generated: Float[ndarray, "G"], reference: Float[ndarray, "R"]
) -> tuple[Int[ndarray, "T"], Int[ndarray, "T"]]:
    """Indices of frames shown at the same time.

    The video with fewer frames a second leads, each of its frames takes the nearest of the other (decimation, never
    interpolation), and frames without a partner within half a frame period are left out. Times in seconds, ascending.
    """
    if not len(generated) or not len(reference):
        empty = np.zeros(0, np.int64)
        return empty, empty
    lead, other, swapped = (generated, reference, False)
    if period(generated) < period(reference) * 0.999:
        lead, other, swapped = reference, generated, True
    right = np.clip(np.searchsorted(other, lead), 1, max(len(other) - 1, 1))
    left = right - 1
    right = np.minimum(right, len(other) - 1)
    nearest = np.where(np.abs(other[left] - lead) <= np.abs(other[right] - lead), left, right)
    keep = np.flatnonzero(np.abs(other[nearest] - lead) <= period(lead) / 2 + 1e-6)
    return (nearest[keep], keep) if swapped else (keep, nearest[keep])


def period(times: Float[ndarray, "T"]) -> float:
    """Median seconds between frames; 1 for a single frame."""
    return float(np.median(np.diff(times))) if len(times) > 1 else 1.0


def hand_sizes(tracks: HandTracks) -> Float[ndarray, " 2"]:
    """Median longer side of each slot's landmark box in px; NaN for a slot that is never found."""
    sides = np.ptp(tracks.landmarks.astype(np.float64), axis=2).max(axis=2)
    seen = [sides[tracks.found[:, slot], slot] for slot in range(2)]
    return np.array([np.median(s) if len(s) else np.nan for s in seen])


def pair_hands(generated: HandTracks, reference: HandTracks) -> HandPair:
    """Match the generated hands to the reference's, frame by frame.

    Generated coordinates are scaled to the reference's pixels (width and height separately: videos of one case show the
    same picture). In each frame the two generated hands take the slots in the order that is nearer to the reference
    hands, so that one swap of tracks does not spoil the rest of the clip. A hand more than one hand size away, by mean
    landmark distance, is not the reference's hand and counts as missing.
    """
    gi, ri = pair_times(generated.times, reference.times)
    scale = np.array(reference.size, np.float64) / np.array(generated.size, np.float64)
    times = _common_times(generated.times[gi], reference.times[ri], generated.times, reference.times)
    ours = _joints_at(generated, gi, times) * scale
    theirs = _joints_at(reference, ri, times)
    wanted = reference.found[ri]
    sizes = hand_sizes(reference)
    # distance[t, g, r] of generated slot g to reference slot r, in hand sizes
    distance = np.linalg.norm(ours[:, :, None] - theirs[:, None, :], axis=-1).mean(axis=-1) / sizes
    distance = np.where(generated.found[gi][:, :, None] & wanted[:, None, :], distance, np.inf)
    cost = np.minimum(distance, 2 * REACH)
    cost = np.where(wanted[:, None, :], cost, 0.0)
    swap = cost[:, 1, 0] + cost[:, 0, 1] < cost[:, 0, 0] + cost[:, 1, 1]
    order = np.where(swap[:, None], [1, 0], [0, 1])
    rows = np.arange(len(gi))[:, None]
    found = distance[rows, order, [[0, 1]]] <= REACH
    return HandPair(
        generated=np.where(found[..., None, None], ours[rows, order], 0.0),
        reference=theirs,
        wanted=wanted,
        found=found,
        presence=np.where(found, generated.presence[gi][rows, order], 0.0).astype(np.float64),
        generated_sharpness=np.where(found, generated.sharpness[gi][rows, order], 0.0).astype(np.float64),
        reference_sharpness=np.where(wanted, reference.sharpness[ri], 0.0).astype(np.float64),
        generated_change=np.where(found, _change_since(generated.change, gi)[rows, order], 0.0),
        reference_change=np.where(wanted, _change_since(reference.change, ri), 0.0),
        size=sizes,
        times=times,
        generated_index=gi,
        reference_index=ri,
        generated_slot=order,
        reference_size=reference.size,
        whole=reference,
    )


def _common_times(
    ours: Float[ndarray, "T"],
    theirs: Float[ndarray, "T"],
    generated: Float[ndarray, "G"],
    reference: Float[ndarray, "R"],
) -> Float[ndarray, "T"]:
    """Seconds of shared frames: the reference's, or where they are not the same those of the video with fewer."""
    if not len(ours) or np.abs(ours - theirs).max() <= SAME_TIME or period(generated) < period(reference) * 0.999:
        return theirs
    return ours


def _joints_at(tracks: HandTracks, index: Int[ndarray, "T"], times: Float[ndarray, "T"]) -> Float[ndarray, "T 2 21 2"]:
    """Joints of both slots at ``times``, whose nearest frames are ``index``.

    Where a time lies between two frames that show one hand, on the curve through them and the frames before and after
    (Catmull and Rom 1974; a straight line where one of those is missing): rates that are no multiples of each other
    would else seem to shake.
    """
    points = tracks.landmarks[index].astype(np.float64)
    late = times - tracks.times[index]
    if not (np.abs(late) > SAME_TIME).any():
        return np.asarray(points)
    count = len(tracks.times)
    first = index - (late < 0)
    around = np.clip(first[:, None] + np.arange(-1, 3), 0, count - 1)  # before, the two, after
    inside = (np.abs(late) > SAME_TIME) & (first >= 0) & (first + 1 < count)
    known = tracks.landmarks[around].astype(np.float64)  # [T, 4, 2, 21, 2]
    gap = np.diff(tracks.times[around], axis=1)
    # a longer step in time has frames missing, one in space is another hand
    near = (gap > 0) & (gap <= 1.5 * period(tracks.times))
    step = np.linalg.norm(np.diff(known, axis=1), axis=-1).mean(axis=-1)
    seen = tracks.found[around]
    linked = (
        near[..., None]
        & seen[:, 1:]
        & seen[:, :-1]
        & (step <= REACH * np.ptp(known[:, 1:3], axis=3).max(axis=(1, 3))[:, None])
    )
    share = np.where(inside, (times - tracks.times[around[:, 1]]) / np.where(gap[:, 1] > 0, gap[:, 1], 1.0), 0.0)
    u = share[:, None, None, None]
    line = known[:, 1] + u * (known[:, 2] - known[:, 1])
    curve = line + u * (1 - u) / 2 * (
        (1 - u) * (2 * known[:, 1] - known[:, 0] - known[:, 2]) + u * (2 * known[:, 2] - known[:, 3] - known[:, 1])
    )
    use = (inside[:, None] & linked[:, 1])[..., None, None]
    whole = linked.all(axis=1)[..., None, None]
    return np.asarray(np.where(use, np.where(whole, curve, line), points))


def _change_since(change: Float[ndarray, "F 2"], index: Int[ndarray, "T"]) -> Float[ndarray, "T 2"]:
    """Sum of the changes after one shared frame up to the next; 0 for the first."""
    total = np.cumsum(change.astype(np.float64), axis=0)[index]
    return np.asarray(np.diff(total, axis=0, prepend=total[:1]))
