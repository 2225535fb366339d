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
#: and so does one that is further than this many hand sizes from where it should be: for each 25th of a second since it
#: was last seen, and at most twice as many
REACH, REACH_SECONDS, REACH_MOST = 1.0, 0.04, 2.0
#: a hand's speed is known from two sightings that are no further apart than this many seconds
SPEED_MEMORY = 0.2
#: a hand that is mostly further than this many forearms from both of the body's wrists is somebody else's
OWN = 1.5
#: an own hand speaks against others where it is in view for at least this share of their time
LEAST_OWN = 0.25


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

    def distance(self, hand: Hand, times: Sequence[float], now: int) -> float:
        """Mean landmark distance from where the hand should be at frame ``now``, in what it may be off by.

        It goes on as it moved between its last two sightings: hands that cross keep their ways.
        """
        latest = reversed(self.hands)  # in the order of frames
        last, earlier = next(latest), next(latest, None)
        before, due = self.hands[last], self.hands[last].landmarks
        since = times[now] - times[last]
        if earlier is not None and (step := times[last] - times[earlier]) <= SPEED_MEMORY:
            way = (before.landmarks - self.hands[earlier].landmarks).mean(axis=0)
            due = due + way * np.float32(min(since / max(step, 1e-6), 3.0))
        size = max(before.size, 1.0)
        may = REACH * float(np.clip(since / REACH_SECONDS, 1.0, REACH_MOST))
        # one that stopped is where it was
        apart = min(float(np.linalg.norm(hand.landmarks - points, axis=1).mean()) for points in (due, before.landmarks))
        return apart / size / may


def assign(
    frames: Sequence[Sequence[Hand]], wrists: Float32, times: Sequence[float], people: Sequence[Float32] = ()
) -> list[tuple[Hand | None, Hand | None]]:
    """Give each frame's hands to (left, right).

    ``wrists`` float32 ``[T, 2, 3]``: x, y and reach (the forearm's length) of the body's left and right wrist in
    pixels, NaN where the body does not show them; ``times`` in seconds. A linked hand takes the slot whose wrist it was
    nearer to over its whole life; where no body is seen, the slot that held the nearest hand before, else image left is
    the person's right, as for someone who faces the camera. Longer-lived hands choose first; a third hand at the same
    time is left out. Hands that are far from both wrists, or nearer to somebody else, are not the body's: they are left
    out where own ones are seen. ``people``: of each frame ``[N, 3]``, the middles of the bodies seen, this one's first,
    and its width of shoulders.
    """
    slots: list[dict[int, Hand]] = [{}, {}]
    tracks = sorted(_own(_link(frames, times), wrists, people), key=lambda t: (-len(t.hands), t.first, t.x))
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
            if (distance := track.distance(hand, times, t)) <= 1.0
        )
        taken: set[int] = set()
        for _, i, j in pairs:
            if j not in taken and t not in alive[i].hands:
                alive[i].hands[t] = hands[j]
                taken.add(j)
        tracks += [_Track({t: hand}) for j, hand in enumerate(hands) if j not in taken]
    return tracks


def _own(tracks: list[_Track], wrists: Float32, people: Sequence[Float32]) -> list[_Track]:
    """Those of the body's own hands, where it is seen and has some in view for long enough; else all."""
    far: dict[int, bool | None] = {}
    for track in tracks:
        elsewhere = _elsewhere(track, people)
        far[id(track)] = _far(track, wrists) if elsewhere is None else elsewhere
    own = sum(len(track.hands) for track in tracks if far[id(track)] is False)
    others = sum(len(track.hands) for track in tracks if far[id(track)])
    return [track for track in tracks if not far[id(track)]] if own >= LEAST_OWN * others and own else tracks


def _elsewhere(track: _Track, people: Sequence[Float32]) -> bool | None:
    """Whether a hand is mostly nearer to somebody else than to the body whose hands these are; None of one person.

    Mostly is over all of its frames: a body that is imagined into a hand for a moment does not take it away.
    """
    nearer = []
    for t, hand in track.hands.items():
        # a hand broader than shoulders: bodies are imagined into a close-up of hands
        if t < len(people) and len(people[t]) > 1 and hand.size <= people[t][0, 2]:
            nearer.append(int(np.argmin(np.linalg.norm(people[t][:, :2] - hand.landmarks.mean(axis=0), axis=1))) > 0)
    return 2 * sum(nearer) > len(track.hands) if nearer else None


def _far(track: _Track, wrists: Float32) -> bool | None:
    """Whether a hand is mostly far from both wrists; None where no wrist is seen, or it is larger than a forearm: then
    the body is imagined into a close-up, or the hand belongs to somebody nearer."""
    apart = []
    for t, hand in track.hands.items():
        reach = wrists[t, :, 2]
        distance = np.hypot(*(wrists[t, :, :2] - hand.landmarks[WRIST]).T) / reach
        if np.isfinite(distance).any() and hand.size <= np.nanmax(reach):
            apart.append(float(np.nanmin(distance)))
    return None if 2 * len(apart) < len(track.hands) or not apart else float(np.median(apart)) > OWN


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
