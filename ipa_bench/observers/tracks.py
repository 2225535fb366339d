"""Which hand is which: hands are linked over time, and each link goes to the left or right slot by the body's wrists.

The handedness label is not used: it disagrees with the track in up to a quarter of the frames of real footage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ipa_bench.observers.mediapipe.palm import WRIST, Hand
from ipa_bench.types import Float32

#: a hand unseen for longer than this many seconds starts a new track
MEMORY = 0.5
#: and so does one that moved further than this many hand sizes since it was last seen
REACH = 1.0


@dataclass(eq=False)
class _Track:
    """One hand while it stays in view: frame index -> hand."""

    hands: dict[int, Hand] = field(default_factory=dict)

    @property
    def first(self) -> int:
        return min(self.hands)

    @property
    def last(self) -> int:
        return max(self.hands)

    @property
    def x(self) -> float:
        """Where in the picture the hand first was, from the left."""
        return float(self.hands[self.first].landmarks[:, 0].mean())

    def distance(self, hand: Hand) -> float:
        """Mean landmark distance from where the hand was last seen, in hand sizes."""
        before = self.hands[self.last]
        return float(np.linalg.norm(hand.landmarks - before.landmarks, axis=1).mean()) / max(before.size, 1.0)


def assign(
    frames: Sequence[Sequence[Hand]], wrists: Float32, times: Sequence[float]
) -> list[tuple[Hand | None, Hand | None]]:
    """Give each frame's hands to (left, right).

    ``wrists`` float32 ``[T, 2, 3]``: x, y and reach (the forearm's length) of the body's left and right wrist in
    pixels, NaN where the body does not show them; ``times`` in seconds. A linked hand takes the slot whose wrist it was
    nearer to over its whole life; where no body is seen, the slot that held the nearest hand before, else image left is
    the person's right, as for someone who faces the camera. Longer-lived hands choose first; a third hand at the same
    time is left out.
    """
    slots: list[dict[int, Hand]] = [{}, {}]
    tracks = sorted(_link(frames, times), key=lambda t: (-len(t.hands), t.first, t.x))
    for track in tracks:
        votes = _votes(track, wrists) or _nearer_past(track, slots) or _image_side(track, tracks)
        preferred = 0 if votes > 0 else 1
        for slot in (preferred, 1 - preferred):
            if not slots[slot].keys() & track.hands.keys():
                slots[slot].update(track.hands)
                break
    return [(slots[0].get(t), slots[1].get(t)) for t in range(len(frames))]


def _link(frames: Sequence[Sequence[Hand]], times: Sequence[float]) -> list[_Track]:
    """Join hands of consecutive frames, nearest pairs first."""
    tracks: list[_Track] = []
    for t, hands in enumerate(frames):
        alive = [track for track in tracks if times[t] - times[track.last] <= MEMORY]
        pairs = sorted(
            (distance, i, j)
            for i, track in enumerate(alive)
            for j, hand in enumerate(hands)
            if (distance := track.distance(hand)) <= REACH
        )
        taken: set[int] = set()
        for _, i, j in pairs:
            if j not in taken and t not in alive[i].hands:
                alive[i].hands[t] = hands[j]
                taken.add(j)
        tracks += [_Track({t: hand}) for j, hand in enumerate(hands) if j not in taken]
    return tracks


def _votes(track: _Track, wrists: Float32) -> float:
    """How much nearer the track is to the left wrist than to the right one, summed over frames, in reaches."""
    total = 0.0
    for t, hand in track.hands.items():
        distance = np.hypot(*(wrists[t, :, :2] - hand.landmarks[WRIST]).T) / wrists[t, :, 2]
        # An unseen wrist speaks for neither side unless the other one is plainly this hand's.
        left, right = (float(d) if np.isfinite(d) else 1.0 for d in distance)
        total += float(np.clip(right, 0, 2) - np.clip(left, 0, 2))
    return total


def _nearer_past(track: _Track, slots: Sequence[dict[int, Hand]]) -> float:
    """Positive where the left slot's hands are the better continuation, negative for the right slot's, 0 unknown."""
    gaps = []
    for held in slots:
        if not held:
            return 0.0
        nearest = held[min(held, key=lambda t: abs(t - track.first))]
        gaps.append(float(np.linalg.norm((nearest.landmarks - track.hands[track.first].landmarks).mean(axis=0))))
    return gaps[1] - gaps[0]


def _image_side(track: _Track, tracks: Sequence[_Track]) -> float:
    """Negative (the right hand) where the hand is the leftmost of those in view with it, or alone."""
    beside = [other for other in tracks if other is not track and other.hands.keys() & track.hands.keys()]
    return 1.0 if any(other.x < track.x for other in beside) else -1.0
