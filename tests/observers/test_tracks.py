"""Whose hand it is: bodies that are seen in some frames, or imagined, beside hands that are there in all."""

from __future__ import annotations

import numpy as np
import pytest

from ipa_bench.observers.mediapipe.palm import Hand
from ipa_bench.observers.tracks import assign

FRAMES = 17
TIMES = [t / 12 for t in range(FRAMES)]


def hand(x: float, y: float, size: float = 30.0) -> Hand:
    rng = np.random.default_rng(0)
    return Hand(((rng.random((21, 2)) - 0.5) * size + (x, y)).astype(np.float32), np.zeros((21, 3), np.float32), 0.95)


@pytest.mark.parametrize(("imagined", "kept"), [(0, 2), (4, 2), (8, 2), (9, 1), (17, 1)])
def test_a_body_takes_a_hand_that_is_mostly_nearer_to_it(imagined: int, kept: int) -> None:
    """A harmless re-encode made the detector imagine a body on a hand in 4 of 17 frames: it was lost in all."""
    frames = [[hand(110, 60), hand(65, 60)]] * FRAMES
    wrists = np.array([[[np.nan] * 3, [65, 60, 35]]] * FRAMES, np.float32)
    own, other = [64, 62, 42], [110, 60, 42]
    people = [np.array([own, other] if t < imagined else [own], np.float32) for t in range(FRAMES)]
    found = assign(frames, wrists, TIMES, people)
    assert {sum(h is not None for h in pair) for pair in found} == {kept}
