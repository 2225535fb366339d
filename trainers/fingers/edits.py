"""Hands that are wrong in one finger, and controls that went through the same operations and are not.

Two kinds of edit are left out on purpose, fused fingers and a forked tip: what the head makes of them is measured and
never trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from ipa_bench.types import Float32
from trainers.fingers.shapes import CHAINS, Hand, bones, displaced, mirror, moved, over, stretch, turn, waves

_Rng = np.random.Generator


class Edited(NamedTuple):
    """A picture float32 ``[S, S, 3]`` and what was done to the number of fingers; None where that cannot be said."""

    pixels: Float32
    change: float | None


#: (hand, fingers that stand, draw) -> picture; None where it cannot be done to this hand
Edit = Callable[[Hand, Sequence[int], _Rng], Edited | None]


def _one(standing: Sequence[int], rng: _Rng, thumb: bool = True) -> int | None:
    fingers = [f for f in standing if thumb or f]
    return int(rng.choice(fingers)) if fingers else None


def _side(rng: _Rng) -> float:
    return float(rng.choice((-1.0, 1.0)))


def _lit(drawn: Float32, rng: _Rng) -> Float32:
    """A copy in a slightly other light."""
    return np.asarray(drawn * rng.uniform(0.93, 1.07), np.float32)


def extra(hand: Hand, standing: Sequence[int], rng: _Rng) -> Edited | None:
    """A finger copied, and turned about its knuckle by 14 to 42 degrees; over the hand or under it."""
    finger = _one(standing, rng)
    if finger is None:
        return None
    pivot = hand.points[CHAINS[finger][0]]
    matrix = turn(_side(rng) * np.radians(rng.uniform(14, 42))) * rng.uniform(0.82, 1.08)
    feather = float(rng.uniform(0.02, 0.06))
    drawn, mask = moved(hand.pixels, hand.finger(finger, feather=feather), matrix, pivot)
    if rng.random() < 0.4:
        mask = mask * (1 - np.maximum(hand.others(finger), hand.palm))
    return Edited(over(hand.pixels, _lit(drawn, rng), mask), 1.0)


def between(hand: Hand, standing: Sequence[int], rng: _Rng) -> Edited | None:
    """Two neighbours fanned apart by 6 to 14 degrees each, and a copy of one between them."""
    pairs = [f for f in (1, 2, 3) if f in standing and f + 1 in standing]
    if not pairs:
        return None
    one = int(rng.choice(pairs))
    ends = hand.points[CHAINS[[one, one + 1], -1]] - hand.points[CHAINS[[one, one + 1], 0]]
    way = float(np.sign(ends[0, 0] * ends[1, 1] - ends[0, 1] * ends[1, 0])) or 1.0
    angle = np.radians(rng.uniform(6, 14))
    pixels, side = hand.pixels, hand.image.shape[0]
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    for finger, sign in ((one, -way), (one + 1, way)):
        pivot = hand.points[CHAINS[finger][0]]
        matrix = turn(sign * angle)
        chain = np.asarray(pivot + (hand.points[CHAINS[finger]] - pivot) @ matrix.T, np.float32)
        near = bones(side, chain, np.full(4, 0.2 * hand.u), 0.25 * hand.u)
        back = np.linalg.inv(matrix)
        dx, dy = x - pivot[0], y - pivot[1]
        shift = np.stack([back[1, 0] * dx + back[1, 1] * dy - dy, back[0, 0] * dx + back[0, 1] * dy - dx])
        pixels = displaced(pixels, np.asarray(shift * near, np.float32))
    source = one if rng.random() < 0.5 else one + 1
    goal = (hand.points[CHAINS[one, 0]] + hand.points[CHAINS[one + 1, 0]]) / 2
    sign = way if source == one else -way
    half = float(np.arccos(np.clip(ends[0] @ ends[1] / max(np.prod(np.hypot(*ends.T)), 1e-6), -1, 1))) / 2
    drawn, mask = moved(
        hand.pixels,
        hand.finger(source),
        turn(sign * half),
        hand.points[CHAINS[source, 0]],
        np.asarray(goal, np.float32),
    )
    return Edited(over(pixels, _lit(drawn, rng), mask), 1.0)


def missing(hand: Hand, standing: Sequence[int], rng: _Rng) -> Edited | None:
    """A finger erased from its knuckle or its middle joint on."""
    finger = _one(standing, rng)
    if finger is None:
        return None
    return Edited(_without(hand, finger, int(rng.integers(2)), rng), -1.0)


def _without(hand: Hand, finger: int, start: int, rng: _Rng) -> Float32:
    mask = hand.finger(finger, start, slack=0.04, feather=float(rng.uniform(0.02, 0.06)))
    # what the finger grows from stays
    keep = np.maximum(hand.others(finger), hand.palm if start == 0 else hand.finger(finger, end=start))
    return over(hand.pixels, hand.outside, mask * (1 - keep))


def length(hand: Hand, standing: Sequence[int], rng: _Rng) -> Edited | None:
    """A finger too short (0.4 to 0.65) or too long (1.35 to 1.7)."""
    finger = _one(standing, rng)
    if finger is None:
        return None
    share = float(rng.uniform(0.4, 0.65) if rng.random() < 0.5 else rng.uniform(1.35, 1.7))
    along = hand.points[CHAINS[finger, -1]] - hand.points[CHAINS[finger, 0]]
    rest = _without(hand, finger, 0, rng) if share < 1 else hand.pixels
    drawn, mask = moved(hand.pixels, hand.finger(finger), stretch(along, share), hand.points[CHAINS[finger, 0]])
    return Edited(over(rest, drawn, mask), 0.0)


def bent(hand: Hand, standing: Sequence[int], rng: _Rng) -> Edited | None:
    """A finger's end turned to the side by 38 to 85 degrees at a joint."""
    finger = _one(standing, rng)
    if finger is None:
        return None
    start = int(rng.integers(1, 3))
    matrix = turn(_side(rng) * np.radians(rng.uniform(38, 85)))
    drawn, mask = moved(hand.pixels, hand.finger(finger, start), matrix, hand.points[CHAINS[finger, start]])
    return Edited(over(_without(hand, finger, start, rng), drawn, mask), None)


def thumb(hand: Hand, standing: Sequence[int], rng: _Rng) -> Edited | None:
    """The thumb mirrored to the other side of the palm, half of the time with the true one erased."""
    if 0 not in standing:
        return None
    axis = hand.points[9] - hand.points[0]
    gone = rng.random() < 0.5
    rest = _without(hand, 0, 1, rng) if gone else hand.pixels
    drawn, mask = moved(hand.pixels, hand.finger(0), mirror(axis), hand.points[0], hand.points[0])
    return Edited(over(rest, _lit(drawn, rng), mask), 0.0 if gone else 1.0)


def melt(hand: Hand, standing: Sequence[int], rng: _Rng) -> Edited:
    """Smooth displacement of one half of the hand, 0.08 to 0.16 palms."""
    return Edited(_melted(hand, float(rng.uniform(0.08, 0.16)), rng), None)


def _melted(hand: Hand, level: float, rng: _Rng) -> Float32:
    side = hand.image.shape[0]
    centre = hand.points[int(rng.integers(5, 21))]
    near = bones(side, np.stack([centre, centre + 1]), (0.5 * hand.u, 0.5 * hand.u), 0.6 * hand.u)
    return displaced(
        hand.pixels, np.asarray(waves(side, int(rng.integers(6, 10)), rng) * level * hand.u * near, np.float32)
    )


def smear(hand: Hand, standing: Sequence[int], rng: _Rng) -> Edited:
    """Displacement and blur on the hand alone."""
    melted = _melted(hand, float(rng.uniform(0.06, 0.14)), rng)
    return Edited(over(hand.pixels, _blurred(melted, float(rng.uniform(0.05, 0.1)) * hand.u), hand.mask), None)


def _blurred(pixels: Float32, sigma: float) -> Float32:
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(sigma)), np.float32)


# ---------------------------------------------------------------------------------------------------------------------
# controls


def unchanged(hand: Hand, standing: Sequence[int], rng: _Rng) -> Edited:
    """Nothing done."""
    return Edited(hand.pixels, 0.0)


def put_back(hand: Hand, standing: Sequence[int], rng: _Rng) -> Edited | None:
    """A finger erased and pasted back where it was, within 2.5 degrees and 5 %."""
    finger = _one(standing, rng)
    if finger is None:
        return None
    start = int(rng.integers(2))
    matrix = turn(np.radians(rng.uniform(-2.5, 2.5))) * rng.uniform(0.95, 1.05)
    feather = float(rng.uniform(0.02, 0.06))
    pivot = hand.points[CHAINS[finger, start]]
    drawn, mask = moved(hand.pixels, hand.finger(finger, start, 0.03, feather), matrix, pivot)
    return Edited(over(_without(hand, finger, start, rng), _lit(drawn, rng), mask), 0.0)


def beside(hand: Hand, standing: Sequence[int], rng: _Rng) -> Edited:
    """A piece of the surroundings in the shape of a finger, drawn somewhere else in the surroundings."""
    finger = int(rng.integers(5))
    matrix = turn(float(rng.uniform(0, 2 * np.pi)))
    side = hand.image.shape[0]
    to = np.asarray(rng.uniform(0.1, 0.9, 2) * side, np.float32)
    drawn, mask = moved(hand.outside, hand.finger(finger), matrix, hand.points[CHAINS[finger, 0]], to)
    return Edited(over(hand.pixels, _lit(drawn, rng), mask * (1 - hand.mask)), 0.0)


def bulged(hand: Hand, standing: Sequence[int], rng: _Rng) -> Edited:
    """Displacement too small to be seen as wrong."""
    return Edited(_melted(hand, float(rng.uniform(0.01, 0.03)), rng), 0.0)


def softened(hand: Hand, standing: Sequence[int], rng: _Rng) -> Edited:
    """Blur of the hand alone, as of one that moves."""
    return Edited(over(hand.pixels, _blurred(hand.pixels, float(rng.uniform(0.02, 0.06)) * hand.u), hand.mask), 0.0)


EDITS: dict[str, Edit] = {
    "extra": extra, "between": between, "missing": missing, "length": length, "bent": bent, "thumb": thumb,
    "melt": melt, "smear": smear,
}  # fmt: skip
#: how often each is drawn: those that take and give a finger most
EDIT_SHARES = {"extra": 5, "between": 3, "missing": 4, "length": 2, "bent": 3, "thumb": 1, "melt": 2, "smear": 1}
CONTROLS: dict[str, Edit] = {
    "unchanged": unchanged, "put_back": put_back, "beside": beside, "bulged": bulged, "softened": softened,
}  # fmt: skip
CONTROL_SHARES = {"unchanged": 3, "put_back": 4, "beside": 1, "bulged": 1, "softened": 1}


def drawn(
    hand: Hand, standing: Sequence[int], edits: dict[str, Edit], shares: dict[str, int], rng: _Rng
) -> tuple[str, Edited]:
    """One of these edits that can be done to the hand, with its name."""
    weights = np.array([shares[name] for name in edits], float)
    while weights.any():
        name = str(rng.choice(list(edits), p=weights / weights.sum()))
        made = edits[name](hand, standing, rng)
        if made is not None:
            return name, made
        weights[list(edits).index(name)] = 0
    raise ValueError("none of these edits can be done to this hand")
